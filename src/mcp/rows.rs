//! Passes the rows of a large object without a look at their strings and without counting brackets.
//!
//! Where an object ends that is a member of objects alone, all the way up, what is around it ends too
//! or a comma and the next name follow. Rows of an array end otherwise: after their `}`, or several,
//! comes `]`, or a comma and `{`. No reader takes `]` for what may follow such an object, nor a `{` two
//! bytes on; so up to a `}` that has neither, the object goes on, whatever is in its strings.
//!
//! What is open there is told by the rest of the message: outside of strings there is an even number
//! of quotes from there on, and as many brackets are open as are closed more often than opened. Of a
//! body that is no JSON, in which brackets are missing or left over, that may tell something else.

use super::block::{BLOCK, Escapes};
use super::lanes::{AFTER, GROUP, Lanes, with_lanes};
use super::skim::{Level, Strings, block_at, brackets};
use super::skip::MAX_DEPTH;

/// From how many bytes before the end of a message on that costs less than to count brackets.
pub(super) const LARGE: usize = 2048;

/// How much is counted before rows are looked for again.
pub(super) const AGAIN: usize = 2048;

/// How much of the end of a message is read for what is open before it.
const TAIL: usize = 2048;

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

/// Passes what is certain to belong to the object around `at`, which is inside of `depth` other
/// objects and of nothing else; the outermost ends with `bytes`.
#[inline(never)]
pub(super) fn pass(bytes: &[u8], at: usize, depth: u32) -> Passed {
    with_lanes!(lanes => pass_by(lanes, bytes, at, depth))
}

#[inline(always)]
pub(super) fn pass_by<L: Lanes>(lanes: L, bytes: &[u8], mut at: usize, depth: u32) -> Passed {
    let mut seen = lanes.nothing();
    // What is next to its end is seldom a row, and has to be read in any case.
    let end = bytes.len().saturating_sub(GROUP);
    while let Some(group) = bytes.get(at..end).and_then(<[u8]>::first_chunk::<{ GROUP + AFTER }>) {
        if lanes.may_end(group) {
            break;
        }
        for block in group.as_chunks().0 {
            seen = lanes.see(seen, block);
        }
        at += GROUP;
    }
    let near = bytes.len() - at <= TAIL;
    let open = if near { open_by(lanes, bytes, at, depth) } else { None };
    Passed { at, ascii: lanes.is_ascii(seen), open }
}

/// What is open at `at`, by what is after it; `None` where that tells nothing, or that `at` is not
/// inside of an object inside of `depth` others.
#[inline(always)]
fn open_by<L: Lanes>(lanes: L, bytes: &[u8], at: usize, depth: u32) -> Option<Open> {
    let blocks = (at..bytes.len()).step_by(BLOCK);
    // As if it were outside of strings: the end then tells whether it is.
    let mut strings = Strings { inside: 0, escapes: Escapes::after(bytes, at) };
    let (mut signs, mut lines) = (0, 0);
    for at in blocks.clone() {
        let block = &block_at(bytes, at);
        strings.take(lanes, block);
        signs |= lanes.signs(block);
        lines |= lanes.equal(block, b'\n');
    }
    // From the end on, a comment of one line is met before what begins it.
    if signs != 0 && lines != 0 {
        return None;
    }
    let found = Strings { inside: strings.inside, escapes: Escapes::after(bytes, at) };
    strings = found.clone();
    let (mut opened, mut closed) = (depth, 0);
    for at in blocks {
        let block = &block_at(bytes, at);
        let (inside, stray) = strings.take(lanes, block);
        if stray != 0 {
            return None;
        }
        let (opens, closes) = brackets(lanes, block, inside);
        opened += opens.count_ones();
        closed += closes.count_ones();
    }
    let open = closed.checked_sub(opened).filter(|open| *open > 0)?;
    let level = Level { open, most: MAX_DEPTH.saturating_sub(depth) };
    (open <= level.most).then_some(Open { strings: found, level })
}

#[cfg(test)]
mod tests;
