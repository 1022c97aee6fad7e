//! Ends are where a look at each byte finds them, whatever the vectors and wherever in a block.

use std::ops::Range;

use super::*;
use crate::mcp::lanes::Plain;
use crate::mcp::samples::Dice;

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
    let mut open = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = plain_string_end(bytes, at)?,
            b'{' | b'[' => open += 1,
            b'}' | b']' if open == 1 => return Ok(at),
            b'}' | b']' => open -= 1,
            b'\\' | b'/' | b'\'' | b'#' => return Err(Doubt::NotJson),
            _ => {}
        }
        if open > MAX_DEPTH {
            return Err(Doubt::Depth);
        }
    }
    Err(Doubt::NotJson)
}

/// What both lanes find, watched and not, with whether it is said to be ASCII.
fn string_ends(bytes: &[u8], at: usize) -> Result<(usize, bool), Doubt> {
    let (mut ascii, mut plain) = (true, true);
    let found = string_end::<true>(bytes, at, &mut ascii);
    assert_eq!(string_end_by::<_, true>(Plain, bytes, at, &mut plain), found, "{}", bytes.escape_ascii());
    assert_eq!(string_end::<false>(bytes, at, &mut true), found, "{}", bytes.escape_ascii());
    assert_eq!(string_end_by::<_, false>(Plain, bytes, at, &mut true), found);
    found.map(|end| (end, told(bytes, at..end, ascii, plain)))
}

fn container_ends(bytes: &[u8], depth: u32) -> Result<(usize, bool), Doubt> {
    let (mut ascii, mut plain) = (true, true);
    let found = container_end::<true>(bytes, 0, depth, false, &mut ascii);
    let by_plain = container_end_by::<_, true>(Plain, bytes, 0, depth, false, &mut plain);
    assert_eq!(by_plain, found, "{}", bytes.escape_ascii());
    assert_eq!(container_end::<false>(bytes, 0, depth, false, &mut true), found, "{}", bytes.escape_ascii());
    assert_eq!(container_end_by::<_, false>(Plain, bytes, 0, depth, false, &mut true), found);
    found.map(|end| (end, told(bytes, 0..end, ascii, plain)))
}

/// Whether both say that what was passed is ASCII. If it is not they have to say so; if it is,
/// they may mistake it only for what follows closely.
fn told(bytes: &[u8], passed: Range<usize>, ascii: bool, plain: bool) -> bool {
    let near = passed.start..bytes.len().min(passed.end + GROUP);
    for told in [ascii, plain] {
        assert!(!told || bytes[passed.clone()].is_ascii(), "{}", bytes.escape_ascii());
        assert!(told || !bytes[near.clone()].is_ascii(), "{}", bytes.escape_ascii());
    }
    ascii && plain
}

#[test]
fn ends_are_found_where_a_look_at_each_byte_finds_them() {
    let mut dice = Dice(0x5eed_0005);
    let mut found = 0;
    for _ in 0..40_000 {
        // Some are full of quotes and backslashes, some have few, some have no backslash.
        let rare = dice.roll(60) + 1;
        let marks =
            dice.pick(&[&b"\"\\{}[]"[..], b"\"\\", b"\"{}[]", b"\"\\\\\\", b"\"\"\"\"[]", b"\"\"{}'#/_"]);
        let mut bytes = b"[\"".to_vec();
        for _ in 0..dice.roll(400) {
            let other = b"a,|: \xc3+"[dice.roll(7)];
            let mark = marks[dice.roll(marks.len())];
            bytes.push(if dice.roll(rare) == 0 { mark } else { other });
        }
        if dice.roll(2) == 0 {
            bytes.extend(b"\"]");
        }
        let end = string_ends(&bytes, 2).map(|(end, _)| end);
        assert_eq!(end, plain_string_end(&bytes, 2), "{}", bytes.escape_ascii());
        let (end, plain) = (container_ends(&bytes, 0).map(|(end, _)| end), plain_container_end(&bytes, 0));
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
fn value(dice: &mut Dice, depth: u32, out: &mut Vec<u8>) {
    match dice.roll(if depth > 5 { 3 } else { 5 }) {
        0 => out.extend([&b"-1.5e+7"[..], b"0", b"true", b"null", b"12345678901"][dice.roll(5)]),
        1 | 2 => string(dice, out),
        kind => {
            out.push(if kind == 3 { b'[' } else { b'{' });
            for member in 0..dice.roll(6) {
                out.extend(if member > 0 { &b", "[..] } else { b"" });
                if kind == 4 {
                    string(dice, out);
                    out.push(b':');
                }
                value(dice, depth + 1, out);
            }
            out.push(if kind == 3 { b']' } else { b'}' });
        }
    }
}

fn string(dice: &mut Dice, out: &mut Vec<u8>) {
    const PARTS: [&[u8]; 8] =
        [b"a", b"plain text, ", b"\\\"", b"\\\\", b"{[", b"]}", b"'#/+", "\u{e9}\u{1f600}".as_bytes()];
    out.push(b'"');
    let (length, variety) =
        (if dice.roll(20) == 0 { dice.roll(300) } else { dice.roll(8) }, dice.roll(8) + 1);
    (0..length).for_each(|_| out.extend(PARTS[dice.roll(variety)]));
    out.push(b'"');
}

#[test]
fn json_ends_where_it_ends_and_not_before() {
    let mut dice = Dice(0x5eed_0008);
    for _ in 0..4_000 {
        let mut bytes = b"[".to_vec();
        value(&mut dice, 0, &mut bytes);
        bytes.push(b']');
        let length = bytes.len();
        bytes.extend(&b",\"more\":[1]}            "[..dice.roll(24)]);
        let found = container_ends(&bytes, 0).map(|(end, _)| end);
        assert_eq!(found, Ok(length), "{}", bytes.escape_ascii());
        bytes.truncate(dice.roll(length));
        assert_eq!(container_ends(&bytes, 0), Err(Doubt::NotJson), "{}", bytes.escape_ascii());
    }
}

#[test]
fn as_many_levels_are_passed_as_there_may_be() {
    for (around, levels, deep) in [(0, 128, false), (0, 129, true), (100, 28, false), (100, 29, true)] {
        let bytes = ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes();
        let wanted = if deep { Err(Doubt::Depth) } else { Ok((bytes.len(), true)) };
        assert_eq!(container_ends(&bytes, around), wanted);
    }
}

/// The deepest place, and the end, at every place of a block and of a group.
#[test]
fn levels_count_wherever_in_a_group_they_are() {
    for shift in 0..2 * GROUP {
        for (flat, levels) in [(" ".repeat(shift), 128), ("[],".repeat(shift), 127)] {
            for (levels, deep) in [(levels, false), (levels + 1, true)] {
                let [open, close] = ["[", "]"].map(|bracket| bracket.repeat(levels));
                let bytes = [&*open, &flat, &close, ",[]]"].concat().into_bytes();
                let deep = deep && (levels == 129 || shift > 0);
                let wanted = if deep { Err(Doubt::Depth) } else { Ok((bytes.len() - 4, true)) };
                assert_eq!(container_ends(&bytes, 0), wanted, "{shift} {levels}");
            }
        }
    }
}
