//! Rows 25 to 28: since 2026-07-28 an answer may not be the last word. Retries, tasks and
//! subscriptions, on both sides.

use serde_json::{Value, json};

use super::streams::Conversation;
use super::{Stage, watch, watch_with};
use crate::support::mesh::{Answer, Asked, Era, SIDES, Side, Span, event, is_error, request};

const STATE: &str = "b64:5ec4e7";

fn call(id: u32, params: Value) -> crate::support::mesh::Call {
    request(Era::Modern, id.into(), "tools/call", params)
}

fn answer(asked: &Asked, result: Value) -> Answer {
    Answer::json(&json!({"jsonrpc": "2.0", "id": asked.id(), "result": result}))
}

fn links(span: &Span) -> Vec<(&str, &str)> {
    span.links.iter().map(|link| (link.id.as_str(), link.reason.as_str())).collect()
}

#[tokio::test]
async fn row_25_a_retry_links_to_the_first_try_and_the_state_stays_secret() {
    let script = |asked: &Asked| match asked.json()["params"]["requestState"].as_str() {
        None => answer(
            asked,
            json!({"resultType": "input_required", "requestState": STATE,
                                     "inputRequests": {"k": {"method": "elicitation/create", "params": {}}}}),
        ),
        Some(_) => answer(asked, json!({"resultType": "complete", "content": []})),
    };
    for side in SIDES {
        let retry =
            json!({"name": "book", "inputResponses": {"k": {"action": "accept"}}, "requestState": STATE});
        let other = json!({"name": "book", "inputResponses": {}, "requestState": "another"});
        let calls =
            vec![(side, call(1, json!({"name": "book"}))), (side, call(2, retry)), (side, call(3, other))];
        let watched = watch(script, calls).await;
        let [first, second, third] = &watched.spans[..] else { panic!("{:#?}", watched.spans) };
        assert_eq!(
            (first.attribute("meshtrace.result.type"), first.error.as_ref()),
            (json!("input_required"), None)
        );
        assert_eq!(links(second), [(first.id.as_str(), "retry")]);
        assert_eq!(second.attribute("meshtrace.result.type"), Value::Null, "complete is what is expected");
        assert_eq!(links(third), []);
        assert!(!format!("{:?}", watched.spans).contains(STATE));
    }
}

/// Call and polls of a task; the last answer says how it ended.
async fn task(side: Side, yaml: &str, outcome: Value) -> Vec<Span> {
    let script = move |asked: &Asked| match (asked.json()["method"].as_str(), asked.id().as_u64()) {
        (Some("tools/call"), _) => {
            answer(asked, json!({"resultType": "task", "taskId": "t-1", "status": "working"}))
        }
        (_, Some(2)) => answer(asked, json!({"taskId": "t-1", "status": "working"})),
        _ => answer(asked, outcome.clone()),
    };
    let poll = |id: u32| request(Era::Modern, id.into(), "tasks/get", json!({"taskId": "t-1"}));
    let calls =
        vec![(side, call(1, json!({"name": "slow"}))), (side, poll(2)), (side, poll(3)), (side, poll(4))];
    watch_with(yaml, script, calls).await.spans
}

#[tokio::test]
async fn row_26_and_27_polls_link_to_the_call_and_a_task_fails_once() {
    let failed = json!({"taskId": "t-1", "status": "failed", "error": {"code": -32603, "message": "no"}});
    let tool = json!({"taskId": "t-1", "status": "completed", "result": {"content": [], "isError": true}});
    let fine = json!({"taskId": "t-1", "status": "completed", "result": {"content": []}});
    for (outcome, error) in [(failed, "-32603"), (tool, "tool_error"), (fine, "")] {
        for side in SIDES {
            let spans = task(side, "", outcome.clone()).await;
            let [call, first, second, third] = &spans[..] else { panic!("{spans:#?}") };
            assert_eq!(call.attribute("meshtrace.task.id"), json!("t-1"));
            assert_eq!((call.attribute("meshtrace.result.type"), call.error.as_ref()), (json!("task"), None));
            for poll in [first, second, third] {
                assert_eq!(
                    (poll.name.as_str(), links(poll)),
                    ("tasks/get", vec![(call.id.as_str(), "task")])
                );
            }
            assert_eq!(first.attribute("meshtrace.task.status"), json!("working"));
            let errors = [first, second, third].map(Span::error_type);
            assert_eq!(errors, ["", error, ""].map(str::to_owned));
        }
    }
}

/// What gives a task more input or takes it back is about it too.
#[tokio::test]
async fn row_27_all_that_is_asked_of_a_task_links_to_the_call() {
    let script = |asked: &Asked| match asked.json()["method"].as_str() {
        Some("tools/call") => {
            answer(asked, json!({"resultType": "task", "taskId": "t-1", "status": "working"}))
        }
        _ => answer(asked, json!({"resultType": "complete"})),
    };
    let of_task =
        |id: u32, method: &str, task: &str| request(Era::Modern, id.into(), method, json!({"taskId": task}));
    for side in SIDES {
        let calls = [
            call(1, json!({"name": "slow"})),
            of_task(2, "tasks/update", "t-1"),
            of_task(3, "tasks/cancel", "t-1"),
            of_task(4, "tasks/get", "t-2"),
        ];
        let spans = watch(script, calls.map(|call| (side, call)).into()).await.spans;
        let [call, update, cancel, other] = &spans[..] else { panic!("{spans:#?}") };
        for span in [update, cancel] {
            assert_eq!(links(span), [(call.id.as_str(), "task")], "{}", span.name);
            assert_eq!((span.attribute("meshtrace.task.id"), span.error.as_ref()), (json!("t-1"), None));
        }
        assert_eq!(links(other), []);
    }
}

