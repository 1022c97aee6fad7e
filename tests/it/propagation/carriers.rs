//! Two carriers, one parent: precedence, validity, flags and state.

use serde_json::{Value, json};

use super::{A, B, SPAN_A, SPAN_B, TRACE, assert_written, pass};
use crate::support::mesh::{Call, Link, SIDES, Side, legacy_call, modern_call};

fn link(id: &str, reason: &str) -> Link {
    Link { trace: TRACE.to_owned(), id: id.to_owned(), reason: reason.to_owned() }
}

fn both(meta: &str, header: &str) -> Call {
    legacy_call(1, json!({"traceparent": meta})).header("traceparent", header)
}

#[tokio::test]
async fn meta_wins_and_the_header_becomes_a_link() {
    for side in SIDES {
        let (span, asked) = pass("", &[], side, both(A, B)).await;
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_A));
        assert_eq!(span.links, [link(SPAN_B, "other_carrier")]);
        assert_written(&asked, &span, "01");
    }
}

#[tokio::test]
async fn the_header_wins_where_it_is_preferred() {
    for side in SIDES {
        let (span, asked) = pass("propagation: { parent: header }", &[], side, both(A, B)).await;
        assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_B));
        assert_eq!(span.links, [link(SPAN_A, "other_carrier")]);
        assert_written(&asked, &span, "01");
    }
}

#[tokio::test]
async fn the_preference_only_breaks_ties() {
    for (yaml, call) in [
        ("propagation: { parent: header }", legacy_call(1, json!({"traceparent": A}))),
        ("propagation: { parent: meta }", legacy_call(1, json!({})).header("traceparent", A)),
        ("", both("00-nonsense", A)),
        ("propagation: { parent: header }", both(A, "00-nonsense")),
    ] {
        for side in SIDES {
            let (span, asked) = pass(yaml, &[], side, call.clone()).await;
            assert_eq!(span.parent, SPAN_A, "{yaml}");
            assert_eq!(span.links, []);
            assert_written(&asked, &span, "01");
        }
    }
}

#[tokio::test]
async fn two_carriers_that_agree_need_no_link() {
    for side in SIDES {
        // Flags may differ: it is the same span.
        let (span, _) = pass("", &[], side, both(A, &A.replace("-01", "-03"))).await;
        assert_eq!((span.parent.as_str(), span.links.len()), (SPAN_A, 0));
    }
}

#[tokio::test]
async fn another_trace_in_the_other_carrier_is_a_link_too() {
    let other = "00-11111111111111111111111111111111-b7ad6b7169203331-01";
    let (span, _) = pass("", &[], Side::Server, both(A, other)).await;
    assert_eq!(span.trace, TRACE);
    assert_eq!(
        span.links,
        [Link { trace: "1".repeat(32), id: SPAN_A.into(), reason: "other_carrier".into() }]
    );
}

#[tokio::test]
async fn the_state_comes_from_the_carrier_of_the_parent_alone() {
    for side in SIDES {
        let call = legacy_call(1, json!({"traceparent": A, "tracestate": "meta=1"}));
        let call = call.header("traceparent", B).header("tracestate", "header=1");
        let (span, asked) = pass("", &[], side, call).await;
        assert_eq!(span.tracestate, format!("mt={},meta=1", span.id));
        assert_written(&asked, &span, "01");
        // Nor does the state of a carrier without a parent find its way.
        let call = legacy_call(1, json!({"tracestate": "meta=1"})).header("traceparent", A);
        let (span, asked) = pass("", &[], side, call).await;
        assert_eq!(span.tracestate, format!("mt={}", span.id));
        assert_written(&asked, &span, "01");
        let call = legacy_call(1, json!({"traceparent": A})).header("tracestate", "header=1");
        let (span, asked) = pass("", &[], side, call).await;
        assert_eq!(span.tracestate, format!("mt={}", span.id));
        assert_written(&asked, &span, "01");
    }
}

#[tokio::test]
async fn foreign_state_keeps_its_bytes_behind_ours() {
    let foreign = "rojo=00f067aa0ba902b7,t61rcwkgmze@x=a b;c:\"~!,congo=";
    // `congo=` has an empty value, which the grammar does not allow: the list counts as none.
    let valid = foreign.strip_suffix(",congo=").unwrap();
    for side in SIDES {
        let call = |state: &str| legacy_call(1, json!({"traceparent": A, "tracestate": state}));
        let (span, asked) = pass("", &[], side, call(valid)).await;
        assert_eq!(span.tracestate, format!("mt={},{valid}", span.id));
        assert_written(&asked, &span, "01");
        // Ours moves to the left, whoever wrote it last.
        let (span, _) = pass("", &[], side, call("a=1,mt=1111111111111111,b=2")).await;
        assert_eq!(span.tracestate, format!("mt={},a=1,b=2", span.id));
        // Two fields are one list.
        let headers =
            Call::get("/").header("traceparent", A).header("tracestate", "a=1").header("tracestate", "b=2");
        let (span, asked) = pass("", &[], side, headers).await;
        assert_eq!(span.tracestate, format!("mt={},a=1,b=2", span.id));
        assert_eq!(asked.header("tracestate"), Some(span.tracestate.as_str()));
    }
}

