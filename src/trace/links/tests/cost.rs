//! What a decision allocates does not grow with how many requests are in flight.

use allocation_counter::measure;

use super::*;

/// The most allocations of one decision: the candidates' links, the hashes of
/// a call's values and of their owners, and a context with its state.
const MAX_ALLOCATIONS: u64 = 8;

/// The same in bytes: eight links, eight hashes, eight owners, one state.
const MAX_BYTES: u64 = 2_048;

fn order(number: usize) -> String {
    format!("order-{number:016}")
}

fn mesh(number: usize) -> LibraryIds {
    ids_of(&format!("{:032x}", number + 1), Some(&format!("{:016x}", number + 1)))
}

fn ids_of(trace: &str, parent: Option<&str>) -> LibraryIds {
    let trace = opentelemetry::trace::TraceId::from_hex(trace).unwrap();
    LibraryIds { trace, parent: parent.map(id), sampled: true }
}

/// So many requests in flight, all recorded, each with a value and ids of the
/// library that only it was given.
fn world(in_flight: usize, one_trace: bool) -> World {
    let world = World { spans: ServerSpans::new(65_536), ..World::new() };
    for number in 0..in_flight {
        let trace = if one_trace { TRACE.to_owned() } else { format!("{:032x}", number + 1) };
        let span = format!("{:016x}", 0x10_0000 + number);
        let context = context(&trace, &span, "01", "").parent;
        let _ = world.spans.begin(Served {
            tracestate: format!("mt={span},a=1"),
            caller: Some(id(CALLER)),
            arguments: order(number).into_bytes().into(),
            library: Some(mesh(number)),
            ..Served::of(context)
        });
    }
    // Whoever asks first looks at what the requests were given, a part at a time.
    while world.spans.owners(&[order(0).as_bytes()]).is_empty() {}
    world
}

/// Allocations and bytes of one decision.
fn allocated(world: &World, claim: &Claim, library: Option<LibraryIds>, text: &str) -> (u64, u64) {
    let World { spans, background, stuck, inference } = world;
    let known = Known { spans, background, stuck, inference: *inference };
    let (destination, texts) = (destination(), [text.as_bytes(), b""]);
    // The call's own state was allocated by whoever read it.
    let call = Call { claim: claim.clone(), library, mcp: true, session: Some("s"), destination, texts };
    let mut parent = None;
    let info = measure(|| parent = Some(parent_of_call(call, &known)));
    assert!(parent.is_some());
    (info.count_total, info.bytes_total)
}

#[test]
fn what_a_decision_allocates_does_not_grow_with_what_is_in_flight() {
    let first = format!("{:016x}", 0x10_0000);
    let (ours, marked) = (format!("mt={first}"), format!("mt={first};s"));
    let trace = format!("{:032x}", 1);
    let named = |span: &str, state: &str, carrier| Claim {
        parent: Some((context(&trace, span, "01", state), carrier)),
        ..Claim::default()
    };
    let none = Claim::default();
    let unknown = ids_of("3333333333333333333333333333333a", Some("4444444444444444"));
    let (value, own) = (order(1), order(0));
    let cases: [(&str, bool, Claim, Option<LibraryIds>, &str); 9] = [
        ("nothing, traces of their own", false, none.clone(), None, ""),
        ("nothing, one trace", true, none.clone(), None, ""),
        ("nothing, a value", false, none.clone(), None, &value),
        ("`_meta`", false, named(&first, &ours, Carrier::Meta), None, &own),
        ("shim, contradicted", false, named(&first, &marked, Carrier::Header), None, &value),
        ("a bare header", false, named(&first, &ours, Carrier::Header), None, ""),
        ("an agent's own span", false, named(THEIRS, &ours, Carrier::Header), None, &own),
        ("ids of MCP Mesh", false, none.clone(), Some(mesh(0)), ""),
        ("unknown ids of MCP Mesh", false, none, Some(unknown), ""),
    ];
    for (name, one_trace, claim, library, text) in &cases {
        let by_number =
            [20, 100, 1_000].map(|in_flight| allocated(&world(in_flight, *one_trace), claim, *library, text));
        // Fewer where so many are in flight that not all are looked at.
        let grows = |pair: &[(u64, u64)]| pair[1].0 > pair[0].0 || pair[1].1 > pair[0].1;
        assert!(!by_number.windows(2).any(grows), "{name}: {by_number:?}");
        let (count, bytes) = by_number[0];
        assert!(count <= MAX_ALLOCATIONS && bytes <= MAX_BYTES, "{name}: {by_number:?}");
    }
}