#[tokio::test]
async fn row_27_polls_that_say_working_can_be_dropped() {
    let fine = json!({"taskId": "t-1", "status": "completed", "result": {}});
    let spans =
        task(Side::Client, "spans: { ignore: [{ method: tasks/*, task_status: working }] }", fine).await;
    let names: Vec<_> = spans.iter().map(|span| span.attribute("meshtrace.task.status")).collect();
    assert_eq!(names, [Value::Null, json!("completed"), json!("completed")]);
}

/// The task of 2025-11-25, whose result comes by `tasks/result` in its original shape.
#[tokio::test]
async fn row_27_the_result_of_a_legacy_task() {
    let script = |asked: &Asked| match asked.json()["method"].as_str() {
        Some("tools/call") => answer(asked, json!({"task": {"taskId": "t-1", "status": "working"}})),
        _ => answer(asked, json!({"content": [], "isError": true})),
    };
    for side in SIDES {
        let call = request(Era::Legacy, 1.into(), "tools/call", json!({"name": "slow", "task": {}}));
        let result = request(Era::Legacy, 2.into(), "tasks/result", json!({"taskId": "t-1"}));
        let watched = watch(script, vec![(side, call), (side, result)]).await;
        let [call, result] = &watched.spans[..] else { panic!("{:#?}", watched.spans) };
        assert_eq!(links(result), [(call.id.as_str(), "task")]);
        assert_eq!((call.error_type().as_str(), result.error_type().as_str()), ("", "tool_error"));
    }
}

#[tokio::test]
async fn row_28_a_subscription_ends_when_it_is_acknowledged() {
    for side in SIDES {
        let talk = Conversation::start("").await;
        let listen = request(Era::Modern, 7.into(), "subscriptions/listen", json!({"notifications": {}}));
        let mut open = listen.open(talk.sidecar.at(side)).await;
        let notice = |method: &str| {
            event(&json!({"jsonrpc": "2.0", "method": method,
                          "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 7}}}))
        };
        // Nothing else ends it, and it counts as open from then on.
        let streams = talk.mesh.metrics().peers.streams;
        talk.post.say(&notice("notifications/message")).await;
        open.read_until("message").await;
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(streams.get(), 0);
        talk.post.say(&notice("notifications/subscriptions/acknowledged")).await;
        let span = talk.mesh.wait_for(1).await.remove(0);
        assert_eq!((span.name.as_str(), span.kind), ("subscriptions/listen", side.kind()));
        assert_eq!(span.error, None);
        assert!(u128::from(span.end) >= before.as_nanos(), "it ended before it was acknowledged");
        open.read_until("acknowledged").await;
        assert_eq!(streams.get(), 1);
        // It stays open, and its drop is no failure of the span.
        let changed = notice("notifications/tools/list_changed");
        talk.post.say(&changed).await;
        assert_eq!(open.read_text("list_changed").await, changed);
        drop(open);
        assert_eq!(talk.mesh.only_span().await, span);
        assert_eq!(streams.get(), 0);
    }
}

/// To a peer it carries its CLIENT span like any request. What the agent is handed outlives the
/// request there, so it gets the caller's context as it came, and none of ours.
#[tokio::test]
async fn row_28_what_a_subscription_carries() {
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let granted = |_: &Asked| {
        Answer::events(&[
            json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}}),
        ])
    };
    let carried = |asked: &Asked| [asked.header("traceparent").map(str::to_owned), asked.meta("traceparent")];
    for side in SIDES {
        let listen = |context: Option<&str>| {
            let meta = context.map_or(json!({}), |context| json!({"traceparent": context}));
            let listen = request(
                Era::Modern,
                7.into(),
                "subscriptions/listen",
                json!({"notifications": {}, "_meta": meta}),
            );
            context.into_iter().fold(listen, |listen, context| listen.header("traceparent", context))
        };
        let watched = watch(granted, vec![(side, listen(Some(CALLER))), (side, listen(None))]).await;
        for (index, (asked, span)) in watched.asked.iter().zip(&watched.spans).enumerate() {
            let came = (index == 0).then_some(CALLER);
            for context in carried(asked) {
                match side {
                    Side::Server => assert_eq!(context.as_deref(), came),
                    Side::Client => {
                        let context = context.expect("context");
                        let (trace, id, _) = Asked::context(&context);
                        assert_eq!((trace, id), (span.trace.as_str(), span.id.as_str()));
                    }
                }
            }
            assert_eq!(span.parent, came.map_or("", |_| "b7ad6b7169203331"), "{side:?}");
        }
        assert_eq!((watched.asked.len(), watched.spans.len()), (2, 2));
    }
}

/// In the stream of another request an acknowledgement is a notification like any other.
#[tokio::test]
async fn row_28_an_acknowledgement_ends_no_other_request() {
    let script = |asked: &Asked| {
        let granted =
            json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}});
        Answer::events(&[granted, is_error(&asked.id())])
    };
    for side in SIDES {
        let watched = watch(script, vec![(side, call(1, json!({"name": "add"})))]).await;
        assert_eq!(watched.spans[0].error_type(), "tool_error");
    }
}

/// One that is never acknowledged is a request like others.
#[tokio::test]
async fn row_28_a_subscription_that_breaks_off() {
    let stage = Stage::set("", |_| Answer::events(&[])).await;
    let listen = request(Era::Modern, 7.into(), "subscriptions/listen", json!({"notifications": {}}));
    listen.send(stage.sidecar.outbound()).await;
    assert_eq!(stage.mesh.only_span().await.error_type(), "connection_closed");
}
