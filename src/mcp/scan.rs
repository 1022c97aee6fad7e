//! The scanner under the message view: it checks the structure of JSON (RFC 8259) and finds where things are, in one
//! pass, without recursion and without allocating.
//!
//! Structure and escapes are checked strictly, because a receiver must not see other brackets than we do. Two things
//! that cannot move a bracket are let through: raw control characters inside a string, and the number spellings
//! `NaN`, `Infinity` and `-Infinity` that Python both writes and reads.

use std::hint::black_box;

use memchr::memchr2;

use super::message::Doubt;
use super::text::Text;

/// How deep arrays and objects may nest, the outermost object included. One bit is kept for each level.
pub(super) const MAX_DEPTH: u32 = u128::BITS;

/// A position in a text, moving forward only.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// What has not been read yet.
    rest: &'a [u8],
    depth: u32,
}

/// A member of an object, met with the scanner standing on the first byte of its value.
pub(super) struct Member<'a> {
    pub(super) key: Key<'a>,
    /// Offset of the quote that opens the key.
    pub(super) at: usize,
    /// Offset of the comma before it, unless it is the first.
    pub(super) comma: Option<usize>,
}

/// The name of a member.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    raw: &'a [u8],
    escaped: bool,
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
        Self { text, rest: text.as_bytes(), depth: 0 }
    }

    /// Offset of the next byte to read.
    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.offset(self.rest)
    }

    /// The bytes from `start` up to the present position.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.text.as_bytes().get(start..self.at()).unwrap_or_default()
    }

    /// The next byte, not consumed; zero at the end, which is no byte of JSON's structure.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or_default()
    }

    /// Passes white space; says whether nothing else is left.
    pub(super) fn is_done(&mut self) -> bool {
        self.rest = pass_space(self.rest);
        self.rest.is_empty()
    }

    /// Reads the object that begins here and calls `visit` for each member; `visit` has to consume the value.
    #[inline(always)]
    pub(super) fn members(
        &mut self,
        mut visit: impl FnMut(&mut Self, Member<'a>) -> Result<(), Doubt>,
    ) -> Result<Extent, Doubt> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Doubt::Depth);
        }
        let (_, inside) = next(self.rest)?;
        let mut extent = Extent { inside: self.offset(inside), close: 0, members: 0 };
        let mut comma = None;
        let (mut byte, mut after) = next(inside)?;
        while byte != b'}' || extent.members > 0 {
            if byte != b'"' {
                return Err(Doubt::NotJson);
            }
            let at = self.offset(after) - 1;
            let plain = plain_len(after);
            let tail = string_tail(after, plain)?;
            let length = after.len() - tail.len() - 1;
            let key = Key { raw: after.get(..length).unwrap_or_default(), escaped: length != plain };
            self.rest = pass_space(colon_tail(tail)?);
            extent.members += 1;
            visit(self, Member { key, at, comma })?;
            (byte, after) = next(self.rest)?;
            if byte != b',' {
                break;
            }
            comma = Some(self.offset(after) - 1);
            (byte, after) = next(after)?;
        }
        if byte != b'}' {
            return Err(Doubt::NotJson);
        }
        extent.close = self.offset(after) - 1;
        self.rest = after;
        self.depth -= 1;
        Ok(extent)
    }

    /// Passes one value of any kind.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<(), Doubt> {
        self.rest = match self.rest {
            [b'"', inside @ ..] => string_tail(inside, plain_len(inside))?,
            [b'{' | b'[', ..] => container_tail(self.rest, self.depth)?,
            rest => scalar_tail(rest)?,
        };
        Ok(())
    }

    /// Reads the string that begins here; `None` if something else does.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Option<Text<'a>>, Doubt> {
        let [b'"', inside @ ..] = self.rest else {
            return Ok(None);
        };
        let plain = plain_len(inside);
        let tail = string_tail(inside, plain)?;
        let start = self.offset(inside);
        let length = inside.len() - tail.len() - 1;
        self.rest = tail;
        match self.text.get(start..start + length) {
            Some(raw) => Ok(Some(Text::new(raw, length != plain))),
            None => Err(Doubt::NotJson),
        }
    }

    /// Reads the number that begins here: its text.
    pub(super) fn number(&mut self) -> Result<&'a str, Doubt> {
        let start = self.at();
        self.rest = number_tail(self.rest)?;
        self.text.get(start..self.at()).ok_or(Doubt::NotJson)
    }

    /// Where `rest`, which is a tail of the text, begins.
    #[inline(always)]
    fn offset(&self, rest: &[u8]) -> usize {
        self.text.len() - rest.len()
    }
}

impl<'a> Key<'a> {
    /// The name, for matching against those in `known`: a name spelled with escapes is looked up there, so that
    /// nothing has to be decoded into memory.
    #[inline(always)]
    pub(super) fn name(self, known: &'static [&'static str]) -> &'a [u8] {
        if self.escaped { spelled(self.raw, known) } else { self.raw }
    }
}

#[cold]
fn spelled(raw: &[u8], known: &'static [&'static str]) -> &'static [u8] {
    let text = Text::new(std::str::from_utf8(raw).unwrap_or_default(), true);
    let found = known.iter().find(|name| text.eq_str(name));
    found.map_or(b"", |name| name.as_bytes())
}

