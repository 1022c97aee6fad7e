//! What one decision costs, by what the call carries and by how many requests
//! are in flight.

use std::hint::black_box;
use std::time::Instant;

use meshtrace::trace::context::{Carrier, Claim, LibraryIds, TraceContext};
use meshtrace::trace::links::{self, Call, Inference, Known};
use meshtrace::trace::places::{Background, Destination, Stuck};
use meshtrace::trace::server_spans::{Served, ServerSpans};
use meshtrace::w3c::traceparent::Traceparent;
use meshtrace::w3c::tracestate::Tracestate;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

const IN_FLIGHT: [usize; 3] = [1, 100, 1_000];
const ROUNDS: usize = 30;
const TURNS: u128 = 500;

/// What a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Nothing,
    NothingInOneTrace,
    Value,
    Meta,
    Shim,
    Contradicted,
    MeshIds,
    UnknownMeshIds,
}

const ALL: [(Carried, &str); 8] = [
    (Carried::Nothing, "nothing; traces of their own in flight"),
    (Carried::NothingInOneTrace, "nothing; one trace in flight"),
    (Carried::Value, "nothing but a value that one request holds"),
    (Carried::Meta, "`_meta`"),
    (Carried::Shim, "the shim's header, and a value of its request"),
    (Carried::Contradicted, "the shim's header, and a value of another request"),
    (Carried::MeshIds, "ids of MCP Mesh"),
    (Carried::UnknownMeshIds, "ids of MCP Mesh that came with no request"),
];

/// Prints the nanoseconds of a decision, the least of several rounds.
pub fn print() {
    println!("| the call carries | {} |", IN_FLIGHT.map(|n| format!("{n} in flight")).join(" | "));
    println!("|---|{}", "---|".repeat(IN_FLIGHT.len()));
    for (carried, said) in ALL {
        let cells = IN_FLIGHT.map(|in_flight| format!("{} ns", nanoseconds(carried, in_flight)));
        println!("| {said} | {} |", cells.join(" | "));
    }
}

fn order(number: usize) -> String {
    format!("{{\"order\":\"order-{number:016}\"}}")
}

fn trace(number: usize) -> TraceId {
    TraceId::from_bytes((number as u128 + 1).to_be_bytes())
}

fn span(number: usize) -> SpanId {
    // The last byte picks the shard.
    SpanId::from_bytes((number as u64 + 0x10_0000).to_be_bytes())
}

fn mesh(number: usize) -> LibraryIds {
    let parent = Some(SpanId::from_bytes((number as u64 + 1).to_be_bytes()));
    LibraryIds {
        trace: TraceId::from_bytes((number as u128 + (1 << 64)).to_be_bytes()),
        parent,
        sampled: true,
    }
}

fn table(in_flight: usize, one_trace: bool) -> ServerSpans {
    let spans = ServerSpans::new(65_536);
    for number in 0..in_flight {
        let trace_id = if one_trace { trace(0) } else { trace(number) };
        let parent = Traceparent { trace_id, span_id: span(number), flags: TraceFlags::SAMPLED };
        let _ = spans.begin(Served {
            tracestate: format!("mt={}", span(number)),
            arguments: order(number).into_bytes().into(),
            library: Some(mesh(number)),
            ..Served::of(parent)
        });
    }
    // The first calls look at what the requests were given, a part at a time.
    (0..in_flight).for_each(|_| drop(spans.owners(&[order(0).as_bytes()])));
    spans
}

fn claim(state: &str, carrier: Carrier) -> Claim {
    let parent = Traceparent { trace_id: trace(0), span_id: span(0), flags: TraceFlags::SAMPLED };
    let context = TraceContext { parent, tracestate: Tracestate::parse([state.as_bytes()]) };
    Claim { parent: Some((context, carrier)), ..Claim::default() }
}

fn nanoseconds(carried: Carried, in_flight: usize) -> u128 {
    let spans = table(in_flight, carried == Carried::NothingInOneTrace);
    let (background, stuck) = (Background::default(), Stuck::default());
    let known =
        Known { spans: &spans, background: &background, stuck: &stuck, inference: Inference::Guarded };
    let plain = format!("mt={}", span(0));
    let claim = match carried {
        Carried::Meta => claim(&plain, Carrier::Meta),
        Carried::Shim | Carried::Contradicted => claim(&format!("{plain};s"), Carrier::Header),
        _ => Claim::default(),
    };
    let text = match carried {
        Carried::Value | Carried::Contradicted => order(1),
        Carried::Shim => order(0),
        _ => "{\"city\":\"Oslo\"}".to_owned(),
    };
    let library = match carried {
        Carried::MeshIds => Some(mesh(0)),
        Carried::UnknownMeshIds => Some(mesh(1 << 20)),
        _ => None,
    };
    let destination = Destination { host: "weather", port: 80, method: "tools/call", about: "" };
    let round = || {
        // What the call carries was read by others.
        let claims: Vec<_> = (0..TURNS).map(|_| claim.clone()).collect();
        let start = Instant::now();
        for claim in claims {
            let texts = [text.as_bytes(), b"".as_slice()];
            let call = Call { claim, library, mcp: true, session: Some("s"), destination, texts };
            black_box(links::parent_of_call(black_box(call), &known));
        }
        start.elapsed().as_nanos() / TURNS
    };
    (0..ROUNDS).map(|_| round()).min().unwrap_or_default()
}
