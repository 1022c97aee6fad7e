//! The traces of one shard of which something is in flight, or has just ended and left more to know
//! than held spans tell, and the sidecars around that have to do with them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::Instant;

use foldhash::quality::RandomState;
use opentelemetry::trace::TraceId;

use super::HELD_FOR;
use crate::trace::aged::Aged;

/// The most neighbours of one trace that are remembered.
const MAX_NEIGHBOURS: usize = 32;

/// Bounded in number, and in age once nothing is in flight.
#[derive(Debug)]
pub(super) struct Traces {
    in_flight: HashMap<TraceId, Known, RandomState>,
    ended: Aged<TraceId, Known>,
    capacity: usize,
}

/// What is known of a trace.
#[derive(Debug, Default)]
pub(super) struct Known {
    in_flight: usize,
    /// Whether it is to be sent.
    pub(super) kept: bool,
    /// Who else has to do with it, and whether they know that it is kept.
    neighbours: Vec<(SocketAddr, bool)>,
}

impl Traces {
    /// For this many traces in flight, and as many that have ended.
    pub(super) fn new(capacity: usize) -> Self {
        Traces { in_flight: HashMap::default(), ended: Aged::new(capacity), capacity }
    }

    /// One more request of the trace is in flight; answers whether there was room.
    pub(super) fn enter(&mut self, trace: TraceId) -> bool {
        if let Some(known) = self.in_flight.get_mut(&trace) {
            known.in_flight += 1;
            return true;
        }
        if self.in_flight.len() >= self.capacity {
            return false;
        }
        let known = if self.ended.is_empty() { None } else { self.ended.remove(&trace) };
        self.in_flight.insert(trace, Known { in_flight: 1, ..known.unwrap_or_default() });
        true
    }

    /// One less. Answers whether another trace had to make room.
    pub(super) fn leave(&mut self, trace: TraceId, now: Instant) -> bool {
        let Entry::Occupied(mut known) = self.in_flight.entry(trace) else { return false };
        known.get_mut().in_flight -= 1;
        if known.get().in_flight > 0 {
            return false;
        }
        let known = known.remove();
        // Most traces are not kept and have no neighbours, and a table of all that ended is larger than
        // the caches of a processor.
        known.is_worth_knowing() && self.ended.insert(trace, known, now).1.oldest.is_some()
    }

    /// What is known of a trace.
    pub(super) fn get(&mut self, trace: &TraceId) -> Option<&mut Known> {
        self.in_flight.get_mut(trace).or_else(|| self.ended.peek_mut(trace))
    }

    /// The same, where the trace is one of ours even if nothing was known of it.
    pub(super) fn get_or_insert(&mut self, trace: TraceId, now: Instant) -> Option<&mut Known> {
        if !self.in_flight.contains_key(&trace) && self.ended.touch(&trace, now).is_none() {
            self.ended.insert(trace, Known::default(), now);
        }
        self.get(&trace)
    }

    /// Forgets what has ended long enough ago.
    pub(super) fn expire(&mut self, now: Instant) {
        self.ended.expire(now, HELD_FOR);
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.ended.len()
    }
}

impl Known {
    /// Whether there is more to it than that there are spans of it.
    fn is_worth_knowing(&self) -> bool {
        self.kept || !self.neighbours.is_empty()
    }

    /// Remembers a neighbour. Answers whether it has to hear now that the
    /// trace is kept, and `None` without room.
    pub(super) fn meet(&mut self, neighbour: SocketAddr) -> Option<bool> {
        if self.neighbours.iter().any(|(known, _)| *known == neighbour) {
            return Some(false);
        }
        if self.neighbours.len() >= MAX_NEIGHBOURS {
            return None;
        }
        self.neighbours.push((neighbour, self.kept));
        Some(self.kept)
    }

    /// Keeps the trace. Gives those who have to hear of it and are not `aware`;
    /// `None` where it was kept before.
    pub(super) fn keep(&mut self, aware: Option<SocketAddr>) -> Option<Vec<SocketAddr>> {
        let before = std::mem::replace(&mut self.kept, true);
        let mut tell = Vec::new();
        for (neighbour, told) in &mut self.neighbours {
            if !std::mem::replace(told, true) && Some(*neighbour) != aware {
                tell.push(*neighbour);
            }
        }
        (!before).then_some(tell)
    }
}
