//! Each rule by a table of situations.

use super::*;
use crate::trace::context::Carrier;
use crate::trace::server_spans::{Place, Served};
use crate::w3c::tracestate::Tracestate;

const OURS: &str = "b7ad6b7169203331";
const OURS_TOO: &str = "c7ad6b7169203332";
const THEIRS: &str = "00f067aa0ba902b7";
const CALLER: &str = "2222222222222222";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER_TRACE: &str = "11111111111111111111111111111111";

fn id(text: &str) -> SpanId {
    SpanId::from_hex(text).unwrap()
}

fn context(trace: &str, span: &str, flags: &str, tracestate: &str) -> TraceContext {
    TraceContext {
        parent: Traceparent::parse(format!("00-{trace}-{span}-{flags}").as_bytes()).unwrap(),
        tracestate: Tracestate::parse([tracestate.as_bytes()]),
    }
}

fn claim(span: &str, tracestate: &str, carrier: Carrier) -> Claim {
    Claim { parent: Some((context(TRACE, span, "01", tracestate), carrier)), ..Claim::default() }
}

/// All that a sidecar knows.
struct World {
    spans: ServerSpans,
    background: Background,
    stuck: Stuck,
    inference: Inference,
}

impl World {
    fn new() -> Self {
        World {
            spans: ServerSpans::new(64),
            background: Background::default(),
            stuck: Stuck::default(),
            inference: Inference::Guarded,
        }
    }

    fn serve(&self, span: &str) -> Place {
        self.serve_of(TRACE, span, "01", Some(CALLER))
    }

    fn serve_of(&self, trace: &str, span: &str, flags: &str, caller: Option<&str>) -> Place {
        self.serve_with(trace, span, flags, caller, "")
    }

    fn serve_with(
        &self,
        trace: &str,
        span: &str,
        flags: &str,
        caller: Option<&str>,
        arguments: &str,
    ) -> Place {
        let context = context(trace, span, flags, "").parent;
        let tracestate = format!("mt={span},a=1");
        let arguments = arguments.as_bytes().into();
        self.spans.begin(Served { tracestate, caller: caller.map(id), arguments, ..Served::of(context) })
    }

    fn parent(&self, claim: Claim, mcp: bool) -> Parent {
        self.parent_of(claim, mcp, "")
    }

    fn parent_by(&self, claim: Claim, library: LibraryIds) -> Parent {
        let World { spans, background, stuck, inference } = self;
        let known = Known { spans, background, stuck, inference: *inference };
        let (destination, library, texts) = (destination(), Some(library), [b"".as_slice(); 2]);
        parent_of_call(Call { claim, library, mcp: true, session: None, destination, texts }, &known)
    }

    fn parent_of(&self, claim: Claim, mcp: bool, text: &str) -> Parent {
        let World { spans, background, stuck, inference } = self;
        let known = Known { spans, background, stuck, inference: *inference };
        let (destination, texts) = (destination(), [text.as_bytes(), b""]);
        let (library, session) = (None, Some("s"));
        parent_of_call(Call { claim, library, mcp, session, destination, texts }, &known)
    }
}

fn destination() -> Destination<'static> {
    Destination { host: "weather", port: 80, method: "tools/call", about: "" }
}

fn reasons(parent: &Parent) -> Vec<(SpanId, &'static str)> {
    parent.links.iter().map(|link| (link.to.span_id, link.reason)).collect()
}

#[test]
fn a_context_of_ours_is_the_parent() {
    let marked = format!("mt={OURS};s");
    for (carrier, tracestate, method) in [
        (Carrier::Meta, "", Method::PropagatedMeta),
        (Carrier::Header, "", Method::PropagatedHeader),
        (Carrier::Meta, &marked, Method::PropagatedShim),
        (Carrier::Header, &marked, Method::PropagatedShim),
    ] {
        for mcp in [true, false] {
            let world = World::new();
            let _ = world.serve(OURS);
            let parent = world.parent(claim(OURS, tracestate, carrier), mcp);
            assert_eq!(parent.span, Some(id(OURS)));
            assert_eq!(parent.server_span, Some(id(OURS)));
            assert_eq!(parent.provenance.method, method);
            assert!(parent.provenance.exact && !parent.provenance.late && parent.links.is_empty());
        }
    }
}

