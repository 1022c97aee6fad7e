//! The reading side: finds the heads in the bytes of an HTTP/1 connection and
//! keeps the spelling of their names.
//!
//! It follows the framing of RFC 9112 only as far as it takes to know where
//! the next head begins. hyper reads the same bytes and decides what is valid;
//! where the two should ever disagree, names fail to compare and stay as hyper
//! writes them.

use std::collections::VecDeque;

use memchr::memchr;

use super::{Spelled, has_upper_in_name};

/// Reads the heads off one direction of a connection.
#[derive(Debug, Default)]
pub struct Heads {
    kind: Kind,
    place: Place,
    /// The head that is being read, as far as it came before now.
    raw: Vec<u8>,
    /// Where in it the line begins whose end has not come.
    line: usize,
    /// What is known of it.
    head: Head,
    /// Those that were read and not asked for: one, unless a client sends
    /// requests without waiting for answers.
    complete: VecDeque<Spelled>,
    /// How many bytes they take.
    held: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Requests,
    Responses,
}

/// Where in the message the next byte stands.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    /// Nowhere: nothing is read.
    #[default]
    Off,
    Head,
    Body(u64),
    Chunks(Chunks),
}

#[derive(Debug, Default)]
struct Head {
    begun: bool,
    /// Where its fields begin, behind the first line.
    fields: usize,
    /// Whether any name is not in lower case.
    spelled: bool,
    /// What follows it.
    body: Body,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// Another head: this one only announces it.
    Interim,
    /// Nobody knows how much.
    Opaque,
}

/// Inside a chunked body (RFC 9112, 7.1).
#[derive(Debug, PartialEq, Eq)]
enum Chunks {
    Size(u64),
    Extension(u64),
    /// With the end of its line.
    Data(u64),
    /// The bytes of the line of a trailer.
    Trailer(usize),
}

impl Heads {
    /// Reads requests, each of a head of at most `max` bytes.
    pub fn of_requests(max: usize) -> Self {
        Heads { kind: Kind::Requests, place: Place::Head, max, ..Heads::default() }
    }

    /// Reads responses, each when [`expect`](Heads::expect) has announced it.
    pub fn of_responses(max: usize) -> Self {
        Heads { kind: Kind::Responses, place: Place::Off, max, ..Heads::default() }
    }

    /// Says that what comes next is the head of a response.
    pub fn expect(&mut self) {
        self.start_over();
        self.complete.clear();
        self.held = 0;
        self.place = Place::Head;
    }

    /// Reads no more, because what comes is no HTTP.
    pub fn stop(&mut self) {
        *self = Heads::default();
    }

    /// The oldest head that was read and not taken yet.
    pub fn take(&mut self) -> Spelled {
        let spelled = self.complete.pop_front().unwrap_or_default();
        self.held -= spelled.0.len();
        spelled
    }

    /// Shows it what was read from the connection.
    pub fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match &mut self.place {
                Place::Off => return,
                Place::Head => self.head(bytes),
                Place::Body(left) => {
                    let now = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= now as u64;
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                    &bytes[now..]
                }
                Place::Chunks(chunks) => {
                    let (rest, ended) = chunks.pass(bytes);
                    if ended {
                        self.place = Place::Head;
                    }
                    rest
                }
            };
        }
    }

    /// Reads lines of a head; gives what follows where it ends.
    fn head<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        // How much was read, and how much of that is in `raw`.
        let (mut read, mut kept) = (0, 0);
        while let Some(end) = memchr(b'\n', &bytes[read..]) {
            let line = &bytes[read..read + end];
            read += end + 1;
            let ended = if self.raw.len() == self.line {
                self.head.line(self.kind, line)
            } else {
                // It came in pieces.
                self.raw.extend_from_slice(&bytes[kept..read]);
                kept = read;
                self.head.line(self.kind, &self.raw[self.line..self.raw.len() - 1])
            };
            self.line = self.raw.len();
            let length = self.raw.len() + read - kept;
            if length > self.max {
                break;
            }
            if !self.head.begun {
                self.raw.clear();
                (self.line, kept) = (0, read);
            } else if self.head.fields == 0 {
                self.head.fields = length;
            }
            if ended {
                if self.raw.is_empty() {
                    self.ended(&bytes[kept..read]);
                } else {
                    self.raw.extend_from_slice(&bytes[kept..read]);
                    let raw = std::mem::take(&mut self.raw);
                    self.ended(&raw);
                }
                return &bytes[read..];
            }
        }
        if self.raw.len() + bytes.len() - kept > self.max {
            // hyper refuses it.
            self.stop();
        } else {
            self.raw.extend_from_slice(&bytes[kept..]);
            if read > 0 {
                self.line = self.raw.len() - (bytes.len() - read);
            }
        }
        &[]
    }

    fn ended(&mut self, raw: &[u8]) {
        let head = std::mem::take(&mut self.head);
        self.line = 0;
        self.place = match head.body {
            Body::Interim => return,
            Body::Opaque => Place::Off,
            Body::None | Body::Length(0) => Place::Head,
            Body::Length(length) => Place::Body(length),
            Body::Chunked => Place::Chunks(Chunks::Size(0)),
        };
        if self.kind == Kind::Responses {
            // The next one is announced.
            self.place = Place::Off;
        }
        let spelled = if head.spelled { Spelled::of(&raw[head.fields..]) } else { Spelled::default() };
        self.held += spelled.0.len();
        if self.held > self.max {
            return self.stop();
        }
        self.complete.push_back(spelled);
    }

    fn start_over(&mut self) {
        self.head = Head::default();
        self.raw.clear();
        self.line = 0;
    }
}

