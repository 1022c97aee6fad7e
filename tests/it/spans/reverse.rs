//! Rows 11 to 14: what the server asks the client inside a stream, before
//! 2026-07-28, on both sides: a span of the other kind, closed by a later POST.

use meshtrace::trace::links::Method;
use serde_json::{Value, json};

use super::streams::{Conversation, reply, stream};
use super::watch;
use crate::support::mesh::{Answer, Asked, SIDES, Side, Span, event, legacy_call, result};

const OTHER: &str = "00-1af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

/// A question with the number that the client gave its own request.
fn question(meta: Option<&str>) -> Value {
    let mut question =
        json!({"method": "elicitation/create", "params": {"message": "Sure?"}, "jsonrpc": "2.0", "id": 1});
    if let Some(traceparent) = meta {
        question["params"]["_meta"] = json!({"traceparent": traceparent});
    }
    question
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} among {spans:#?}"))
}

/// The kind of a span of the server's request on this side.
fn asked_kind(side: Side) -> &'static str {
    match side {
        Side::Server => "CLIENT",
        Side::Client => "SERVER",
    }
}

/// The `traceparent` in the message of an event.
fn carried(text: &str) -> String {
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let message: Value = serde_json::from_str(data).unwrap();
    message["params"]["_meta"]["traceparent"].as_str().unwrap_or_default().to_owned()
}

/// Asks in the stream of a call, and answers; the spans, and what the client read.
async fn ask(side: Side, meta: Option<&str>, answer: Value) -> (Vec<Span>, String) {
    let talk = Conversation::start("").await;
    let mut open = legacy_call(1, json!({})).open(talk.sidecar.at(side)).await;
    let before = event(
        &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}),
    );
    talk.post.say(&before).await;
    assert_eq!(open.read_text("progress").await, before, "another event has changed");
    // In two pieces, so that its beginning waits for its end.
    let question = event(&question(meta));
    let (first, second) = question.split_at(40);
    talk.post.say(first).await;
    talk.post.say(second).await;
    let asked = open.read_text("elicitation").await;
    let posted = reply(answer).send(talk.sidecar.at(side)).await;
    assert_eq!(posted.status, 202);
    let after = event(&result(&json!(1)));
    talk.post.say(&after).await;
    assert_eq!(open.read_text("content").await, after);
    talk.post.end();
    (talk.stop().await, asked)
}

fn answer(id: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept"}})
}

async fn asks_in_the_stream_of_a_call(side: Side) {
    let (spans, asked) = ask(side, None, answer(1.into())).await;
    let (call, question) = (named(&spans, "tools/call add"), named(&spans, "elicitation/create"));
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert_eq!((call.kind, question.kind), (side.kind(), asked_kind(side)));
    assert_eq!((&question.trace, &question.parent), (&call.trace, &call.id));
    assert_eq!(question.parent_method(), ("stream".to_owned(), true));
    assert_eq!((question.error.as_deref(), call.error.as_deref()), (None, None));
    let attributes = [
        "mcp.method.name",
        "jsonrpc.request.id",
        "mcp.session.id",
        "mcp.protocol.version",
        "network.transport",
    ];
    let values = attributes.map(|key| question.attribute(key));
    assert_eq!(values, ["elicitation/create", "1", "s-1", "2025-06-18", "tcp"].map(Value::from));
    assert_eq!(Asked::context(&carried(&asked)).1, question.id, "its own context is in the message");
    assert!(question.end <= call.end, "closed by the answer, not by the end of the stream");
    // What was asked is unchanged but for that.
    let mut message: Value =
        serde_json::from_str(asked.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
    message["params"].as_object_mut().unwrap().remove("_meta");
    assert_eq!(message, self::question(None));
}

#[tokio::test]
async fn row_11_a_server_that_asks_in_the_stream_of_a_call() {
    asks_in_the_stream_of_a_call(Side::Server).await;
}

#[tokio::test]
async fn row_12_a_client_that_is_asked_in_the_stream_of_its_call() {
    asks_in_the_stream_of_a_call(Side::Client).await;
}

/// What the message itself names goes before the stream that it comes in.
#[tokio::test]
async fn row_11_and_12_the_message_names_its_parent() {
    for side in SIDES {
        let (spans, asked) = ask(side, Some(OTHER), answer(1.into())).await;
        let question = named(&spans, "elicitation/create");
        assert_eq!((&question.trace[..], &question.parent[..]), (&OTHER[3..35], &OTHER[36..52]));
        assert_eq!(Asked::context(&carried(&asked)).1, question.id);
    }
}

/// A stream whose length is named passes as it came: context would make it longer.
#[tokio::test]
async fn row_11_and_12_a_question_in_a_stream_of_known_length() {
    for side in SIDES {
        let script = |asked: &Asked| match asked.json()["method"].as_str() {
            Some(_) => Answer::events(&[question(None), result(&asked.id())]),
            None => Answer::status(202, ""),
        };
        let calls = vec![(side, legacy_call(1, json!({}))), (side, reply(answer(1.into())))];
        let watched = watch(script, calls).await;
        let said = [event(&question(None)), event(&result(&json!(1)))].concat();
        assert_eq!(watched.replies[0].body, said);
        let span = named(&watched.spans, "elicitation/create");
        assert_eq!((span.kind, span.error.as_deref()), (asked_kind(side), None));
    }
}

/// An error of the client: on the asking side every code is one, on the other not those that say
/// that the question was wrong.
#[tokio::test]
async fn row_14_the_answer_says_how_it_ends() {
    for (side, code, error) in
        [(Side::Server, -32602, "-32602"), (Side::Client, -32602, ""), (Side::Client, -1, "-1")]
    {
        let refused = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}});
        let (spans, _) = ask(side, None, refused).await;
        assert_eq!(named(&spans, "elicitation/create").error_type(), error, "{side:?} {code}");
    }
}