/// An agent with a tracer of its own: its span is the parent, `mt` names ours.
#[test]
fn an_agents_own_span_is_the_parent_and_mt_names_ours() {
    let world = World::new();
    let _ = world.serve(OURS);
    let parent = world.parent(claim(THEIRS, &format!("mt={OURS}"), Carrier::Header), true);
    assert_eq!((parent.span, parent.server_span), (Some(id(THEIRS)), Some(id(OURS))));
    assert!(parent.provenance.exact);
    let parent = world.parent(claim(THEIRS, "mt=1111111111111111", Carrier::Header), true);
    assert_eq!((parent.span, parent.server_span), (Some(id(THEIRS)), None), "an id that is not ours");
    // Its word stands, but is not proved where MCP clients are known to be wrong.
    let _ = world.serve(OURS_TOO);
    let cases = [(Carrier::Header, true, false), (Carrier::Header, false, true), (Carrier::Meta, true, true)];
    for (carrier, mcp, exact) in cases {
        let parent = world.parent(claim(THEIRS, &format!("mt={OURS}"), carrier), mcp);
        assert_eq!((parent.span, parent.provenance.exact), (Some(id(THEIRS)), exact));
    }
    world.spans.never_a_parent(id(OURS));
    let parent = world.parent(claim(THEIRS, &format!("mt={OURS}"), Carrier::Header), true);
    assert_eq!((parent.span, parent.provenance.exact), (Some(id(THEIRS)), false));
}

/// What looks like ours and is not known is an old one; where no request ever
/// came through us, it is another sidecar's.
#[test]
fn an_id_of_ours_has_to_be_known() {
    let stale = || claim(OURS, &format!("mt={OURS}"), Carrier::Header);
    let world = World::new();
    assert_eq!(world.parent(stale(), true).span, Some(id(OURS)));
    world.spans.end(world.serve(OURS_TOO));
    let parent = world.parent(stale(), true);
    assert_eq!((parent.span, reasons(&parent)), (None, vec![(id(OURS), "unknown")]));
    assert!(world.stuck.knows("weather", "s"));
    // Vouched for, or no MCP: taken at its word.
    assert!(world.parent(stale(), false).span.is_some());
    assert!(world.parent(claim(OURS, &format!("mt={OURS};s"), Carrier::Header), true).span.is_some());
    assert!(world.parent(claim(OURS, &format!("mt={OURS}"), Carrier::Meta), true).span.is_some());
}

#[test]
fn a_sessions_context_is_never_a_parent() {
    for (tracestate, carrier) in
        [("", Carrier::Meta), ("", Carrier::Header), ("mt=00f067aa0ba902b7;s", Carrier::Meta)]
    {
        let world = World::new();
        world.spans.never_a_parent(id(THEIRS));
        let parent = world.parent(claim(THEIRS, tracestate, carrier), true);
        assert!(parent.context.is_none() && !parent.provenance.exact);
        assert_eq!(reasons(&parent), [(id(THEIRS), "session")]);
        assert_eq!(parent.provenance.method, Method::Background);
    }
}

#[test]
fn an_answered_request_is_a_late_parent_where_that_is_proved() {
    let marked = format!("mt={OURS};s");
    for (carrier, tracestate, taken) in
        [(Carrier::Meta, "", true), (Carrier::Header, &marked, true), (Carrier::Header, "", false)]
    {
        for mcp in [true, false] {
            let world = World::new();
            world.spans.end(world.serve(OURS));
            let parent = world.parent(claim(OURS, tracestate, carrier), mcp);
            assert_eq!((parent.span.is_some(), parent.provenance.late), (taken, taken));
            assert_eq!(parent.provenance.exact, taken);
            let links = if taken { vec![] } else { vec![(id(OURS), "answered")] };
            assert_eq!(reasons(&parent), links);
        }
    }
}

