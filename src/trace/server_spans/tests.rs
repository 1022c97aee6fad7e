//! The table keeps its bounds and its word.

use super::*;
use crate::trace::ids::Ids;

fn id(text: &str) -> SpanId {
    SpanId::from_hex(text).unwrap()
}

const OURS: &str = "b7ad6b7169203331";
const THEIRS: &str = "00f067aa0ba902b7";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn context(trace: &str, span: SpanId, flags: &str) -> Traceparent {
    Traceparent::parse(format!("00-{trace}-{span}-{flags}").as_bytes()).unwrap()
}

fn served(span: SpanId) -> Served {
    Served::of(context(TRACE, span, "01"))
}

fn entries(spans: &ServerSpans) -> usize {
    spans.shards.iter().map(|shard| shard.lock().entries.len()).sum()
}

#[test]
fn baggage_is_found_by_the_id() {
    let spans = ServerSpans::new(64);
    let place = spans.begin(Served { baggage: Baggage::parse([b"k=v".as_slice()]), ..served(id(OURS)) });
    assert_eq!(spans.baggage(id(OURS)).unwrap().as_str(), "k=v");
    spans.end(place);
    assert_eq!(spans.baggage(id(OURS)).unwrap().as_str(), "k=v");
    assert!(spans.baggage(id(THEIRS)).is_none());
}

#[test]
fn the_context_that_the_agent_was_given_is_found_while_it_works() {
    let spans = ServerSpans::new(64);
    let given = Served { tracestate: format!("mt={OURS},a=1"), ..served(id(OURS)) };
    let place = spans.begin(given);
    let found = spans.context(id(OURS)).unwrap();
    assert_eq!((found.parent.span_id, found.mesh_span()), (id(OURS), Some(id(OURS))));
    spans.end(place);
    assert!(spans.context(id(OURS)).is_none());
    assert_eq!(spans.standing(id(OURS)), Some(Standing::Ended));
}

#[test]
fn the_table_is_bounded_in_all_kinds() {
    let spans = ServerSpans::new(SHARDS * 4);
    let ids = Ids::seeded(1, 2);
    let places: Vec<_> = (0..1_000).map(|_| spans.begin(served(ids.span_id()))).collect();
    let counted = places.iter().filter(|place| **place == Place::Unnamed).count();
    assert_eq!(counted, 1_000 - SHARDS * 4);
    assert_eq!(spans.in_flight(), 1_000);
    assert!(!spans.candidates().complete, "those without room are unknown candidates");
    for place in places {
        spans.end(place);
        spans.never_a_parent(ids.span_id());
    }
    assert!(entries(&spans) <= SHARDS * 8, "{}", entries(&spans));
    assert_eq!(spans.in_flight(), 0);
    assert!(spans.shards.iter().all(|shard| shard.lock().live.is_empty()));
}

#[test]
fn a_live_id_that_turns_out_to_be_a_sessions_does_not_stay_for_ever() {
    let spans = ServerSpans::new(SHARDS);
    let ids = Ids::seeded(3, 4);
    for _ in 0..1_000 {
        let id = ids.span_id();
        let place = spans.begin(served(id));
        spans.never_a_parent(id);
        assert_eq!(spans.standing(id), Some(Standing::Session));
        spans.end(place);
    }
    assert!(entries(&spans) <= SHARDS * 2, "{}", entries(&spans));
    assert_eq!(spans.candidates().count, 0);
}

#[test]
fn an_id_that_comes_again_takes_one_place() {
    let spans = ServerSpans::new(SHARDS * 2);
    for _ in 0..1_000 {
        let first = spans.begin(served(id(OURS)));
        let second = spans.begin(served(id(OURS)));
        assert_eq!(spans.in_flight(), 2);
        spans.end(first);
        assert_eq!(spans.standing(id(OURS)), Some(Standing::InFlight));
        spans.end(second);
    }
    assert_eq!(spans.standing(id(OURS)), Some(Standing::Ended));
    assert_eq!((spans.in_flight(), entries(&spans)), (0, 1));
}

