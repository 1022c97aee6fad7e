//! Rows are passed no further than they go, and what is open after them is told.

use super::super::fuzz_rows;
use super::super::message::{Doubt, parse};
use super::super::samples::Dice;
use super::*;

#[test]
fn described_calls_are_read_as_an_independent_parser_reads_them() {
    let mut dice = Dice(0x5eed_000c);
    for round in 0..300 {
        let described: Vec<u8> = (0..dice.roll(400)).map(|_| dice.roll(256) as u8).collect();
        // Most kinds of values, or fewer and so deeper ones.
        let mask = [0xff, 0xef, 0x1b, 0x2d][round % 4];
        fuzz_rows(&described.iter().map(|byte| byte & mask).collect::<Vec<_>>());
    }
}

/// A call with about `length` bytes of rows and `end` after its arguments.
fn rows(length: usize, end: &str) -> String {
    let row = r#"{"row":1,"name":"station","tags":["a","b"],"note":null},"#;
    let rows = row.repeat(length / row.len());
    format!(
        r#"{{"id":1,"method":"tools/call","params":{{"name":"n","arguments":{{"rows":[{rows}{{}}]}}{end}"#
    )
}

#[test]
fn doubts_after_rows_are_found() {
    for length in (LARGE..LARGE + 4 * GROUP).step_by(13) {
        for (end, doubt) in [
            ("}}", None),
            (r#","arguments":{}}}"#, Some(Doubt::Duplicate)),
            (r#","_meta":{},"_meta":{}}}"#, Some(Doubt::Duplicate)),
            (r#"},"method":"m"}"#, Some(Doubt::Duplicate)),
            ("", Some(Doubt::NotJson)),
            ("}}\"", Some(Doubt::NotJson)),
            // A second message, or more of the first for those who know another kind of comment.
            (&format!("}}}}\n{}", rows(LARGE, "}}")), Some(Doubt::NotJson)),
            (&format!("}}}} {}", rows(LARGE, "}}")), Some(Doubt::NotJson)),
            (&format!("#{{\n,\"name\":\"b\",\"x\":{}}}", rows(LARGE, "}}")), Some(Doubt::NotJson)),
            (r#","k":{"a":/**/1}}}"#, Some(Doubt::NotJson)),
            (",\"k\":{\"a\":1 // \"\n}}}", Some(Doubt::NotJson)),
            (r#","k":"é"}}"#, None),
        ] {
            let read = parse(rows(length, end).as_bytes()).err();
            assert_eq!(read, doubt, "{length} {end}");
        }
        let mut body = rows(length, "}}").into_bytes();
        let middle = body.len() / 2;
        body[middle] = 0xff;
        assert_eq!(parse(&body).err(), Some(Doubt::NotUtf8));
    }
}

/// What ends an object is found at each place of a group, and stops a look ahead before it.
#[test]
fn an_end_stops_wherever_it_is() {
    for shift in 0..2 * GROUP {
        let before = r#"{"a":1},"#.repeat(40) + "{" + &" ".repeat(shift);
        for (end, is_one) in
            [(r#"}]},"k":1"#, true), ("}]}}", true), ("}]} ,{", true), ("},{", false), ("}}},{", false)]
        {
            let body = before.clone() + end + &" ".repeat(3 * GROUP);
            let passed = pass::<true>(body.as_bytes(), 0, 0, b'{').at;
            let close = before.len() + end.rfind('}').unwrap();
            assert_eq!(passed <= close, is_one, "{shift} {end}");
            assert!(!is_one || close - passed < GROUP, "{shift} {end}");
        }
    }
}

#[test]
fn no_more_levels_are_open_than_there_may_be() {
    for (levels, told) in [(128, true), (129, false)] {
        let body = ["{\"k\":[".repeat(levels / 2), "]}".repeat(levels / 2), "]".repeat(levels % 2)].concat();
        let at = body.find(']').unwrap();
        assert_eq!(pass::<true>(body.as_bytes(), at, 0, b'{').open.is_some(), told);
        assert!(
            pass::<true>(body.as_bytes(), at, 1, b'{')
                .open
                .is_some_and(|open| open.level.open == levels as u32 - 1)
                == told
        );
    }
    assert!(pass::<true>(b"{\"k\":1}", 7, 0, b'{').open.is_none());
}

/// Where an end may be far before that of the message, nothing is told.
#[test]
fn no_more_than_the_end_of_a_message_is_read_twice() {
    for (length, told) in [(TAIL, true), (TAIL + 1, false)] {
        let start = r#"{"k":{"a":1},"l":["#;
        let body = [start, &" ".repeat(length - start.len() - 1), "]}"].concat();
        let passed = pass::<true>(body.as_bytes(), 1, 0, b'{');
        assert_eq!((passed.at, passed.open.is_some()), (1, told), "{length}");
    }
}

/// An array is found behind short members, and in objects, but not where it is no member of objects alone.
#[test]
fn an_array_is_found_behind_short_members() {
    let text = |length: usize| format!(r#"{{"a":"{}","k":["#, "x".repeat(length));
    for (object, found) in [
        (r#"{"k":["#, true),
        (r#" {"#, false),
        ("{ \"k\" :\n[", true),
        (r#"{"a":1,"b":-1.5e3,"c":true,"d":null,"e":"[","f\"[":"]","k":["#, true),
        (r#"{"a":{"b":{"k":["#, true),
        (r#"{"a":{"b":{"c":1}},"k":["#, true),
        (r#"{"a":{"c":1}},"k":["#, false),
        (r#"{"a":1},"k":["#, false),
        (r#"{"a":{},"k":["#, false),
        (r#"{"a":{"c":1} "k":["#, false),
        (r#"{"a":x,"k":["#, false),
        (r#"{"a" "k":["#, false),
        (r#"["k",["#, false),
        (&text(GROUP - 13), true),
        (&text(GROUP - 12), false),
    ] {
        let body = object.to_owned() + &" ".repeat(GROUP);
        let expected = found.then_some(object.len());
        assert_eq!(array_in(body.as_bytes(), 0), expected, "{object}");
    }
    assert_eq!(array_in(br#"{"k":[1]}"#, 0), None, "too little to be worth it");
}

/// Objects before other members do not stop what begins with an array, whatever its strings hold, and
/// what follows the array is read as ever.
#[test]
fn rows_of_objects_are_passed_as_an_array() {
    let row = r#"{"in":{"k":"}, ,{ \" \\"},"name":"station"},"#;
    for (arguments, after) in [("", ""), (r#""first":{"a":1},"#, r#","last":{"b":"x","c":[2]},"d":1"#)] {
        for length in (LARGE..LARGE + 3 * GROUP).step_by(17).chain([20 * LARGE]) {
            let rows = row.repeat(length / row.len());
            let object = format!(r#"{{{arguments}"rows":[{rows}{{}}]{after}}}"#);
            let body = format!(r#"{{"params":{{"arguments":{object},"name":"n"}},"id":1,"method":"m"}}"#);
            let start = body.find(&object).unwrap();
            let passed = pass_array_in::<true>(body.as_bytes(), start, 2).unwrap();
            assert!(passed.open.is_some() && passed.at < start + object.len(), "{length}");
            let message = parse(body.as_bytes()).unwrap();
            assert_eq!(message.arguments, Some(object.as_bytes()));
        }
    }
}
