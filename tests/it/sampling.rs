//! Which traces are recorded, that everybody on the path decides alike, and
//! that what is not recorded passes as it came.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use meshtrace::trace::ids::Ids;
use serde_json::json;

use crate::support::mesh::{
    Answer, Asked, Call, Mesh, Running, SIDES, Server, Side, Span, legacy_call, result,
};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
/// The low 56 bits of this id are all set, and of the other one nearly none.
const HIGH: &str = "00-0af7651916cd43dd84ffffffffffffff-b7ad6b7169203331";
const LOW: &str = "00-0af7651916cd43dd8400000000000001-b7ad6b7169203331";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

async fn around(sampler: &str, arg: &str) -> (Mesh, Server, Running) {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let plan = mesh.sidecar().env("OTEL_TRACES_SAMPLER", sampler).env("OTEL_TRACES_SAMPLER_ARG", arg);
    let sidecar = plan.around(server.address).yaml("propagation: { baggage: { set: {} } }").start();
    (mesh, server, sidecar)
}

async fn pass(sampler: &str, arg: &str, side: Side, call: Call) -> (Option<Span>, Asked) {
    let (mesh, server, sidecar) = around(sampler, arg).await;
    call.send(sidecar.at(side)).await;
    let mut spans = mesh.stop().await;
    assert!(spans.len() <= 1);
    (spans.pop(), server.last())
}

fn with(context: &str) -> Call {
    legacy_call(1, json!({"traceparent": context})).header("traceparent", context)
}

fn randomness(trace: &str) -> u64 {
    u64::from_str_radix(&trace[18..], 16).unwrap()
}

#[tokio::test]
async fn every_sampler_of_the_specification() {
    // Recorded without a parent, with a sampled one, with an unsampled one.
    let cases = [
        ("", "", [true, true, false]),
        ("always_on", "", [true, true, true]),
        ("always_off", "", [false, false, false]),
        ("traceidratio", "1", [true, true, true]),
        ("traceidratio", "0", [false, false, false]),
        ("traceidratio", "", [true, true, true]),
        ("parentbased_always_on", "", [true, true, false]),
        ("parentbased_always_off", "", [false, true, false]),
        ("parentbased_traceidratio", "1.0", [true, true, false]),
        ("parentbased_traceidratio", "0.0", [false, true, false]),
        ("PARENTBASED_ALWAYS_OFF", "", [false, true, false]),
    ];
    for (sampler, arg, recorded) in cases {
        for side in SIDES {
            let calls = [legacy_call(1, json!({})), with(SAMPLED), with(UNSAMPLED)];
            for (call, recorded) in calls.into_iter().zip(recorded) {
                let (span, asked) = pass(sampler, arg, side, call).await;
                assert_eq!(span.is_some(), recorded, "{sampler} {arg}");
                // The flag that goes on is the decision.
                let (_, _, flags) = Asked::context(asked.header("traceparent").unwrap());
                assert_eq!(flags.ends_with(['1', '3']), recorded, "{sampler} {arg} {flags}");
                assert_eq!(asked.meta("traceparent").as_deref(), asked.header("traceparent"));
            }
        }
    }
}

/// No span, and not one byte of the request is different.
#[tokio::test]
async fn an_unsampled_parent_passes_byte_by_byte() {
    let state = "mt=1111111111111111,x=a b,ot=rv:00000000000001";
    let body = format!(
        r#"{{ "id":1,"method" : "tools/call","params":{{"_meta":{{"tracestate":"{state}" ,"traceparent":"{UNSAMPLED}"}},"name":"add"}},"jsonrpc":"2.0"}}"#
    );
    for side in SIDES {
        let call = Call::post(body.clone()).header("mcp-protocol-version", "2025-06-18");
        let call = call.header("tracestate", state).header("x-first", "1").header("traceparent", UNSAMPLED);
        let (mesh, server, sidecar) = around("", "").await;
        call.clone().header("host", "agent.test").send(sidecar.at(side)).await;
        call.header("host", "agent.test").send(server.address).await;
        let asked = server.asked();
        let fields =
            |asked: &Asked| asked.headers.iter().map(|(n, v)| (n.to_string(), v.clone())).collect::<Vec<_>>();
        assert_eq!(asked[0].body, body);
        assert_eq!(fields(&asked[0]), fields(&asked[1]));
        assert_eq!(mesh.stop().await, []);
    }
}

/// One carrier is filled from the other, so that the decision arrives in both.
#[tokio::test]
async fn an_unsampled_decision_reaches_both_carriers() {
    for side in SIDES {
        for call in [
            legacy_call(1, json!({"traceparent": UNSAMPLED})),
            legacy_call(1, json!({})).header("traceparent", UNSAMPLED),
        ] {
            let (span, asked) = pass("", "", side, call).await;
            assert_eq!(span, None);
            assert_eq!(
                (asked.header("traceparent"), asked.meta("traceparent").as_deref()),
                (Some(UNSAMPLED), Some(UNSAMPLED))
            );
            assert_eq!((asked.header("tracestate"), asked.meta("tracestate")), (None, None));
        }
    }
}