/// A late HTTP call is not taken for one of the request that is in flight; an
/// MCP message with an old context may well be one.
#[test]
fn an_old_context_hides_the_parent_of_mcp_only() {
    for (mcp, method) in [(false, Method::Ambiguous), (true, Method::InferredSingle)] {
        let world = World::new();
        world.spans.end(world.serve(OURS));
        let _ = world.serve(OURS_TOO);
        let parent = world.parent(claim(OURS, "", Carrier::Header), mcp);
        assert_eq!(parent.provenance.method, method);
        assert_eq!(
            parent.links[0],
            Reference { to: claim(OURS, "", Carrier::Meta).parent.unwrap().0.parent, reason: "answered" }
        );
    }
}

#[test]
fn a_bare_header_of_mcp_is_not_proved_while_several_are_in_flight() {
    let world = World::new();
    let _ = world.serve(OURS);
    let _ = world.serve_of(OTHER_TRACE, OURS_TOO, "01", None);
    let bare = world.parent(claim(OURS, "", Carrier::Header), true);
    assert_eq!((bare.span, bare.provenance.method), (None, Method::Ambiguous));
    assert_eq!(reasons(&bare)[0], (id(OURS), "unverified"));
    assert_eq!(reasons(&bare)[1..], [(id(OURS_TOO), "candidate")], "no second link to the same span");
    let agreed = Claim { agreed: true, ..claim(OURS, "", Carrier::Header) };
    let unsampled =
        Claim { parent: Some((context(TRACE, OURS, "00", ""), Carrier::Header)), ..Claim::default() };
    for (claim, mcp) in [
        (claim(OURS, "", Carrier::Header), false),
        (claim(OURS, "", Carrier::Meta), true),
        (claim(OURS, &format!("mt={OURS};s"), Carrier::Header), true),
        (agreed, true),
        (unsampled, true),
    ] {
        assert_eq!(world.parent(claim, mcp).span, Some(id(OURS)));
    }
}

#[test]
fn a_session_that_sent_an_old_context_is_not_believed_again() {
    let world = World::new();
    world.spans.end(world.serve(OURS));
    world.parent(claim(OURS, "", Carrier::Header), true);
    let _ = world.serve(OURS_TOO);
    world.background.remember(&destination());
    let again = world.parent(claim(OURS_TOO, "", Carrier::Header), true);
    assert_eq!((again.span, reasons(&again)), (None, vec![(id(OURS_TOO), "unverified")]));
    let with_meta = world.parent(claim(OURS_TOO, "", Carrier::Meta), true);
    assert_eq!(with_meta.span, Some(id(OURS_TOO)));
}

#[test]
fn the_other_carrier_is_asked_where_the_first_names_a_session() {
    let world = World::new();
    world.spans.never_a_parent(id(THEIRS));
    let _ = world.serve(OURS);
    let both = |second: &str| Claim {
        parent: Some((context(TRACE, THEIRS, "01", ""), Carrier::Meta)),
        other: Some((context(TRACE, second, "01", ""), Carrier::Header)),
        agreed: false,
    };
    let parent = world.parent(both(OURS), true);
    assert_eq!((parent.span, parent.provenance.method), (Some(id(OURS)), Method::PropagatedHeader));
    assert_eq!(reasons(&parent), [(id(THEIRS), "other_carrier")]);
    let parent = world.parent(both(CALLER), true);
    assert_eq!(parent.provenance.method, Method::InferredSingle, "an unknown one proves nothing");
}

#[test]
fn nothing_in_flight_is_background_and_remembered() {
    let world = World::new();
    let parent = world.parent(Claim::default(), true);
    assert_eq!(parent.provenance.method, Method::Background);
    assert!(parent.context.is_none() && parent.sampled.is_none() && parent.links.is_empty());
    assert!(world.background.knows(&destination()));
    // From now on that destination proves nothing.
    let _ = world.serve(OURS);
    let parent = world.parent(Claim::default(), true);
    assert_eq!((parent.provenance.method, parent.provenance.candidates), (Method::Ambiguous, 1));
    assert_eq!((parent.span, reasons(&parent)), (None, vec![(id(OURS), "candidate")]));
}

