//! The scanner under the message view: it checks the structure of JSON (RFC 8259) and finds where things are, in one
//! pass, without recursion and without allocating.
//!
//! Structure and escapes are checked strictly, because a receiver must not see other brackets than we do. Two things
//! that cannot move a bracket are let through: raw control characters inside a string, and the number spellings
//! `NaN`, `Infinity` and `-Infinity` that Python both writes and reads.

use memchr::memchr2;

use super::message::Doubt;
use super::text::Text;

/// How deep arrays and objects may nest, the outermost object included.
pub(super) const MAX_DEPTH: u32 = 128;

/// How many eight-byte words of a string are looked at in place before the vector search is called in: most keys and
/// names end within them, and a call costs more than they do.
const WORDS_IN_PLACE: usize = 3;

/// A position in a text, moving forward only.
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

/// A member of an object, met with the scanner standing on the first byte of its value.
pub(super) struct Member<'a> {
    pub(super) key: Text<'a>,
    /// Offset of the quote that opens the key.
    pub(super) at: usize,
    /// Offset of the comma before it, unless it is the first.
    pub(super) comma: Option<usize>,
}

/// Where an object was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Offset just after the opening brace.
    pub(super) inside: usize,
    /// Offset of the closing brace.
    pub(super) close: usize,
    /// How many members it has.
    pub(super) members: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            depth: 0,
        }
    }

    /// Offset of the next byte to read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes from `start` up to the present position.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The next byte, not consumed.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes white space; the byte after it, not consumed.
    #[inline(always)]
    pub(super) fn space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Reads the object that begins here and calls `visit` for each member; `visit` has to consume the value.
    #[inline(always)]
    pub(super) fn members(
        &mut self,
        mut visit: impl FnMut(&mut Self, Member<'a>) -> Result<(), Doubt>,
    ) -> Result<Extent, Doubt> {
        self.expect(b'{')?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Doubt::Depth);
        }
        let mut extent = Extent {
            inside: self.at,
            close: self.at,
            members: 0,
        };
        let mut comma = None;
        if self.space() != Some(b'}') {
            loop {
                self.space();
                let at = self.at;
                let key = self.string()?;
                self.colon()?;
                extent.members += 1;
                visit(self, Member { key, at, comma })?;
                match self.space() {
                    Some(b',') => comma = Some(self.at),
                    Some(b'}') => break,
                    _ => return Err(Doubt::NotJson),
                }
                self.at += 1;
            }
        }
        extent.close = self.at;
        self.at += 1;
        self.depth -= 1;
        Ok(extent)
    }

    /// Passes one value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Doubt> {
        let mut level = self.depth;
        // One bit a container opened here, innermost lowest: set for an object, clear for an array.
        let mut objects: u128 = 0;
        loop {
            match self.space() {
                Some(b'"') => {
                    self.skip_string()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    level += 1;
                    if level > MAX_DEPTH {
                        return Err(Doubt::Depth);
                    }
                    let object = open == b'{';
                    objects = objects << 1 | u128::from(object);
                    self.at += 1;
                    match (object, self.space()) {
                        (true, Some(b'}')) | (false, Some(b']')) => {}
                        (true, _) => {
                            self.skip_key()?;
                            continue;
                        }
                        (false, _) => continue,
                    }
                }
                Some(byte) => self.scalar(byte)?,
                None => return Err(Doubt::NotJson),
            }
            // A value is complete: close all that ends here, and stop at the comma before the next one.
            loop {
                if level == self.depth {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match (self.space(), object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if object {
                            self.space();
                            self.skip_key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        objects >>= 1;
                        level -= 1;
                    }
                    _ => return Err(Doubt::NotJson),
                }
            }
        }
    }

    /// Reads the string that begins here.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Doubt> {
        let start = self.at + 1;
        let escaped = self.skip_string()?;
        match self.text.get(start..self.at - 1) {
            Some(raw) => Ok(Text::new(raw, escaped)),
            None => Err(Doubt::NotJson),
        }
    }

    /// Reads the number that begins here: its text.
    pub(super) fn number(&mut self) -> Result<&'a str, Doubt> {
        let start = self.at;
        self.skip_number()?;
        self.text.get(start..self.at).ok_or(Doubt::NotJson)
    }

    fn skip_key(&mut self) -> Result<(), Doubt> {
        self.skip_string()?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Doubt> {
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Result<(), Doubt> {
        if self.peek() != Some(byte) {
            return Err(Doubt::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the string that begins here; says whether it holds an escape.
    #[inline]
    fn skip_string(&mut self) -> Result<bool, Doubt> {
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            self.at = self.special()?;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(escaped);
            }
            escaped = true;
            self.skip_escape()?;
        }
    }

    /// Offset of the next quote or backslash.
    #[inline(always)]
    fn special(&self) -> Result<usize, Doubt> {
        let mut at = self.at;
        for _ in 0..WORDS_IN_PLACE {
            let Some(word) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) else {
                break;
            };
            let word = u64::from_le_bytes(*word);
            let hits = zero_bytes(word ^ repeat(b'"')) | zero_bytes(word ^ repeat(b'\\'));
            if hits != 0 {
                return Ok(at + (hits.trailing_zeros() / 8) as usize);
            }
            at += 8;
        }
        self.special_far(at)
    }

    #[inline(never)]
    fn special_far(&self, at: usize) -> Result<usize, Doubt> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        memchr2(b'"', b'\\', rest)
            .map(|found| at + found)
            .ok_or(Doubt::NotJson)
    }

    /// Passes the escape whose backslash stands here.
    fn skip_escape(&mut self) -> Result<(), Doubt> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => match self.bytes.get(self.at + 2..self.at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => 6,
                _ => return Err(Doubt::NotJson),
            },
            _ => return Err(Doubt::NotJson),
        };
        self.at += length;
        Ok(())
    }

    /// Passes a literal or a number that begins with `byte`.
    #[inline]
    fn scalar(&mut self, byte: u8) -> Result<(), Doubt> {
        match byte {
            b'0'..=b'9' | b'-' => self.skip_number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'N' => self.literal(b"NaN"),
            b'I' => self.literal(b"Infinity"),
            _ => Err(Doubt::NotJson),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Doubt> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(literal) {
            return Err(Doubt::NotJson);
        }
        self.at += literal.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), Doubt> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            Some(b'I') if negative => return self.literal(b"Infinity"),
            _ => return Err(Doubt::NotJson),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), Doubt> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(Doubt::NotJson) } else { Ok(()) }
    }

    #[inline(always)]
    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }
}

const fn repeat(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Has the top bit of each zero byte of `word` set; bits above the lowest one set may be wrong, that one is not.
#[inline(always)]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
}
