//! Passes strings, arrays and objects by looking at as few of their bytes as will do.
//!
//! Where a string ends depends on quotes and on the backslashes right before them, and where an
//! array or object ends on brackets outside of strings. All readers of JSON agree on these, so
//! whatever else is in between can be left unread: a reader that refuses it refuses the message
//! whatever stands around it, and one that takes it goes on at the same byte. What would break that
//! is refused: a bracket closed by the other kind, and outside of strings a backslash or the signs
//! that begin a comment or another kind of string where a reader has such things.

use super::block::{self, BLOCK, Block, Escapes, NEAR};
use super::lanes::{Lanes, PAIR, with_lanes};
use super::message::Doubt;
use super::skip::{MAX_DEPTH, byte_at};

/// Offset after the string whose inside begins at `at`, just after its opening quote.
///
/// The first 16 bytes are looked at in place, because most names end there and a call costs more.
#[inline(always)]
pub(super) fn string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let Some(near) = bytes.get(at..).and_then(<[u8]>::first_chunk::<NEAR>) else {
        return long_string_end(bytes, at);
    };
    let quotes = block::near(near, b'"', b'"');
    if quotes == 0 {
        return long_string_end(bytes, at + NEAR);
    }
    let quote = at + quotes.trailing_zeros() as usize;
    if byte_at(bytes, quote.wrapping_sub(1)) != b'\\' { Ok(quote + 1) } else { long_string_end(bytes, at) }
}

/// The same, where the first quote is far.
#[inline(never)]
fn long_string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    with_lanes!(lanes => string_end_by(lanes, bytes, at))
}

/// The same, where `at` may be anywhere inside.
#[inline(always)]
fn string_end_by<L: Lanes>(lanes: L, bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    loop {
        while let Some(pair) = bytes.get(at..).and_then(<[u8]>::first_chunk::<PAIR>) {
            if lanes.has(pair, b'"') {
                break;
            }
            at += PAIR;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let last;
        let block = match rest.first_chunk() {
            Some(block) => block,
            None => {
                last = padded(rest);
                &last
            }
        };
        let quotes = lanes.equal(block, b'"');
        if quotes != 0 {
            let ends = quotes & !Escapes::after(bytes, at).next(lanes.equal(block, b'\\'));
            if ends != 0 {
                return Ok(at + ends.trailing_zeros() as usize + 1);
            }
        }
        if rest.len() <= BLOCK {
            return Err(Doubt::NotJson);
        }
        at += BLOCK;
    }
}

/// The last bytes of a text, with zeros after them.
#[inline(always)]
fn padded(rest: &[u8]) -> Block {
    let mut block = [0; BLOCK];
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    block
}

/// Offset after the array or object that begins at `at`, inside `depth` others.
pub(super) fn container_end(bytes: &[u8], at: usize, depth: u32) -> Result<usize, Doubt> {
    with_lanes!(lanes => container_end_by(lanes, bytes, at, depth))
}

#[inline(always)]
fn container_end_by<L: Lanes>(lanes: L, bytes: &[u8], mut at: usize, depth: u32) -> Result<usize, Doubt> {
    let mut level = Level { open: depth as usize, around: depth as usize };
    let mut opened = [0; MAX_DEPTH as usize];
    let mut strings = Strings::default();
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let Some(bare) = strings.outside_in(lanes, block)? else {
            // Far inside of a string.
            at = long_string_end(bytes, at)?;
            strings = Strings::default();
            continue;
        };
        if let Some(last) = last_in(lanes, block, bare, &mut level, &mut opened)? {
            return Ok(at + last + 1);
        }
        at += BLOCK;
    }
    let block = padded(bytes.get(at..).unwrap_or_default());
    let bare = strings.outside_in(lanes, &block)?.ok_or(Doubt::NotJson)?;
    let last = last_in(lanes, &block, bare, &mut level, &mut opened)?.ok_or(Doubt::NotJson)?;
    Ok(at + last + 1)
}

/// What of a text is inside of strings, from block to block.
#[derive(Default)]
struct Strings {
    /// All bits set if the next block begins inside of one.
    inside: u64,
    escapes: Escapes,
}

