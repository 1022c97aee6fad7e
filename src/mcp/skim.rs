//! Passes strings, arrays and objects by looking at as few of their bytes as will do.
//!
//! Where a string ends depends on quotes and on the backslashes right before them, and where an
//! array or object ends on how many brackets are open outside of strings. All readers of JSON agree
//! on these, so whatever else is in between can be left unread, and brackets can be counted instead
//! of matched: a reader that refuses it refuses the message whatever stands around it, and one that
//! takes it goes on at the same byte. What would break that is refused: outside of strings a
//! backslash or the signs that begin a comment or another kind of string where a reader has such
//! things. Where [`rows`] pass most of it, not even that is looked at.

use super::block::{self, BLOCK, Block, Escapes, NEAR};
use super::lanes::{GROUP, Group, Lanes, with_lanes};
use super::message::Doubt;
use super::rows;
use super::skip::{MAX_DEPTH, byte_at};

/// How many blocks are looked at together.
const BLOCKS: usize = GROUP / BLOCK;

/// Offset after the string whose inside begins at `at`, just after its opening quote.
///
/// The first 16 bytes are looked at in place, because most names end there and a call costs more.
/// Where the text is `WATCHED`, `ascii` becomes false if what was passed may hold anything else.
#[inline(always)]
pub(super) fn string_end<const WATCHED: bool>(
    bytes: &[u8],
    at: usize,
    ascii: &mut bool,
) -> Result<usize, Doubt> {
    let Some(near) = bytes.get(at..).and_then(<[u8]>::first_chunk::<NEAR>) else {
        return long_string_end::<WATCHED>(bytes, at, ascii);
    };
    let quotes = block::near(near, b'"', b'"');
    let quote = at + quotes.trailing_zeros() as usize;
    if quotes == 0 || byte_at(bytes, quote.wrapping_sub(1)) == b'\\' {
        return long_string_end::<WATCHED>(bytes, at, ascii);
    }
    if WATCHED {
        *ascii &= near.is_ascii();
    }
    Ok(quote + 1)
}

/// The same, where the first quote is far; `at` may be anywhere inside.
#[inline(never)]
fn long_string_end<const WATCHED: bool>(bytes: &[u8], at: usize, ascii: &mut bool) -> Result<usize, Doubt> {
    with_lanes!(lanes => string_end_by::<_, WATCHED>(lanes, bytes, at, ascii))
}

#[inline(always)]
fn string_end_by<L: Lanes, const WATCHED: bool>(
    lanes: L,
    bytes: &[u8],
    mut at: usize,
    ascii: &mut bool,
) -> Result<usize, Doubt> {
    if WATCHED && *ascii {
        at = match string_end_in::<_, true>(lanes, bytes, at)? {
            Passed::String(end) => return Ok(end),
            Passed::Ascii(at) => at,
        };
        *ascii = false;
    }
    match string_end_in::<_, false>(lanes, bytes, at)? {
        Passed::String(end) | Passed::Ascii(end) => Ok(end),
    }
}

/// What was passed of a string, up to which offset.
enum Passed {
    /// All of it.
    String(usize),
    /// What is ASCII.
    Ascii(usize),
}

#[inline(always)]
fn string_end_in<L: Lanes, const WATCHED: bool>(
    lanes: L,
    bytes: &[u8],
    mut at: usize,
) -> Result<Passed, Doubt> {
    // Many end in the first block, which is the only one that may be no whole one.
    if let Some(passed) = block_end::<_, WATCHED>(lanes, bytes, at, &block_at(bytes, at)) {
        return Ok(passed);
    }
    at += BLOCK;
    let mut groups = bytes.get(at..).unwrap_or_default().as_chunks::<GROUP>().0;
    loop {
        let clear = clear_groups::<_, WATCHED>(lanes, groups);
        at += clear * GROUP;
        let Some((group, more)) = groups.get(clear..).and_then(<[Group]>::split_first) else { break };
        groups = more;
        for block in group.as_chunks().0 {
            if let Some(passed) = block_end::<_, WATCHED>(lanes, bytes, at, block) {
                return Ok(passed);
            }
            at += BLOCK;
        }
    }
    while at < bytes.len() {
        if let Some(passed) = block_end::<_, WATCHED>(lanes, bytes, at, &block_at(bytes, at)) {
            return Ok(passed);
        }
        at += BLOCK;
    }
    Err(Doubt::NotJson)
}

