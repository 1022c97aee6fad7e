//! Which parent an outbound call gets from what the agent passed on, and how
//! the span says so.

use serde_json::{Value, json};

use super::SPAN_A;
use super::held::{Held, id_in, initialize, meta_of, with_headers_of};
use crate::support::mesh::{Asked, Call, Side, legacy_call, modern_call};

#[tokio::test]
async fn a_context_of_ours_is_the_parent_and_proved() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    let to = held.sidecar.outbound();
    legacy_call(2, meta_of(&asked)).send(to).await;
    let header = legacy_call(3, json!({})).header("traceparent", asked.header("traceparent").unwrap());
    header.header("tracestate", asked.header("tracestate").unwrap()).send(to).await;
    Call::get("/").header("traceparent", asked.header("traceparent").unwrap()).send(to).await;
    let methods = ["propagated.meta", "propagated.header", "propagated.header"];
    for (span, method) in held.spans(Side::Client).await.iter().zip(methods) {
        assert_eq!(span.parent, id_in(&asked));
        assert_eq!(span.parent_method(), (method.to_owned(), true));
        assert_eq!(span.attribute("meshtrace.parent.candidates"), Value::Null);
        assert_eq!(span.attribute("meshtrace.parent.late"), Value::Null);
    }
}

/// Among several in flight the one that is named is the parent.
#[tokio::test]
async fn the_named_one_of_many_is_the_parent() {
    let mut held = Held::start().await;
    let mut asked = Vec::new();
    for id in 0..4 {
        asked.push(held.begin(modern_call(id, json!({}))).await);
    }
    let to = held.sidecar.outbound();
    for asked in asked.iter().rev() {
        modern_call(10, meta_of(asked)).send(to).await;
    }
    let parents: Vec<_> = held.spans(Side::Client).await.into_iter().map(|span| span.parent).collect();
    assert_eq!(parents, asked.iter().rev().map(id_in).collect::<Vec<_>>());
}

/// An agent with a tracer of its own puts its span between; `mt` names ours.
#[tokio::test]
async fn an_agents_own_span_is_the_parent() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({"baggage": "k=v"}))).await;
    let (trace, id, _) = Asked::context(asked.header("traceparent").unwrap());
    let own = format!("00-{trace}-{SPAN_A}-01");
    legacy_call(2, json!({"traceparent": own, "tracestate": format!("x=1,mt={id}")}))
        .send(held.sidecar.outbound())
        .await;
    let sent = held.peer.last();
    let trace = trace.to_owned();
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!((span.parent.as_str(), &span.trace), (SPAN_A, &trace));
    assert_eq!(span.parent_method(), ("propagated.meta".to_owned(), true));
    assert_eq!(span.tracestate, format!("mt={},x=1", span.id));
    // `mt` led to the request, and so to the baggage that the agent dropped.
    assert!(sent.header("baggage").unwrap().contains("k=v"));
}

/// After the answer `_meta` still proves whose the call is; a header does not,
/// because it outlives its request easily.
#[tokio::test]
async fn a_late_call_has_its_parent_from_meta_alone() {
    let mut held = Held::start().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    held.end_one().await;
    let to = held.sidecar.outbound();
    legacy_call(2, meta_of(&asked)).send(to).await;
    Call::get("/a").header("traceparent", asked.header("traceparent").unwrap()).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!(
        (spans[0].parent.clone(), spans[0].parent_method()),
        (id_in(&asked), ("propagated.meta".to_owned(), true))
    );
    assert_eq!(spans[0].attribute("meshtrace.parent.late"), json!(true));
    assert_eq!((spans[1].parent.as_str(), spans[1].parent_method()), ("", ("background".to_owned(), false)));
    assert_eq!(spans[1].links.len(), 1);
    assert_eq!(
        (spans[1].links[0].id.clone(), spans[1].links[0].reason.as_str()),
        (id_in(&asked), "answered")
    );
}