/// The random bit of an unsampled parent is kept, its reserved bits are not.
#[tokio::test]
async fn the_random_bit_of_an_unsampled_parent_is_kept() {
    for (incoming, outgoing) in [("02", "02"), ("00", "00"), ("fe", "02")] {
        let context = format!("{}{incoming}", &UNSAMPLED[..53]);
        let (span, asked) = pass("", "", Side::Server, with(&context)).await;
        assert_eq!(span, None);
        assert_eq!(Asked::context(asked.header("traceparent").unwrap()).2, outgoing, "{context}");
    }
}

#[tokio::test]
async fn an_unsampled_root_says_so_with_the_random_bit() {
    for sampler in ["always_off", "parentbased_always_off"] {
        for side in SIDES {
            let (span, asked) = pass(sampler, "", side, legacy_call(1, json!({}))).await;
            assert_eq!(span, None);
            let (trace, id, flags) = Asked::context(asked.header("traceparent").unwrap());
            assert_eq!(flags, "02");
            assert_ne!((trace, id), ("0".repeat(32).as_str(), "0".repeat(16).as_str()));
            assert_eq!(asked.meta("traceparent").as_deref(), asked.header("traceparent"));
            assert_eq!(
                (asked.header("tracestate"), asked.meta("tracestate")),
                (None, None),
                "no share is known"
            );
        }
    }
}

/// W3C: the sampled flag is changed together with the parent id, or not at all.
#[tokio::test]
async fn a_flag_that_changes_changes_the_parent_id_too() {
    for sampler in ["always_off", "traceidratio"] {
        for side in SIDES {
            let (span, asked) = pass(sampler, "0", side, with(SAMPLED)).await;
            assert_eq!(span, None);
            let (trace, id, flags) = Asked::context(asked.header("traceparent").unwrap());
            assert_eq!((trace, flags), (&SAMPLED[3..35], "00"));
            assert_ne!(id, &SAMPLED[36..52]);
            assert_eq!(asked.meta("traceparent").as_deref(), asked.header("traceparent"));
        }
    }
}

/// What `ot` says of the share is true, or it is not said.
#[tokio::test]
async fn the_share_is_written_carried_and_erased() {
    let parent = |flags: &str, id: &str, state: &str| {
        legacy_call(1, json!({"traceparent": format!("{id}-{flags}"), "tracestate": state}))
    };
    // Sampler, argument, call, and the state behind `mt` that goes on; None where there is no span.
    let cases: [(&str, &str, Call, &str); 10] = [
        ("", "", legacy_call(1, json!({})), "ot=th:0"),
        ("always_on", "", parent("00", LOW, "x=1"), "ot=th:0,x=1"),
        ("traceidratio", "0.5", parent("00", HIGH, "x=1"), "ot=th:8,x=1"),
        ("traceidratio", "0.25", parent("01", HIGH, "ot=th:0;a:b"), "ot=th:c;a:b"),
        ("traceidratio", "0.5", parent("01", LOW, "ot=rv:ffffffffffffff"), "ot=th:8;rv:ffffffffffffff"),
        // A parent that decided is followed, and its share carried where it can be true.
        ("", "", parent("01", HIGH, "ot=th:8,x=1"), "ot=th:8,x=1"),
        ("", "", parent("01", LOW, "ot=th:8,x=1"), "x=1"),
        ("", "", parent("01", LOW, "ot=th:8;a:b,x=1"), "ot=a:b,x=1"),
        ("", "", parent("01", LOW, "x=1"), "x=1"),
        ("parentbased_traceidratio", "0.5", parent("01", HIGH, ""), ""),
    ];
    for (sampler, arg, call, rest) in cases {
        for side in SIDES {
            let (span, asked) = pass(sampler, arg, side, call.clone()).await;
            let span = span.unwrap_or_else(|| panic!("{sampler} {arg} {rest}"));
            let comma = if rest.is_empty() { "" } else { "," };
            // Of members that only were carried the order is kept, so `ot` may stand anywhere.
            assert_eq!(span.tracestate, format!("mt={}{comma}{rest}", span.id), "{sampler} {arg}");
            assert_eq!(asked.header("tracestate"), Some(span.tracestate.as_str()));
            assert_eq!(asked.meta("tracestate"), Some(span.tracestate));
        }
    }
}

/// Dropped although the parent's state speaks of a share: the share goes.
#[tokio::test]
async fn a_dropped_trace_has_no_share() {
    let call = legacy_call(1, json!({"traceparent": format!("{HIGH}-01"), "tracestate": "ot=th:0,x=1"}));
    let (span, asked) = pass("always_off", "", Side::Server, call).await;
    assert_eq!(span, None);
    assert_eq!(asked.header("tracestate"), Some("x=1"));
}