/// How many of these have nothing in them that a string could end with.
#[inline(always)]
fn clear_groups<L: Lanes, const WATCHED: bool>(lanes: L, groups: &[Group]) -> usize {
    let mut clear = 0;
    for group in groups {
        if if WATCHED { lanes.has_quote_or_more(group) } else { lanes.has(group, b'"') } {
            break;
        }
        clear += 1;
    }
    clear
}

/// What is passed if the string ends in the block at `at`, or if that is not ASCII and watched.
#[inline(always)]
fn block_end<L: Lanes, const WATCHED: bool>(
    lanes: L,
    bytes: &[u8],
    at: usize,
    block: &Block,
) -> Option<Passed> {
    if WATCHED && !lanes.is_ascii(lanes.see(lanes.nothing(), block)) {
        return Some(Passed::Ascii(at));
    }
    let quotes = lanes.equal(block, b'"');
    if quotes == 0 {
        return None;
    }
    let ends = quotes & !Escapes::after(bytes, at).next(lanes.equal(block, b'\\'));
    if ends == 0 { None } else { Some(Passed::String(at + ends.trailing_zeros() as usize + 1)) }
}

/// The block at `at`, with zeros after the last bytes of the text.
#[inline(always)]
pub(super) fn block_at(bytes: &[u8], at: usize) -> Block {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or_else(|| padded(rest))
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
///
/// Where the text is `WATCHED`, `ascii` becomes false if what was passed may hold anything else. It is
/// `in_objects` where the others are objects, and `bytes` the outermost.
pub(super) fn container_end<const WATCHED: bool>(
    bytes: &[u8],
    at: usize,
    depth: u32,
    in_objects: bool,
    ascii: &mut bool,
) -> Result<usize, Doubt> {
    with_lanes!(lanes => container_end_by::<_, WATCHED>(lanes, bytes, at, depth, in_objects, ascii))
}

#[inline(always)]
fn container_end_by<L: Lanes, const WATCHED: bool>(
    lanes: L,
    bytes: &[u8],
    mut at: usize,
    depth: u32,
    in_objects: bool,
    ascii: &mut bool,
) -> Result<usize, Doubt> {
    let mut level = Level { open: 0, most: MAX_DEPTH.saturating_sub(depth) };
    let mut strings = Strings::default();
    let mut seen = lanes.nothing();
    let bracket = byte_at(bytes, at);
    // From where on it is tried to pass most of it. An object may be one long string, which is best
    // passed as such.
    let mut rows = match bracket {
        _ if !in_objects => usize::MAX,
        b'[' => at,
        _ => at + GROUP,
    };
    let is_large = |at| bytes.len().saturating_sub(at) >= rows::LARGE;
    let mut begun = None;
    if in_objects && bracket == b'{' && is_large(at) {
        begun = rows::pass_array_in::<WATCHED>(bytes, at, depth);
    }
    'groups: loop {
        let is_due = at >= rows && (bracket == b'[' || strings.inside == 0) && is_large(at);
        let due = || is_due.then(|| rows::pass::<WATCHED>(bytes, at, depth, bracket));
        if let Some(passed) = begun.take().or_else(due) {
            rows = passed.at + rows::AGAIN;
            if let Some(open) = passed.open {
                *ascii &= passed.ascii;
                (at, strings, level) = (passed.at, open.strings, open.level);
            }
        }
        let group = bytes.get(at..).and_then(<[u8]>::first_chunk::<GROUP>);
        if let Some(group) = group
            && let Some(inside) = strings.inside_in_group(lanes, group)
        {
            for (index, block) in group.as_chunks().0.iter().enumerate() {
                if WATCHED {
                    seen = lanes.see(seen, block);
                }
                if let Some(last) = level.last_in(lanes, block, inside[index])? {
                    if WATCHED {
                        *ascii &= lanes.is_ascii(seen);
                    }
                    return Ok(at + index * BLOCK + last + 1);
                }
            }
            at += GROUP;
            continue;
        }
        for _ in 0..BLOCKS {
            if at >= bytes.len() {
                return Err(Doubt::NotJson);
            }
            let block = &block_at(bytes, at);
            let Some(inside) = strings.inside_in(lanes, block)? else {
                // Far inside of a string.
                at = long_string_end::<WATCHED>(bytes, at, ascii)?;
                strings = Strings::default();
                continue 'groups;
            };
            if WATCHED {
                seen = lanes.see(seen, block);
            }
            if let Some(last) = level.last_in(lanes, block, inside)? {
                if WATCHED {
                    *ascii &= lanes.is_ascii(seen);
                }
                return Ok(at + last + 1);
            }
            at += BLOCK;
        }
    }
}

