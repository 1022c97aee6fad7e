//! What a call carries, taken and refused.

use super::*;

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
