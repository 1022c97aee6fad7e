//! A tap on a stream of server-sent events (WHATWG HTML, section 9.2): it is shown the bytes as
//! they pass, in whatever pieces they come, and reports each event at the byte that completes it.
//!
//! It changes nothing and holds nothing back. An event that lies within one piece and has one
//! `data` line is handed over without copying; otherwise its text is gathered, up to a limit.

use memchr::{memchr, memchr2};

/// Capacity, in bytes, that is kept between events: enough for small ones, little enough for many
/// idle streams.
const KEPT_BYTES: usize = 4096;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event, borrowed for the time of the call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event<'a> {
    /// An event that was read.
    Message {
        /// The type, unless it is the default, `message`.
        event: Option<&'a [u8]>,
        /// The data: the values of its `data` lines, joined by line feeds. May be empty.
        data: &'a [u8],
        /// Offset of `data` in the present chunk, if that is where it lies.
        data_at: Option<usize>,
        /// Offset in the present chunk just after the blank line that completed the event.
        end: usize,
    },
    /// An event over the limit, which was not read.
    Oversized {
        /// As for a message.
        end: usize,
    },
}

impl Event<'_> {
    /// Offset in the present chunk just after the blank line that completed the event.
    pub fn end(&self) -> usize {
        match self {
            Self::Message { end, .. } | Self::Oversized { end } => *end,
        }
    }
}

/// The state of one stream.
#[derive(Debug)]
pub struct Sse {
    max_event_bytes: usize,
    /// How many bytes of a byte order mark have been met; `None` once the stream has really begun.
    mark: Option<usize>,
    /// The last byte was a carriage return, so a line feed now belongs to it.
    after_return: bool,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// Such a line has begun and is not kept, because nothing in it matters.
    line_ignored: bool,
    /// The event's type, as far as it came with earlier chunks.
    name: Vec<u8>,
    /// The event's data, as far as it came with earlier chunks or has several lines, from
    /// `data_from` on.
    data: Vec<u8>,
    data_from: usize,
    has_data: bool,
    /// Some field of the present event has been met.
    begun: bool,
    oversized: bool,
    saw_id: bool,
    retry_ms: Option<u64>,
    /// Offset in the last chunk after its last blank line; zero if it had none.
    complete: usize,
    /// A blank line has been met since the stream began.
    opened: bool,
}

/// What of the present event lies in the present chunk.
#[derive(Default)]
struct Here<'c> {
    name: Option<&'c [u8]>,
    data: Option<&'c [u8]>,
    data_at: usize,
}