/// What of a text is inside of strings, from block to block.
#[derive(Clone, Default)]
pub(super) struct Strings {
    /// All bits set if the next block begins inside of one.
    pub(super) inside: u64,
    pub(super) escapes: Escapes,
}

impl Strings {
    /// The bytes of the next four blocks that are inside of strings or open one; `None`, with
    /// nothing taken, if they have to be looked at one by one.
    #[inline(always)]
    fn inside_in_group<L: Lanes>(&mut self, lanes: L, group: &Group) -> Option<[u64; BLOCKS]> {
        if self.escapes.carries() || lanes.has_sign(group) {
            return None;
        }
        let mut quotes = [0; BLOCKS];
        for (quotes, block) in quotes.iter_mut().zip(group.as_chunks().0) {
            *quotes = lanes.equal(block, b'"');
        }
        if quotes == [0; BLOCKS] && self.inside != 0 {
            return None;
        }
        let mut inside = lanes.between(quotes);
        for inside in &mut inside {
            *inside ^= self.inside;
            self.inside = (inside.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        }
        Some(inside)
    }

    /// The bytes of the next block that are inside of strings or open one; `None` if it lies in a
    /// string as a whole.
    #[inline(always)]
    fn inside_in<L: Lanes>(&mut self, lanes: L, block: &Block) -> Result<Option<u64>, Doubt> {
        let begins_inside = self.inside != 0;
        let (inside, signs) = self.take(lanes, block);
        match signs & !inside {
            _ if inside == u64::MAX && begins_inside => Ok(None),
            0 => Ok(Some(inside)),
            _ => Err(Doubt::NotJson),
        }
    }

    /// Takes the next block: its bytes that are inside of strings or open one, and all signs.
    #[inline(always)]
    pub(super) fn take<L: Lanes>(&mut self, lanes: L, block: &Block) -> (u64, u64) {
        let mut quotes = lanes.equal(block, b'"');
        let signs = lanes.signs(block);
        if signs != 0 || self.escapes.carries() {
            quotes &= !self.escapes.next(lanes.equal(block, b'\\'));
        }
        let inside = block::between(quotes) ^ self.inside;
        self.inside = (inside.cast_signed() >> (BLOCK - 1)).cast_unsigned();
        (inside, signs)
    }
}

/// The brackets that open and those that close.
#[inline(always)]
pub(super) fn brackets<L: Lanes>(lanes: L, block: &Block) -> (u64, u64) {
    // The two kinds differ in this bit.
    let kinds = b'[' ^ b'{';
    (lanes.equal_with(block, kinds, b'{'), lanes.equal_with(block, kinds, b'}'))
}

/// How many brackets are open, and how many may be.
pub(super) struct Level {
    pub(super) open: u32,
    pub(super) most: u32,
}

impl Level {
    /// Takes the brackets of the next block that are not `inside` of strings, up to the one that
    /// closes the outermost, whose place it gives.
    #[inline(always)]
    fn last_in<L: Lanes>(&mut self, lanes: L, block: &Block, inside: u64) -> Result<Option<usize>, Doubt> {
        let (opens, closes) = brackets(lanes, block);
        let (opens, closes) = (opens & !inside, closes & !inside);
        let (opened, closed) = (opens.count_ones(), closes.count_ones());
        // Whatever their order: neither the outermost ends here, nor are there too many.
        if closed < self.open && self.open + opened <= self.most {
            self.open = self.open + opened - closed;
            return Ok(None);
        }
        self.walk(opens, closes)
    }

    /// The same, one by one.
    #[inline(always)]
    fn walk(&mut self, opens: u64, closes: u64) -> Result<Option<usize>, Doubt> {
        let mut brackets = opens | closes;
        while brackets != 0 {
            let at = brackets.trailing_zeros() as usize;
            brackets &= brackets - 1;
            if opens >> at & 1 == 1 {
                if self.open == self.most {
                    return Err(Doubt::Depth);
                }
                self.open += 1;
            } else {
                // The first bracket is one that opens.
                self.open = self.open.saturating_sub(1);
                if self.open == 0 {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
