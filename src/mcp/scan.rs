//! The scanner under the message view: it checks the structure of JSON (RFC 8259) and finds where things are, in one
//! pass, without recursion and without allocating.
//!
//! Structure and escapes are checked strictly, because a receiver must not see other brackets than we do. Two things
//! that cannot move a bracket are let through: raw control characters inside a string, and the number spellings
//! `NaN`, `Infinity` and `-Infinity` that Python both writes and reads.

use std::hint::black_box;

use memchr::memchr2;

use super::keys::Keys;
use super::message::Doubt;
use super::text::Text;

/// How deep arrays and objects may nest, the outermost object included. One bit is kept for each level.
pub(super) const MAX_DEPTH: u32 = u128::BITS;

/// A position in a text, moving forward only.
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

/// A member of an object, met with the scanner standing on the first byte of its value.
pub(super) struct Member<K> {
    pub(super) key: K,
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
        Self { text, bytes: text.as_bytes(), at: 0, depth: 0 }
    }

    /// Offset of the next byte to read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes from `start` up to the present position.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The next byte, not consumed; zero at the end, which is no byte of JSON's structure.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        byte_at(self.bytes, self.at)
    }

    /// Passes white space; the byte after it, not consumed.
    #[inline(always)]
    pub(super) fn space(&mut self) -> u8 {
        pass_space(self.bytes, &mut self.at)
    }

    /// Passes white space; says whether nothing else is left.
    pub(super) fn is_done(&mut self) -> bool {
        self.space();
        self.at >= self.bytes.len()
    }

    /// Passes `expected` if it stands here; says whether it did.
    #[inline(always)]
    pub(super) fn pass(&mut self, expected: &[u8]) -> bool {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(expected));
        self.at += if found { expected.len() } else { 0 };
        found
    }

    /// Reads the object that begins here and calls `visit` for each member; `visit` has to consume the value. A known
    /// member that occurs twice is an error.
    #[inline(always)]
    pub(super) fn members<K: Keys>(
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
    pub(super) fn skip(&mut self) -> Result<(), Doubt> {
        self.at = match self.peek() {
            b'"' => string_end(self.bytes, self.at + 1)?,
            b'{' | b'[' => container_end(self.bytes, self.at, self.depth)?,
            byte => scalar_end(self.bytes, self.at, byte)?,
        };
        Ok(())
    }

    /// Reads the string that begins here; `None` if something else does.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Option<Text<'a>>, Doubt> {
        if self.peek() != b'"' {
            return Ok(None);
        }
        let start = self.at + 1;
        let plain_end = special(self.bytes, start);
        let end = end_from(self.bytes, plain_end)?;
        self.at = end;
        match self.text.get(start..end - 1) {
            Some(raw) => Ok(Some(Text::new(raw, end - 1 != plain_end))),
            None => Err(Doubt::NotJson),
        }
    }

    /// Reads the number that begins here; `None` if something else does, or what only Python takes for a number.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Result<Option<&'a str>, Doubt> {
        let start = self.at;
        let digit = start + usize::from(self.peek() == b'-');
        if !byte_at(self.bytes, digit).is_ascii_digit() {
            return Ok(None);
        }
        self.at = number_end(self.bytes, start)?;
        self.text.get(start..self.at).map(Some).ok_or(Doubt::NotJson)
    }

    /// Reads the key that should begin here with `first`, and passes the colon and the space after it.
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
        if plain_end == end - 1 {
            return Ok(K::named(self.bytes.get(start..plain_end).unwrap_or_default()));
        }
        let name = self.text.get(start..end - 1).unwrap_or_default();
        Ok(K::spelled(Text::new(name, true)))
    }
}

/// Offset after the array or object that begins at `at`, inside `depth` others.
fn container_end(bytes: &[u8], mut at: usize, depth: u32) -> Result<usize, Doubt> {
    let mut level = depth;
    // One bit a container opened here, the innermost lowest: set for an object, clear for an array.
    let mut objects: u128 = 0;
    loop {
        match pass_space(bytes, &mut at) {
            b'"' => at = string_end(bytes, at + 1)?,
            open @ (b'{' | b'[') => {
                level += 1;
                if level > MAX_DEPTH {
                    return Err(Doubt::Depth);
                }
                let object = open == b'{';
                objects = objects << 1 | u128::from(object);
                at += 1;
                let next = pass_space(bytes, &mut at);
                if next != closing(object) {
                    if object {
                        at = key_end(bytes, at, next)?;
                    }
                    continue;
                }
            }
            byte => at = scalar_end(bytes, at, byte)?,
        }
        // A value is complete: close all that ends here, up to the comma before the next value.
        loop {
            let object = objects & 1 == 1;
            let byte = pass_space(bytes, &mut at);
            if byte == b',' {
                at += 1;
                if object {
                    let next = pass_space(bytes, &mut at);
                    at = key_end(bytes, at, next)?;
                }
                break;
            }
            if byte != closing(object) {
                return Err(Doubt::NotJson);
            }
            at += 1;
            objects >>= 1;
            level -= 1;
            if level == depth {
                return Ok(at);
            }
        }
    }
}

#[inline(always)]
fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
}

/// Offset after the key that begins at `at` with `first`, and after its colon.
#[inline(always)]
fn key_end(bytes: &[u8], at: usize, first: u8) -> Result<usize, Doubt> {
    if first != b'"' {
        return Err(Doubt::NotJson);
    }
    colon_end(bytes, string_end(bytes, at + 1)?)
}