impl Head {
    /// Reads a line without its end. Whether it is the one that ends the head.
    fn line(&mut self, kind: Kind, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.begun {
            // Empty lines before a request are passed over (RFC 9112, 2.2).
            self.begun = !line.is_empty();
            if kind == Kind::Responses && is_interim(line) {
                self.body = Body::Interim;
            }
            return false;
        }
        if line.is_empty() {
            return true;
        }
        if !self.spelled {
            self.spelled = has_upper_in_name(line);
        }
        if kind == Kind::Requests && matches!(line[0], b'c' | b'C' | b't' | b'T') {
            if let Some(length) = value_of(line, b"content-length:") {
                self.length_is(length);
            } else if value_of(line, b"transfer-encoding:").is_some() {
                self.is_chunked();
            }
        }
        false
    }

    fn length_is(&mut self, value: &[u8]) {
        if self.body == Body::None {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            self.body = length.map_or(Body::Opaque, Body::Length);
        }
    }

    /// hyper takes no other coding, and prefers this one to a length.
    fn is_chunked(&mut self) {
        if self.body != Body::Opaque {
            self.body = Body::Chunked;
        }
    }
}

fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

/// Whether a response announces another (RFC 9110, 15.2). `101` is the last of HTTP.
fn is_interim(line: &[u8]) -> bool {
    matches!(line.get(8..12), Some([b' ', b'1', rest @ ..]) if rest != b"01")
}

impl Chunks {
    /// Passes over chunks. Gives the rest, and whether the body has ended.
    fn pass<'b>(&mut self, mut bytes: &'b [u8]) -> (&'b [u8], bool) {
        while let Some((&first, after)) = bytes.split_first() {
            *self = match *self {
                Chunks::Data(left) => {
                    let now = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    bytes = &bytes[now..];
                    match left - now as u64 {
                        0 => Chunks::Size(0),
                        left => Chunks::Data(left),
                    }
                }
                Chunks::Size(size) | Chunks::Extension(size) if first == b'\n' => {
                    bytes = after;
                    if size == 0 { Chunks::Trailer(0) } else { Chunks::Data(size.saturating_add(2)) }
                }
                Chunks::Size(size) => {
                    bytes = after;
                    match char::from(first).to_digit(16) {
                        Some(digit) => Chunks::Size(size.saturating_mul(16).saturating_add(u64::from(digit))),
                        None => Chunks::Extension(size),
                    }
                }
                Chunks::Extension(size) => {
                    bytes = after;
                    Chunks::Extension(size)
                }
                Chunks::Trailer(0) if first == b'\n' => return (after, true),
                Chunks::Trailer(length) => {
                    bytes = after;
                    Chunks::Trailer(match first {
                        b'\n' => 0,
                        b'\r' => length,
                        _ => length + 1,
                    })
                }
            };
        }
        (bytes, false)
    }
}
