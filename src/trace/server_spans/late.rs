//! What requests were given that have been answered, so that what they call
//! late can be told from what only claims to be of them.

use std::collections::VecDeque;

/// Of how many requests of a shard this is remembered: those answered last.
const MAX_ANSWERED: usize = 256;

/// Arguments that nobody has looked at are kept up to this length, in bytes.
const MAX_UNREAD_BYTES: usize = 256;

/// The values that a request was given.
#[derive(Debug)]
pub(super) enum Given {
    /// These, hashed.
    Values(Vec<u64>),
    /// Those in these arguments, which nobody has looked at.
    Arguments(Box<[u8]>),
    /// Some, and which is not known.
    Unknown,
}

/// The requests of a shard that were answered and had been given values.
#[derive(Debug, Default)]
pub(super) struct Answered(VecDeque<(u64, Given)>);

impl Answered {
    /// Remembers what a request was given, in place of the oldest.
    pub(super) fn remember(&mut self, id: u64, values: Vec<u64>, arguments: Box<[u8]>) {
        let given = match arguments.len() {
            0 if values.is_empty() => return,
            0 => Given::Values(values),
            1..=MAX_UNREAD_BYTES => Given::Arguments(arguments),
            _ => Given::Unknown,
        };
        if self.0.len() >= MAX_ANSWERED {
            self.0.pop_front();
        }
        self.0.push_back((id, given));
    }

    /// What it was given, where that is remembered.
    pub(super) fn given(&self, id: u64) -> Option<&Given> {
        self.0.iter().rev().find(|(answered, _)| *answered == id).map(|(_, given)| given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_answered_are_remembered() {
        let mut answered = Answered::default();
        answered.remember(1, Vec::new(), Box::default());
        assert!(answered.given(1).is_none(), "given nothing");
        for id in 0..1_000 {
            answered.remember(id, vec![id], Box::default());
        }
        let known = (0..1_000).filter(|id| answered.given(*id).is_some()).count();
        assert_eq!(known, MAX_ANSWERED);
        assert!(matches!(answered.given(999), Some(Given::Values(values)) if values == &[999]));
        for (length, kept) in [(MAX_UNREAD_BYTES, true), (MAX_UNREAD_BYTES + 1, false)] {
            answered.remember(7, Vec::new(), vec![b'1'; length].into());
            assert_eq!(matches!(answered.given(7), Some(Given::Arguments(_))), kept);
        }
        assert!(matches!(answered.given(7), Some(Given::Unknown)));
    }
}
