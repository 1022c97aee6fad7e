//! Row 10: notifications of a server in a stream of events, which have spans where they are asked
//! for; and the bound on what hangs under the request of one long stream.

use meshtrace::trace::links::Method;
use serde_json::{Value, json};

use super::streams::{Conversation, reply, stream};
use crate::support::mesh::{Era, SIDES, Side, Span, event, legacy_call, notification, request, result};

const ASKED_FOR: &str = "spans: { notifications: true }";

fn notice(method: &str, params: Value) -> String {
    event(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

fn question(id: u64) -> String {
    event(
        &json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "Sure?"}}),
    )
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} among {spans:#?}"))
}

/// The server sends it, so that its side is the client of it.
fn kind(side: Side) -> &'static str {
    match side {
        Side::Server => "CLIENT",
        Side::Client => "SERVER",
    }
}

/// A call in whose stream two notifications come.
async fn notified(side: Side, yaml: &str) -> Vec<Span> {
    let talk = Conversation::with(yaml).await;
    let mut open = legacy_call(1, json!({})).open(talk.sidecar.at(side)).await;
    for text in [
        notice("notifications/progress", json!({"progressToken": 1, "progress": 1})),
        notice("notifications/message", json!({"level": "info", "data": "the-patient-is-ill"})),
    ] {
        talk.post.say(&text).await;
        assert_eq!(open.read_text("\n\n").await, text, "it has changed on its way");
    }
    talk.post.say(&event(&result(&json!(1)))).await;
    open.read_until("content").await;
    talk.post.end();
    talk.stop().await
}

#[tokio::test]
async fn row_10_notifications_have_no_spans_unless_they_are_asked_for() {
    for side in SIDES {
        let spans = notified(side, "").await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        assert_eq!(spans[0].attribute("meshtrace.progress.count"), json!(1));
    }
}

#[tokio::test]
async fn row_10_a_notification_hangs_under_the_request_of_its_stream() {
    for side in SIDES {
        let spans = notified(side, ASKED_FOR).await;
        assert_eq!(spans.len(), 3, "{spans:#?}");
        let call = named(&spans, "tools/call add");
        for name in ["notifications/progress", "notifications/message"] {
            let span = named(&spans, name);
            assert_eq!((&span.trace, &span.parent, span.kind), (&call.trace, &call.id, kind(side)));
            assert_eq!(span.parent_method(), ("stream".to_owned(), true));
            let said = (span.attribute("mcp.session.id"), span.attribute("jsonrpc.request.id"));
            assert_eq!(said, (json!("s-1"), Value::Null));
            assert!(span.start >= call.start && span.end <= call.end);
            assert!(!format!("{span:?}").contains("the-patient-is-ill"));
        }
        let ignored = "spans: { notifications: true, ignore: [{ method: notifications/progress }] }";
        let names: Vec<_> = notified(side, ignored).await.into_iter().map(|span| span.name).collect();
        assert_eq!(names, ["tools/call add", "notifications/message"]);
    }
}

/// There it may say of whose progress it tells; else it belongs to the one request in flight, if it is one.
#[tokio::test]
async fn row_10_a_notification_in_a_stream_of_its_own() {
    for side in SIDES {
        let talk = Conversation::with(ASKED_FOR).await;
        let to = talk.sidecar.at(side);
        let mut listening = stream("s-1").open(to).await;
        let updated = notice("notifications/resources/updated", json!({"uri": "file:///a"}));
        talk.get.say(&updated).await;
        assert_eq!(listening.read_text("updated").await, updated);
        let _first = legacy_call(1, json!({})).open(to).await;
        let _second = legacy_call(2, json!({})).open(to).await;
        talk.get.say(&notice("notifications/progress", json!({"progressToken": 2, "progress": 1}))).await;
        talk.get.say(&notice("notifications/tools/list_changed", json!({}))).await;
        listening.read_until("list_changed").await;
        let spans = talk.stop().await;
        let updated = named(&spans, "notifications/resources/updated");
        assert_eq!((updated.parent.as_str(), updated.kind), ("", kind(side)));
        assert_eq!(updated.attribute("mcp.resource.uri"), json!("file:///a"));
        let calls: Vec<_> = spans.iter().filter(|span| span.name == "tools/call add").collect();
        let second = calls.iter().find(|call| call.attribute("jsonrpc.request.id") == json!("2")).unwrap();
        let progress = named(&spans, "notifications/progress");
        assert_eq!(
            (&progress.parent, progress.parent_method()),
            (&second.id, ("progress".to_owned(), false))
        );
        assert_eq!(
            named(&spans, "notifications/tools/list_changed").parent,
            "",
            "which of the two is not said"
        );
    }
}

/// The span of a subscription has ended by then; its notifications hang under it all the same.
#[tokio::test]
async fn row_10_a_notification_of_a_subscription() {
    for side in SIDES {
        let talk = Conversation::with(ASKED_FOR).await;
        let listen = request(Era::Modern, 7.into(), "subscriptions/listen", json!({"notifications": {}}));
        let mut open = listen.open(talk.sidecar.at(side)).await;
        let meta = json!({"_meta": {"io.modelcontextprotocol/subscriptionId": 7}, "uri": "file:///a"});
        for name in ["notifications/subscriptions/acknowledged", "notifications/resources/updated"] {
            let text = notice(name, meta.clone());
            talk.post.say(&text).await;
            assert_eq!(open.read_text("\n\n").await, text);
        }
        drop(open);
        let spans = talk.stop().await;
        assert_eq!(spans.len(), 3, "{spans:#?}");
        let listen = named(&spans, "subscriptions/listen");
        let updated = named(&spans, "notifications/resources/updated");
        assert_eq!((&updated.trace, &updated.parent, updated.kind), (&listen.trace, &listen.id, kind(side)));
        assert!(updated.start >= listen.end);
    }
}

