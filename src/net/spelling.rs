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

use std::fmt;

use memchr::memchr;

pub use heads::Heads;
pub use respelled::Respelled;

/// The fields of one head as they came. Only their names are ever used.
#[derive(Default, PartialEq, Eq)]
pub struct Spelled(Vec<u8>);

impl Spelled {
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
            let (_, line) = self.0.split_at_mut(at);
            let found = line.len() > name.len()
                && line[name.len()] == b':'
                && line[..name.len()].eq_ignore_ascii_case(name);
            if found {
                name.copy_from_slice(&line[..name.len()]);
                // So that the next field of this name gets the next spelling.
                line[name.len()] = b' ';
            }
            at += memchr(b'\n', line).map_or(line.len(), |end| end + 1);
            if found {
                *next = at;
                return true;
            }
        }
        false
    }
}

impl fmt::Debug for Spelled {
    /// Without the values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spelled").field("bytes", &self.0.len()).finish_non_exhaustive()
    }
}
