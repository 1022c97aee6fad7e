//! What is passed of a large object by its rows, and what is then found to be open, is what a look
//! at each byte finds.

use serde_json::Value;

use super::super::lanes::Plain;
use super::super::message::parse;
use super::super::rows::{self, Passed};
use super::{compare, compare_ends};

/// Writes a large call and a large answer, whose arguments and content `data` describes byte by byte,
/// and compares what is read of them with what an independent parser reads, and places of the call
/// with a look at each byte.
///
/// # Panics
///
/// When they differ.
pub fn fuzz_rows(data: &[u8]) {
    let (step, described) = data.split_first().unwrap_or((&0, &[]));
    let body = call(step & 128 != 0, described);
    let tree = match serde_json::from_slice::<Value>(&body) {
        Ok(tree) => tree,
        Err(error) => panic!("{error}: {}", body.escape_ascii()),
    };
    match parse(&body) {
        Ok(message) => compare(&message, &tree),
        Err(doubt) => panic!("refused as {doubt:?}: {tree}"),
    }
    compare_ends(&answer(*step, described));
    let step = usize::from(*step) + 50;
    compare_places(&body, step, rows::pass::<true>);
    compare_places(&body, step, |bytes, at, depth, bracket| {
        rows::pass_by::<_, true>(Plain, bytes, at, depth, bracket)
    });
    compare_objects(&body);
}