impl Sse {
    /// A stream at its beginning. An event is skipped when its type, its data and the line being
    /// read come to more than `max_event_bytes`; comments are never kept and do not count.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            mark: Some(0),
            after_return: false,
            line: Vec::new(),
            line_ignored: false,
            name: Vec::new(),
            data: Vec::new(),
            data_from: 0,
            has_data: false,
            begun: false,
            oversized: false,
            saw_id: false,
            retry_ms: None,
            complete: 0,
            opened: false,
        }
    }

    /// Takes the next bytes of the stream, and reports each event that they complete. How the
    /// stream is cut into chunks makes no difference to the events.
    pub fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut here = Here::default();
        self.complete = 0;
        let mut at = self.begin(chunk);
        while let Some(rest) = chunk.get(at..)
            && let Some(length) = memchr2(b'\r', b'\n', rest)
        {
            let start = at;
            at += length + 1;
            if rest.get(length) == Some(&b'\r') {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            let line = rest.get(..length).unwrap_or_default();
            if !line.is_empty() || self.line_ignored || !self.line.is_empty() {
                self.end_line(line, start, &mut here);
            } else {
                self.end_event(&here, at, &mut on_event);
                self.complete = at;
                self.opened = true;
                here = Here::default();
            }
        }
        self.keep(chunk.get(at..).unwrap_or_default(), here);
    }

    /// Ends the stream: says whether an event remained that no blank line had completed. A receiver
    /// drops such an event.
    pub fn finish(&self) -> bool {
        self.begun || self.oversized || !self.line.is_empty()
    }

    /// Whether the stream has named an event, so that the client could resume it elsewhere
    /// (`Last-Event-ID`).
    pub fn saw_id(&self) -> bool {
        self.saw_id
    }

    /// The reconnection time that the server last asked for, in milliseconds.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Offset in the last chunk just after the last blank line in it, where every event that had
    /// begun was complete; zero if there was none.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// Forgets what came after the last blank line, so that it can be fed again, with more after it.
    pub fn rewind(&mut self) {
        self.reset();
        self.line_ignored = false;
        self.after_return = false;
        if !self.opened {
            self.mark = Some(0);
        }
    }

    /// How much memory the stream holds for the event it is in, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.line.capacity() + self.name.capacity() + self.data.capacity()
    }

    /// Passes what may stand before the first line of a chunk: the mark that may open a stream, the
    /// rest of a CRLF.
    fn begin(&mut self, chunk: &[u8]) -> usize {
        let mut at = 0;
        while let (Some(met), Some(byte)) = (self.mark, chunk.get(at)) {
            if BYTE_ORDER_MARK.get(met) == Some(byte) {
                at += 1;
                self.mark = Some(met + 1).filter(|met| *met < BYTE_ORDER_MARK.len());
            } else {
                // What looked like a mark is the beginning of the first line; an unknown field, so
                // it is not kept.
                self.line_ignored = met > 0;
                self.begun = met > 0;
                self.mark = None;
            }
        }
        if self.after_return && at < chunk.len() {
            self.after_return = false;
            at += usize::from(chunk.get(at) == Some(&b'\n'));
        }
        at
    }

    /// Reads the line that ends here; its beginning may have come with earlier chunks.
    fn end_line<'c>(&mut self, line: &'c [u8], at: usize, here: &mut Here<'c>) {
        if std::mem::take(&mut self.line_ignored) || self.oversized {
            return;
        }
        let first = self.line.first().or(line.first());
        if first == Some(&b':') {
            return;
        }
        if self.exceeds(self.line.len() + line.len(), here) {
            return self.give_up(here);
        }
        self.begun = true;
        if self.line.is_empty() {
            match field(line) {
                (b"data", value) => self.add_data(value, at + line.len() - value.len(), here),
                (b"event", value) => here.name = Some(value),
                (name, value) => self.note(name, value),
            }
            return;
        }
        let mut whole = std::mem::take(&mut self.line);
        whole.extend_from_slice(line);
        match field(&whole) {
            (b"data", value) if !self.has_data && here.data.is_none() => {
                self.has_data = true;
                self.data_from = whole.len() - value.len();
                std::mem::swap(&mut self.data, &mut whole);
            }
            (b"data", value) => self.append_data(value, here),
            (b"event", value) => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            (name, value) => self.note(name, value),
        }
        whole.clear();
        self.line = whole;
    }

    fn add_data<'c>(&mut self, value: &'c [u8], at: usize, here: &mut Here<'c>) {
        if self.has_data || here.data.is_some() {
            return self.append_data(value, here);
        }
        here.data = Some(value);
        here.data_at = at;
    }

    fn append_data(&mut self, value: &[u8], here: &mut Here<'_>) {
        self.gather(here);
        self.data.push(b'\n');
        self.data.extend_from_slice(value);
    }

    /// Copies the data out of the present chunk.
    fn gather(&mut self, here: &mut Here<'_>) {
        if let Some(data) = here.data.take() {
            self.has_data = true;
            self.data_from = 0;
            self.data.clear();
            self.data.extend_from_slice(data);
        }
    }

    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"id" if !value.is_empty() && !value.contains(&0) => self.saw_id = true,
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let digits = std::str::from_utf8(value).ok();
                self.retry_ms = digits.and_then(|digits| digits.parse().ok()).or(self.retry_ms);
            }
            _ => {}
        }
    }

    /// Whether a line of this length takes the event over its limit.
    fn exceeds(&self, line: usize, here: &Here<'_>) -> bool {
        let data = here.data.map_or(self.data.len() - self.data_from, <[u8]>::len);
        let name = here.name.unwrap_or(&self.name).len();
        line + data + name > self.max_event_bytes
    }

    fn give_up(&mut self, here: &mut Here<'_>) {
        *here = Here::default();
        self.reset();
        self.oversized = true;
    }

    /// A blank line: the event is complete, if there was one. Without a `data` line there is none.
    fn end_event(&mut self, here: &Here<'_>, end: usize, on_event: &mut impl FnMut(Event<'_>)) {
        if self.oversized {
            on_event(Event::Oversized { end });
        } else if here.data.is_some() || self.has_data {
            let kept = self.data.get(self.data_from..).unwrap_or_default();
            let name = here.name.unwrap_or(&self.name);
            on_event(Event::Message {
                event: (!name.is_empty()).then_some(name),
                data: here.data.unwrap_or(kept),
                data_at: here.data.map(|_| here.data_at),
                end,
            });
        }
        if self.begun || self.oversized {
            self.reset();
        }
    }

    fn reset(&mut self) {
        for buffer in [&mut self.line, &mut self.name, &mut self.data] {
            buffer.clear();
            buffer.shrink_to(KEPT_BYTES);
        }
        self.data_from = 0;
        self.has_data = false;
        self.begun = false;
        self.oversized = false;
    }

    /// Keeps what the next chunk will need: the beginning of a line, and what `here` borrowed.
    fn keep(&mut self, rest: &[u8], mut here: Here<'_>) {
        if !rest.is_empty() && !self.line_ignored {
            let comment = self.line.is_empty() && rest.first() == Some(&b':');
            if comment || self.oversized {
                self.line_ignored = true;
            } else if self.exceeds(self.line.len() + rest.len(), &here) {
                self.give_up(&mut here);
                self.line_ignored = true;
            } else {
                self.line.extend_from_slice(rest);
            }
        }
        self.gather(&mut here);
        if let Some(name) = here.name {
            self.name.clear();
            self.name.extend_from_slice(name);
        }
    }
}

/// Splits a line into the name and the value of its field. A line without a colon is a field
/// without a value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = match line {
        [b'd', b'a', b't', b'a', b':', value @ ..] => (&b"data"[..], value),
        _ => match memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
            Some((name, value)) => (name, value.strip_prefix(b":").unwrap_or(value)),
            None => (line, &b""[..]),
        },
    };
    (name, value.strip_prefix(b" ").unwrap_or(value))
}
