//! The writing side: a head on its way out, with the names as they came.

use memchr::memchr;

use super::Spelled;

/// A head that is written in place of the one that hyper made.
#[derive(Debug)]
pub struct Respelled {
    head: Vec<u8>,
    sent: usize,
}

impl Respelled {
    /// Takes the head off the front of what is about to be written, and gives
    /// its names the spelling that is kept for them. `None` where `bytes` does
    /// not begin with a whole head.
    pub fn of(mut spelled: Spelled, bytes: &[u8]) -> Option<Self> {
        let mut head = Vec::with_capacity(spelled.0.len() + 512);
        let mut next = 0;
        let mut rest = bytes;
        loop {
            let end = memchr(b'\n', rest)? + 1;
            let (line, after) = rest.split_at(end);
            let is_first = head.is_empty();
            let start = head.len();
            head.extend_from_slice(line);
            rest = after;
            if is_first {
                // Of a head that has none of its fields yet, nothing is known but its version.
                if !is_start(line) {
                    return None;
                }
            } else if line == b"\r\n" {
                // A final head may follow a `100 Continue` in the same write.
                if head.starts_with(CONTINUE) && head.len() < rest.len() && rest.starts_with(VERSION) {
                    let more = Respelled::of(spelled, rest)?;
                    head.extend_from_slice(&more.head);
                }
                return Some(Respelled { head, sent: 0 });
            } else if !spelled.spell_next(&mut head[start..], &mut next) {
                let colon = memchr(b':', line)?;
                spelled.spell(&mut head[start..start + colon], &mut next);
            }
        }
    }

    /// What of the head is still to be written.
    pub fn rest(&self) -> &[u8] {
        &self.head[self.sent..]
    }

    /// Says that so many bytes from the beginning of the rest were written.
    /// Whether that was all of it.
    pub fn wrote(&mut self, bytes: usize) -> bool {
        self.sent += bytes.min(self.head.len() - self.sent);
        self.sent == self.head.len()
    }
}

const VERSION: &[u8] = b"HTTP/1.";
const CONTINUE: &[u8] = b"HTTP/1.1 100";

/// Whether a line begins a response, or a request.
fn is_start(line: &[u8]) -> bool {
    let version = line.len().checked_sub(b" HTTP/1.1\r\n".len()).map(|at| &line[at..]);
    line.starts_with(VERSION) || matches!(version, Some(b" HTTP/1.1\r\n" | b" HTTP/1.0\r\n"))
}
