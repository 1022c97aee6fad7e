//! What a call's arguments say of whose it is.

use super::*;

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

/// A pool that mixes up contexts goes on with the first one, whose request is
/// answered soon. A late call that holds what its request was given is right.
#[test]
fn a_late_claim_is_contradicted_too() {
    let marked = format!("mt={OURS};s");
    for (given, text, conflict) in [
        (VALUE, VALUE_TOO, true),
        (VALUE, VALUE, false),
        (VALUE, "order-9876543210-z", false),
        (VALUE_TOO, VALUE_TOO, false),
        ("", VALUE_TOO, true),
    ] {
        let world = World::new();
        let first = world.serve_with(TRACE, OURS, "01", None, given);
        world.spans.end(first);
        let _ = world.serve_with(OTHER_TRACE, OURS_TOO, "01", None, VALUE_TOO);
        let parent = world.parent_of(claim(OURS, &marked, Carrier::Header), false, text);
        assert_eq!((parent.span, parent.provenance.late), (Some(id(OURS)), true), "the claim stands");
        assert_eq!(
            (parent.provenance.conflict, parent.provenance.exact),
            (conflict, !conflict),
            "{given} {text}"
        );
        let links = if conflict { vec![(id(OURS_TOO), "conflict")] } else { vec![] };
        assert_eq!(reasons(&parent), links);
    }
}
