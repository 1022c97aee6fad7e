//! The ids of the library MCP Mesh: which requests in flight came with them,
//! and which came with one request only. A call with ids that came with several
//! may be of any of them, and one that was answered may be calling still.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::mem;

use opentelemetry::trace::TraceId;
use parking_lot::Mutex;

use super::holders::{Holder, Holders};
use super::keyed::Keyed;
use crate::trace::context::LibraryIds;

/// How many different ids are remembered at least: those that came last.
const MAX_REMEMBERED_IDS: usize = 4 * 1024;

/// The ids that came with requests, those of agents that have any.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// By their hash, whether they came more than once: those of late, and
    /// those before them. Together at most twice `MAX_REMEMBERED_IDS`.
    generations: Mutex<[HashMap<u64, Times, Keyed>; 2]>,
    /// By the hash of both ids and by that of the trace, who is in flight.
    in_flight: Holders,
    secret: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    Often,
}

impl Came {
    /// Remembers that a request came with these; a trace alone names none.
    pub(super) fn remember(&self, ids: LibraryIds) {
        let Some(hash) = self.hash(ids) else { return };
        let [late, early] = &mut *self.generations.lock();
        let known = late.contains_key(&hash) || early.contains_key(&hash);
        if late.len() >= MAX_REMEMBERED_IDS && !late.contains_key(&hash) {
            *early = mem::take(late);
        }
        late.insert(hash, if known { Times::Often } else { Times::Once });
    }

    /// Whether they came with one request, as far as is known.
    pub(super) fn once(&self, ids: LibraryIds) -> bool {
        let Some(hash) = self.hash(ids) else { return false };
        let [late, early] = &*self.generations.lock();
        late.get(&hash).or_else(|| early.get(&hash)) == Some(&Times::Once)
    }

    /// A request that came with these is in flight, under this id.
    pub(super) fn begin(&self, id: u64, ids: LibraryIds) {
        self.in_flight.add(id, self.hashes(ids));
    }

    /// It was answered.
    pub(super) fn end(&self, id: u64, ids: LibraryIds) {
        self.in_flight.remove(id, self.hashes(ids));
    }

    /// Which requests in flight came with both of these ids.
    pub(super) fn with_both(&self, ids: LibraryIds) -> Option<Holder> {
        self.in_flight.of(self.hash(ids)?)
    }

    /// Which requests in flight came with this trace.
    pub(super) fn with_trace(&self, trace: TraceId) -> Option<Holder> {
        self.in_flight.of(self.secret.hash_one(trace))
    }

    fn hash(&self, ids: LibraryIds) -> Option<u64> {
        Some(self.secret.hash_one((ids.trace, ids.parent?)))
    }

    fn hashes(&self, ids: LibraryIds) -> impl Iterator<Item = u64> {
        self.hash(ids).into_iter().chain([self.secret.hash_one(ids.trace)])
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanId;

    use super::*;

    fn ids(number: usize) -> LibraryIds {
        let parent = Some(SpanId::from_bytes((number as u64 + 1).to_be_bytes()));
        LibraryIds { trace: TraceId::from_bytes([1; 16]), parent, sampled: true }
    }

    #[test]
    fn ids_that_came_twice_are_not_those_of_one() {
        let came = Came::default();
        assert!(!came.once(ids(1)), "never came");
        came.remember(ids(1));
        assert!(came.once(ids(1)) && !came.once(ids(2)));
        came.remember(ids(1));
        assert!(!came.once(ids(1)));
        let trace_alone = LibraryIds { parent: None, ..ids(1) };
        came.remember(trace_alone);
        assert!(!came.once(trace_alone));
    }

    #[test]
    fn who_is_in_flight_is_known_by_both_ids_and_by_the_trace() {
        let came = Came::default();
        let both = |number| came.with_both(ids(number)).and_then(|holder| holder.alone());
        let trace = || came.with_trace(ids(0).trace).and_then(|holder| holder.alone());
        came.begin(7, ids(1));
        assert_eq!((both(1), both(2), trace()), (Some(7), None, Some(7)));
        came.begin(8, ids(2));
        assert_eq!((both(1), both(2), trace()), (Some(7), Some(8), None));
        came.end(7, ids(1));
        assert_eq!((both(1), both(2), trace()), (None, Some(8), Some(8)));
        came.end(8, ids(2));
        assert_eq!(came.in_flight.len(), 0);
    }

    #[test]
    fn the_last_ids_are_remembered_and_no_more_than_twice_as_many() {
        let came = Came::default();
        came.remember(ids(0));
        came.remember(ids(0));
        (1..MAX_REMEMBERED_IDS).for_each(|number| came.remember(ids(number)));
        assert!(!came.once(ids(0)), "came twice");
        (MAX_REMEMBERED_IDS..10 * MAX_REMEMBERED_IDS).for_each(|number| {
            came.remember(ids(number));
            came.remember(ids(number));
            assert!(!came.once(ids(number)));
        });
        let held: usize = came.generations.lock().iter().map(HashMap::len).sum();
        assert!(held > MAX_REMEMBERED_IDS && held <= 2 * MAX_REMEMBERED_IDS, "{held}");
        came.remember(ids(0));
        assert!(came.once(ids(0)), "forgotten meanwhile");
    }
}
