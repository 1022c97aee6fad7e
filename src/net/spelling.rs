//! The spelling of field names, carried past hyper.
//!
//! hyper hands names on in lower case, as they compare. Its own way of keeping
//! how they were spelled (two more maps a message, two look-ups a field) costs
//! more than reading the JSON of a small call. Here the bytes tell instead:
//! what is read shows the names of each head, and when the head is written on
//! the other connection, names that are the same but for their case get it
//! back. Nothing else is ever changed: a name stays as long as it is, and a
//! head that cannot be told apart leaves with its names in lower case, which
//! mean the same (RFC 9110, 5.1).

pub mod fuzz;
mod heads;
mod respelled;

#[cfg(test)]
mod tests;

pub use heads::Heads;
pub use respelled::Respelled;

/// The field names of one head as they were spelled, in their order.
///
/// Each is stored with its length in two bytes in front. Empty where all of
/// them were in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spelled(Vec<u8>);

/// In the length of a name: it was given back already.
const USED: u16 = 1 << 15;

impl Spelled {
    fn push(&mut self, name: &[u8]) {
        let Some(length) = u16::try_from(name.len()).ok().filter(|length| *length < USED) else { return };
        if self.0.capacity() == 0 {
            // What a head usually has, so that it seldom grows.
            self.0.reserve(256);
        }
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(name);
    }

    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Spells a name as it was. `next` is where the search begins, since
    /// names usually leave in the order in which they came.
    fn spell(&mut self, name: &mut [u8], next: &mut usize) {
        let from = *next;
        if !self.spell_between(from, self.0.len(), name, next) {
            self.spell_between(0, from, name, next);
        }
    }

    fn spell_between(&mut self, mut at: usize, end: usize, name: &mut [u8], next: &mut usize) -> bool {
        while at < end {
            let Some(length) = self.0.get(at..at + 2) else { return false };
            let length = u16::from_le_bytes([length[0], length[1]]);
            let start = at + 2;
            let after = start + usize::from(length & !USED);
            if length & USED == 0
                && after - start == name.len()
                && let Some(spelled) = self.0.get(start..after)
                && spelled.eq_ignore_ascii_case(name)
            {
                name.copy_from_slice(spelled);
                self.0[at + 1] |= 1 << 7;
                *next = after;
                return true;
            }
            at = after;
        }
        false
    }
}
