//! Rows 16, 17, 20, 21 and 24: answers that come on another connection than
//! the request, and requests that are taken back, before 2026-07-28.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::Stage;
use crate::support::mesh::{
    Answer, Asked, Call, Mesh, PATIENCE, Running, SIDES, Server, Span, event, legacy_call, notification,
    result,
};

/// A sidecar around a server whose streams the test writes: those of calls,
/// and those that are asked for by `GET`.
pub(super) struct Conversation {
    pub(super) mesh: Mesh,
    pub(super) sidecar: Running,
    pub(super) post: Speech,
    pub(super) get: Speech,
    _server: Server,
}

type Pieces = mpsc::Sender<std::io::Result<bytes::Bytes>>;

/// What the server says on the latest stream of one kind.
#[derive(Clone, Default)]
pub(super) struct Speech(Arc<Mutex<Vec<Pieces>>>);

impl Speech {
    pub(super) async fn say(&self, text: &str) {
        let pieces = self.0.lock().await.last().expect("an open stream").clone();
        pieces.send(Ok(text.to_owned().into())).await.expect("a client that reads");
    }

    /// Ends the streams of this kind.
    pub(super) fn end(&self) {
        self.0.try_lock().expect("nobody speaks").clear();
    }

    fn open(&self) -> Answer {
        let (pieces, answer) = Answer::pieces("text/event-stream");
        self.0.try_lock().expect("nobody speaks").push(pieces);
        answer
    }
}

impl Conversation {
    /// Under these limits. Its end waits for no stream, since clients leave them open.
    pub(super) async fn start(limits: &str) -> Self {
        Conversation::with(&format!("limits: {{ {limits} drain_timeout: 0s }}")).await
    }

    /// Under this configuration, which leaves the limits alone or ends without waiting.
    pub(super) async fn with(yaml: &str) -> Self {
        let yaml = match yaml.contains("limits:") {
            true => yaml.to_owned(),
            false => format!("{yaml}\nlimits: {{ drain_timeout: 0s }}"),
        };
        let (post, get) = (Speech::default(), Speech::default());
        let (to_post, to_get) = (post.clone(), get.clone());
        let script = move |asked: &Asked| match (asked.method.as_str(), asked.json()) {
            ("GET", _) => to_get.open(),
            ("POST", message) if message["id"].is_null() || message["method"].is_null() => {
                Answer::status(202, "")
            }
            ("POST", _) if asked.path.starts_with("/messages") => Answer::status(202, "Accepted"),
            ("POST", _) => to_post.open(),
            _ => Answer::status(200, ""),
        };
        let Stage { mesh, server, sidecar } = Stage::set(&yaml, script).await;
        Conversation { mesh, sidecar, post, get, _server: server }
    }

    pub(super) async fn stop(self) -> Vec<Span> {
        self.mesh.stop().await
    }
}

/// The client's answer to a request of the server.
pub(super) fn reply(message: Value) -> Call {
    Call::post(message.to_string())
        .header("mcp-session-id", "s-1")
        .header("mcp-protocol-version", "2025-06-18")
}

/// A request for a stream.
pub(super) fn stream(session: &str) -> Call {
    Call::get("/mcp").header("accept", "text/event-stream").header("mcp-session-id", session)
}

fn since_epoch() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos()
}

const PRIMING: &str = "id: 7\nretry: 10\ndata:\n\n";

/// A call whose stream names an event and ends, as servers do that are polled.
async fn polled(talk: &Conversation, side: crate::support::mesh::Side) {
    let mut open = legacy_call(1, json!({})).open(talk.sidecar.at(side)).await;
    talk.post.say(PRIMING).await;
    open.read_until("id: 7").await;
    talk.post.end();
    open.read().await;
}

