//! The reading side: finds the heads in the bytes of an HTTP/1 connection and
//! keeps the spelling of their names.
//!
//! It follows the framing of RFC 9112 only as far as it takes to know where
//! the next head begins. hyper reads the same bytes and decides what is valid;
//! where the two should ever disagree, names fail to compare and stay as hyper
//! writes them.

use std::collections::VecDeque;

use memchr::memchr;

use super::Spelled;
use super::lines::Lines;

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
        if self.raw.is_empty() {
            let (at, ended) = self.head.lines(self.kind, bytes, 0);
            if ended {
                self.ended(&bytes[..at]);
                return &bytes[at..];
            }
            self.line = at;
            self.keep(bytes);
        } else {
            // It comes in pieces.
            let before = self.raw.len();
            self.keep(bytes);
            // Without the end of a line there is nothing to read.
            if memchr(b'\n', bytes).is_some() {
                let (at, ended) = self.head.lines(self.kind, &self.raw, self.line);
                if ended {
                    let raw = std::mem::take(&mut self.raw);
                    self.ended(&raw[..at]);
                    return &bytes[at - before..];
                }
                self.line = at;
            }
        }
        if self.raw.len() > self.max {
            // hyper refuses it.
            self.stop();
        }
        &[]
    }

    /// Keeps what came of a head, up to where it is too long.
    fn keep(&mut self, bytes: &[u8]) {
        let most = self.max + 1 - self.raw.len();
        self.raw.extend_from_slice(&bytes[..most.min(bytes.len())]);
    }

    fn ended(&mut self, raw: &[u8]) {
        if raw.len() > self.max {
            return self.stop();
        }
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
        let spelled = if head.spelled { Spelled::of(raw, head.fields) } else { Spelled::default() };
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
    /// Reads whole lines from `at` on. Gives where they end, and whether the
    /// head does.
    fn lines(&mut self, kind: Kind, bytes: &[u8], at: usize) -> (usize, bool) {
        let mut lines = Lines::new(bytes, at);
        for line in lines.by_ref() {
            let text = &bytes[line.start..line.end];
            let is_empty = matches!(text, b"\n" | b"\r\n");
            if !self.begun {
                // Empty lines before a request are passed over (RFC 9112, 2.2).
                self.begun = !is_empty;
                self.fields = line.end;
                if kind == Kind::Responses && is_interim(text) {
                    self.body = Body::Interim;
                }
                continue;
            }
            if is_empty {
                return (line.end, true);
            }
            self.spelled |= line.capital;
            if kind == Kind::Requests
                && let Some(colon) = line.colon
            {
                self.field(&bytes[line.start..colon], &bytes[colon + 1..line.end]);
            }
        }
        (lines.at(), false)
    }

    /// Reads what says how long the body of a request is.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if name.len() == LENGTH.len() && name.eq_ignore_ascii_case(LENGTH) {
            if self.body == Body::None {
                let value = str::from_utf8(value).ok().and_then(|value| value.trim_ascii().parse().ok());
                self.body = value.map_or(Body::Opaque, Body::Length);
            }
        } else if name.len() == CODING.len() && name.eq_ignore_ascii_case(CODING) && self.body != Body::Opaque
        {
            // hyper takes no other coding, and prefers this one to a length.
            self.body = Body::Chunked;
        }
    }
}

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

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