#[tokio::test]
async fn a_full_state_loses_whole_members_on_the_right() {
    let members: Vec<String> = (0..32).map(|n| format!("k{n}=v{n}")).collect();
    let call = Call::get("/").header("traceparent", A).header("tracestate", members.join(","));
    let (span, _) = pass("", &[], Side::Server, call).await;
    assert_eq!(span.tracestate, format!("mt={},{}", span.id, members[..31].join(",")));
}

#[tokio::test]
async fn two_parents_in_the_header_are_none() {
    for side in SIDES {
        let call =
            Call::get("/").header("traceparent", A).header("traceparent", B).header("tracestate", "a=1");
        let (span, asked) = pass("", &[], side, call).await;
        assert_eq!(span.parent, "");
        assert_ne!(span.trace, TRACE);
        assert_eq!(span.links, []);
        let carried = asked.header("traceparent").unwrap();
        assert_eq!(carried, super::traceparent(&span, "03"));
        assert_eq!(asked.header("tracestate"), Some(span.tracestate.as_str()));
        assert!(!span.tracestate.contains("a=1"));
    }
}

#[tokio::test]
async fn the_random_flag_is_copied_and_set_on_roots() {
    for side in SIDES {
        for (incoming, outgoing) in [("01", "01"), ("03", "03"), ("ff", "03"), ("fd", "01")] {
            let call = legacy_call(1, json!({"traceparent": A.replace("-01", &format!("-{incoming}"))}));
            let (span, asked) = pass("", &[], side, call).await;
            assert_written(&asked, &span, outgoing);
            assert_eq!(format!("{:02x}", span.flags), outgoing);
        }
        let (span, asked) = pass("", &[], side, legacy_call(1, json!({}))).await;
        assert_written(&asked, &span, "03");
    }
}

#[tokio::test]
async fn later_versions_are_continued_as_ours() {
    let later = [format!("01{}", &A[2..]), format!("cc{}-more.of=it", &A[2..])];
    for side in SIDES {
        for version in &later {
            for call in [
                legacy_call(1, json!({"traceparent": version})),
                legacy_call(1, json!({})).header("traceparent", version),
            ] {
                let (span, asked) = pass("", &[], side, call).await;
                assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, SPAN_A));
                assert_written(&asked, &span, "01");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_context_is_ignored() {
    let wrong = [
        A.to_uppercase(),
        A.replace(SPAN_A, "0000000000000000"),
        A.replace(TRACE, "00000000000000000000000000000000"),
        format!("ff{}", &A[2..]),
        format!("{A}-extra"),
        A[..54].to_owned(),
        format!("{A},{B}"),
    ];
    for side in SIDES {
        for text in &wrong {
            for call in [
                legacy_call(1, json!({"traceparent": text, "tracestate": "a=1"})),
                legacy_call(1, json!({})).header("traceparent", text),
            ] {
                let (span, asked) = pass("", &[], side, call).await;
                assert_eq!((span.parent.as_str(), span.links.len()), ("", 0), "{text}");
                assert_ne!(span.trace, TRACE);
                assert_written(&asked, &span, "03");
            }
        }
    }
}

/// Only lower-case keys with string values count, as for every MCP SDK.
#[tokio::test]
async fn keys_of_meta_that_do_not_count() {
    let metas: [Value; 6] = [
        json!({"Traceparent": A}),
        json!({"TRACEPARENT": A}),
        json!({"traceparent": 5}),
        json!({"traceparent": [A]}),
        json!({"traceparent": null}),
        json!({"x": {"traceparent": A}}),
    ];
    for side in SIDES {
        for meta in &metas {
            let (span, asked) = pass("", &[], side, modern_call(1, meta.clone())).await;
            assert_eq!(span.parent, "", "{meta}");
            assert_written(&asked, &span, "03");
            // Anything that is not ours is still there.
            let arrived = &asked.json()["params"]["_meta"];
            for (key, value) in meta.as_object().unwrap().iter().filter(|(key, _)| *key != "traceparent") {
                assert_eq!(arrived[key], *value);
            }
        }
    }
}

/// Surrounding blanks belong to the field, not to the value (RFC 9110, 5.5).
#[tokio::test]
async fn the_header_name_may_have_any_case() {
    let call = Call::get("/").header("TraceParent", A).header("TRACESTATE", "a=1");
    let (span, asked) = pass("", &[], Side::Server, call).await;
    assert_eq!(span.parent, SPAN_A);
    assert_eq!(asked.header("tracestate"), Some(format!("mt={},a=1", span.id).as_str()));
}