/// Exactly the ids whose randomness reaches the threshold, which is a share of them.
#[tokio::test]
async fn a_ratio_keeps_the_ids_above_its_threshold() {
    const CALLS: usize = 600;
    let (mesh, _server, sidecar) = around("traceidratio", "0.25").await;
    let ids = Ids::seeded(11, 12);
    let traces: Vec<String> = (0..CALLS).map(|_| ids.trace_id().to_string()).collect();
    let calls = traces
        .iter()
        .map(|trace| Call::get("/").header("traceparent", format!("00-{trace}-b7ad6b7169203331-00")));
    Call::send_in_turn(calls.collect(), sidecar.inbound()).await;
    let kept: HashSet<String> = mesh.stop().await.into_iter().map(|span| span.trace).collect();
    let wanted: HashSet<String> = traces.into_iter().filter(|trace| randomness(trace) >= 3 << 54).collect();
    assert_eq!(kept, wanted);
    // Four standard deviations of a binomial around 150.
    assert!((108..=192).contains(&kept.len()), "{}", kept.len());
}

/// Traces that begin here: the ids that go on have the randomness that the decision claims.
#[tokio::test]
async fn roots_are_decided_by_the_id_that_goes_on() {
    const CALLS: usize = 400;
    for sampler in ["traceidratio", "parentbased_traceidratio"] {
        let (mesh, server, sidecar) = around(sampler, "0.5").await;
        Call::send_in_turn((0..CALLS).map(|_| Call::get("/")).collect(), sidecar.inbound()).await;
        let spans = mesh.stop().await;
        let asked = server.asked();
        for asked in &asked {
            let (trace, _, flags) = Asked::context(asked.header("traceparent").unwrap());
            let kept = randomness(trace) >= 1 << 55;
            assert_eq!(flags, if kept { "03" } else { "02" }, "{trace}");
        }
        let sampled =
            asked.iter().filter(|asked| asked.header("traceparent").unwrap().ends_with("03")).count();
        assert_eq!(sampled, spans.len());
        // Five standard deviations of a binomial around 200: one run in a million fails.
        assert!((150..=250).contains(&sampled), "{sampled}");
    }
}

/// Sidecars that never heard of each other keep the same traces, whole.
#[tokio::test]
async fn two_sidecars_decide_alike() {
    const CALLS: usize = 200;
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let plan = |name: &str| {
        mesh.sidecar()
            .named(name)
            .env("OTEL_TRACES_SAMPLER", "traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", "0.5")
    };
    let second = plan("second").inbound(server.address).start();
    let first = plan("first").inbound(second.inbound()).start();
    Call::send_in_turn((0..CALLS).map(|_| Call::get("/")).collect(), first.inbound()).await;
    let spans = mesh.stop().await;
    let of = |service: &str| {
        spans.iter().filter(|span| span.service == service).map(|span| &span.trace).collect::<HashSet<_>>()
    };
    assert_eq!(of("first"), of("second"));
    assert_eq!(of("first").len() * 2, spans.len());
    assert!((60..=140).contains(&of("first").len()), "{}", spans.len());
}

/// The sampled of them still form whole chains behind an unsampled caller.
#[tokio::test]
async fn a_smaller_share_behind_a_larger_one_keeps_a_subset() {
    const CALLS: usize = 200;
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let plan = |name: &str, ratio: &str| {
        mesh.sidecar()
            .named(name)
            .env("OTEL_TRACES_SAMPLER", "traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", ratio)
    };
    let second = plan("second", "0.2").inbound(server.address).start();
    let first = plan("first", "0.6").inbound(second.inbound()).start();
    Call::send_in_turn((0..CALLS).map(|_| Call::get("/")).collect(), first.inbound()).await;
    let spans = mesh.stop().await;
    let of = |service: &str| {
        spans.iter().filter(|span| span.service == service).map(|span| &span.trace).collect::<HashSet<_>>()
    };
    assert!(of("second").is_subset(&of("first")));
    assert!(of("second").len() < of("first").len());
}

#[tokio::test]
async fn values_that_are_not_understood_warn_and_change_nothing() {
    for (sampler, arg, says) in [
        ("jaeger_remote", "", "jaeger_remote"),
        ("parentbased_", "", "parentbased_"),
        ("traceidratio", "1.5", "1.5"),
        ("traceidratio", "-0.1", "-0.1"),
        ("parentbased_traceidratio", "half", "half"),
        ("parentbased_traceidratio", "NaN", "NaN"),
    ] {
        let (mesh, _server, sidecar) = around(sampler, arg).await;
        assert_eq!(sidecar.warnings.len(), 1, "{:?}", sidecar.warnings);
        assert!(sidecar.warnings[0].contains("OTEL_TRACES_SAMPLER") && sidecar.warnings[0].contains(says));
        legacy_call(1, json!({})).send(sidecar.inbound()).await;
        assert_eq!(mesh.stop().await.len(), 1, "{sampler} {arg}");
    }
    let (mesh, _server, sidecar) = around("always_on", "7").await;
    assert_eq!(sidecar.warnings, Vec::<String>::new(), "an argument that nobody asks for");
    assert_eq!(mesh.stop().await, []);
}