#[tokio::test]
async fn row_16_an_answer_on_a_resumed_stream() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        polled(&talk, side).await;
        let before = since_epoch();
        let resumed = stream("s-1").header("last-event-id", "7");
        let mut open = resumed.open(talk.sidecar.at(side)).await;
        // Another session, another id and another type of it answer nothing.
        let other = event(&result(&json!("1")));
        talk.get.say(&other).await;
        assert_eq!(open.read_text("content").await, other);
        let answer = event(&result(&json!(1)));
        talk.get.say(&answer).await;
        assert_eq!(open.read_text("content").await, answer);
        let span = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!(
            (span.name.as_str(), span.kind, span.error.as_ref()),
            ("tools/call add", side.kind(), None)
        );
        assert_eq!(span.attribute("meshtrace.resumed"), json!(true));
        assert!(u128::from(span.start) < before && u128::from(span.end) >= before, "not from call to answer");
        assert_eq!(talk.stop().await.len(), 1);
    }
}

/// Each peer numbers its own requests: the server's first question is not the client's first call.
#[tokio::test]
async fn row_14_the_numbers_of_the_two_peers_are_told_apart() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let to = talk.sidecar.at(side);
        polled(&talk, side).await;
        let mut open = stream("s-1").header("last-event-id", "7").open(to).await;
        talk.get.say(&event(&json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}))).await;
        open.read_until("roots").await;
        reply(json!({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}})).send(to).await;
        let question = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!((question.name.as_str(), question.error), ("roots/list", None));
        talk.get.say(&event(&result(&json!(1)))).await;
        open.read_until("content").await;
        let spans = talk.stop().await;
        let call = spans.iter().find(|span| span.name == "tools/call add").unwrap();
        assert_eq!(call.attribute("meshtrace.resumed"), json!(true), "{call:#?}");
    }
}

#[tokio::test]
async fn row_16_a_session_does_not_answer_another() {
    let talk = Conversation::start("").await;
    let side = crate::support::mesh::Side::Server;
    polled(&talk, side).await;
    let mut open = stream("s-2").header("last-event-id", "7").open(talk.sidecar.at(side)).await;
    talk.get.say(&event(&result(&json!(1)))).await;
    open.read_until("content").await;
    let span = talk.mesh.only_span().await;
    assert_eq!(span.attribute("meshtrace.resumed"), Value::Null);
    assert_eq!((span.attribute("meshtrace.response"), span.error), (json!("pending"), None));
}

#[tokio::test]
async fn row_17_an_answer_that_never_comes_is_overdue() {
    for side in SIDES {
        let talk = Conversation::start("pending_timeout: 100ms,").await;
        polled(&talk, side).await;
        let span = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!((span.error_type().as_str(), span.error.is_some()), ("timeout", true));
    }
}

#[tokio::test]
async fn row_17_the_end_of_the_session_is_the_end_of_what_waits_in_it() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        polled(&talk, side).await;
        let end = Call::method("DELETE", "/mcp").header("mcp-session-id", "s-1");
        end.send(talk.sidecar.at(side)).await;
        let span = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!(span.error_type(), "connection_closed");
    }
}

/// A server that knows the session no more ends it too.
#[tokio::test]
async fn row_17_nothing_waits_in_a_session_that_is_gone() {
    for side in SIDES {
        let stage = Stage::set("", |asked| match asked.header("x-gone") {
            Some(_) => Answer::status(404, ""),
            None => Answer::status(200, PRIMING).header("content-type", "text/event-stream"),
        });
        let stage = stage.await;
        let to = stage.sidecar.at(side);
        legacy_call(1, json!({})).send(to).await;
        legacy_call(2, json!({})).header("x-gone", "1").send(to).await;
        let spans = stage.mesh.wait_for(2).await;
        let lost = spans.iter().find(|span| span.attribute("jsonrpc.request.id") == json!("1")).unwrap();
        assert_eq!(lost.error_type(), "connection_closed");
    }
}

/// The cap holds, and the oldest makes room.
#[tokio::test]
async fn row_17_what_waits_is_bounded() {
    let talk = Conversation::start("pending: 16,").await;
    let side = crate::support::mesh::Side::Server;
    // All of one session share a shard, which has room for one.
    polled(&talk, side).await;
    let mut open = legacy_call(2, json!({})).open(talk.sidecar.at(side)).await;
    talk.post.say(PRIMING).await;
    open.read_until("id: 7").await;
    let span = talk.mesh.wait_for(1).await.remove(0);
    assert_eq!(span.attribute("jsonrpc.request.id"), json!("1"));
    assert_eq!((span.attribute("meshtrace.response"), span.error), (json!("forgotten"), None));
}