/// What is proved to be late says nothing of its destination.
#[test]
fn a_late_call_is_not_background() {
    let world = World::new();
    world.spans.end(world.serve(OURS));
    world.parent(claim(OURS, "", Carrier::Meta), true);
    assert!(!world.background.knows(&destination()));
}

#[test]
fn the_one_in_flight_is_the_parent_and_marked_as_inferred() {
    let single = |world: &World| {
        let parent = world.parent(Claim::default(), true);
        (parent.provenance.method, parent.span, parent.provenance.exact, reasons(&parent))
    };
    let mut world = World::new();
    let _ = world.serve(OURS);
    assert_eq!(single(&world), (Method::InferredSingle, Some(id(OURS)), false, vec![]));
    // The state that the agent was given goes on; whose baggage to send is not guessed.
    let parent = world.parent(Claim::default(), true);
    assert_eq!(parent.context.unwrap().tracestate.unwrap().get("a"), Some("1"));
    assert_eq!(parent.server_span, None);
    world.inference = Inference::Links;
    let link = vec![(id(OURS), "inferred.single")];
    assert_eq!(single(&world), (Method::InferredSingle, None, false, link));
    world.inference = Inference::Off;
    assert_eq!(single(&world), (Method::Ambiguous, None, false, vec![]));
    world.inference = Inference::Guarded;
    let _ = world.spans.begin_unnamed();
    assert_eq!(single(&world).0, Method::Ambiguous, "somebody else may have made the call");
}

/// What was answered while the one in flight worked may be making calls still.
#[test]
fn the_one_in_flight_has_to_have_been_alone() {
    let method = |world: &World| world.parent(Claim::default(), true).provenance.method;
    let world = World::new();
    let before = world.serve(OURS_TOO);
    let ours = world.serve(OURS);
    world.spans.end(before);
    assert_eq!(method(&world), Method::Ambiguous, "it began beside another");
    world.spans.end(ours);
    let _ = world.serve(OURS);
    assert_eq!(method(&world), Method::InferredSingle);
    // A probe that only asks leaves nothing behind.
    let context = context(TRACE, OURS_TOO, "01", "").parent;
    world.spans.end(world.spans.begin(Served { safe: true, ..Served::of(context) }));
    assert_eq!(method(&world), Method::InferredSingle);
    world.spans.end(world.serve(OURS_TOO));
    assert_eq!(method(&world), Method::Ambiguous, "another was answered meanwhile");
}

#[test]
fn one_trace_in_flight_is_the_trace_of_the_call() {
    let world = World::new();
    let _ = world.serve(OURS);
    let _ = world.serve(OURS_TOO);
    let parent = world.parent(Claim::default(), true);
    assert_eq!((parent.provenance.method, parent.provenance.exact), (Method::TraceCommon, false));
    assert_eq!(parent.provenance.candidates, 2);
    assert_eq!(parent.span, Some(id(CALLER)));
    assert_eq!(parent.context.unwrap().parent.trace_id.to_string(), TRACE);
    assert_eq!(parent.links.len(), 2);
    // Callers that differ leave the parent open, and other traces the trace.
    let _ = world.serve_of(TRACE, "d7ad6b7169203333", "01", None);
    let parent = world.parent(Claim::default(), true);
    assert_eq!((parent.provenance.method, parent.span), (Method::TraceCommon, None));
    assert_eq!(parent.context.unwrap().parent.trace_id.to_string(), TRACE);
    let _ = world.serve_of(OTHER_TRACE, "e7ad6b7169203334", "01", None);
    let parent = world.parent(Claim::default(), true);
    assert_eq!((parent.provenance.method, parent.context), (Method::Ambiguous, None));
}

