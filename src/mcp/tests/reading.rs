//! What is read of a message, and what is refused.

use super::super::message::{Doubt, Id, Kind, Message, OwnedId, Text, parse, parse_answer};
use super::super::samples::{ANSWERS, CALLS};

fn read(body: &str) -> Message<'_> {
    parse(body.as_bytes()).unwrap_or_else(|doubt| panic!("{doubt:?}: {body}"))
}

fn shown(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.decode().into_owned())
}

#[test]
fn samples_are_read_as_the_kind_they_are() {
    for sample in CALLS {
        let message = read(sample);
        let expected = if message.id.is_some() { Kind::Request } else { Kind::Notification };
        assert_eq!(message.kind(), expected, "{sample}");
        assert!(message.method.is_some());
    }
    for sample in ANSWERS {
        let message = read(sample);
        assert_eq!(message.kind(), Kind::Response, "{sample}");
        assert!(!message.spliceable());
    }
}

#[test]
fn a_modern_call_is_read_whole() {
    let message = read(CALLS[0]);
    assert_eq!(shown(message.method).as_deref(), Some("tools/call"));
    assert_eq!(shown(message.jsonrpc).as_deref(), Some("2.0"));
    assert_eq!(shown(message.name).as_deref(), Some("get_weather"));
    assert!(matches!(message.id, Some(Id::Number("3"))));
    assert_eq!(message.arguments, Some(r#"{"city":"Zürich","days":3,"units":["c","mm"]}"#.as_bytes()));
    assert!(message.meta.present && message.spliceable());
    assert_eq!(shown(message.meta.protocol_version).as_deref(), Some("2026-07-28"));
    assert_eq!(shown(message.meta.client_name).as_deref(), Some("mcp"));
    assert_eq!(message.meta.traceparent.map(|text| text.raw().len()), Some(55));
    assert!(matches!(message.meta.progress_token, Some(Id::Number("3"))));
}

#[test]
fn spelling_and_order_do_not_matter() {
    let message = read(CALLS[20]);
    assert!(message.method.is_some_and(|method| method.eq_str("tools/call") && method.has_escapes()));
    assert_eq!(shown(message.name).as_deref(), Some("escaped"));
    assert!(matches!(message.id, Some(Id::Number("1.5"))));
    assert_eq!(shown(message.meta.traceparent).as_deref(), Some("x"));
    let last = read(r#"{"result":{"isError":true},"jsonrpc":"2.0","id":"7"}"#);
    assert!(
        last.is_error && last.id.is_some_and(|id| OwnedId::new(&id).is_some_and(|id| id.to_string() == "7"))
    );
}

#[test]
fn answers_are_read_for_their_outcome() {
    let tool_error = read(ANSWERS[1]);
    assert!(tool_error.is_error && tool_error.has_result && tool_error.error.is_none());
    assert_eq!(shown(read(ANSWERS[2]).result_protocol_version).as_deref(), Some("2025-11-25"));
    let pending = read(ANSWERS[3]);
    assert_eq!(shown(pending.result_type).as_deref(), Some("input_required"));
    assert_eq!(shown(pending.result_request_state).as_deref(), Some("b64:AAAA=="));
    for sample in [ANSWERS[4], ANSWERS[5]] {
        assert_eq!(shown(read(sample).result_task_id).as_deref(), Some("t-786512e2"));
    }
    let error = read(ANSWERS[6]).error.unwrap();
    assert_eq!(error.code, Some(-32602));
    assert_eq!(shown(error.message).as_deref(), Some("Invalid params: \"name\" is required"));
    let unread = read(ANSWERS[7]);
    assert!(unread.id.is_none() && unread.id_is_null);
    let no_error = read(ANSWERS[10]);
    assert!(no_error.error.is_none() && no_error.has_result);
}

#[test]
fn fields_of_an_unexpected_type_count_as_absent() {
    let message = read(
        r#"{"id":1,"method":"m","params":{"name":1,"uri":null,"taskId":[],"requestId":{},"clientInfo":"x","_meta":
        {"traceparent":1,"io.modelcontextprotocol/clientInfo":7,"progressToken":-Infinity}}}"#,
    );
    assert!(message.name.is_none() && message.uri.is_none() && message.task_id.is_none());
    assert!(message.request_id.is_none() && message.params_client_name.is_none());
    assert!(message.meta.traceparent.is_none() && message.meta.client_name.is_none());
    assert!(message.meta.progress_token.is_none() && message.spliceable());
    for (error, code) in [
        (r#"{"code":1.5}"#, None),
        (r#"{"code":"1"}"#, None),
        (r#"{"code":99999999999999999999}"#, None),
        (r#"{"code":-1}"#, Some(-1)),
        (r#"{"code":-0}"#, Some(0)),
        (r#"{"code":-0.0}"#, None),
        (r#"[]"#, None),
        (r#""text""#, None),
    ] {
        let body = format!(r#"{{"id":1,"error":{error}}}"#);
        assert_eq!(read(&body).error.unwrap().code, code, "{error}");
    }
    assert!(!read(r#"{"id":1,"result":{"isError":"true"}}"#).is_error);
    assert!(read(r#"{"id":1,"result":[true]}"#).has_result);
}

#[test]
fn a_message_with_foreign_params_is_usable_but_not_spliceable() {
    for body in [
        r#"{"id":1,"method":"m","params":[1,{"_meta":{}}]}"#,
        r#"{"id":1,"method":"m","params":null}"#,
        r#"{"id":1,"method":"m","params":"x"}"#,
        r#"{"id":1,"method":"m","params":{"_meta":null,"name":"n"}}"#,
        r#"{"id":1,"method":"m","params":{"_meta":[]}}"#,
    ] {
        let message = read(body);
        assert_eq!(message.kind(), Kind::Request);
        assert!(!message.spliceable(), "{body}");
    }
}

#[test]
fn doubts_say_why() {
    for (doubt, bodies) in [
        (
            Doubt::NotJson,
            &[
                "",
                " ",
                "x",
                "\u{feff}{\"id\":1,\"result\":1}",
                r#"{"id":1,"result":1}x"#,
                r#"{"id":1,"result":1}{}"#,
                r#"{"id":1,"result":1,}"#,
                r#"{,"id":1,"result":1}"#,
                r#"{"id" 1,"result":1}"#,
                r#"{"id":1 "result":1}"#,
                r#"{"id":1,"result":[1}"#,
                r#"{"id":1,"result":{"a"]}"#,
                r#"{"id":1,"method":"\x"}"#,
                r#"{"id":1,"method":"\u12g4"}"#,
                r#"{"id":1,"result":01}"#,
                r#"{"id":1,"result":-}"#,
                r#"{"id":1,"result":1.}"#,
                r#"{"id":1,"result":.5}"#,
                r#"{"id":1,"result":1e}"#,
                r#"{"id":1,"result":+1}"#,
                r#"{"id":1,"result":truex}"#,
                r#"{"id":1,"result":nul}"#,
                r#"{"id":1,"result":'a'}"#,
                r#"{"id":1,"result":['a']}"#,
                r#"{"id":1,"result":[1/**/]}"#,
                r#"{"id":1,"result":[1#"]
                ]}"#,
                r#"{"id":1,"result":[\"]"]}"#,
                r#"{"id":1,"result":{"a":1,}}"#,
                r#"{"id":1,result:1}"#,
                r#"{"id":1/**/,"result":1}"#,
                r#"{"id":1,"result":"#,
            ][..],
        ),
        (
            Doubt::Duplicate,
            &[
                r#"{"id":1,"id":1,"method":"m"}"#,
                r#"{"id":1,"method":"m","m\u0065thod":"m"}"#,
                r#"{"id":1,"method":"m","params":{},"params":{}}"#,
                r#"{"id":1,"method":"m","params":{"name":"a","name":"a"}}"#,
                r#"{"id":1,"method":"m","params":{"_meta":{},"\u005fmeta":{}}}"#,
                r#"{"id":1,"method":"m","params":{"_meta":{"traceparent":1,"traceparent":"x"}}}"#,
                r#"{"id":1,"method":"m","params":{"_meta":{"baggage":"","bagg\u0061ge":""}}}"#,
                r#"{"id":1,"result":{"isError":false,"isError":true}}"#,
                r#"{"id":1,"error":{"code":1,"code":2}}"#,
                r#"{"id":1,"result":{},"result":{}}"#,
            ],
        ),
        (Doubt::NotObject, &["1", "\"x\"", "null", "true", " -1"]),
        (Doubt::Batch, &["[]", " [{\"id\":1}]"]),
        (
            Doubt::BadShape,
            &[
                "{}",
                r#"{"id":1}"#,
                r#"{"id":1,"params":{}}"#,
                r#"{"id":1,"error":null}"#,
                r#"{"id":[],"method":"m"}"#,
                r#"{"id":{},"method":"m"}"#,
                r#"{"id":true,"method":"m"}"#,
                r#"{"id":NaN,"method":"m"}"#,
                r#"{"id":1,"method":1}"#,
                r#"{"id":1,"method":null}"#,
                r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#,
                r#"{"id":1,"method":"m","result":1}"#,
                r#"{"id":1,"method":"m","error":{}}"#,
            ],
        ),
    ] {
        for body in bodies {
            assert_eq!(parse(body.as_bytes()).map(|_| ()), Err(doubt), "{body}");
        }
    }
    assert_eq!(parse(b"{\"id\":1,\"method\":\"\xff\"}").map(|_| ()), Err(Doubt::NotUtf8));
    assert_eq!(parse(b"\x1f\x8b\x08").map(|_| ()), Err(Doubt::NotUtf8));
}

#[test]
fn keys_that_are_not_read_may_repeat() {
    let message = read(r#"{"id":1,"x":1,"x":2,"method":"m","params":{"a":1,"a":2,"_meta":{"b":1,"b":2}}}"#);
    assert!(message.spliceable());
}

#[test]
fn depth_is_bounded_at_128_levels() {
    // The outermost object is one level, `params` another.
    let nested = |levels: usize, open: &str, close: &str| {
        let inner = open.repeat(levels - 2) + "1" + &close.repeat(levels - 2);
        format!(r#"{{"id":1,"method":"m","params":{{"x":{inner}}}}}"#)
    };
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        read(&nested(128, open, close));
        assert_eq!(parse(nested(129, open, close).as_bytes()).map(|_| ()), Err(Doubt::Depth));
        assert_eq!(parse(nested(100_000, open, close).as_bytes()).map(|_| ()), Err(Doubt::Depth));
    }
    let mixed =
        format!(r#"{{"id":1,"result":{}{}}}"#, "[{\"a\":".repeat(63), "1".to_owned() + &"}]".repeat(63));
    read(&mixed);
}

#[test]
fn what_cannot_move_a_bracket_is_let_through() {
    for value in [
        "\"a\tb\nc\"",
        "NaN",
        "[Infinity,-Infinity]",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "1e999",
        "\"\\u\"",
        "[1,]",
        "[+1 e+1,,{1:\"a\" \"b\"}]",
        "[{]}",
        "[[1}]",
    ] {
        let body = format!(r#"{{"id":1,"result":{value}}}"#);
        read(&body);
        super::super::fuzz_message(body.as_bytes());
    }
}

#[test]
fn long_strings_end_where_they_should() {
    for length in 0..200 {
        for tail in ["", "\\\"", "\\\\", "é", "\\u00e9x"] {
            let text = "a".repeat(length) + tail;
            let body = format!(r#"{{"id":1,"method":"{text}","params":{{"name":"after"}}}}"#);
            let message = read(&body);
            assert_eq!(message.method.map(|method| method.raw()), Some(text.as_str()));
            assert_eq!(shown(message.name).as_deref(), Some("after"));
        }
    }
}

/// Bodies of any size, with what is no text, or no ASCII, in every place.
#[test]
fn what_is_no_text_is_seen_wherever_it_is() {
    let plain = format!(
        r#"{{"id":1,"k":"{0}","method":"m","params":{{"name":"n","arguments":{{"a":[{1}{{"t":"{0}"}}]}},"_meta":{{"k":"{0}","baggage":"b"}}}}}}"#,
        "text ".repeat(60),
        r#"{"row":1,"name":"station","tags":["a","b"]},"#.repeat(20)
    );
    assert!(read(&plain).spliceable() && plain.len() > 1_500);
    for at in 0..plain.len() {
        let mut body = plain.clone().into_bytes();
        body[at] = 0xff;
        assert_eq!(parse(&body).map(|_| ()), Err(Doubt::NotUtf8), "{at}");
        body.splice(at..=at, "é".bytes());
        super::super::fuzz_message(&body);
        body[at + 1] = b' ';
        assert_eq!(parse(&body).map(|_| ()), Err(Doubt::NotUtf8), "{at}");
        body.truncate(at + 1);
        assert_eq!(parse(&body).map(|_| ()), Err(Doubt::NotUtf8), "{at}");
    }
}

/// Text of every length, full of what looks like structure, in front of what has to be found.
#[test]
fn text_in_an_answer_is_never_taken_for_structure() {
    for length in 0..140 {
        for tail in
            ["", "\\\"", "\\\\", "\\\\\\\"", "\\n}", "\\\"],\\\"isError\\\":true}}", "[{", "é\\\\\\\\"]
        {
            for repeat in [1, 2, 40] {
                let text = "a".repeat(length) + &tail.repeat(repeat);
                for content in [
                    format!(r#""{text}""#),
                    format!(r#"{{"k":"{text}"}}"#),
                    format!(r#"[[],"{text}",["{text}",{{}}],-12.5e3]"#),
                    format!(r#"{{"{text}":[{{"k" : "{text}"}}]}}"#),
                ] {
                    let body = format!(r#"{{"result":{{"content":{content},"status":"{text}x"}},"id":7}}"#);
                    let answer = parse_answer(body.as_bytes()).unwrap();
                    assert!(!answer.is_error && matches!(answer.id, Some(Id::Number("7"))), "{body}");
                    assert_eq!(answer.result_status.map(|status| status.raw()), Some(&*(text.clone() + "x")));
                    super::super::fuzz_message(body.as_bytes());
                }
            }
        }
    }
}

#[test]
fn only_the_texts_of_an_answer_that_are_handed_out_have_to_be_utf_8() {
    let body = b"{\"id\":1,\"\xff\":1,\"result\":{\"content\":[\"\xff\"],\"\\u0061\xff\":1,\"status\":\"\xff\",\"isError\":true}}";
    let answer = parse_answer(body).unwrap();
    assert!(answer.is_error && answer.result_status.is_none() && answer.id.is_some());
    for body in [b"{\"id\":\"\xff\",\"result\":1}".as_slice(), b"{\"id\":1,\"method\":\"\xff\"}"] {
        assert_eq!(parse_answer(body).map(|_| ()), Err(Doubt::BadShape));
    }
}

#[test]
fn a_call_read_as_an_answer_cannot_be_spliced() {
    let body = br#"{"id":1,"method":"tools/call","params":{"name":"n"}}"#;
    let call = parse_answer(body).unwrap();
    assert!(call.kind() == Kind::Request && call.name.is_none() && !call.spliceable());
}

#[test]
fn a_message_stays_small() {
    assert!(size_of::<Message<'_>>() <= 1024, "{}", size_of::<Message<'_>>());
}
