//! The scanner under the message view: goes through a text once, and into the objects that matter.

use std::ops::Range;

use super::keys::Keys;
use super::message::Doubt;
use super::skim::{container_end, string_end};
use super::skip::{MAX_DEPTH, byte_at, colon_end, end_from, number_end, pass_space, scalar_end, special};
use super::text::Text;

/// What is scanned: a text, or bytes of which only what is handed out has to be text.
pub(crate) trait Body<'a>: Copy {
    /// Whether calls are read as well, or answers only.
    const CALLS: bool;
    /// Whether it is one object, and only objects in objects of it are looked into: then to find out
    /// as well if all that is passed is ASCII.
    const WATCHED: bool = false;

    fn bytes(self) -> &'a [u8];

    /// The text in `range`; `None` if it is not UTF-8.
    fn text(self, range: Range<usize>) -> Option<&'a str>;
}

impl<'a> Body<'a> for &'a str {
    const CALLS: bool = true;

    #[inline(always)]
    fn bytes(self) -> &'a [u8] {
        self.as_bytes()
    }

    #[inline(always)]
    fn text(self, range: Range<usize>) -> Option<&'a str> {
        self.get(range)
    }
}

impl<'a> Body<'a> for &'a [u8] {
    const CALLS: bool = false;

    #[inline(always)]
    fn bytes(self) -> &'a [u8] {
        self
    }

    #[inline(always)]
    fn text(self, range: Range<usize>) -> Option<&'a str> {
        str::from_utf8(self.get(range)?).ok()
    }
}

/// The bytes of a text that nobody has looked at yet: it is one if they are ASCII.
#[derive(Clone, Copy)]
pub(super) struct Unseen<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> for Unseen<'a> {
    const CALLS: bool = true;
    const WATCHED: bool = true;

    #[inline(always)]
    fn bytes(self) -> &'a [u8] {
        self.0
    }

    #[inline(always)]
    fn text(self, range: Range<usize>) -> Option<&'a str> {
        self.0.text(range)
    }
}

/// A position in a body, moving forward only.
pub(crate) struct Scanner<'a, B> {
    body: B,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    /// Whether all that was passed is ASCII, where that is watched.
    ascii: bool,
}

/// A member of an object, met with the scanner standing on the first byte of its value.
pub(crate) struct Member<K> {
    pub(crate) key: K,
    /// Offset of the quote that opens the key.
    pub(crate) at: usize,
    /// Offset of the comma before it, unless it is the first.
    pub(crate) comma: Option<usize>,
}

/// Where an object was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Offset just after the opening brace.
    pub(crate) inside: usize,
    /// Offset of the closing brace.
    pub(crate) close: usize,
    /// How many members it has.
    pub(crate) members: usize,
}

