//! What is made of a call that carries nothing.

use super::*;

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

#[test]
fn a_connection_that_is_not_read_says_that_nothing_is_known() {
    let world = World::new();
    assert_eq!(of_connection(&world.spans), Method::Background);
    let place = world.serve(OURS);
    assert_eq!(of_connection(&world.spans), Method::Ambiguous);
    world.spans.end(place);
    assert_eq!(of_connection(&world.spans), Method::Background);
}
