//! Passes most of a large array or object without a look at its strings and without counting brackets.
//!
//! An array goes on up to the next `]` at least, be it in a string: much content is one text without.
//! An object that is a member of objects alone, all the way up, has after its `}` what ends those, a
//! comma and the next name, white space, or the end of the message. Rows of an array in it look
//! otherwise: after their `}`, or several, comes `]`, or `,{`, which in such an object is no JSON. So it
//! goes on up to a `}` that has none of these after it, whatever is in its strings; of several in a
//! row the last one tells. Where it begins with an array but for short members, it goes on for as long as
//! that does, so what stands after a `}` does not matter up to the next `]`.
//!
//! What is open there is told by the rest of the message: outside of strings there is an even number
//! of quotes from there on, and as many brackets are open as are closed more often than opened.
//!
//! All this is so for JSON. Where brackets are missing or left over, or after the message comes `]` or
//! `,{` and more, what follows may be taken for a part of it.

use super::block::{BLOCK, Escapes};
use super::lanes::{AFTER, GROUP, Lanes, with_lanes};
use super::skim::{Level, Strings, block_at, brackets, string_end};
use super::skip::{MAX_DEPTH, byte_at, pass_space, scalar_end};

/// From how many bytes before the end of a message on that costs less than to count brackets.
pub(super) const LARGE: usize = 2048;

/// How much is counted before rows are looked for again.
pub(super) const AGAIN: usize = 2048;

/// How much of the end of a message is read for what is open before it.
const TAIL: usize = 2048;

// So it is read for that only once.
const _: () = assert!(LARGE >= TAIL && AGAIN >= TAIL);

/// What was passed.
pub(super) struct Passed {
    /// Offset after it.
    pub(super) at: usize,
    /// Whether it is ASCII.
    pub(super) ascii: bool,
    /// What is open there, if that was found.
    pub(super) open: Option<Open>,
}

/// What is open at some place of a message.
pub(super) struct Open {
    pub(super) strings: Strings,
    pub(super) level: Level,
}

/// Passes what belongs to the array or object around `at`, which begins with `bracket` and is inside of
/// `depth` objects and of nothing else; `bytes` is the outermost of them.
///
/// Where several `}` lie in two groups, its end may be passed as well: then no more are closed
/// after it than are around, and nothing is said to be open. Whether all is ASCII is told where that
/// is `WATCHED`.
#[inline(never)]
pub(super) fn pass<const WATCHED: bool>(bytes: &[u8], at: usize, depth: u32, bracket: u8) -> Passed {
    with_lanes!(lanes => pass_by::<_, WATCHED>(lanes, bytes, at, depth, bracket))
}

#[inline(always)]
pub(super) fn pass_by<L: Lanes, const WATCHED: bool>(
    lanes: L,
    bytes: &[u8],
    mut at: usize,
    depth: u32,
    bracket: u8,
) -> Passed {
    let mut seen = lanes.nothing();
    // What is next to its end is seldom a row, and has to be read in any case.
    let end = bytes.len().saturating_sub(BLOCK);
    while let Some(followed) = bytes.get(at..end).and_then(<[u8]>::first_chunk::<{ GROUP + AFTER }>) {
        let Some(group) = followed.first_chunk::<GROUP>() else { break };
        if if bracket == b'[' { lanes.has(group, b']') } else { lanes.may_end(followed) } {
            break;
        }
        if WATCHED {
            for block in group.as_chunks().0 {
                seen = lanes.see(seen, block);
            }
        }
        at += GROUP;
    }
    let near = bytes.len() - at <= TAIL;
    let open = if near { open_by(lanes, bytes, at, depth) } else { None };
    Passed { at, ascii: lanes.is_ascii(seen), open }
}

/// Passes what belongs to the object that begins at `at`, as [`pass`] does, where an array is near.
#[inline(never)]
pub(super) fn pass_array_in<const WATCHED: bool>(bytes: &[u8], at: usize, depth: u32) -> Option<Passed> {
    let inside = array_in(bytes, at)?;
    let mut passed = pass::<WATCHED>(bytes, inside, depth, b'[');
    if passed.open.is_none() {
        let more = pass::<WATCHED>(bytes, passed.at, depth, b'{');
        passed = Passed { ascii: passed.ascii && more.ascii, ..more };
    }
    if WATCHED {
        passed.ascii &= bytes.get(at..inside).is_some_and(<[u8]>::is_ascii);
    }
    Some(passed)
}

/// Offset inside of the first array in the object that begins at `at`, or in objects in it, if nothing but short
/// members is before.
fn array_in(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(..at + GROUP)?;
    let (mut at, mut open) = (at + 1, 1_u32);
    while pass_space(bytes, &mut at) == b'"' {
        at = string_end::<false>(bytes, at + 1, &mut true).ok()?;
        if pass_space(bytes, &mut at) != b':' {
            return None;
        }
        at += 1;
        at = match pass_space(bytes, &mut at) {
            b'[' => return Some(at + 1),
            b'{' => {
                open += 1;
                at += 1;
                continue;
            }
            b'"' => string_end::<false>(bytes, at + 1, &mut true).ok()?,
            first => scalar_end(bytes, at, first).ok()?,
        };
        while pass_space(bytes, &mut at) == b'}' && open > 1 {
            open -= 1;
            at += 1;
        }
        if byte_at(bytes, at) != b',' {
            return None;
        }
        at += 1;
    }
    None
}

/// What is open at `at`, by what is after it; `None` where that tells nothing, or that `at` is not
/// inside of an array or object inside of `depth` objects.
#[inline(always)]
fn open_by<L: Lanes>(lanes: L, bytes: &[u8], at: usize, depth: u32) -> Option<Open> {
    let escapes = Escapes::after(bytes, at);
    // As if `at` were outside of strings, and as if it were inside: the end tells which of them holds.
    let mut strings = Strings { inside: 0, escapes: escapes.clone() };
    let (mut outside, mut inside) = (Seen::default(), Seen::default());
    let mut lines = 0;
    for at in (at..bytes.len()).step_by(BLOCK) {
        let block = &block_at(bytes, at);
        let (within, signs) = strings.take(lanes, block);
        let brackets = brackets(lanes, block);
        outside.take(signs, brackets, !within);
        inside.take(signs, brackets, within);
        lines |= lanes.equal(block, b'\n');
    }
    let seen = if strings.inside == 0 { &outside } else { &inside };
    // From the end on, a comment of one line is met before what begins it.
    let comment = lines != 0 && outside.signs | inside.signs != 0;
    if comment || seen.signs != 0 {
        return None;
    }
    let open = seen.closed.checked_sub(seen.opened)?.checked_sub(depth).filter(|open| *open > 0)?;
    let level = Level { open, most: MAX_DEPTH.saturating_sub(depth) };
    let strings = Strings { inside: strings.inside, escapes };
    (open <= level.most).then_some(Open { strings, level })
}

/// What was met outside of strings.
#[derive(Default)]
struct Seen {
    signs: u64,
    opened: u32,
    closed: u32,
}

impl Seen {
    /// Takes those of the next block that are `met`.
    #[inline(always)]
    fn take(&mut self, signs: u64, (opens, closes): (u64, u64), met: u64) {
        self.signs |= signs & met;
        self.opened += (opens & met).count_ones();
        self.closed += (closes & met).count_ones();
    }
}

#[cfg(test)]
mod tests;