/// A client that leaves a stream which it can resume has not given up.
#[tokio::test]
async fn row_20_a_client_that_leaves_and_resumes() {
    for (side, at_once) in SIDES.into_iter().flat_map(|side| [(side, true), (side, false)]) {
        let talk = Conversation::start("").await;
        let mut open = legacy_call(1, json!({})).open(talk.sidecar.at(side)).await;
        talk.post.say(PRIMING).await;
        open.read_until("id: 7").await;
        drop(open);
        if !at_once {
            let server = talk.post.0.lock().await[0].clone();
            tokio::time::timeout(PATIENCE, server.closed()).await.expect("the disconnect upstream");
        }
        let mut resumed = stream("s-1").header("last-event-id", "7").open(talk.sidecar.at(side)).await;
        // The sidecar may see the new connection before the end of the old one; the answer is
        // taken either way, and only the order decides what is said of the end.
        talk.get.say(&event(&result(&json!(1)))).await;
        resumed.read_until("content").await;
        let span = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!(span.error, None);
        assert_eq!(span.attribute("meshtrace.resumed"), json!(true));
        assert_eq!(talk.stop().await.len(), 1);
    }
}

#[tokio::test]
async fn row_21_a_call_that_is_cancelled() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let to = talk.sidecar.at(side);
        let mut open = legacy_call(1, json!({})).open(to).await;
        let mut other = legacy_call("1", json!({})).open(to).await;
        let cancel = notification("notifications/cancelled", json!({"requestId": 1, "reason": "private"}));
        assert_eq!(cancel.send(to).await.status, 202);
        // It is over at once, although its stream is open.
        let spans = talk.mesh.wait_for(2).await;
        let call = spans.iter().find(|span| span.name == "tools/call add").unwrap();
        let notice = spans.iter().find(|span| span.name == "notifications/cancelled").unwrap();
        assert_eq!((call.attribute("meshtrace.cancelled"), call.error.as_ref()), (json!(true), None));
        assert_eq!(call.error_type(), "");
        let link = &notice.links[0];
        assert_eq!((&link.trace, &link.id, link.reason.as_str()), (&call.trace, &call.id, "cancels"));
        assert!(!format!("{spans:?}").contains("private"), "the reason is the user's");
        // Some servers answer all the same, with an error that is none.
        let late = event(&crate::support::mesh::error(&json!(1), -32800, "Request cancelled"));
        let post = talk.post.0.lock().await[0].clone();
        post.send(Ok(late.clone().into())).await.unwrap();
        assert_eq!(open.read_text("cancelled").await, late);
        talk.post.say(&event(&result(&json!("1")))).await;
        other.read_until("content").await;
        drop(post);
        let spans = talk.stop().await;
        assert_eq!(spans.len(), 3, "{spans:#?}");
        assert!(spans.iter().all(|span| span.error.is_none()));
    }
}

/// The server takes back what it asked; the client's own request of that number stays.
#[tokio::test]
async fn row_21_a_question_that_is_cancelled() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let mut open = legacy_call(1, json!({})).open(talk.sidecar.at(side)).await;
        let question = json!({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}});
        talk.post.say(&event(&question)).await;
        open.read_until("sampling").await;
        let cancel =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
        talk.post.say(&event(&cancel)).await;
        open.read_until("cancelled").await;
        let question = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!(question.name, "sampling/createMessage");
        assert_eq!((question.attribute("meshtrace.cancelled"), question.error), (json!(true), None));
        talk.post.say(&event(&result(&json!(1)))).await;
        open.read_until("content").await;
        let spans = talk.stop().await;
        let call = spans.iter().find(|span| span.name == "tools/call add").unwrap();
        assert_eq!(call.attribute("meshtrace.cancelled"), Value::Null);
    }
}

