//! Precision and recall of the rules that find a parent, rule by rule and in
//! all, at 1 to 100 requests in flight: `cargo bench --bench causality`.
//!
//! P is right of attributed, R is right of all calls that belong to a request.
//! With `-- --quick` one seed is run instead of three.

// Nothing is outside of a bench.
#![allow(unreachable_pub)]

mod sim;

use std::hint::black_box;
use std::time::Instant;

use meshtrace::trace::context::Claim;
use meshtrace::trace::ids::Ids;
use meshtrace::trace::links::{self, Call, Inference, Known, Method};
use meshtrace::trace::places::{Background, Destination, Stuck};
use meshtrace::trace::server_spans::{Served, ServerSpans};
use meshtrace::w3c::traceparent::Traceparent;
use opentelemetry::trace::{TraceFlags, TraceId};

use sim::{Agent, Late, Outcome, Setup};

const IN_FLIGHT: [usize; 5] = [1, 2, 5, 20, 100];

const AGENTS: [(Agent, Late, &str); 9] = [
    (Agent::Silent, Late::Soon, "passes nothing on"),
    (Agent::Silent, Late::AnyTime, "the same, late calls 100 ms late and anywhere"),
    (Agent::Silent, Late::Never, "the same, no late calls, no heartbeat"),
    (Agent::SilentInOneTrace, Late::Soon, "passes nothing on, traces of many requests"),
    (Agent::Meta, Late::Soon, "passes `_meta` on"),
    (Agent::HttpHeader, Late::Soon, "passes the header on, HTTP calls"),
    (Agent::McpHeader, Late::Soon, "passes the header on, MCP calls"),
    (Agent::StuckHeader, Late::Soon, "the same, but MCP sessions keep their first header"),
    (Agent::MixedUpShim, Late::Soon, "shim; a pool mixes up half of the contexts"),
];

fn main() {
    let seeds = if std::env::args().any(|arg| arg == "--quick") { 1 } else { 3 };
    println!("| agent | rule | {} |", IN_FLIGHT.map(|c| format!("C={c}")).join(" | "));
    println!("|---|---|{}", "---|".repeat(IN_FLIGHT.len()));
    for (agent, late, said) in AGENTS {
        let outcomes = IN_FLIGHT.map(|concurrency| {
            let mut all = Outcome::default();
            for seed in 1..=seeds {
                let setup = Setup { agent, concurrency, requests: 2_000, late, seed };
                all.add(&sim::run(setup));
            }
            all
        });
        rows(said, &outcomes);
    }
    println!();
    for one_trace in [true, false] {
        let traces = if one_trace { "one trace" } else { "1,000 traces" };
        println!("a call that carries nothing, 1,000 requests of {traces} in flight: {} ns", cost(one_trace));
    }
}

fn rows(agent: &str, outcomes: &[Outcome; 5]) {
    for method in Method::ALL {
        if outcomes.iter().any(|outcome| outcome.of(method).attributed > 0) {
            let cells = outcomes.each_ref().map(|outcome| {
                let score = outcome.of(method);
                cell(score.right, score.attributed, outcome.caused)
            });
            println!("| {agent} | `{}` | {} |", method.as_str(), cells.join(" | "));
        }
    }
    let sum = |outcome: &Outcome, of: fn(&sim::Score) -> u64| outcome.methods.iter().map(of).sum::<u64>();
    let cells = outcomes.each_ref().map(|outcome| {
        cell(sum(outcome, |score| score.right), sum(outcome, |score| score.attributed), outcome.caused)
    });
    println!("| {agent} | all | {} |", cells.join(" | "));
    let cells = outcomes.each_ref().map(|outcome| {
        format!("{} of {}", sum(outcome, |score| score.exact_wrong), sum(outcome, |score| score.exact))
    });
    println!("| {agent} | wrong among `exact` | {} |", cells.join(" | "));
    if outcomes.iter().any(|outcome| outcome.telling_mixups > 0) {
        let cells = outcomes.each_ref().map(|o| format!("{} of {}", o.flagged, o.telling_mixups));
        println!("| {agent} | flagged, where an argument tells | {} |", cells.join(" | "));
    }
}

fn cell(right: u64, attributed: u64, caused: u64) -> String {
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 * 100.0 / of as f64 };
    if attributed == 0 {
        return "–".to_owned();
    }
    format!("P{:.1} R{:.1}", share(right, attributed), share(right, caused))
}

/// Nanoseconds of one look at 1,000 requests in flight, the least of several rounds.
fn cost(one_trace: bool) -> u128 {
    let ids = Ids::seeded(1, 2);
    let spans = ServerSpans::new(65_536);
    let (background, stuck) = (Background::default(), Stuck::default());
    for _ in 0..1_000 {
        let trace_id = if one_trace { TraceId::from_bytes([1; 16]) } else { ids.trace_id() };
        let parent = Traceparent { trace_id, span_id: ids.span_id(), flags: TraceFlags::SAMPLED };
        let _ = spans.begin(Served::of(parent));
    }
    let known =
        Known { spans: &spans, background: &background, stuck: &stuck, inference: Inference::Guarded };
    let destination = Destination { host: "weather", port: 80, method: "tools/call", about: "" };
    let call = || Call {
        claim: Claim::default(),
        library: None,
        mcp: true,
        session: None,
        destination,
        texts: [b"{\"city\":\"Oslo\"}", b""],
    };
    let round = || {
        let start = Instant::now();
        for _ in 0..1_000 {
            black_box(links::parent_of_call(black_box(call()), &known));
        }
        start.elapsed().as_nanos() / 1_000
    };
    (0..20).map(|_| round()).min().unwrap_or_default()
}