#[test]
fn a_common_trace_is_guarded_like_a_single_one() {
    let world = World::new();
    let _ = world.serve(OURS);
    let _ = world.serve(OURS_TOO);
    world.background.remember(&destination());
    assert_eq!(world.parent(Claim::default(), true).provenance.method, Method::Ambiguous);
}

#[test]
fn a_root_among_candidates_is_recorded_if_one_of_them_is() {
    for (flags, sampled, links) in
        [(["00", "00"], false, 0), (["00", "01"], true, 1), (["01", "01"], true, 2)]
    {
        let world = World::new();
        let _ = world.serve_of(TRACE, OURS, flags[0], None);
        let _ = world.serve_of(OTHER_TRACE, OURS_TOO, flags[1], None);
        let parent = world.parent(Claim::default(), true);
        assert_eq!((parent.provenance.method, parent.sampled), (Method::Ambiguous, Some(sampled)));
        assert_eq!(parent.links.len(), links, "only what is recorded is linked to");
    }
}

#[test]
fn a_call_links_to_eight_candidates_at_most() {
    let world = World::new();
    for number in 1..=20 {
        let _ = world.serve_of(&format!("{number:032x}"), &format!("{number:016x}"), "01", None);
    }
    let parent = world.parent(Claim::default(), true);
    assert_eq!((parent.links.len(), parent.provenance.candidates), (8, 20));
}

const VALUE: &str = "order-1234567890-x";
const VALUE_TOO: &str = "order-1234567890-y";

/// A world of two requests with a value each.
fn two_orders(flags: [&str; 2]) -> World {
    let world = World::new();
    let _ = world.serve_with(TRACE, OURS, flags[0], None, VALUE);
    let _ = world.serve_with(OTHER_TRACE, OURS_TOO, flags[1], None, VALUE_TOO);
    world
}

#[test]
fn a_value_of_one_request_links_to_it_and_is_no_parent() {
    let both = format!("{VALUE} {VALUE_TOO}");
    let cases: [(&str, Method, &[&str]); 4] = [
        (VALUE_TOO, Method::InferredUniqueValue, &[OURS_TOO]),
        (VALUE, Method::InferredUniqueValue, &[OURS]),
        ("order-9876543210-z", Method::Ambiguous, &[OURS, OURS_TOO]),
        (&both, Method::Ambiguous, &[OURS, OURS_TOO]),
    ];
    for (text, method, linked) in cases {
        let parent = two_orders(["01", "01"]).parent_of(Claim::default(), true, text);
        assert_eq!((parent.provenance.method, parent.provenance.exact, parent.span), (method, false, None));
        let links: Vec<_> = linked.iter().map(|text| id(text)).collect();
        assert_eq!(parent.links.iter().map(|link| link.to.span_id).collect::<Vec<_>>(), links, "{text}");
        let reason = if linked.len() == 1 { "inferred.unique_value" } else { "candidate" };
        assert!(parent.links.iter().all(|link| link.reason == reason));
    }
    // Known or not, what is not recorded is not linked to.
    let parent = two_orders(["01", "00"]).parent_of(Claim::default(), true, VALUE_TOO);
    assert_eq!((parent.provenance.method, parent.links.len()), (Method::InferredUniqueValue, 0));
    let mut off = two_orders(["01", "01"]);
    off.inference = Inference::Off;
    let parent = off.parent_of(Claim::default(), true, VALUE_TOO);
    assert_eq!((parent.provenance.method, parent.links.len()), (Method::Ambiguous, 0));
}

#[test]
fn a_claim_is_contradicted_by_a_value_of_another_request() {
    let marked = format!("mt={OURS};s");
    let own_span = format!("mt={OURS}");
    let (plain, shim) = (claim(OURS, "", Carrier::Meta), claim(OURS, &marked, Carrier::Header));
    for claim in [plain, shim, claim(THEIRS, &own_span, Carrier::Meta)] {
        let both = format!("{VALUE} {VALUE_TOO}");
        for (text, conflict) in [(VALUE_TOO, true), (VALUE, false), (&both, false), ("", false)] {
            let parent = two_orders(["01", "01"]).parent_of(claim.clone(), true, text);
            let named = claim.context().map(|context| context.parent.span_id);
            assert_eq!(parent.span, named, "the claim stands");
            assert_eq!(
                (parent.provenance.conflict, parent.provenance.exact),
                (conflict, !conflict),
                "{text}"
            );
            let links = if conflict { vec![(id(OURS_TOO), "conflict")] } else { vec![] };
            assert_eq!(reasons(&parent), links);
        }
    }
}