#[inline(always)]
fn colon_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    if pass_space(bytes, &mut at) == b':' { Ok(at + 1) } else { Err(Doubt::NotJson) }
}

/// Offset after the string whose inside begins at `at`.
#[inline(always)]
fn string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    end_from(bytes, special(bytes, at))
}

/// Offset after the string whose first quote or backslash is at `at`.
#[inline(always)]
fn end_from(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    if byte_at(bytes, at) == b'"' { Ok(at + 1) } else { escaped_end(bytes, at) }
}

#[inline(never)]
fn escaped_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    loop {
        match byte_at(bytes, at) {
            b'"' => return Ok(at + 1),
            // Where one escape is, another is near: text has one at the end of each line.
            b'\\' => at = special_near::<3>(bytes, escape_end(bytes, at)?),
            _ => return Err(Doubt::NotJson),
        }
    }
}

/// Offset after the escape whose backslash is at `at`.
#[inline(always)]
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    match byte_at(bytes, at + 1) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match bytes.get(at + 2..at + 6) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(at + 6),
            _ => Err(Doubt::NotJson),
        },
        _ => Err(Doubt::NotJson),
    }
}

/// Offset of the next quote or backslash, or of the end. The first 16 bytes are looked at in place, because most names
/// end there and a call costs more.
#[inline(always)]
fn special(bytes: &[u8], at: usize) -> usize {
    special_near::<1>(bytes, at)
}

/// Looks at `CHUNKS` times 16 bytes in place.
#[inline(always)]
fn special_near<const CHUNKS: usize>(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..CHUNKS {
        let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let [low, high] = hits(chunk);
        if low != 0 {
            return at + (low.trailing_zeros() / 8) as usize;
        }
        if high != 0 {
            return at + 8 + (high.trailing_zeros() / 8) as usize;
        }
        at += chunk.len();
    }
    special_far(bytes, at)
}

#[inline(never)]
fn special_far(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr2(b'"', b'\\', rest).map_or(bytes.len(), |found| at + found)
}

/// Which of 16 bytes are quotes or backslashes: all bits of such a byte are set, in little-endian order.
///
/// Written so that the compiler compares all of them at once; without the black box it sees through the array and takes
/// them one by one again.
#[inline(always)]
fn hits(chunk: &[u8; 16]) -> [u64; 2] {
    let mut hits = [0; 16];
    for (hit, byte) in hits.iter_mut().zip(chunk) {
        *hit = if (*byte == b'"') | (*byte == b'\\') { 0xff } else { 0 };
    }
    let hits = u128::from_le_bytes(black_box(hits));
    [hits as u64, (hits >> 64) as u64]
}

/// Offset after the literal or number that begins at `at` with `first`.
#[inline(always)]
fn scalar_end(bytes: &[u8], at: usize, first: u8) -> Result<usize, Doubt> {
    match first {
        b'0'..=b'9' | b'-' => number_end(bytes, at),
        b't' => literal_end(bytes, at, b"true"),
        b'f' => literal_end(bytes, at, b"false"),
        b'n' => literal_end(bytes, at, b"null"),
        b'N' => literal_end(bytes, at, b"NaN"),
        b'I' => literal_end(bytes, at, b"Infinity"),
        _ => Err(Doubt::NotJson),
    }
}

#[inline(always)]
fn literal_end<const N: usize>(bytes: &[u8], at: usize, literal: &[u8; N]) -> Result<usize, Doubt> {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(found) if found == literal => Ok(at + N),
        _ => Err(Doubt::NotJson),
    }
}

#[inline(always)]
fn number_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let negative = byte_at(bytes, at) == b'-';
    let start = at + usize::from(negative);
    let end = match byte_at(bytes, start) {
        b'0' => start + 1,
        b'1'..=b'9' => digits_end(bytes, start + 1),
        b'I' if negative => return literal_end(bytes, start, b"Infinity"),
        _ => return Err(Doubt::NotJson),
    };
    match byte_at(bytes, end) {
        b'.' | b'e' | b'E' => fraction_end(bytes, end),
        _ => Ok(end),
    }
}

/// Offset after a fraction and an exponent, of which at least one begins at `at`.
fn fraction_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    if byte_at(bytes, at) == b'.' {
        at = some_digits_end(bytes, at + 1)?;
    }
    if let b'e' | b'E' = byte_at(bytes, at) {
        let sign = usize::from(matches!(byte_at(bytes, at + 1), b'+' | b'-'));
        at = some_digits_end(bytes, at + 1 + sign)?;
    }
    Ok(at)
}

fn some_digits_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let end = digits_end(bytes, at);
    if end == at { Err(Doubt::NotJson) } else { Ok(end) }
}

#[inline(always)]
fn digits_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Passes white space; the byte after it, or zero at the end.
#[inline(always)]
fn pass_space(bytes: &[u8], at: &mut usize) -> u8 {
    let byte = byte_at(bytes, *at);
    if byte > b' ' {
        return byte;
    }
    *at = space_end(bytes, *at);
    byte_at(bytes, *at)
}

/// Out of line, because machines write none.
#[inline(never)]
fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let b' ' | b'\n' | b'\r' | b'\t' = byte_at(bytes, at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}
