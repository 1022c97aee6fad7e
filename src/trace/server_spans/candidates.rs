//! Who could have made a call that says nothing: a bounded look at the
//! requests in flight.

use std::sync::atomic::Ordering;

use opentelemetry::trace::SpanId;

use super::{ServerSpans, Shard, key};
use crate::trace::context::LibraryIds;
use crate::w3c::traceparent::Traceparent;

/// The most requests in flight that one call looks at, so that its cost has a bound.
pub const MAX_LOOKED_AT: usize = 256;

/// The most requests in flight that one call searches for those of its trace.
const MAX_SEARCHED: usize = 4 * 1024;

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
    /// Whether any of those that were looked at is recorded.
    pub any_sampled: bool,
    /// Whether the first began with nothing else in flight, and nothing was
    /// answered since that may still make calls.
    pub undisturbed: bool,
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
        let mut all = Candidates::of_none();
        if named > 0 {
            self.look(&mut all, |_, _| true);
        }
        all.count = named + unnamed;
        all.complete &= unnamed == 0;
        all
    }

    /// The same for those that came with these ids of the library MCP Mesh:
    /// both of them, or else the trace alone. Says also whether it is proved
    /// to be one of those: they came with both, and no other request did,
    /// which may have been answered and call still.
    pub fn of_library(&self, ids: LibraryIds) -> (Candidates, bool) {
        let mut all = Candidates::of_none();
        let came_with = |shard: &Shard, at: usize, wanted: &dyn Fn(LibraryIds) -> bool| {
            shard.details.get(at).and_then(|details| details.library).is_some_and(wanted)
        };
        if let Some(holder) = self.came.with_both(ids) {
            match holder.alone() {
                Some(id) => self.look_at(&mut all, id),
                None => {
                    let both = |l: LibraryIds| (l.trace, l.parent) == (ids.trace, ids.parent);
                    self.look(&mut all, |shard, at| came_with(shard, at, &both));
                }
            }
            return (all, self.came.once(ids));
        }
        // Others may be of the same trace without the library.
        let of_trace = |candidate: &Candidate| candidate.context.trace_id == ids.trace;
        match self.came.with_trace(ids.trace).map(|holder| holder.alone()) {
            None => self.look(&mut all, |shard, at| of_trace(&shard.live[at])),
            Some(Some(id)) => self.look(&mut all, |shard, at| {
                let candidate = &shard.live[at];
                key(candidate.context.span_id) == id || of_trace(candidate)
            }),
            Some(None) => self.look(&mut all, |shard, at| {
                of_trace(&shard.live[at]) || came_with(shard, at, &|l| l.trace == ids.trace)
            }),
        }
        (all, false)
    }

    /// Looks at those wanted among the first [`MAX_SEARCHED`].
    fn look(&self, all: &mut Candidates, wanted: impl Fn(&Shard, usize) -> bool) {
        let mut left = MAX_SEARCHED;
        for shard in &self.shards {
            let shard = shard.lock();
            for at in 0..shard.live.len() {
                if left == 0 {
                    all.complete = false;
                    return;
                }
                left -= 1;
                if wanted(&shard, at) && !self.take(all, &shard, at) {
                    all.complete = false;
                    return;
                }
            }
        }
    }

    /// Looks at the one of this id.
    fn look_at(&self, all: &mut Candidates, id: u64) {
        let shard = self.shard(SpanId::from_bytes(id.to_be_bytes()));
        if let Some(entry) = shard.entries.get(&id).filter(|entry| entry.in_flight > 0) {
            self.take(all, &shard, entry.slot);
        }
    }

    /// Takes the request at this place into account; says whether the next has to be looked at.
    fn take(&self, all: &mut Candidates, shard: &Shard, at: usize) -> bool {
        let (Some(candidate), Some(details)) = (shard.live.get(at), shard.details.get(at)) else {
            return true;
        };
        if all.looked_at == 0 {
            all.undisturbed = details.alone_since == Some(self.answered.load(Ordering::Relaxed));
        }
        all.add(candidate)
    }
}
