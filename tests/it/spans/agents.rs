//! Row 31: messages between agents (A2A) in both versions of the method names; how they are told
//! from MCP, whose names some of them are; and other JSON-RPC.

use serde_json::{Value, json};

use super::{Stage, watch, watch_with};
use crate::support::mesh::{Answer, Call, Era, SIDES, Server, Side, Span, event, expected, request};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ask(method: &str, params: Value) -> Call {
    let message = json!({"jsonrpc": "2.0", "id": "r-1", "method": method, "params": params});
    Call::post(message.to_string()).at("/a2a")
}

fn message() -> Value {
    json!({"message": {"messageId": "m-1", "role": "user", "contextId": "c-1", "referenceTaskIds": ["t-0"],
        "parts": [{"text": "the-patient-is-ill"}]}})
}

fn answer(result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": "r-1", "result": result})
}

fn attributes(span: &Span) -> Value {
    span.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What every span has that is of A2A over HTTP.
fn said(operation: &str, more: Value) -> Value {
    let mut said = json!({"a2a.method.name": operation, "jsonrpc.request.id": "r-1"});
    crate::support::mesh::merge(&mut said, more);
    said
}

#[tokio::test]
async fn row_31_a_message_in_both_versions_of_the_names() {
    for side in SIDES {
        let old = json!({"kind": "task", "id": "t-1", "contextId": "c-1", "status": {"state": "completed"}});
        let new =
            json!({"task": {"id": "t-1", "contextId": "c-1", "status": {"state": "TASK_STATE_COMPLETED"}}});
        for (method, version, result, state) in [
            ("message/send", None, old, "completed"),
            ("SendMessage", Some("1.0"), new, "TASK_STATE_COMPLETED"),
        ] {
            let call = ask(method, message());
            let call = version.into_iter().fold(call, |call, version| call.header("A2A-Version", version));
            let watched = watch(move |_| Answer::json(&answer(result.clone())), vec![(side, call)]).await;
            let span = &watched.spans[0];
            assert_eq!((span.name.as_str(), span.kind, &span.error), ("SendMessage", side.kind(), &None));
            let said = said(
                "SendMessage",
                json!({
                    "a2a.protocol.version": version.unwrap_or("0.3"),
                    "a2a.message.id": "m-1",
                    "a2a.message.reference_task_ids": ["t-0"],
                    "a2a.task.id": "t-1",
                    "a2a.task.state": state,
                    "gen_ai.conversation.id": "c-1",
                }),
            );
            assert_eq!(attributes(span), expected(side, &watched.replies[0], watched.server, said));
        }
    }
}

/// The names of tasks, which MCP has too: what tells them apart, and what happens where both could be meant.
#[tokio::test]
async fn row_31_tasks_are_told_from_those_of_mcp() {
    let agent = json!({"id": "t-1"});
    let mcp = json!({"taskId": "t-1"});
    let modern = json!({"id": "t-1", "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    for side in SIDES {
        for (call, name) in [
            // Neither header: the parameters decide.
            (ask("tasks/get", agent.clone()), "GetTask"),
            (ask("tasks/cancel", agent.clone()), "CancelTask"),
            (ask("tasks/get", mcp.clone()), "tasks/get"),
            (ask("tasks/cancel", mcp.clone()), "tasks/cancel"),
            (ask("tasks/get", json!({"id": "t-1", "taskId": "t-1"})), "tasks/get"),
            (ask("tasks/get", json!({})), "tasks/get"),
            (ask("tasks/list", agent.clone()), "tasks/list"),
            (ask("tasks/result", agent.clone()), "tasks/result"),
            // A header decides whatever the parameters are.
            (ask("tasks/get", mcp.clone()).header("a2a-version", "0.3"), "GetTask"),
            (ask("tasks/get", agent.clone()).header("mcp-protocol-version", "2025-11-25"), "tasks/get"),
            (ask("tasks/get", agent.clone()).header("mcp-session-id", "s"), "tasks/get"),
            (ask("tasks/get", agent.clone()).header("mcp-method", "tasks/get"), "tasks/get"),
            (ask("tasks/get", modern.clone()), "tasks/get"),
            (request(Era::Modern, "r-1".into(), "tasks/get", mcp.clone()), "tasks/get"),
            // MCP's wins over the other: what was MCP's to trace stays so.
            (
                ask("tasks/get", agent.clone())
                    .header("mcp-protocol-version", "2025-11-25")
                    .header("a2a-version", "1.0"),
                "tasks/get",
            ),
            // An empty one says nothing.
            (ask("tasks/get", agent.clone()).header("a2a-version", ""), "GetTask"),
            // Names of A2A alone, and names that anybody could have.
            (ask("tasks/resubscribe", agent.clone()), "SubscribeToTask"),
            (ask("tasks/pushNotificationConfig/set", mcp.clone()), "CreateTaskPushNotificationConfig"),
            (ask("GetTask", agent.clone()), "GetTask"),
            (ask("GetTask", json!({"task": 1})), "POST"),
            (ask("ListTasks", json!({})).header("a2a-version", "1.0"), "ListTasks"),
            (ask("ListTasks", json!({})), "POST"),
            (ask("SendMessage", json!({"text": "hi"})), "POST"),
            (ask("eth_call", json!({})).header("a2a-version", "1.0"), "POST"),
        ] {
            let watched = watch(|_| Answer::json(&answer(json!({}))), vec![(side, call.clone())]).await;
            let span = &watched.spans[0];
            assert_eq!(span.name, name, "{call:?}");
            let protocols = ["a2a.method.name", "mcp.method.name", "http.request.method"];
            let has: Vec<_> = protocols.into_iter().filter(|key| !span.attribute(key).is_null()).collect();
            assert_eq!(has.len(), 1, "{has:?} {call:?}");
        }
    }
}

/// The two do not share tables: a task of an agent is not linked to a call of MCP that began one of this id.
#[tokio::test]
async fn row_31_a_task_of_an_agent_is_not_linked_to_one_of_mcp() {
    let begun = |asked: &crate::support::mesh::Asked| {
        Answer::json(
            &json!({"jsonrpc": "2.0", "id": asked.id(), "result": {"resultType": "task", "taskId": "t-1", "status": "working"}}),
        )
    };
    for side in SIDES {
        let calls = vec![
            (side, request(Era::Modern, 1.into(), "tools/call", json!({"name": "slow", "arguments": {}}))),
            (side, ask("tasks/get", json!({"id": "t-1"}))),
            (side, request(Era::Modern, 2.into(), "tasks/get", json!({"taskId": "t-1"}))),
        ];
        let spans = watch(begun, calls).await.spans;
        let links: Vec<_> = spans.iter().map(|span| span.links.len()).collect();
        assert_eq!(links, [0, 0, 1], "{spans:#?}");
    }
}

/// Many answers of one id: the span goes on until the stream ends, and says what came last.
#[tokio::test]
async fn row_31_a_stream_of_answers_is_one_span() {
    let update = |state: &str| {
        answer(json!({"statusUpdate": {"taskId": "t-1", "contextId": "c-9", "status": {"state": state}}}))
    };
    for side in SIDES {
        let (pieces, scripted) = Answer::pieces("text/event-stream");
        let scripted = std::sync::Mutex::new(Some(scripted));
        let server = Server::answering(move |_| scripted.lock().unwrap().take().unwrap()).await;
        let stage = Stage::with("", server).await;
        let mut open = ask("SendStreamingMessage", message()).open(stage.sidecar.at(side)).await;
        let first =
            event(&answer(json!({"task": {"id": "t-1", "status": {"state": "TASK_STATE_SUBMITTED"}}})));
        for text in [first, event(&update("TASK_STATE_WORKING")), event(&update("TASK_STATE_COMPLETED"))] {
            pieces.send(Ok(text.clone().into())).await.unwrap();
            assert_eq!(open.read_text("\n\n").await, text);
        }
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        drop(pieces);
        assert_eq!(open.piece().await, None);
        let span = stage.mesh.only_span().await;
        assert_eq!((span.name.as_str(), span.error.as_deref()), ("SendStreamingMessage", None));
        assert!(u128::from(span.end) >= before.as_nanos(), "it ended at an answer");
        assert_eq!(span.attribute("a2a.task.state"), json!("TASK_STATE_COMPLETED"));
        assert_eq!(
            (span.attribute("a2a.task.id"), span.attribute("gen_ai.conversation.id")),
            (json!("t-1"), json!("c-9"))
        );
    }
}

/// Codes mean other things than in MCP, where -32002 and its like are the caller's fault.
#[tokio::test]
async fn row_31_errors() {
    for side in SIDES {
        let code =
            |code: i64| json!({"jsonrpc": "2.0", "id": "r-1", "error": {"code": code, "message": "no"}});
        for (scripted, error) in [
            (Answer::json(&code(-32002)), "-32002"),
            (Answer::json(&code(-32601)), "-32601"),
            (Answer::events(&[answer(json!({})), code(-32603)]), "-32603"),
            (Answer::status(500, ""), "500"),
        ] {
            let scripted = std::sync::Mutex::new(Some(scripted));
            let watched = watch(
                move |_| scripted.lock().unwrap().take().unwrap(),
                vec![(side, ask("message/send", message()))],
            )
            .await;
            assert_eq!(watched.spans[0].error_type(), error);
            let text = if error == "500" { "" } else { "no" };
            assert_eq!(watched.spans[0].error.as_deref(), Some(text));
        }
    }
}

/// A client that leaves may subscribe again: the task goes on.
#[tokio::test]
async fn row_31_leaving_a_stream_is_no_cancellation() {
    let (pieces, scripted) = Answer::pieces("text/event-stream");
    let scripted = std::sync::Mutex::new(Some(scripted));
    let server = Server::answering(move |_| scripted.lock().unwrap().take().unwrap()).await;
    let stage = Stage::with("", server).await;
    let open = ask("message/stream", message()).open(stage.sidecar.inbound()).await;
    drop(open);
    pieces.closed().await;
    let span = stage.mesh.only_span().await;
    assert_eq!((span.error, span.attributes.get("meshtrace.cancelled")), (None, None));
    assert_eq!(span.attributes["meshtrace.disconnected"], json!(true));
}

/// Context travels in the headers alone, and a call that brings it back hangs under its request.
#[tokio::test]
async fn row_31_context_is_in_the_headers_and_never_in_the_body() {
    for side in SIDES {
        let call = ask("message/send", message()).header("traceparent", CALLER);
        let watched = watch(|_| Answer::json(&answer(json!({}))), vec![(side, call)]).await;
        let (span, asked) = (&watched.spans[0], &watched.asked[0]);
        assert_eq!((&span.trace[..], &span.parent[..]), (&CALLER[3..35], &CALLER[36..52]));
        assert_eq!(asked.header("traceparent"), Some(&*format!("00-{}-{}-01", span.trace, span.id)));
        assert_eq!(asked.json()["params"], message());
    }
    // What stands in `_meta`, which is no place of A2A's, stays as it is.
    let mut params = message();
    params["_meta"] = json!({"traceparent": CALLER});
    let watched = watch(
        |_| Answer::json(&answer(json!({}))),
        vec![(Side::Server, ask("message/send", params.clone()))],
    )
    .await;
    assert_eq!(watched.asked[0].json()["params"], params);
}

#[tokio::test]
async fn row_31_can_be_ignored_and_is_not_http() {
    let calls = || {
        vec![(Side::Server, ask("tasks/get", json!({"id": "t"}))), (Side::Server, ask("eth_call", json!({})))]
    };
    let names = async |yaml| -> Vec<_> {
        let watched = watch_with(yaml, |_| Answer::json(&answer(json!({}))), calls()).await;
        watched.spans.into_iter().map(|span| span.name).collect()
    };
    assert_eq!(names("spans: { http: false }").await, ["GetTask"]);
    assert_eq!(names("spans: { ignore: [{ method: GetTask }] }").await, ["POST"]);
    assert_eq!(names("sampling: { rules: [{ name: none, method: GetTask, sample: 0% }] }").await, ["POST"]);
}
