//! Passes strings, and the values of an answer, by looking at as few of their bytes as will do.
//!
//! Where a string ends depends on quotes and on the backslashes right before them, and where an
//! object or array ends on brackets outside of strings; everything else is left unread. So escapes
//! that JSON does not know are let through: no reader can take one for the end of a string, because
//! whatever follows a backslash is not a quote that ends it.

use memchr::memchr;

use super::message::Doubt;
use super::skip::byte_at;

/// How many bytes are looked at together; the compiler makes vector instructions of the loops over
/// them.
const BLOCK: usize = 64;

/// Offset after the string whose inside begins at `at`, just after its opening quote.
///
/// The first 16 bytes are looked at in place, because most names end there and a call costs more.
#[inline(always)]
pub(super) fn string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let Some(near) = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>) else {
        return long_string_end(bytes, at);
    };
    let near = u128::from_le_bytes(*near);
    let mut quotes = quotes_in_word(near as u64);
    let mut quote = at;
    if quotes == 0 {
        quotes = quotes_in_word((near >> 64) as u64);
        quote += 8;
        if quotes == 0 {
            return long_string_end(bytes, at + 16);
        }
    }
    quote += (quotes.trailing_zeros() / 8) as usize;
    if byte_at(bytes, quote.wrapping_sub(1)) != b'\\' { Ok(quote + 1) } else { string_end_from(bytes, quote) }
}

/// Offset after the array or object that begins at `at`. Brackets are counted and not matched by
/// their kind, and may nest without limit.
pub(super) fn container_end(bytes: &[u8], mut at: usize) -> Result<usize, Doubt> {
    let mut level = 0_usize;
    loop {
        // Here and after each step, `at` is outside of strings. Brackets come first, because a text
        // is often all there is in them.
        while is_bracket(byte_at(bytes, at)) {
            level = after_bracket(level, byte_at(bytes, at));
            at += 1;
            if level == 0 {
                return Ok(at);
            }
        }
        let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            at = bytes_end(bytes, at, bytes.len(), &mut level)?;
            if level == 0 {
                return Ok(at);
            }
            return Err(Doubt::NotJson);
        };
        let in_string = match calm_quotes(block) {
            Some(odd) => odd,
            None if has_backslash(block) => {
                at = bytes_end(bytes, at, at + BLOCK, &mut level)?;
                if level == 0 {
                    return Ok(at);
                }
                continue;
            }
            None => {
                let (last, in_string) = block_end(block, &mut level);
                if level == 0 {
                    return Ok(at + last + 1);
                }
                in_string
            }
        };
        at += BLOCK;
        if in_string {
            at = string_end(bytes, at)?;
        }
    }
}

/// Whether the number of quotes in a block is odd; `None` if it has brackets or backslashes, so
/// that more matters.
#[inline(always)]
fn calm_quotes(block: &[u8; BLOCK]) -> Option<bool> {
    let mut calm = true;
    let mut odd = false;
    for byte in block {
        // The four brackets, backslash and bar are the bytes that this makes 0 to 2.
        calm &= (byte | 0x20).wrapping_sub(b'{') > 2;
        odd ^= *byte == b'"';
    }
    calm.then_some(odd)
}

/// Passes values byte by byte, up to `stop` or the bracket that makes `level` zero.
#[inline(always)]
fn bytes_end(bytes: &[u8], mut at: usize, stop: usize, level: &mut usize) -> Result<usize, Doubt> {
    while at < stop {
        let byte = byte_at(bytes, at);
        at += 1;
        if byte == b'"' {
            at = string_end(bytes, at)?;
        } else if is_bracket(byte) {
            *level = after_bracket(*level, byte);
            if *level == 0 {
                break;
            }
        }
    }
    Ok(at)
}

/// Passes a block without backslashes, up to the bracket that makes `level` zero; the place of the
/// last bracket, and whether the block ends in a string.
#[inline(always)]
fn block_end(block: &[u8; BLOCK], level: &mut usize) -> (usize, bool) {
    let inside = inside_strings(gathered(&flags(block, |byte| byte == b'"')));
    let mut brackets = gathered(&flags(block, is_bracket)) & !inside;
    let mut last = 0;
    while brackets != 0 && *level != 0 {
        last = brackets.trailing_zeros() as usize;
        *level = after_bracket(*level, block[last % BLOCK]);
        brackets &= brackets - 1;
    }
    (last, inside >> (BLOCK - 1) == 1)
}

#[inline(always)]
fn has_backslash(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |any, byte| any | (*byte == b'\\'))
}

#[inline(always)]
fn is_bracket(byte: u8) -> bool {
    (byte | 0x20 == b'{') | (byte | 0x20 == b'}')
}

/// A closing bracket where none is open counts as the end.
#[inline(always)]
fn after_bracket(level: usize, bracket: u8) -> usize {
    if bracket | 0x20 == b'{' { level + 1 } else { level.saturating_sub(1) }
}