impl Strings {
    /// The bytes of the next block that are outside of strings or close one; `None` if it lies in a
    /// string as a whole.
    #[inline(always)]
    fn outside_in<L: Lanes>(&mut self, lanes: L, block: &Block) -> Result<Option<u64>, Doubt> {
        let mut quotes = lanes.equal(block, b'"');
        // A backslash; or a number sign, an apostrophe, a slash, and a plus, which numbers have.
        let is_odd = lanes.has_either(block, b'\\', 0x0c, b'/');
        let mut backslashes = 0;
        if is_odd || self.escapes.carries() {
            backslashes = lanes.equal(block, b'\\');
            quotes &= !self.escapes.next(backslashes);
        }
        if quotes == 0 && self.inside != 0 {
            return Ok(None);
        }
        let inside = block::between(quotes) ^ self.inside;
        self.inside = (inside.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        if is_odd {
            let foreign = (lanes.equal_with(block, 0x0c, b'/') | backslashes) & !inside;
            if foreign != 0 && foreign != lanes.equal(block, b'+') & foreign {
                return Err(Doubt::NotJson);
            }
        }
        Ok(Some(!inside))
    }
}

/// How many brackets are open, and how many of them are around what is passed.
struct Level {
    open: usize,
    around: usize,
}

/// The brackets opened here, each in the place of its level. It stands apart from the level, which
/// would not be kept in a register beside it.
type Opened = [u8; MAX_DEPTH as usize];

/// Takes the brackets among the `bare` bytes of the next block, up to the one that closes the
/// outermost, whose place it gives.
#[inline(always)]
fn last_in<L: Lanes>(
    lanes: L,
    block: &Block,
    bare: u64,
    level: &mut Level,
    opened: &mut Opened,
) -> Result<Option<usize>, Doubt> {
    // The two kinds differ in this bit.
    let opens = lanes.equal_with(block, b'[' ^ b'{', b'{');
    let mut brackets = (opens | lanes.equal_with(block, b'[' ^ b'{', b'}')) & bare;
    while brackets != 0 {
        let at = brackets.trailing_zeros() as usize;
        brackets &= brackets - 1;
        let byte = block[at % BLOCK];
        if opens >> at & 1 == 1 {
            *opened.get_mut(level.open).ok_or(Doubt::Depth)? = byte;
            level.open += 1;
        } else {
            level.open = level.open.wrapping_sub(1);
            // The two of a pair differ in the same bits.
            if opened.get(level.open) != Some(&(byte ^ b'{' ^ b'}')) {
                return Err(Doubt::NotJson);
            }
            if level.open == level.around {
                return Ok(Some(at));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::lanes::Plain;

    /// Byte by byte, as the grammar says it.
    fn plain_string_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok(at + 1),
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => return Err(Doubt::NotJson),
            }
        }
    }

    fn plain_container_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
        let mut open = Vec::new();
        while let Some(byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'"' => at = plain_string_end(bytes, at)?,
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                b'}' | b']' if open.pop() != Some(*byte) => return Err(Doubt::NotJson),
                b'}' | b']' if open.is_empty() => return Ok(at),
                b'\\' | b'/' | b'\'' | b'#' => return Err(Doubt::NotJson),
                _ => {}
            }
            if open.len() > MAX_DEPTH as usize {
                return Err(Doubt::Depth);
            }
        }
        Err(Doubt::NotJson)
    }

    #[test]
    fn ends_are_found_where_a_look_at_each_byte_finds_them() {
        let mut seed = 0x5eed_0005_u64;
        let mut roll = |sides: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 16) % sides
        };
        let mut found = 0;
        for _ in 0..40_000 {
            // Some are full of quotes and backslashes, some have few, some have no backslash.
            let (rare, marks) = (
                roll(60) + 1,
                [&b"\"\\{}[]"[..], b"\"\\", b"\"{}[]", b"\"\\\\\\", b"\"\"\"\"[]", b"\"\"{}'#/_"]
                    [roll(6) as usize],
            );
            let mut bytes = b"[\"".to_vec();
            for _ in 0..roll(400) {
                let other = b"a,|: \xc3+"[roll(7) as usize];
                let mark = marks[roll(marks.len() as u64) as usize];
                bytes.push(if roll(rare) == 0 { mark } else { other });
            }
            if roll(2) == 0 {
                bytes.extend(b"\"]");
            }
            assert_eq!(string_end(&bytes, 2), plain_string_end(&bytes, 2), "{}", bytes.escape_ascii());
            assert_eq!(
                string_end_by(Plain, &bytes, 2),
                plain_string_end(&bytes, 2),
                "{}",
                bytes.escape_ascii()
            );
            let (end, plain) = (container_end(&bytes, 0, 0), plain_container_end(&bytes, 0));
            assert_eq!(container_end_by(Plain, &bytes, 0, 0), end, "{}", bytes.escape_ascii());
            // Where a block has an error and before it the end, or two errors, either may be met first.
            match (end, plain) {
                (Err(_), Ok(plain)) => {
                    let rest = &bytes[plain..bytes.len().min(plain + BLOCK)];
                    assert!(rest.iter().any(|byte| b"\\'/#".contains(byte)), "{}", bytes.escape_ascii());
                }
                (end, plain) => assert_eq!(end.ok(), plain.ok(), "{}", bytes.escape_ascii()),
            }
            found += u32::from(end.is_ok());
        }
        assert!(found > 4_000, "{found}");
    }

    /// Appends a value of JSON, with strings short and long and with all that may be in them.
    fn value(roll: &mut impl FnMut(u64) -> u64, depth: u32, out: &mut Vec<u8>) {
        match roll(if depth > 5 { 3 } else { 5 }) {
            0 => out.extend([&b"-1.5e+7"[..], b"0", b"true", b"null", b"12345678901"][roll(5) as usize]),
            1 | 2 => string(roll, out),
            kind => {
                out.push(if kind == 3 { b'[' } else { b'{' });
                for member in 0..roll(6) {
                    out.extend(if member > 0 { &b", "[..] } else { b"" });
                    if kind == 4 {
                        string(roll, out);
                        out.push(b':');
                    }
                    value(roll, depth + 1, out);
                }
                out.push(if kind == 3 { b']' } else { b'}' });
            }
        }
    }

    fn string(roll: &mut impl FnMut(u64) -> u64, out: &mut Vec<u8>) {
        const PARTS: [&[u8]; 8] =
            [b"a", b"plain text, ", b"\\\"", b"\\\\", b"{[", b"]}", b"'#/+", "\u{e9}\u{1f600}".as_bytes()];
        out.push(b'"');
        let (length, variety) = (if roll(20) == 0 { roll(300) } else { roll(8) }, roll(8) + 1);
        (0..length).for_each(|_| out.extend(PARTS[roll(variety) as usize]));
        out.push(b'"');
    }

    #[test]
    fn json_ends_where_it_ends_and_not_before() {
        let mut seed = 0x5eed_0008_u64;
        let mut roll = |sides: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 16) % sides
        };
        for _ in 0..4_000 {
            let mut bytes = b"[".to_vec();
            value(&mut roll, 0, &mut bytes);
            bytes.push(b']');
            let length = bytes.len();
            bytes.extend(&b",\"more\":[1]}            "[..roll(24) as usize]);
            for found in [container_end(&bytes, 0, 0), container_end_by(Plain, &bytes, 0, 0)] {
                assert_eq!(found, Ok(length), "{}", bytes.escape_ascii());
            }
            bytes.truncate(roll(length as u64) as usize);
            for found in [container_end(&bytes, 0, 0), container_end_by(Plain, &bytes, 0, 0)] {
                assert_eq!(found, Err(Doubt::NotJson), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn as_many_levels_are_passed_as_there_may_be() {
        for (around, levels, deep) in [(0, 128, false), (0, 129, true), (100, 28, false), (100, 29, true)] {
            let bytes = ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes();
            let wanted = if deep { Err(Doubt::Depth) } else { Ok(bytes.len()) };
            assert_eq!(container_end(&bytes, 0, around), wanted);
            assert_eq!(container_end_by(Plain, &bytes, 0, around), wanted);
        }
    }
}