impl<'a, B: Body<'a>> Scanner<'a, B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, bytes: body.bytes(), at: 0, depth: 0, ascii: true }
    }

    /// Whether all that was passed is known to be ASCII.
    pub(crate) fn is_ascii(&self) -> bool {
        B::WATCHED && self.ascii
    }

    /// Offset of the next byte to read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The bytes from `start` up to the present position.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The next byte, not consumed; zero at the end, which is no byte of JSON's structure.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u8 {
        byte_at(self.bytes, self.at)
    }

    /// Passes white space; the byte after it, not consumed.
    #[inline(always)]
    pub(crate) fn space(&mut self) -> u8 {
        pass_space(self.bytes, &mut self.at)
    }

    /// Passes white space; says whether nothing else is left.
    pub(crate) fn is_done(&mut self) -> bool {
        self.space();
        self.at >= self.bytes.len()
    }

    /// Passes `expected` if it stands here; says whether it did.
    #[inline(always)]
    pub(crate) fn pass(&mut self, expected: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        self.at += if found { expected.len() } else { 0 };
        found
    }

    /// Reads the object that begins here and calls `visit` for each member; `visit` has to consume
    /// the value. A known member that occurs twice is an error.
    #[inline(always)]
    pub(crate) fn members<K: Keys>(
        &mut self,
        mut visit: impl FnMut(&mut Self, Member<K>) -> Result<(), Doubt>,
    ) -> Result<Extent, Doubt> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Doubt::Depth);
        }
        self.at += 1;
        let inside = self.at;
        let mut members = 0;
        let mut comma = None;
        let mut seen = 0;
        let mut byte = self.space();
        if byte != b'}' {
            loop {
                let at = self.at;
                let key: K = self.key(byte)?;
                if seen & key.bit() != 0 {
                    return Err(Doubt::Duplicate);
                }
                seen |= key.bit();
                members += 1;
                visit(self, Member { key, at, comma })?;
                byte = self.space();
                if byte != b',' {
                    break;
                }
                comma = Some(self.at);
                self.at += 1;
                byte = self.space();
            }
            if byte != b'}' {
                return Err(Doubt::NotJson);
            }
        }
        let close = self.at;
        self.at += 1;
        self.depth -= 1;
        Ok(Extent { inside, close, members })
    }

    /// Passes one value of any kind.
    #[inline]
    pub(crate) fn skip(&mut self) -> Result<(), Doubt> {
        self.at = match self.peek() {
            b'"' => self.string_end()?,
            b'{' | b'[' => self.container_end()?,
            byte => scalar_end(self.bytes, self.at, byte)?,
        };
        Ok(())
    }

    #[inline(always)]
    fn string_end(&mut self) -> Result<usize, Doubt> {
        if B::WATCHED {
            string_end::<true>(self.bytes, self.at + 1, &mut self.ascii)
        } else {
            string_end::<false>(self.bytes, self.at + 1, &mut self.ascii)
        }
    }

    #[inline(always)]
    fn container_end(&mut self) -> Result<usize, Doubt> {
        if B::WATCHED {
            container_end::<true>(self.bytes, self.at, self.depth, true, &mut self.ascii)
        } else {
            container_end::<false>(self.bytes, self.at, self.depth, false, &mut self.ascii)
        }
    }

    /// Takes note of what is passed by other means.
    #[inline(always)]
    fn watch(&mut self, range: Range<usize>) {
        if B::WATCHED {
            self.ascii &= self.bytes.get(range).is_some_and(<[u8]>::is_ascii);
        }
    }

    /// Reads the string that begins here; `None` if it is not UTF-8.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Option<Text<'a>>, Doubt> {
        let start = self.at + 1;
        let plain_end = special(self.bytes, start);
        let end = end_from(self.bytes, plain_end)?;
        self.at = end;
        self.watch(start..end);
        let raw = self.body.text(start..end - 1);
        Ok(raw.map(|raw| Text::new(raw, end - 1 != plain_end)))
    }

    /// Reads the number that begins here; `None` if something else does, or what only Python takes
    /// for a number.
    #[inline(always)]
    pub(crate) fn number(&mut self) -> Result<Option<&'a str>, Doubt> {
        let start = self.at;
        let digit = start + usize::from(self.peek() == b'-');
        if !byte_at(self.bytes, digit).is_ascii_digit() {
            return Ok(None);
        }
        self.at = number_end(self.bytes, start)?;
        self.body.text(start..self.at).map(Some).ok_or(Doubt::NotJson)
    }

    /// Reads the key that should begin here with `first`, and passes the colon and the space after
    /// it.
    #[inline(always)]
    fn key<K: Keys>(&mut self, first: u8) -> Result<K, Doubt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let key = match rest.first_chunk().and_then(|window| K::at_head(window, rest)) {
            Some((key, length)) => {
                self.at += length;
                key
            }
            None if first == b'"' => self.other_key()?,
            None => return Err(Doubt::NotJson),
        };
        self.space();
        Ok(key)
    }

    /// Reads a key that was not recognised at once.
    #[inline(never)]
    fn other_key<K: Keys>(&mut self) -> Result<K, Doubt> {
        let start = self.at + 1;
        let plain_end = special(self.bytes, start);
        let end = end_from(self.bytes, plain_end)?;
        self.at = colon_end(self.bytes, end)?;
        self.watch(start..end);
        if plain_end == end - 1 {
            return Ok(K::named(self.bytes.get(start..plain_end).unwrap_or_default()));
        }
        let name = self.body.text(start..end - 1).unwrap_or_default();
        Ok(K::spelled(Text::new(name, true)))
    }
}