/// A long stream makes no endless trace: what comes after the bound begins a trace and links.
#[tokio::test]
async fn row_11_and_12_a_stream_has_no_more_than_its_share_of_a_trace() {
    for side in SIDES {
        let talk = Conversation::with("limits: { stream_spans: 2, drain_timeout: 0s }").await;
        let mut open = legacy_call(99, json!({})).open(talk.sidecar.at(side)).await;
        for id in 1..=4 {
            talk.post.say(&question(id)).await;
            open.read_until("elicitation").await;
            reply(json!({"jsonrpc": "2.0", "id": id, "result": {}})).send(talk.sidecar.at(side)).await;
        }
        assert_eq!(talk.mesh.metrics().peers.full.get(), 2);
        let spans = talk.stop().await;
        shares(&spans, "stream");
    }
}

/// Two hang under the call, and two stand alone with a link to it, each in a trace of its own.
fn shares(spans: &[Span], method: &str) {
    let call = named(spans, "tools/call add");
    let questions: Vec<_> = spans.iter().filter(|span| span.name == "elicitation/create").collect();
    assert_eq!(questions.len(), 4, "{spans:#?}");
    for (number, question) in questions.iter().enumerate() {
        assert_eq!(question.parent_method().0, method);
        let links: Vec<_> = question.links.iter().map(|link| (&*link.id, &*link.reason)).collect();
        if number < 2 {
            assert_eq!((&question.trace, &question.parent, links), (&call.trace, &call.id, vec![]));
        } else {
            assert_eq!((question.parent.as_str(), links), ("", vec![(&*call.id, "full")]));
            assert_ne!(question.trace, call.trace);
            assert_ne!(question.trace, questions[5 - number].trace);
        }
    }
}

#[tokio::test]
async fn row_13_a_stream_of_its_own_has_no_more_than_its_share_of_a_trace() {
    for side in SIDES {
        let talk = Conversation::with("limits: { stream_spans: 2, drain_timeout: 0s }").await;
        let to = talk.sidecar.at(side);
        let mut listening = stream("s-1").open(to).await;
        let _open = legacy_call(99, json!({})).open(to).await;
        for id in 1..=4 {
            talk.get.say(&question(id)).await;
            listening.read_until("elicitation").await;
            reply(json!({"jsonrpc": "2.0", "id": id, "result": {}})).send(to).await;
        }
        shares(&talk.stop().await, "session");
    }
}

/// Notifications count too, those of a subscription as well; a trace that is not recorded stays so.
#[tokio::test]
async fn row_28_a_subscription_has_no_more_than_its_share_of_a_trace() {
    for (sampler, count) in [("", 5), ("sampling: { rules: [{ name: no, sample: 0% }] }\n", 0)] {
        let yaml = format!(
            "{sampler}spans: {{ notifications: true }}\nlimits: {{ stream_spans: 2, drain_timeout: 0s }}"
        );
        let talk = Conversation::with(&yaml).await;
        let listen = request(Era::Modern, 7.into(), "subscriptions/listen", json!({"notifications": {}}));
        let mut open = listen.open(talk.sidecar.outbound()).await;
        for name in
            ["subscriptions/acknowledged", "resources/updated", "tools/list_changed", "prompts/list_changed"]
        {
            talk.post.say(&notice(&format!("notifications/{name}"), json!({}))).await;
            open.read_until(name).await;
        }
        drop(open);
        let spans = talk.stop().await;
        assert_eq!(spans.len(), count, "{spans:#?}");
        if let Some(listen) = spans.iter().find(|span| span.name == "subscriptions/listen") {
            let under: Vec<_> = spans.iter().filter(|span| span.parent == listen.id).collect();
            let beside = spans.iter().filter(|span| span.links.iter().any(|link| link.id == listen.id));
            assert_eq!((under.len(), beside.count()), (2, 2), "{spans:#?}");
        }
    }
}

/// A notification that takes a request back hangs under it, where it names no parent itself.
#[tokio::test]
async fn row_9_a_cancellation_hangs_under_what_it_cancels() {
    const OTHER: &str = "00-1af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    for side in SIDES {
        for own in [None, Some(OTHER)] {
            let talk = Conversation::with("").await;
            let to = talk.sidecar.at(side);
            let _open = legacy_call(1, json!({})).open(to).await;
            let mut params = json!({"requestId": 1});
            if let Some(own) = own {
                params["_meta"] = json!({"traceparent": own});
            }
            notification("notifications/cancelled", params).send(to).await;
            let counted = talk.mesh.metrics().proxy.parents(Method::Named.index());
            assert_eq!(counted, u64::from(side == Side::Client && own.is_none()), "{side:?}");
            let spans = talk.stop().await;
            let (call, notice) = (named(&spans, "tools/call add"), named(&spans, "notifications/cancelled"));
            match own {
                None => {
                    assert_eq!((&notice.trace, &notice.parent), (&call.trace, &call.id));
                    let wanted =
                        if side == Side::Client { ("named".to_owned(), true) } else { Default::default() };
                    assert_eq!(notice.parent_method(), wanted);
                }
                Some(own) => assert_eq!(notice.trace, own[3..35]),
            }
            assert!(notice.links.iter().any(|link| link.id == call.id && link.reason == "cancels"));
            assert_eq!(call.attribute("meshtrace.cancelled"), json!(true));
        }
    }
}
