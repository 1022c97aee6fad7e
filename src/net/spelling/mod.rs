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
mod lines;
mod respelled;

#[cfg(test)]
mod tests;

pub use heads::Heads;
use lines::Lines;
pub use respelled::Respelled;

/// The field names of one head as they were spelled, in their order; empty
/// where all of them were in lower case. Each has its length in front.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spelled(Vec<u8>);

/// In the length of a name: it was given back already.
const USED: u16 = 1 << 15;

impl Spelled {
    /// The names in the lines of a head from `fields` on.
    fn of(head: &[u8], fields: usize) -> Self {
        // More than the names and their lengths take.
        let mut names = Vec::with_capacity(head.len() - fields);
        for line in Lines::new(head, fields) {
            if let Some(colon) = line.colon
                && let Ok(length @ 0..USED) = u16::try_from(colon - line.start)
            {
                names.extend_from_slice(&length.to_le_bytes());
                names.extend_from_slice(&head[line.start..colon]);
            }
        }
        Spelled(names)
    }

    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Spells a name as it was. `next` is where the search begins, since
    /// names usually leave in the order in which they came.
    fn spell(&mut self, name: &mut [u8], next: &mut usize) {
        for (mut at, end) in [(*next, self.0.len()), (0, *next)] {
            while at < end {
                let Some((length, names)) = self.0[at..].split_first_chunk_mut::<2>() else { return };
                let given = u16::from_le_bytes(*length);
                let spelled = &names[..usize::from(given & !USED).min(names.len())];
                at += 2 + spelled.len();
                if given & USED == 0 && is_spelling_of(spelled, name) {
                    name.copy_from_slice(spelled);
                    // So that the next field of this name gets the next spelling.
                    *length = (given | USED).to_le_bytes();
                    *next = at;
                    return;
                }
            }
        }
    }
}

/// Whether `spelled` in lower case is `name`, which is in lower case.
fn is_spelling_of(spelled: &[u8], name: &[u8]) -> bool {
    if spelled.len() != name.len() {
        return false;
    }
    let whole = spelled.as_chunks().0.iter().zip(name.as_chunks().0);
    // Bytes before the last ones are looked at twice where that spares a look at each.
    let last = match (spelled.last_chunk(), name.last_chunk()) {
        (Some(spelled), Some(name)) => are_eight(spelled, name),
        _ => match (four_twice(spelled), four_twice(name)) {
            (Some(spelled), Some(name)) => are_eight(&spelled, &name),
            _ => spelled.eq_ignore_ascii_case(name),
        },
    };
    last && whole.fold(true, |all, (spelled, name)| all & are_eight(spelled, name))
}

/// The first and the last four bytes.
fn four_twice(bytes: &[u8]) -> Option<[u8; 8]> {
    let (first, last) = (bytes.first_chunk::<4>()?, bytes.last_chunk::<4>()?);
    [*first, *last].as_flattened().first_chunk().copied()
}

fn are_eight(spelled: &[u8; 8], name: &[u8; 8]) -> bool {
    lower(u64::from_le_bytes(*spelled)) == u64::from_le_bytes(*name)
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The top bit of each byte.
const TOPS: u64 = ONES << 7;

/// Eight bytes in lower case at once.
fn lower(word: u64) -> u64 {
    word | (upper(word) >> 2)
}

/// The top bit of each of eight bytes that is an upper-case letter.
fn upper(word: u64) -> u64 {
    let low = word & !TOPS;
    // The top bit of a byte says of its other bits: at least `A`; above `Z`.
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let above_z = low + (0x7f - b'Z' as u64) * ONES;
    (from_a ^ above_z) & !word & TOPS
}