/// A `_meta` that is stuck in a session does not hide what the header proves.
#[tokio::test]
async fn a_live_header_beside_a_sessions_meta_is_the_parent() {
    let mut held = Held::start().await;
    let stuck = "00-11111111111111111111111111111111-2222222222222222-01";
    held.begin(initialize(json!({"traceparent": stuck}))).await;
    held.end_one().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    let call = legacy_call(2, json!({"traceparent": stuck}))
        .header("traceparent", asked.header("traceparent").unwrap());
    call.send(held.sidecar.outbound()).await;
    let span = held.spans(Side::Client).await.remove(0);
    assert_eq!(
        (span.parent.clone(), span.parent_method()),
        (id_in(&asked), ("propagated.header".to_owned(), true))
    );
}

/// The shim vouches for what it copies, in either carrier and for any number
/// in flight, and its mark stays in the pod.
#[tokio::test]
async fn what_the_shim_copied_is_proved() {
    let mut held = Held::start().await;
    let first = held.begin(legacy_call(1, json!({}))).await;
    held.begin(legacy_call(2, json!({}))).await;
    let to = held.sidecar.outbound();
    let marked = format!("{};s", first.header("tracestate").unwrap().replace(",ot=th:0", ""));
    let parent = first.header("traceparent").unwrap();
    legacy_call(3, json!({"traceparent": parent, "tracestate": marked})).send(to).await;
    legacy_call(4, json!({})).header("traceparent", parent).header("tracestate", &marked).send(to).await;
    Call::get("/a").header("traceparent", parent).header("tracestate", &marked).send(to).await;
    let asked = held.peer.asked();
    let spans = held.spans(Side::Client).await;
    assert_eq!(spans.len(), 3);
    for (span, asked) in spans.iter().zip(asked) {
        assert_eq!(
            (span.parent.clone(), span.parent_method()),
            (id_in(&first), ("propagated.shim".to_owned(), true))
        );
        assert!(!span.tracestate.contains(";s"), "{}", span.tracestate);
        assert!(!format!("{:?}{:?}", asked.headers, asked.body).contains(";s"), "{asked:?}");
    }
}

/// The same where no span is made, and where the request is not of ours to change.
#[tokio::test]
async fn the_mark_of_the_shim_stays_in_the_pod() {
    let mut held = Held::start().await;
    let first = held.begin(legacy_call(1, json!({}))).await;
    let parent = first.header("traceparent").unwrap();
    let (ours, other) = (format!("mt={};s,a=1", id_in(&first)), "mt=1111111111111111;s");
    let unsampled = "00-11111111111111111111111111111111-1111111111111111-00";
    let to = held.sidecar.outbound();
    for (parent, state) in [(parent, ours.as_str()), (unsampled, other)] {
        let meta = json!({"traceparent": parent, "tracestate": state});
        let ping =
            json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": meta}}).to_string();
        let get = Call::get("/sse").header("accept", "text/event-stream");
        for call in [get, Call::post(ping), legacy_call(2, meta), legacy_call(3, json!({}))] {
            call.header("traceparent", parent).header("tracestate", state).send(to).await;
        }
    }
    // Nor is one believed, or handed on, that came with a request.
    let stranger = legacy_call(9, json!({"traceparent": unsampled, "tracestate": other}));
    let inbound = held.begin(stranger).await;
    let started = held.begin(initialize(json!({"traceparent": unsampled, "tracestate": other}))).await;
    for asked in held.peer.asked().iter().chain([&inbound, &started]) {
        assert!(!format!("{:?}{:?}", asked.headers, asked.body).contains(";s"), "{asked:?}");
        let held = asked.header("tracestate").map(str::to_owned).or(asked.meta("tracestate"));
        assert!(held.is_some_and(|state| state.contains("mt=")), "{asked:?}");
    }
    assert_eq!(held.peer.asked().len(), 8);
    held.spans(Side::Client).await;
}

