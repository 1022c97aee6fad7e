//! Passes strings, arrays and objects by looking at as few of their bytes as will do.
//!
//! Where a string ends depends on quotes and on the backslashes right before them, and where an
//! array or object ends on brackets outside of strings. All readers of JSON agree on these, so
//! whatever else is in between can be left unread: a reader that refuses it refuses the message
//! whatever stands around it, and one that takes it goes on at the same byte. What would break that
//! is refused: a bracket closed by the other kind, and outside of strings a backslash or the signs
//! that begin a comment or another kind of string where a reader has such things.

use memchr::memchr;

use super::block::{self, BLOCK, Block, Escapes, NEAR};
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
    if byte_at(bytes, quote.wrapping_sub(1)) != b'\\' { Ok(quote + 1) } else { string_end_from(bytes, quote) }
}

/// The same, where the first quote is far.
#[inline(never)]
fn long_string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let quote = quote_from(bytes, at)?;
    if byte_at(bytes, quote.wrapping_sub(1)) != b'\\' { Ok(quote + 1) } else { string_end_from(bytes, quote) }
}

/// Offset after the string whose first quote, escaped or not, is at `quote`.
#[inline(never)]
fn string_end_from(bytes: &[u8], mut quote: usize) -> Result<usize, Doubt> {
    while !ends_string(bytes, quote) {
        // Where one is escaped others are near, and finding them one by one would cost a call each.
        let mut at = quote + 1;
        let mut escapes = Escapes::default();
        while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
            let quotes = block::equal(block, b'"');
            if quotes == 0 {
                at += BLOCK;
                break;
            }
            let ends = quotes & !escapes.next(block::equal(block, b'\\'));
            if ends != 0 {
                return Ok(at + ends.trailing_zeros() as usize + 1);
            }
            at += BLOCK;
        }
        quote = quote_from(bytes, at)?;
    }
    Ok(quote + 1)
}

/// Whether the quote at `quote` ends the string that it is met in: an even number of backslashes
/// stands before it. The quote that opens the string stops the count.
#[inline(always)]
fn ends_string(bytes: &[u8], quote: usize) -> bool {
    let before = bytes.get(..quote).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
}

#[inline(always)]
fn quote_from(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let rest = bytes.get(at..).unwrap_or_default();
    // The last strings of a body are short, and a call costs more.
    let found = if rest.len() < 16 { rest.iter().position(|byte| *byte == b'"') } else { memchr(b'"', rest) };
    found.map(|found| at + found).ok_or(Doubt::NotJson)
}

/// Offset after the array or object that begins at `at`, inside `depth` others.
pub(super) fn container_end(bytes: &[u8], mut at: usize, depth: u32) -> Result<usize, Doubt> {
    let mut brackets = Brackets { objects: 0, level: depth, outside: depth };
    let mut strings = Strings::default();
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let Some(bare) = strings.outside_in(block)? else {
            // Far inside of a string.
            at = string_end(bytes, at)?;
            strings = Strings::default();
            continue;
        };
        if let Some(last) = brackets.last_in(block, bare)? {
            return Ok(at + last + 1);
        }
        at += BLOCK;
    }
    let mut block = [0; BLOCK];
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    let bare = strings.outside_in(&block)?.ok_or(Doubt::NotJson)?;
    let last = brackets.last_in(&block, bare)?.ok_or(Doubt::NotJson)?;
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
    fn outside_in(&mut self, block: &Block) -> Result<Option<u64>, Doubt> {
        let mut quotes = block::equal(block, b'"');
        let backslashes = block::equal(block, b'\\');
        if backslashes != 0 || self.escapes.carries() {
            quotes &= !self.escapes.next(backslashes);
        }
        if quotes == 0 && self.inside != 0 {
            return Ok(None);
        }
        let inside = block::between(quotes) ^ self.inside;
        self.inside = (inside.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        // A number sign, an apostrophe, a slash; or a plus, which numbers have.
        let foreign = (block::equal_with(block, 0x0c, b'/') | backslashes) & !inside;
        if foreign != 0 && foreign != block::equal(block, b'+') & foreign {
            return Err(Doubt::NotJson);
        }
        Ok(Some(!inside))
    }
}

/// The brackets that are open.
struct Brackets {
    /// One bit for each opened here, the innermost lowest: set for an object, clear for an array.
    objects: u128,
    /// How many are open, those around included.
    level: u32,
    /// How many are around.
    outside: u32,
}

impl Brackets {
    /// Takes the brackets among the `bare` bytes of the next block, up to the one that closes the
    /// outermost, whose place it gives.
    #[inline(always)]
    fn last_in(&mut self, block: &Block, bare: u64) -> Result<Option<usize>, Doubt> {
        // Or `Y`, `y`, `_` and DEL, which hardly are outside of strings.
        let mut brackets = block::equal_with(block, 0x26, 0x7f) & bare;
        while brackets != 0 {
            let at = brackets.trailing_zeros() as usize;
            brackets &= brackets - 1;
            match block[at % BLOCK] {
                open @ (b'{' | b'[') => self.open(open == b'{')?,
                b'}' => self.close(true)?,
                b']' => self.close(false)?,
                _ => {}
            }
            if self.level == self.outside {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    #[inline(always)]
    fn open(&mut self, object: bool) -> Result<(), Doubt> {
        self.level += 1;
        self.objects = self.objects << 1 | u128::from(object);
        if self.level > MAX_DEPTH { Err(Doubt::Depth) } else { Ok(()) }
    }

    #[inline(always)]
    fn close(&mut self, object: bool) -> Result<(), Doubt> {
        if (self.objects & 1 == 1) != object {
            return Err(Doubt::NotJson);
        }
        self.level -= 1;
        self.objects >>= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let (end, plain) = (container_end(&bytes, 0, 0), plain_container_end(&bytes, 0));
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
}