/// What follows the array or object at the head of `rest`, which is inside `depth` others.
fn container_tail(mut rest: &[u8], depth: u32) -> Result<&[u8], Doubt> {
    let mut level = depth;
    // One bit a container opened here, the innermost lowest: set for an object, clear for an array.
    let mut objects: u128 = 0;
    loop {
        rest = pass_space(rest);
        match rest {
            [b'"', inside @ ..] => rest = string_tail(inside, plain_len(inside))?,
            [open @ (b'{' | b'['), inside @ ..] => {
                level += 1;
                if level > MAX_DEPTH {
                    return Err(Doubt::Depth);
                }
                let object = *open == b'{';
                objects = objects << 1 | u128::from(object);
                rest = pass_space(inside);
                if rest.first() != Some(&closing(object)) {
                    if object {
                        rest = key_tail(rest)?;
                    }
                    continue;
                }
            }
            _ => rest = scalar_tail(rest)?,
        }
        // A value is complete: close all that ends here, up to the comma before the next value.
        loop {
            let object = objects & 1 == 1;
            let (byte, after) = next(rest)?;
            if byte == b',' {
                rest = if object { key_tail(after)? } else { after };
                break;
            }
            if byte != closing(object) {
                return Err(Doubt::NotJson);
            }
            rest = after;
            objects >>= 1;
            level -= 1;
            if level == depth {
                return Ok(rest);
            }
        }
    }
}

#[inline(always)]
fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
}

/// What follows a key and its colon.
#[inline(always)]
fn key_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    match next(rest)? {
        (b'"', inside) => colon_tail(string_tail(inside, plain_len(inside))?),
        _ => Err(Doubt::NotJson),
    }
}

#[inline(always)]
fn colon_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    match next(rest)? {
        (b':', after) => Ok(after),
        _ => Err(Doubt::NotJson),
    }
}

/// What follows the string of which `inside` begins after the opening quote, and `plain` bytes have been looked at.
#[inline(always)]
fn string_tail(inside: &[u8], plain: usize) -> Result<&[u8], Doubt> {
    match inside.get(plain..) {
        Some([b'"', tail @ ..]) => Ok(tail),
        Some(rest) => escaped_tail(rest),
        None => Err(Doubt::NotJson),
    }
}

/// What follows the string of which `rest` is the part from its first backslash on.
#[inline(never)]
fn escaped_tail(mut rest: &[u8]) -> Result<&[u8], Doubt> {
    loop {
        rest = match rest {
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', tail @ ..] => tail,
            [b'\\', b'u', a, b, c, d, tail @ ..]
                if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                tail
            }
            _ => return Err(Doubt::NotJson),
        };
        rest = rest.get(plain_len(rest)..).unwrap_or_default();
    }
}

/// How many bytes come before the next quote or backslash.
#[inline(always)]
fn plain_len(rest: &[u8]) -> usize {
    if let Some(chunk) = rest.first_chunk() {
        let [low, high] = hits(chunk);
        if low != 0 {
            return (low.trailing_zeros() / 8) as usize;
        }
        if high != 0 {
            return 8 + (high.trailing_zeros() / 8) as usize;
        }
    }
    plain_len_far(rest)
}

/// Calling the vector search costs more than most keys and names take to be looked at in place.
#[inline(never)]
fn plain_len_far(rest: &[u8]) -> usize {
    memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
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

/// What follows the literal or number at the head of `rest`.
#[inline(always)]
fn scalar_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    match rest {
        [b'0'..=b'9' | b'-', ..] => number_tail(rest),
        [b't', b'r', b'u', b'e', tail @ ..]
        | [b'f', b'a', b'l', b's', b'e', tail @ ..]
        | [b'n', b'u', b'l', b'l', tail @ ..]
        | [b'N', b'a', b'N', tail @ ..] => Ok(tail),
        _ => infinity_tail(rest),
    }
}

#[cold]
fn infinity_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    rest.strip_prefix(b"Infinity").ok_or(Doubt::NotJson)
}

#[inline(always)]
fn number_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    let rest = rest.strip_prefix(b"-").unwrap_or(rest);
    let tail = match rest {
        [b'0', tail @ ..] => tail,
        [b'1'..=b'9', tail @ ..] => pass_digits(tail),
        _ => return infinity_tail(rest),
    };
    match tail {
        [b'.' | b'e' | b'E', ..] => fraction_tail(tail),
        _ => Ok(tail),
    }
}

/// What follows a fraction and an exponent, of which at least one is there.
fn fraction_tail(mut rest: &[u8]) -> Result<&[u8], Doubt> {
    if let [b'.', digits @ ..] = rest {
        rest = some_digits_tail(digits)?;
    }
    match rest {
        [b'e' | b'E', b'+' | b'-', digits @ ..] | [b'e' | b'E', digits @ ..] => some_digits_tail(digits),
        _ => Ok(rest),
    }
}

fn some_digits_tail(rest: &[u8]) -> Result<&[u8], Doubt> {
    let tail = pass_digits(rest);
    if tail.len() == rest.len() { Err(Doubt::NotJson) } else { Ok(tail) }
}

#[inline(always)]
fn pass_digits(mut rest: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', tail @ ..] = rest {
        rest = tail;
    }
    rest
}

/// Passes white space, and the byte after it, which is given back.
#[inline(always)]
fn next(rest: &[u8]) -> Result<(u8, &[u8]), Doubt> {
    match pass_space(rest) {
        [byte, tail @ ..] => Ok((*byte, tail)),
        [] => Err(Doubt::NotJson),
    }
}

/// Passes white space.
#[inline(always)]
fn pass_space(mut rest: &[u8]) -> &[u8] {
    while let [byte, tail @ ..] = rest
        && *byte <= b' '
        && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
    {
        rest = tail;
    }
    rest
}
