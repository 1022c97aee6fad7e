//! Finds where simple JSON values end (RFC 8259), and where the parts of strings that are handed
//! out do: functions from an offset to an offset.
//!
//! Three things that cannot move a bracket are let through: raw control characters and unknown
//! escapes inside a string, and the number spellings `NaN`, `Infinity` and `-Infinity` that Python
//! writes and reads. Escapes are checked in the strings that are handed out.

use memchr::memchr2;

use super::block::{self, NEAR};
use super::message::Doubt;

/// How deep arrays and objects may nest, the outermost object included.
pub(super) const MAX_DEPTH: u32 = 128;

#[inline(always)]
pub(super) fn colon_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    if pass_space(bytes, &mut at) == b':' { Ok(at + 1) } else { Err(Doubt::NotJson) }
}

/// Offset after the string whose first quote or backslash is at `at`.
#[inline(always)]
pub(super) fn end_from(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
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

/// Offset of the next quote or backslash, or of the end. The first 16 bytes are looked at in place,
/// because most names end there and a call costs more.
#[inline(always)]
pub(super) fn special(bytes: &[u8], at: usize) -> usize {
    special_near::<1>(bytes, at)
}

/// Looks at `CHUNKS` times 16 bytes in place.
#[inline(always)]
fn special_near<const CHUNKS: usize>(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..CHUNKS {
        let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let found = block::near(chunk, b'"', b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += NEAR;
    }
    special_far(bytes, at)
}

#[inline(never)]
fn special_far(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr2(b'"', b'\\', rest).map_or(bytes.len(), |found| at + found)
}

/// Offset after the literal or number that begins at `at` with `first`.
#[inline(always)]
pub(super) fn scalar_end(bytes: &[u8], at: usize, first: u8) -> Result<usize, Doubt> {
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
pub(super) fn number_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
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
pub(super) fn pass_space(bytes: &[u8], at: &mut usize) -> u8 {
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
pub(super) fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}
