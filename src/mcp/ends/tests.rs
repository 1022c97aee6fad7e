//! What both ends of an answer tell, and when they do not.

use super::*;
use crate::mcp::message::parse_answer;
use crate::mcp::samples::Dice;

/// An answer whose content is long, with these members of the result after it and of the message
/// after that.
fn answer(before: &str, after: &str, last: &str) -> String {
    let line = r#"says \"yes\", or {\"isError\":true}, and C:\\"#;
    let text = line.repeat(64);
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{{before}"content":[{{"type":"text","text":"{text}"}}]{after}}}{last}}}"#
    )
}

fn told(body: &str) -> Option<Message<'_>> {
    let mut message = Message::default();
    read(body.as_bytes(), WINDOW, &mut message).then_some(message)
}

#[test]
fn what_stands_last_is_read_without_the_rest() {
    for (after, last) in [
        (r#","isError":true"#, ""),
        (r#" , "isError" : true "#, " \n"),
        (r#","isError":true,"resultType":"complete""#, ""),
        (r#","note":"a \"b\" \\","isError":true,"n":-1.5e3,"_meta":{"a":["}",{"b":"\\"}]}"#, ""),
        (r#","structuredContent":{"isError":false},"isError":true"#, r#","error":null"#),
    ] {
        let body = answer("", after, last);
        let message = told(&body).unwrap_or_else(|| panic!("{after}"));
        assert!(message.is_error && message.has_result && message.kind() == Kind::Response, "{after}");
        assert!(matches!(message.id, Some(Id::Number("7"))) && message.jsonrpc.is_some());
        assert!(!message.spliceable());
        let whole = parse_answer(body.as_bytes()).unwrap_or_else(|doubt| panic!("{doubt:?}"));
        assert!(whole.is_error, "{after}");
    }
    assert!(told(&answer("", r#","isError":false"#, "")).is_some_and(|message| !message.is_error));
}

#[test]
fn the_order_of_the_message_does_not_matter() {
    let body = answer("", r#","isError":true"#, r#","jsonrpc":"2.0","id":"a\"b""#).replacen(
        r#""jsonrpc":"2.0","id":7,"#,
        "",
        1,
    );
    let message = told(&body);
    assert!(message.is_some_and(|message| {
        message.is_error && matches!(message.id, Some(Id::String(id)) if id.eq_str("a\"b"))
    }));
    let unnamed = answer("", r#","isError":true"#, r#","id":null"#).replacen(r#""id":7,"#, "", 1);
    assert!(told(&unnamed).is_some_and(|message| message.id.is_none() && message.id_is_null));
}

#[test]
fn what_the_ends_do_not_tell_is_left_to_the_whole() {
    let error = r#","isError":true"#;
    for (before, after, last) in [
        // It is not said at this end.
        (r#""isError":true,"#, "", ""),
        // It may be another kind of result, or none.
        (r#""resultType":"task","#, error, ""),
        (r#""taskId":"t","#, error, ""),
        ("", r#","isError":true,"resultType":"input_required""#, ""),
        ("", r#","isError":true,"task":{}"#, ""),
        ("", error, r#","error":{"code":1}"#),
        ("", error, r#","method":"m""#),
        ("", error, r#","more":1"#),
        // Twice, misspelled, or of another type.
        (r#""isError":false,"#, error, ""),
        ("", r#","isError":true,"isError":false"#, ""),
        ("", error, r#","id":8"#),
        ("", error, r#","jsonrpc":"2.0""#),
        ("", r#","is\u0045rror":true"#, ""),
        ("", r#","isError":"true""#, ""),
        ("", r#","isError":1"#, ""),
        ("", error, r#","id":[]"#),
        // Not JSON.
        ("", r#","isError":true,"#, ""),
        ("", r#""isError":true"#, ""),
        ("", error, "}"),
        ("", error, ","),
        ("", error, "x"),
    ] {
        assert!(told(&answer(before, after, last)).is_none(), "{before} {after} {last}");
    }
    for head in [r#""id":7,"method":"m","#, r#""id":7,"error":1,"#, r#""id":{},"#, r#""id":7,"params":{},"#] {
        let body = answer("", error, "").replacen(r#""id":7,"#, head, 1);
        assert!(told(&body).is_none(), "{head}");
    }
    let array = format!("[{}]", answer("", error, ""));
    assert!(told(&array).is_none());
}

#[test]
fn a_server_that_says_nothing_of_errors_has_none() {
    let silent = |text: &str| {
        let text = text.repeat(4096 / text.len());
        format!(
            r#"{{"result":{{"content":[{{"text":"{text}, isError"}}],"a":"{text}"}},"jsonrpc":"2.0","id":7}}"#
        )
    };
    // Much that is like the name is none.
    for text in ["plain", "isERROR ", "E", r"\u003c\u001b\u00e9", "or 004", r#"\\\""#] {
        let body = silent(text);
        assert!(told(&body).is_some_and(|message| !message.is_error && message.has_result), "{text}");
    }
    for text in ["isError ", r"E\n", r"\u0045", r"\\u0072"] {
        assert!(told(&silent(text)).is_none(), "{text}");
    }
    let tools = silent("plain").replace("content", "tools");
    let broken = silent("plain").replacen("[{", r"[\{", 1);
    assert!(told(&tools).is_none() && told(&broken).is_none());
}

#[test]
fn an_error_is_seen_wherever_it_stands_and_however_it_is_spelled() {
    for name in ["isError", r"is\u0045rror", r"isE\u0072ror", r"\u0069\u0073\u0045\u0072\u0072\u006F\u0072"] {
        for at in 0..600 {
            let (before, after) = ("x".repeat(at), "x".repeat(600));
            let members = format!(r#""content":[{{"a":"b"}}],"a":"{before}","{name}":true,"b":["{after}"]"#);
            let body = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{{members}}}}}"#);
            let mut message = Message::default();
            assert!(!read(body.as_bytes(), 64, &mut message), "{body}");
            assert!(message.read_outcome(body.as_bytes()).is_ok() && message.is_error, "{body}");
        }
    }
}

#[test]
fn neither_end_is_taken_for_more_than_it_is() {
    let body = answer("", r#","isError":true"#, "");
    let mut message = Message::default();
    assert!(!read(&body.as_bytes()[..2 * WINDOW - 1], WINDOW, &mut message));
    for window in 0..WINDOW {
        let mut message = Message::default();
        let found = read(body.as_bytes(), window, &mut message);
        assert_eq!(found, window >= r#"{"jsonrpc":"2.0","id":7,"result":{"#.len(), "{window}");
    }
    // A string that begins before this end, whose quotes then look like the other kind.
    let long =
        answer("", &format!(r#","isError":true,"note":"{}""#, r#"\","isError\":false,\"a"#.repeat(20)), "");
    assert!(told(&long).is_none());
    let slashes = answer("", &format!(r#","isError":true,"note":"{}\"""#, r"\\".repeat(200)), "");
    assert!(told(&slashes).is_none());
    let object = |length: usize| {
        let object = format!(r#"{{"a":"{}"}}"#, "x".repeat(length - r#"{"a":""}"#.len()));
        answer("", &format!(r#","isError":true,"_meta":{object}"#), "")
    };
    assert!(told(&object(SHORT)).is_some() && told(&object(SHORT + 8)).is_none());
    let digits = answer("", &format!(r#","isError":true,"note":{}"#, "1".repeat(300)), "");
    assert!(told(&digits).is_none());
}

#[test]
fn only_large_answers_are_read_by_their_ends() {
    let broken = answer("", r#","isError":true"#, "").replacen("[{", "]", 1);
    let mut message = Message::default();
    assert!(message.read_outcome(broken.as_bytes()).is_ok() && message.is_error);
    let short = format!(r#"{{"id":1,"result":{{"content":{}],"isError":true}}}}"#, " ".repeat(2 * WINDOW));
    assert!(short.len() < LARGE && Message::default().read_outcome(short.as_bytes()).is_err());
}

impl Dice {
    fn string(&mut self) -> String {
        const PIECES: [&str; 12] =
            [r#"\""#, r"\\", "{", "}", "[", "]", ",", ":", "isError", r"\u0022", "true", "é"];
        (0..self.roll(6)).map(|_| PIECES[self.roll(PIECES.len())]).collect()
    }

    fn value(&mut self, depth: usize) -> String {
        match self.roll(if depth == 0 { 5 } else { 7 }) {
            0 => "-1.5e+3".into(),
            1 => ["true", "false", "null"][self.roll(3)].into(),
            2..=4 => format!(r#""{}""#, self.string()),
            5 => format!("[{},{}]", self.value(depth - 1), self.value(depth - 1)),
            _ => format!(r#"{{"isError":{},"{}":1}}"#, self.value(depth - 1), self.string()),
        }
    }
}

#[test]
fn generated_answers_come_out_as_an_independent_parser_reads_them() {
    let mut dice = Dice(0x5eed_0005);
    let mut found = 0;
    for _ in 0..20_000 {
        let mut members = vec![format!(r#""isError":{}"#, ["true", "false", "null"][dice.roll(3)])];
        if dice.roll(3) == 0 {
            members.clear();
        }
        if dice.roll(4) == 0 {
            members.push(r#""resultType":"complete""#.into());
        }
        for _ in 0..dice.roll(4) {
            let at = dice.roll(members.len() + 1);
            members.insert(at, format!(r#""{}x":{}"#, dice.string(), dice.value(2)));
        }
        let space = ["", " "][dice.roll(2)];
        let content = "x".repeat(dice.roll(80));
        let body =
            format!(r#"{{"id":1,"result":{{"content":["{content}"]{space},{}}}{space}}}"#, members.join(","));
        found += usize::from(read(body.as_bytes(), 24, &mut Message::default()));
        crate::mcp::fuzz_message(body.as_bytes());
    }
    assert!(found > 3_000, "{found}");
}
