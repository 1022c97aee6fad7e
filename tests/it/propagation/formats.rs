//! `OTEL_PROPAGATORS` and `OTEL_SDK_DISABLED`: which formats are read and
//! written, and that context passes where nothing is recorded.

use serde_json::json;

use super::{A, B, SPAN_A, TRACE, around, pass};
use crate::support::mesh::{Call, SIDES, Side, Span, legacy_call, modern_call};

fn b3_of(span: &Span) -> String {
    format!("{}-{}-1", span.trace, span.id)
}

#[tokio::test]
async fn none_reads_and_writes_nothing() {
    let call = legacy_call(1, json!({"traceparent": A})).header("traceparent", B).header("tracestate", "a=1");
    let call = call.header("baggage", "k=v").header("b3", format!("{TRACE}-{SPAN_A}-1"));
    for side in SIDES {
        let (span, asked) = pass("", &[("OTEL_PROPAGATORS", "none")], side, call.clone()).await;
        assert_eq!((span.parent.as_str(), span.links.len()), ("", 0));
        assert_ne!(span.trace, TRACE);
        assert_eq!(asked.meta("traceparent").as_deref(), Some(A));
        assert_eq!((asked.header("traceparent"), asked.header("tracestate")), (Some(B), Some("a=1")));
        assert_eq!(asked.header("baggage"), Some("k=v"));
        // What did not come with a context gets none.
        let (_, asked) = pass("", &[("OTEL_PROPAGATORS", "none")], side, modern_call(1, json!({}))).await;
        for name in ["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid"] {
            assert_eq!((asked.header(name), asked.meta(name)), (None, None), "{name}");
        }
    }
}

#[tokio::test]
async fn tracecontext_alone_leaves_baggage_alone() {
    let call = legacy_call(1, json!({"traceparent": A, "baggage": "m=1"})).header("baggage", " h = 1 ");
    for side in SIDES {
        let (span, asked) = pass("", &[("OTEL_PROPAGATORS", "tracecontext")], side, call.clone()).await;
        assert_eq!(span.parent, SPAN_A);
        assert_eq!((asked.meta("baggage").as_deref(), asked.header("baggage")), (Some("m=1"), Some("h = 1")));
        assert_eq!(asked.meta("traceparent"), Some(super::traceparent(&span, "01")));
    }
}

#[tokio::test]
async fn b3_in_one_header() {
    let env = [("OTEL_PROPAGATORS", "b3")];
    for side in SIDES {
        let call = Call::get("/").header("b3", format!("{TRACE}-{SPAN_A}-1")).header("traceparent", B);
        let (span, asked) = pass("", &env, side, call).await;
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_A));
        assert_eq!(asked.header("b3"), Some(b3_of(&span).as_str()));
        assert_eq!(asked.header("traceparent"), Some(B), "not a format that is on");
        assert_eq!(asked.header("x-b3-traceid"), None);
        // MCP knows W3C alone, so `_meta` is neither read nor written.
        let (span, asked) = pass("", &env, side, legacy_call(1, json!({"traceparent": A}))).await;
        assert_eq!(span.parent, "");
        assert_eq!(asked.meta("traceparent").as_deref(), Some(A));
        assert_eq!(asked.header("b3"), Some(b3_of(&span).as_str()));
    }
}

#[tokio::test]
async fn b3_in_several_headers() {
    let env = [("OTEL_PROPAGATORS", "b3multi")];
    for side in SIDES {
        let call = Call::get("/").header("x-b3-traceid", TRACE).header("x-b3-spanid", SPAN_A);
        let call = call.header("x-b3-parentspanid", "00f067aa0ba902b7").header("x-b3-sampled", "1");
        let (span, asked) = pass("", &env, side, call).await;
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_A));
        assert_eq!(asked.header("x-b3-traceid"), Some(TRACE));
        assert_eq!(asked.header("x-b3-spanid"), Some(span.id.as_str()));
        assert_eq!(asked.header("x-b3-sampled"), Some("1"));
        assert_eq!((asked.header("b3"), asked.header("traceparent")), (None, None));
        let stale = asked.header("x-b3-parentspanid").is_some_and(|parent| parent != SPAN_A);
        assert!(!stale, "the parent of another span");
    }
}

#[tokio::test]
async fn b3_beside_w3c_is_read_where_w3c_is_missing() {
    let env = [("OTEL_PROPAGATORS", "b3,tracecontext,b3,baggage")];
    let b3 = format!("{TRACE}-{SPAN_A}-1");
    let (span, asked) = pass("", &env, Side::Server, Call::get("/").header("b3", &b3)).await;
    assert_eq!(span.parent, SPAN_A);
    assert_eq!(asked.header("traceparent"), Some(super::traceparent(&span, "01").as_str()));
    assert_eq!(asked.header("b3"), Some(b3_of(&span).as_str()));
    let (span, _) =
        pass("", &env, Side::Server, Call::get("/").header("b3", &b3).header("traceparent", B)).await;
    assert_eq!(span.parent, super::SPAN_B);
}

#[tokio::test]
async fn an_unsampled_b3_is_followed() {
    let (mesh, server, sidecar) = around("", &[("OTEL_PROPAGATORS", "b3")]).await;
    let b3 = format!("{TRACE}-{SPAN_A}-0");
    Call::get("/").header("b3", &b3).send(sidecar.inbound()).await;
    assert_eq!(mesh.stop().await, []);
    assert_eq!(server.last().header("b3"), Some(b3.as_str()));
}

/// No spans, and everything that came goes on.
#[tokio::test]
async fn disabled_passes_context_on() {
    for env in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let (mesh, server, sidecar) = around("", &[env]).await;
        let call = modern_call(1, json!({"traceparent": A, "tracestate": "a=1", "baggage": "k=v"}));
        let call = call.header("traceparent", B).header("tracestate", "b=2").header("baggage", "h=1");
        for side in SIDES {
            call.clone().send(sidecar.at(side)).await;
            let asked = server.last();
            assert_eq!(
                (asked.header("traceparent"), asked.meta("traceparent").as_deref()),
                (Some(B), Some(A))
            );
            assert_eq!(
                (asked.header("tracestate"), asked.meta("tracestate").as_deref()),
                (Some("b=2"), Some("a=1"))
            );
            let baggage = asked.meta("baggage").unwrap();
            assert!(baggage.starts_with("k=v"), "{baggage}");
            Call::get("/").send(sidecar.at(side)).await;
            assert_eq!(server.last().header("traceparent"), None, "nothing is made up");
        }
        assert_eq!(mesh.stop().await, []);
    }
}