fn ids(trace: &str, parent: Option<&str>) -> LibraryIds {
    let trace = opentelemetry::trace::TraceId::from_hex(trace).unwrap();
    LibraryIds { trace, parent: parent.map(id), sampled: true }
}

impl World {
    fn serve_mesh(&self, trace: &str, span: &str, library: LibraryIds) {
        let context = context(trace, span, "01", "").parent;
        let _ = self.spans.begin(Served {
            library: Some(library),
            caller: library.parent,
            ..Served::of(context)
        });
    }
}

#[test]
fn a_library_that_passes_its_headers_on_is_believed() {
    let world = World::new();
    let _ = world.serve(OURS);
    let _ = world.serve_of(OTHER_TRACE, OURS_TOO, "01", None);
    let parent = world.parent(claim(OURS, "", Carrier::Library), true);
    assert_eq!((parent.span, parent.provenance.method), (Some(id(OURS)), Method::PropagatedLibrary));
    assert!(parent.provenance.exact);
}

#[test]
fn the_ids_of_a_library_name_the_request_that_came_with_them() {
    let (t, p, own) = ("3333333333333333333333333333333a", "4444444444444444", "5555555555555555");
    let world = World::new();
    // Three requests: two of one trace of the library, one of another.
    world.serve_mesh(TRACE, OURS, ids(t, Some(p)));
    world.serve_mesh(t, OURS_TOO, ids(t, Some(own)));
    world.serve_mesh(OTHER_TRACE, "d7ad6b7169203333", ids("3333333333333333333333333333333b", None));
    let look = |library: LibraryIds| {
        let parent = world.parent_by(Claim::default(), library);
        (parent.provenance.method, parent.span, parent.provenance.exact)
    };
    let by = Method::PropagatedLibrary;
    assert_eq!(look(ids(t, Some(p))), (by, Some(id(OURS)), true), "both ids came back");
    // A span of the library's own, in a trace of one request or of two.
    let other = ids("3333333333333333333333333333333b", Some("6666666666666666"));
    assert_eq!(look(other), (by, Some(id("d7ad6b7169203333")), false));
    assert_eq!(look(ids(t, Some("6666666666666666"))), (by, None, false));
    // The same ids twice: their trace, and the caller that they share.
    world.serve_mesh(TRACE, "e7ad6b7169203334", ids(t, Some(p)));
    assert_eq!(look(ids(t, Some(p))), (by, Some(id(p)), false));
    // What holds of W3C is better.
    let parent = world.parent_by(claim(OURS, "", Carrier::Meta), ids(t, Some(own)));
    assert_eq!(parent.provenance.method, Method::PropagatedMeta);
}

/// A trace of the library's own making is kept where nothing better is known.
#[test]
fn an_unknown_trace_of_a_library_is_better_than_none() {
    let own = ids("3333333333333333333333333333333a", Some("4444444444444444"));
    let world = World::new();
    let _ = world.serve(OURS);
    let parent = world.parent_by(Claim::default(), own);
    assert_eq!((parent.provenance.method, parent.span), (Method::InferredSingle, Some(id(OURS))));
    let _ = world.serve_of(OTHER_TRACE, OURS_TOO, "01", None);
    let parent = world.parent_by(Claim::default(), own);
    assert_eq!((parent.provenance.method, parent.span), (Method::PropagatedLibrary, own.parent));
    assert_eq!(parent.context.unwrap().parent.trace_id, own.trace);
    assert_eq!((parent.provenance.exact, parent.links.len()), (false, 2));
}