/// Number 1 is not text "1", and the client's own request 1 is another one.
#[tokio::test]
async fn row_14_only_the_answer_of_the_same_typed_id_ends_it() {
    for side in SIDES {
        let (spans, _) = ask(side, None, answer("1".into())).await;
        let question = named(&spans, "elicitation/create");
        assert_eq!(question.attribute("meshtrace.response"), json!("pending"), "{question:#?}");
        assert_eq!(named(&spans, "tools/call add").error, None);
    }
}

/// `meshtrace_parent_total` counts what was asked, by how its parent was found, and nothing else.
#[tokio::test]
async fn what_servers_ask_is_counted_by_how_its_parent_was_found() {
    let counted = |talk: &Conversation| {
        let metrics = talk.mesh.metrics().proxy;
        let counts = Method::ALL.map(|method| (method.as_str(), metrics.parents(method.index())));
        counts.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    let progress =
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1}});
    for side in SIDES {
        let talk = Conversation::with("spans: { notifications: true }").await;
        let to = talk.sidecar.at(side);
        let mut listening = stream("s-1").open(to).await;
        let mut open = legacy_call(1, json!({})).open(to).await;
        let mut expect = counted(&talk);
        assert_eq!(expect.iter().map(|(_, count)| *count).sum::<u64>(), u64::from(side == Side::Client));
        for (said, method) in [(question(None), "session"), (progress.clone(), "progress")] {
            talk.get.say(&event(&said)).await;
            listening.read_until("\n\n").await;
            expect.push((method, 1));
            assert_eq!(counted(&talk), expect, "{side:?}");
        }
        talk.post.say(&event(&question(None))).await;
        open.read_until("\n\n").await;
        expect.insert(expect.len() - 2, ("stream", 1));
        assert_eq!(counted(&talk), expect, "{side:?}");
        talk.stop().await;
    }
}

/// In a stream of its own a question belongs to the one call in flight, if it is one.
#[tokio::test]
async fn row_13_a_server_that_asks_in_a_stream_of_its_own() {
    for side in SIDES {
        for calls in 0..3 {
            let talk = Conversation::start("").await;
            let to = talk.sidecar.at(side);
            let mut listening = stream("s-1").open(to).await;
            let mut open = Vec::new();
            for id in 1..=calls {
                open.push(legacy_call(id, json!({})).open(to).await);
            }
            // The head of each answer has passed, so each call is in flight.
            talk.get.say(&event(&question(None))).await;
            let asked = listening.read_text("elicitation").await;
            reply(answer(1.into())).send(to).await;
            let spans = talk.stop().await;
            let question = named(&spans, "elicitation/create");
            assert_eq!(question.kind, asked_kind(side));
            assert_eq!(question.attribute("mcp.session.id"), json!("s-1"));
            assert_eq!(Asked::context(&carried(&asked)).1, question.id);
            match calls {
                1 => {
                    assert_eq!(question.parent, named(&spans, "tools/call add").id);
                    assert_eq!(question.parent_method(), ("session".to_owned(), false));
                }
                0 => assert_eq!(
                    (question.parent.as_str(), question.parent_method().0.as_str()),
                    ("", "background")
                ),
                _ => assert_eq!((question.parent.as_str(), question.parent_method().1), ("", false)),
            }
        }
    }
}

/// There too the message itself goes before what is in flight.
#[tokio::test]
async fn row_13_the_message_names_its_parent() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let to = talk.sidecar.at(side);
        let mut listening = stream("s-1").open(to).await;
        let _call = legacy_call(1, json!({})).open(to).await;
        talk.get.say(&event(&question(Some(OTHER)))).await;
        let asked = listening.read_text("elicitation").await;
        let spans = talk.stop().await;
        let question = named(&spans, "elicitation/create");
        assert_eq!((&question.trace[..], &question.parent[..]), (&OTHER[3..35], &OTHER[36..52]));
        assert_eq!(Asked::context(&carried(&asked)).1, question.id);
    }
}

/// A ping gets no span by default, and passes as it came.
#[tokio::test]
async fn row_29_a_ping_of_the_server_passes_untouched() {
    let talk = Conversation::start("").await;
    let mut listening = stream("s-1").open(talk.sidecar.inbound()).await;
    let ping = event(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    talk.get.say(&ping).await;
    assert_eq!(listening.read_text("ping").await, ping);
    assert_eq!(talk.stop().await, []);
}
