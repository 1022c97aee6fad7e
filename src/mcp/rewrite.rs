//! Edits single events of a stream of server-sent events on their way, and leaves every other byte
//! and the pieces that it came in alone.
//!
//! What a receiver could act on is never held back: an event counts for it only once it is complete.
//! Of incomplete ones those bytes are held that may belong to a request of the server (before
//! 2026-07-28); an answer or a notification passes in the pieces that it comes in.

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::sse::{Event, Sse};

/// How many pieces of one held event are looked into before it passes as it is.
const MAX_LOOKS: u32 = 16;

/// The state of one stream.
#[derive(Debug)]
pub struct Rewriter {
    sse: Sse,
    /// The beginning of an event that is not complete. Nothing of it has been passed on.
    held: BytesMut,
    /// The length at which it is looked into again.
    next_look: usize,
    looks: u32,
    /// The event that has begun passes as it comes.
    passing: bool,
    /// Whether events may change. What is passed on is as long as what came where they may not.
    edits: bool,
    /// Longest event that is held, in bytes; zero holds nothing.
    max_held: usize,
}

impl Rewriter {
    /// A stream whose events up to `max_event_bytes` are read. They can be edited, in pieces too, if it
    /// `edits`; otherwise nothing is held and every byte passes as it came.
    pub fn new(max_event_bytes: usize, edits: bool) -> Self {
        Rewriter {
            sse: Sse::new(max_event_bytes),
            held: BytesMut::new(),
            next_look: 0,
            looks: 0,
            passing: false,
            edits,
            max_held: if edits { max_event_bytes } else { 0 },
        }
    }

    /// Takes the next bytes of the stream and gives those to be passed on, which may be none. Each
    /// event is shown once, when it is complete; where `edit` answers with other data, and the event
    /// has one `data` line that has not passed yet, these take the place of the event's own. They
    /// must not hold a line end.
    pub fn pass(&mut self, data: Bytes, mut edit: impl FnMut(&Event<'_>) -> Option<Vec<u8>>) -> Bytes {
        let chunk = if self.held.is_empty() {
            data
        } else {
            let ends_line = memchr2(b'\r', b'\n', &data).is_some();
            self.held.extend_from_slice(&data);
            if !ends_line && self.holds_on() {
                return Bytes::new();
            }
            self.held.split().freeze()
        };
        let mut out = Vec::new();
        let mut done = 0;
        let edits = self.edits;
        // An event that has begun to pass can no longer be edited in its beginning.
        let mut open = !self.passing;
        self.sse.feed(&chunk, |event| {
            if let Some(new) = edit(&event).filter(|_| open && edits)
                && let Event::Message { data, data_at: Some(at), .. } = event
                // A `data` line without a colon has no place for other data.
                && !data.is_empty()
            {
                out.extend_from_slice(chunk.get(done..at).unwrap_or_default());
                out.extend_from_slice(&new);
                done = at + data.len();
            }
            open = true;
        });
        let complete = self.sse.complete().min(chunk.len());
        if complete > 0 {
            self.passing = false;
            self.looks = 0;
        }
        let tail = chunk.get(complete..).unwrap_or_default();
        let mut end = chunk.len();
        if !tail.is_empty() && !self.passing {
            if self.is_worth_holding(tail) {
                self.sse.rewind();
                self.held.extend_from_slice(tail);
                self.next_look = 2 * tail.len();
                self.looks += 1;
                end = complete;
            } else {
                self.passing = true;
            }
        }
        if done == 0 {
            return if end == chunk.len() { chunk } else { chunk.slice(..end) };
        }
        out.extend_from_slice(chunk.get(done..end).unwrap_or_default());
        out.into()
    }

    /// Gives what is held, because the stream ends without completing it.
    pub fn rest(&mut self) -> Bytes {
        self.max_held = 0;
        self.held.split().freeze()
    }

    /// Whether something is held.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the stream has named an event, so that the client could resume it elsewhere.
    pub fn saw_id(&self) -> bool {
        self.sse.saw_id()
    }

    /// Whether what is held goes on being held, now that it has grown within a line.
    fn holds_on(&mut self) -> bool {
        if self.held.len() > self.max_held {
            return false;
        }
        if self.held.len() < self.next_look {
            return true;
        }
        self.next_look = 2 * self.held.len();
        may_be_request(&self.held)
    }

    fn is_worth_holding(&self, tail: &[u8]) -> bool {
        tail.len() <= self.max_held && self.looks < MAX_LOOKS && may_be_request(tail)
    }
}

/// Whether an event that begins like this may be a request. Decided by the first `data` line, once
/// enough of it is there.
fn may_be_request(beginning: &[u8]) -> bool {
    let mut rest = beginning;
    loop {
        let end = memchr2(b'\r', b'\n', rest);
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if let Some(data) = line.strip_prefix(b"data:") {
            return may_be_request_message(data);
        }
        match (end, line.first()) {
            // Keep-alives are no part of an event.
            (_, Some(b':')) => return false,
            (Some(end), _) => rest = rest.get(end + 1..).unwrap_or_default(),
            (None, _) => return true,
        }
    }
}

/// The same of the beginning of a message: whether its outermost members, as far as they are there,
/// are not those of an answer or a notification.
fn may_be_request_message(mut rest: &[u8]) -> bool {
    // A batch is what its first message is.
    while let Some(first) = rest.first()
        && (first.is_ascii_whitespace() || *first == b'[')
    {
        rest = rest.get(1..).unwrap_or_default();
    }
    match rest.split_first() {
        None => return true,
        Some((b'{', inside)) => rest = inside,
        Some(_) => return false,
    }
    loop {
        let Some(key_at) = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',') else {
            return true;
        };
        let Some((b'"', key)) = rest.get(key_at..).and_then(<[u8]>::split_first) else { return false };
        let Some(length) = string_length(key) else { return true };
        let name = key.get(..length).unwrap_or_default();
        if matches!(name, b"result" | b"error") {
            return false;
        }
        rest = key.get(length + 1..).unwrap_or_default();
        let Some(value_at) = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b':') else {
            return true;
        };
        rest = rest.get(value_at..).unwrap_or_default();
        if name == b"method" {
            const NOTIFICATIONS: &[u8] = b"\"notifications/";
            let known = rest.len().min(NOTIFICATIONS.len());
            return rest.get(..known) != NOTIFICATIONS.get(..known) || known < NOTIFICATIONS.len();
        }
        let Some(length) = value_length(rest) else { return true };
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// How many bytes a value takes; `None` if its end has not come.
fn value_length(value: &[u8]) -> Option<usize> {
    match value.first()? {
        b'"' => string_length(value.get(1..)?).map(|length| length + 2),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0_usize);
            loop {
                match value.get(at)? {
                    b'"' => at += 1 + string_length(value.get(at + 1..)?)?,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => value.iter().position(|byte| matches!(byte, b',' | b'}' | b']')),
    }
}

/// Length of the inside of a string; `None` if its end has not come.
fn string_length(inside: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let quote = at + memchr(b'"', inside.get(at..)?)?;
        let before = inside.get(..quote)?;
        // The last byte that is no backslash: an even number after it escapes nothing.
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(quote);
        }
        at = quote + 1;
    }
}