/// Requests that come and go do not push a session out, and neither do other
/// sessions while it is in use.
#[test]
fn a_session_in_use_is_remembered() {
    let spans = ServerSpans::new(SHARDS);
    let ids = Ids::seeded(5, 6);
    spans.never_a_parent(id(OURS));
    for _ in 0..1_000 {
        let place = spans.begin(served(ids.span_id()));
        spans.end(place);
        spans.never_a_parent(ids.span_id());
        assert_eq!(spans.standing(id(OURS)), Some(Standing::Session));
    }
}

#[test]
fn candidates_say_what_they_have_in_common() {
    let other = "11111111111111111111111111111111";
    let (caller, stranger) = (id("2222222222222222"), id("3333333333333333"));
    // Trace, caller and flags of each; then one trace, one caller, any recorded.
    type Case<'a> = (&'a [(&'a str, Option<SpanId>, &'a str)], bool, Option<SpanId>, bool);
    let cases: [Case<'_>; 6] = [
        (&[], false, None, false),
        (&[(TRACE, Some(caller), "01")], true, Some(caller), true),
        (&[(TRACE, Some(caller), "00"), (TRACE, Some(caller), "00")], true, Some(caller), false),
        (&[(TRACE, Some(caller), "01"), (TRACE, Some(stranger), "01")], true, None, true),
        (&[(TRACE, Some(caller), "01"), (TRACE, None, "01")], true, None, true),
        (&[(TRACE, Some(caller), "00"), (other, Some(caller), "01")], false, Some(caller), true),
    ];
    for (requests, one_trace, one_caller, any_sampled) in cases {
        let spans = ServerSpans::new(64);
        let ids = Ids::seeded(7, 8);
        for (trace, caller, flags) in requests {
            let context = context(trace, ids.span_id(), flags);
            let _ = spans.begin(Served { context, caller: *caller, ..served(id(OURS)) });
        }
        let all = spans.candidates();
        assert_eq!((all.count, all.complete), (requests.len(), true));
        assert_eq!((all.one_trace, all.one_caller, all.any_sampled), (one_trace, one_caller, any_sampled));
        assert_eq!(all.single().is_some(), requests.len() == 1);
        assert_eq!(all.recorded().count(), requests.iter().filter(|(_, _, f)| *f == "01").count());
        let place = spans.begin_unnamed();
        let more = spans.candidates();
        assert_eq!((more.count, more.complete), (requests.len() + 1, false));
        assert!(more.single().is_none());
        spans.end(place);
    }
}

#[test]
fn no_call_looks_at_more_than_the_bound() {
    let spans = ServerSpans::new(65_536);
    let ids = Ids::seeded(9, 10);
    for _ in 0..=MAX_LOOKED_AT {
        let _ = spans.begin(served(ids.span_id()));
    }
    let all = spans.candidates();
    assert_eq!((all.count, all.complete), (MAX_LOOKED_AT + 1, false));
    assert_eq!(all.recorded().count(), MAX_LINKED);
}

/// Beyond the bound it is not said that there is none, nor that there is one.
#[test]
fn so_many_are_searched_for_those_of_a_trace_and_no_more() {
    let spans = ServerSpans::new(65_536);
    let ids = Ids::seeded(3, 4);
    let unknown = LibraryIds { trace: ids.trace_id(), parent: Some(ids.span_id()), sampled: true };
    let of = |trace_id| {
        Served::of(Traceparent { trace_id, span_id: ids.span_id(), ..context(TRACE, id(OURS), "01") })
    };
    let mut traces = Vec::new();
    for in_flight in [100, 4 * 1024, 4 * 1024 + 1] {
        while spans.in_flight() < in_flight {
            traces.push(ids.trace_id());
            let _ = spans.begin(of(traces[traces.len() - 1]));
        }
        let (found, proved) = spans.of_library(unknown);
        assert!(!proved && found.first().is_none());
        assert_eq!(found.complete, in_flight <= 4 * 1024, "{in_flight}");
    }
    let known = traces.iter().filter(|trace| {
        let (found, _) = spans.of_library(LibraryIds { trace: **trace, ..unknown });
        assert!(found.single().is_none(), "another may be beyond the bound");
        found.first().is_some()
    });
    assert_eq!(known.count(), 4 * 1024);
}