/// A call with what is described before many rows, after them, and beside its arguments.
///
/// Where it is `nested` the rows have objects before other members and no arrays, and stand before the rest.
fn call(nested: bool, described: &[u8]) -> Vec<u8> {
    const ROW: &str = r#"{"row":1,"name":"station","tags":["a","b"],"in":{"k":[{}]}},"#;
    const NESTED: &str = r#"{"row":{"n":1},"in":{"k":"{","l":{}},"name":"station"},"#;
    let (arguments, rest) = described.split_at(described.len() / 3);
    let (rows, others) = rest.split_at(rest.len() / 2);
    let mut body = br#"{"id":1,"method":"m","params":{"name":"n","arguments":{"#.to_vec();
    if nested {
        body.extend_from_slice(br#""first":"one","in":{"k": -1.5e3 } , "rows" : ["#);
        body.extend(NESTED.bytes().cycle().take(NESTED.len() * 50));
        body.push(b'1');
        values(rows, &mut body);
        body.extend_from_slice(br#"],"last":[1"#);
        values(arguments, &mut body);
    } else {
        body.extend_from_slice(br#""first":["#);
        values(arguments, &mut body);
        body.extend_from_slice(br#"],"rows":["#);
        body.extend(ROW.bytes().cycle().take(ROW.len() * 50));
        body.push(b'1');
        values(rows, &mut body);
    }
    body.extend_from_slice(br#"]},"_meta":{"traceparent":"00-1"},"others":["#);
    values(others, &mut body);
    body.extend_from_slice(br#"]},"jsonrpc":"2.0"}"#);
    body
}

/// An answer with a long text, and with what is described after it and beside it.
fn answer(choice: u8, described: &[u8]) -> Vec<u8> {
    let (content, others) = described.split_at(described.len() / 2);
    let mut body = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":""#.to_vec();
    body.extend(b"some text, \\\"quoted\\\" at times, ".iter().cycle().take(32 * 100));
    body.extend_from_slice(br#""}"#);
    values(content, &mut body);
    body.push(b']');
    for (bit, value) in [(1, "true"), (2, "false")] {
        if choice & bit != 0 {
            body.extend(format!(r#","isError":{value}"#).bytes());
        }
    }
    body.extend_from_slice(br#","structuredContent":{"k":[1"#);
    values(others, &mut body);
    body.extend_from_slice(if choice & 4 != 0 { br#"]},"isError":true}}"# } else { b"]}}}" });
    body
}

/// Writes values of JSON: each byte of `described` begins or ends one, or goes on with a string.
fn values(described: &[u8], out: &mut Vec<u8>) {
    const TEXTS: [&str; 13] = [
        r#"\""#,
        r"\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        "// '#",
        "\u{e9}",
        "some text that is a bit longer, ",
        "isError",
        r"is\u0045rror",
        "E",
    ];
    // The brackets of what is open, and a quote for a string.
    let mut open: Vec<u8> = Vec::new();
    for byte in described {
        let within = open.last().copied();
        match (byte % 16, within) {
            (15, Some(b'"')) => drop(open.pop().map(|quote| out.push(quote))),
            (text, Some(b'"')) => out.extend(TEXTS[usize::from(text) % TEXTS.len()].bytes()),
            (0..=3, Some(bracket)) => {
                open.pop();
                out.push(bracket + 2);
            }
            (4, _) => out.extend_from_slice(if byte & 16 == 0 { b" " } else { b"\n" }),
            (kind, _) => {
                if !matches!(out.iter().rfind(|byte| !byte.is_ascii_whitespace()), Some(b'[' | b'{')) {
                    out.push(b',');
                }
                if within == Some(b'{') {
                    out.extend_from_slice(if byte & 32 == 0 { br#""k":"# } else { br#""isError":"# });
                }
                match kind {
                    5..=8 if open.len() < 100 => open.push(b'{'),
                    9..=10 if open.len() < 100 => open.push(b'['),
                    11..=13 => open.push(b'"'),
                    _ => {
                        out.extend_from_slice(b"-1e5");
                        continue;
                    }
                }
                out.extend(open.last());
            }
        }
    }
    while let Some(opened) = open.pop() {
        out.push(if opened == b'"' { opened } else { opened + 2 });
    }
}

/// What is at one place of a text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct At {
    in_string: bool,
    escaped: bool,
    open: u32,
}

/// What is at each place of `text`, and where objects that are members of objects alone end.
fn places(text: &[u8]) -> (Vec<At>, Vec<usize>) {
    let (mut places, mut ends) = (Vec::new(), Vec::new());
    let (mut here, mut open) = (At::default(), Vec::new());
    for (at, byte) in text.iter().enumerate() {
        places.push(here);
        match byte {
            _ if here.escaped => here.escaped = false,
            b'\\' => here.escaped = true,
            b'"' => here.in_string = !here.in_string,
            _ if here.in_string => {}
            b'{' | b'[' => open.push(*byte),
            b'}' | b']' => {
                if open.iter().all(|byte| *byte == b'{') {
                    ends.push(at);
                }
                open.pop();
            }
            _ => {}
        }
        here.open = open.len() as u32;
    }
    (places, ends)
}

/// Compares what `pass` finds at each `step`-th place.
fn compare_places(text: &[u8], step: usize, pass: impl Fn(&[u8], usize, u32, u8) -> Passed) {
    let (places, ends) = places(text);
    for start in (0..text.len()).step_by(step) {
        for (bracket, depth) in [(b'{', 0), (b'{', 1), (b'[', 0), (b'[', 2)] {
            let passed = pass(text, start, depth, bracket);
            assert_eq!(passed.ascii, text[start..passed.at].is_ascii());
            let Some(found) = passed.open else { continue };
            let (in_string, escaped) = (found.strings.inside != 0, found.strings.escapes.carries());
            let found = At { in_string, escaped, open: found.level.open + depth };
            assert_eq!(found, places[passed.at], "{} {}", passed.at, text.escape_ascii());
            // Of ends one right after the other the first may be passed: it is known to be none of `at`.
            let goes_on = |end: &usize| text[*end..passed.at].iter().any(|byte| *byte != b'}');
            let is_passed = |end: &usize| (start..passed.at).contains(end);
            let ended = match bracket {
                b'{' => ends.iter().any(|end| is_passed(end) && goes_on(end)),
                _ => text[start..passed.at].contains(&b']'),
            };
            assert!(!ended, "{start} {} {}", passed.at, text.escape_ascii());
        }
    }
}

/// Compares what is passed of each object from its beginning on.
fn compare_objects(text: &[u8]) {
    let (places, ends) = places(text);
    for end in ends {
        let around = places[end].open - 1;
        let begins = |start: &usize| places[*start].open == around && !places[*start].in_string;
        let start = (0..end).rev().filter(begins).find(|start| text[*start] == b'{').unwrap_or_default();
        let Some(passed) = rows::pass_array_in::<true>(text, start, around) else { continue };
        assert_eq!(passed.ascii, text[start..passed.at].is_ascii());
        if let Some(found) = passed.open {
            assert!(passed.at <= end, "{start} {} {end} {}", passed.at, text.escape_ascii());
            let (in_string, escaped) = (found.strings.inside != 0, found.strings.escapes.carries());
            let found = At { in_string, escaped, open: found.level.open + around };
            assert_eq!(found, places[passed.at], "{} {}", passed.at, text.escape_ascii());
        }
    }
}