/// One for each byte that `is` true of. Not inlined, because the compiler would no longer see that
/// the loop can be made of vector instructions.
#[inline(never)]
fn flags(block: &[u8; BLOCK], is: impl Fn(u8) -> bool) -> [u8; BLOCK] {
    let mut flags = [0; BLOCK];
    for (flag, byte) in flags.iter_mut().zip(block) {
        *flag = u8::from(is(*byte));
    }
    flags
}

/// Makes bits of bytes that are zero or one. The product has the sum of the bytes, each shifted by
/// its place, in the highest byte, and no carries.
#[inline(always)]
fn gathered(flags: &[u8; BLOCK]) -> u64 {
    let mut mask = 0;
    for (index, word) in flags.as_chunks::<8>().0.iter().enumerate() {
        let bits = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (8 * index);
    }
    mask
}

/// The bytes from each opening quote up to its closing one, without the latter: those that an odd
/// number of quotes stands before or at.
#[inline(always)]
fn inside_strings(quotes: u64) -> u64 {
    [1, 2, 4, 8, 16, 32].iter().fold(quotes, |inside, shift| inside ^ (inside << shift))
}

/// The same as [`string_end`], where the first quote is far.
#[inline(never)]
fn long_string_end(bytes: &[u8], at: usize) -> Result<usize, Doubt> {
    let quote = quote_from(bytes, at)?;
    if byte_at(bytes, quote.wrapping_sub(1)) != b'\\' { Ok(quote + 1) } else { string_end_from(bytes, quote) }
}

/// Offset after the string whose first quote, escaped or not, is at `quote`. Where one is escaped,
/// others are near, and finding them one by one would cost a call each.
#[inline(never)]
fn string_end_from(bytes: &[u8], quote: usize) -> Result<usize, Doubt> {
    if ends_string(bytes, quote) {
        return Ok(quote + 1);
    }
    let mut at = quote + 1;
    while let Some(window) = bytes.get(at - 2..).and_then(<[u8]>::first_chunk) {
        if may_end(window)
            && let Some(end) = first_end(bytes, at, &likely_ends(window))
        {
            return Ok(end);
        }
        at += BLOCK;
    }
    loop {
        let quote = quote_from(bytes, at)?;
        at = quote + 1;
        if ends_string(bytes, quote) {
            return Ok(at);
        }
    }
}

/// Offset after the first of `likely`, found in the block at `at`, that does end the string.
#[inline(always)]
fn first_end(bytes: &[u8], at: usize, likely: &[u8; BLOCK]) -> Option<usize> {
    let mut ends = gathered(likely);
    while ends != 0 {
        let quote = at + ends.trailing_zeros() as usize;
        if ends_string(bytes, quote) {
            return Some(quote + 1);
        }
        ends &= ends - 1;
    }
    None
}

/// Whether a byte, from the third on, is a quote that is not after exactly one backslash.
#[inline(never)]
fn may_end(window: &[u8; BLOCK + 2]) -> bool {
    let mut any = false;
    for index in 0..BLOCK {
        any |= is_likely_end(window, index);
    }
    any
}

/// One for each such byte.
#[inline(never)]
fn likely_ends(window: &[u8; BLOCK + 2]) -> [u8; BLOCK] {
    let mut ends = [0; BLOCK];
    for (index, end) in ends.iter_mut().enumerate() {
        *end = u8::from(is_likely_end(window, index));
    }
    ends
}

#[inline(always)]
fn is_likely_end(window: &[u8; BLOCK + 2], index: usize) -> bool {
    let one_backslash = (window[index + 1] == b'\\') & (window[index] != b'\\');
    (window[index + 2] == b'"') & !one_backslash
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

/// Sets the top bit of each byte that is a quote. Subtracting one borrows from that bit only in a
/// byte that has become zero, or in bytes above such a one, so bits above the lowest one set may be
/// wrong and that one is not.
#[inline(always)]
fn quotes_in_word(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let quote = word ^ (ONES * b'"' as u64);
    quote.wrapping_sub(ONES) & !quote & (ONES << 7)
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
        let mut level = 0;
        while let Some(byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'"' => at = plain_string_end(bytes, at)?,
                b'{' | b'[' => level += 1,
                b'}' | b']' if level == 1 => return Ok(at),
                b'}' | b']' => level -= 1,
                _ => {}
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
        for _ in 0..20_000 {
            // Some are full of quotes and backslashes, some have few, some have no backslash.
            let (rare, marks) =
                (roll(60) + 1, [&b"\"\\{}[]"[..], b"\"\\", b"\"{}[]", b"\"\\\\\\"][roll(4) as usize]);
            let mut bytes = b"[\"".to_vec();
            for _ in 0..roll(400) {
                let other = b"a,|: \xc3"[roll(6) as usize];
                let mark = marks[roll(marks.len() as u64) as usize];
                bytes.push(if roll(rare) == 0 { mark } else { other });
            }
            assert_eq!(string_end(&bytes, 2), plain_string_end(&bytes, 2), "{}", bytes.escape_ascii());
            assert_eq!(container_end(&bytes, 0), plain_container_end(&bytes, 0), "{}", bytes.escape_ascii());
        }
    }
}