/// HTTP+SSE of 2024-11-05: the answers come on the stream that named the endpoint.
#[tokio::test]
async fn row_24_a_request_that_is_answered_on_the_stream() {
    const SECRET: &str = "5ec4e7";
    for side in SIDES {
        for absolute in [false, true] {
            let talk = Conversation::start("").await;
            let to = talk.sidecar.at(side);
            let mut listening = Call::get("/sse").header("accept", "text/event-stream").open(to).await;
            let path = format!("/messages/?session_id={SECRET}");
            let uri = if absolute { format!("http://mcp.example{path}") } else { path.clone() };
            talk.get.say(&format!("event: endpoint\r\ndata: {uri}\r\n\r\n")).await;
            listening.read_until("endpoint").await;
            let post = |message: Value| Call::post(message.to_string()).at(&path).send(to);
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
            assert_eq!(post(call).await.status, 202);
            for step in 1..=2 {
                talk.get
                    .say(&event(&json!({"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": {"progressToken": 1, "progress": step}})))
                    .await;
            }
            let question = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
            talk.get.say(&event(&question)).await;
            let asked = listening.read_text("roots").await;
            assert!(asked.contains("traceparent"), "{asked}");
            assert_eq!(post(json!({"jsonrpc": "2.0", "id": 1, "result": {"roots": []}})).await.status, 202);
            talk.get.say(&event(&result(&json!(1)))).await;
            listening.read_until("content").await;
            let spans = talk.mesh.wait_for(2).await;
            let call = spans.iter().find(|span| span.name == "tools/call add").unwrap();
            let roots = spans.iter().find(|span| span.name == "roots/list").unwrap();
            assert_eq!((call.kind, call.error.as_ref(), roots.error.as_ref()), (side.kind(), None, None));
            assert_eq!(call.attribute("mcp.protocol.version"), json!("2024-11-05"));
            assert_eq!(call.attribute("meshtrace.progress.count"), json!(2));
            assert_eq!(roots.parent, call.id);
            assert_eq!(
                (call.attribute("meshtrace.resumed"), call.attribute("mcp.session.id")),
                (Value::Null, Value::Null)
            );
            let asked = talk._server.asked();
            let posted = asked.iter().find(|asked| asked.json()["method"] == "tools/call").unwrap();
            for carried in [posted.header("traceparent").map(str::to_owned), posted.meta("traceparent")] {
                assert_eq!(Asked::context(&carried.expect("context")).1, call.id);
            }
            // One that is never answered ends with the stream.
            let lost = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "lost"}});
            assert_eq!(post(lost).await.status, 202);
            talk.get.end();
            listening.read().await;
            let spans = talk.stop().await;
            let lost = spans.iter().find(|span| span.name == "tools/call lost").unwrap();
            assert_eq!((lost.error_type().as_str(), spans.len()), ("connection_closed", 3));
            assert!(!format!("{spans:?}").contains(SECRET), "{spans:#?}");
        }
    }
}

/// What tells the sessions of one path apart is its query.
#[tokio::test]
async fn row_24_sessions_at_one_path_are_told_apart() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let to = talk.sidecar.at(side);
        let mut streams = Vec::new();
        for name in ["one", "two"] {
            let mut open = Call::get("/sse").header("accept", "text/event-stream").open(to).await;
            let path = format!("/messages/?session_id={name}");
            talk.get.say(&format!("event: endpoint\ndata: {path}\n\n")).await;
            open.read_until("endpoint").await;
            streams.push(open);
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}});
            assert_eq!(Call::post(call.to_string()).at(&path).send(to).await.status, 202);
        }
        talk.get.say(&event(&result(&json!(1)))).await;
        streams[1].read_until("content").await;
        let spans = talk.stop().await;
        let ends: Vec<_> =
            spans.iter().map(|span| (span.name.as_str(), span.attribute("meshtrace.response"))).collect();
        assert_eq!(ends, [("tools/call one", json!("pending")), ("tools/call two", Value::Null)]);
    }
}

/// Without a stream that named it, a target is no endpoint: 202 is then no answer to a request.
#[tokio::test]
async fn row_24_an_endpoint_that_nobody_named() {
    let talk = Conversation::start("").await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}});
    let call = Call::post(call.to_string()).at("/messages?sessionId=1");
    assert_eq!(call.send(talk.sidecar.outbound()).await.status, 202);
    assert_eq!(talk.mesh.only_span().await.error_type(), "202");
}