/// What the header of an MCP message says may be the context of another
/// request; one that HTTP libraries write for each of their calls is not.
#[tokio::test]
async fn a_header_alone_proves_nothing_of_mcp_among_several() {
    let mut held = Held::start().await;
    let first = held.begin(legacy_call(1, json!({}))).await;
    let second = held.begin(legacy_call(2, json!({}))).await;
    let to = held.sidecar.outbound();
    with_headers_of(&first, legacy_call(3, json!({}))).send(to).await;
    with_headers_of(&first, Call::get("/a")).send(to).await;
    with_headers_of(&second, legacy_call(4, meta_of(&first))).send(to).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!((spans[0].parent.as_str(), spans[0].parent_method()), ("", ("ambiguous".to_owned(), false)));
    let reasons: Vec<_> = spans[0].links.iter().map(|link| (link.id.clone(), link.reason.as_str())).collect();
    assert_eq!(reasons, [(id_in(&first), "unverified"), (id_in(&second), "candidate")]);
    assert_eq!(
        (spans[1].parent.clone(), spans[1].parent_method()),
        (id_in(&first), ("propagated.header".to_owned(), true))
    );
    assert_eq!(
        (spans[2].parent.clone(), spans[2].parent_method()),
        (id_in(&first), ("propagated.meta".to_owned(), true))
    );
    assert_eq!(spans[2].links[0].reason, "other_carrier");
}

/// A client that sends every message of a session from the task that opened it
/// carries the context of that moment for ever. It never becomes a parent.
#[tokio::test]
async fn a_session_that_keeps_an_old_header_is_seen_through() {
    let mut held = Held::start().await;
    let opener = held.begin(legacy_call(1, json!({}))).await;
    held.end_one().await;
    let to = held.sidecar.outbound();
    let mut served = Vec::new();
    for id in 2..4 {
        served.push(held.begin(legacy_call(id, json!({}))).await);
        with_headers_of(&opener, legacy_call(10 + id, json!({}))).send(to).await;
        held.end_one().await;
    }
    // Not even where it names the request in flight, once it is known.
    let last = held.begin(legacy_call(4, json!({}))).await;
    with_headers_of(&last, legacy_call(20, json!({}))).send(to).await;
    let spans = held.spans(Side::Client).await;
    for (span, asked) in spans.iter().zip(&served) {
        assert_eq!(
            (span.parent.clone(), span.parent_method()),
            (id_in(asked), ("inferred.single".to_owned(), false))
        );
        assert_eq!((span.links[0].id.clone(), span.links[0].reason.as_str()), (id_in(&opener), "answered"));
    }
    assert_eq!(
        (spans[2].parent.clone(), spans[2].parent_method()),
        (id_in(&last), ("inferred.single".to_owned(), false))
    );
    assert_eq!(spans[2].links[0].reason, "unverified");
}

/// What `initialize` brought is passed on unchanged, and is recognised when it
/// comes back from a task of the session.
#[tokio::test]
async fn the_context_of_initialize_is_never_a_parent() {
    let mut held = Held::start().await;
    let theirs = "00-11111111111111111111111111111111-2222222222222222-01";
    let opened = held.begin(initialize(json!({})).header("traceparent", theirs)).await;
    assert_eq!(opened.header("traceparent"), Some(theirs));
    held.end_one().await;
    let asked = held.begin(legacy_call(1, json!({}))).await;
    legacy_call(2, json!({})).header("traceparent", theirs).send(held.sidecar.outbound()).await;
    held.begin(legacy_call(3, json!({}))).await;
    legacy_call(4, json!({})).header("traceparent", theirs).send(held.sidecar.outbound()).await;
    let spans = held.spans(Side::Client).await;
    assert_eq!(
        (spans[0].parent.clone(), spans[0].parent_method()),
        (id_in(&asked), ("inferred.single".to_owned(), false))
    );
    assert_eq!((spans[1].parent.as_str(), spans[1].parent_method()), ("", ("ambiguous".to_owned(), false)));
    for span in &spans {
        assert_eq!(
            (span.links[0].id.as_str(), span.links[0].reason.as_str()),
            ("2222222222222222", "session")
        );
    }
}
