//! Who could have made a call that says nothing: a bounded look at the
//! requests in flight.

use std::sync::atomic::Ordering;

use opentelemetry::trace::SpanId;

use super::{Live, ServerSpans, lock};
use crate::trace::context::LibraryIds;
use crate::w3c::traceparent::Traceparent;

/// The most requests in flight that one call looks at, so that its cost has a bound.
pub const MAX_LOOKED_AT: usize = 1_024;

/// The most candidates that a span links to.
pub const MAX_LINKED: usize = 8;

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The ids and flags that the agent was given.
    pub context: Traceparent,
    /// The span that the caller named as its own.
    pub caller: Option<SpanId>,
}

/// What the requests in flight have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates {
    /// How many there are, those that are only counted included.
    pub count: usize,
    /// Whether all of them were looked at.
    pub complete: bool,
    /// Whether those that were looked at are of one trace.
    pub one_trace: bool,
    /// The span that called them all, where it is one.
    pub one_caller: Option<SpanId>,
    /// Whether any of them is recorded.
    pub any_sampled: bool,
    /// The first that was looked at.
    first: Option<Candidate>,
    /// The first that are recorded.
    recorded: [Option<Candidate>; MAX_LINKED],
    looked_at: usize,
    kept: usize,
}

impl Candidates {
    fn of_none() -> Self {
        Candidates { complete: true, ..Candidates::default() }
    }

    /// One of them, where there are any.
    pub fn first(&self) -> Option<&Candidate> {
        self.first.as_ref()
    }

    /// Those that are recorded, at most [`MAX_LINKED`].
    pub fn recorded(&self) -> impl Iterator<Item = &Candidate> {
        self.recorded.iter().flatten()
    }

    /// The one request in flight, where it is one.
    pub fn single(&self) -> Option<&Candidate> {
        self.first.as_ref().filter(|_| self.complete && self.looked_at == 1)
    }

    /// Takes one more into account; says whether the next has to be looked at.
    fn add(&mut self, candidate: &Candidate) -> bool {
        match &self.first {
            None => {
                self.one_trace = true;
                self.one_caller = candidate.caller;
                self.first = Some(*candidate);
            }
            Some(first) => {
                self.one_trace &= first.context.trace_id == candidate.context.trace_id;
                self.one_caller = self.one_caller.filter(|caller| candidate.caller == Some(*caller));
            }
        }
        self.looked_at += 1;
        self.count = self.looked_at;
        if candidate.context.is_sampled() {
            self.any_sampled = true;
            if let Some(slot) = self.recorded.get_mut(self.kept) {
                *slot = Some(*candidate);
                self.kept += 1;
            }
        }
        self.looked_at < MAX_LOOKED_AT && (self.one_trace || self.kept < MAX_LINKED)
    }
}

impl ServerSpans {
    /// Looks at the requests in flight, at most [`MAX_LOOKED_AT`], and no
    /// further than it takes to know what they have in common. A request that
    /// is in flight for as long as this takes is never missed.
    pub fn candidates(&self) -> Candidates {
        let named = self.named.load(Ordering::Relaxed);
        let unnamed = self.unnamed.load(Ordering::Relaxed);
        let mut all = if named > 0 { self.look(|_| true) } else { Candidates::of_none() };
        all.count = named + unnamed;
        all.complete &= unnamed == 0;
        all
    }

    /// The same for those that came with these ids of the library MCP Mesh:
    /// both of them, which is said too, or else the trace alone.
    pub fn of_library(&self, ids: LibraryIds) -> (Candidates, bool) {
        let both = self.look(|live| {
            live.library.is_some_and(|l| (l.trace, l.parent) == (ids.trace, ids.parent) && l.parent.is_some())
        });
        if both.count > 0 {
            return (both, true);
        }
        let of_trace = |live: &Live| {
            live.candidate.context.trace_id == ids.trace || live.library.is_some_and(|l| l.trace == ids.trace)
        };
        (self.look(of_trace), false)
    }

    fn look(&self, wanted: impl Fn(&Live) -> bool) -> Candidates {
        let mut all = Candidates::of_none();
        for shard in &self.shards {
            for live in lock(shard).live.iter().filter(|live| wanted(live)) {
                if !all.add(&live.candidate) {
                    all.complete = false;
                    return all;
                }
            }
        }
        all
    }
}
