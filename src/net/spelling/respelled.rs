//! The writing side: a head on its way out, with the names as they came.

use super::Spelled;
use super::lines::Lines;

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
        let mut head = Vec::new();
        let mut next = 0;
        let mut lines = Lines::new(bytes, 0);
        // Where the head begins whose fields follow.
        let mut begun = None;
        loop {
            let line = lines.next()?;
            let text = &bytes[line.start..line.end];
            if head.len() < line.end {
                // At once what is usual, which may be more than the head.
                let end = line.end.max(head.len() + USUAL_BYTES).min(bytes.len());
                head.extend_from_slice(&bytes[head.len()..end]);
            }
            match begun {
                // Of a head that has none of its fields yet, nothing is known but its version.
                None if is_start(text) => begun = Some(line.start),
                None => return None,
                Some(start) if text == b"\r\n" => {
                    // A final head may follow a `100 Continue` in the same write.
                    if !bytes[start..].starts_with(CONTINUE) || !bytes[line.end..].starts_with(VERSION) {
                        head.truncate(line.end);
                        return Some(Respelled { head, sent: 0 });
                    }
                    begun = None;
                }
                Some(_) => spelled.spell(&mut head[line.start..line.colon?], &mut next),
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

/// What most heads take.
const USUAL_BYTES: usize = 1024;
const VERSION: &[u8] = b"HTTP/1.";
const CONTINUE: &[u8] = b"HTTP/1.1 100";

/// Whether a line begins a response, or a request.
fn is_start(line: &[u8]) -> bool {
    line.starts_with(VERSION) || line.ends_with(b" HTTP/1.1\r\n") || line.ends_with(b" HTTP/1.0\r\n")
}
