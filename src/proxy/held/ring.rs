//! The spans that one shard holds, by age, and where those of one trace are among them.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Instant;

use foldhash::quality::RandomState;
use opentelemetry::trace::TraceId;

use crate::trace::span::Span;

/// How many chains there are: some of what fits in a shard, so that a chain has few links beside
/// those of the trace that is looked for.
const CHAINS: usize = 256;

/// Spans in the order in which they came, each chained to the one before whose trace has the same
/// hash. One that is taken out from between the others leaves its place until its time is over.
#[derive(Debug, Default)]
pub(super) struct Ring {
    places: VecDeque<Place>,
    /// How many places went before the first of these. The places are numbered from one.
    gone: u64,
    /// The number of the last place of each chain, zero for none. Empty until something is held.
    last: Box<[u64]>,
    hasher: RandomState,
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    at: Instant,
    span: Option<Box<Span>>,
    /// The number of the place before in its chain.
    before: u64,
}

impl Ring {
    /// The memory that spans and places take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.places.front().map(|place| place.at)
    }

    /// Puts in a span as the youngest.
    pub(super) fn push(&mut self, at: Instant, span: Box<Span>) {
        if self.last.is_empty() {
            self.last = vec![0; CHAINS].into();
        }
        let chain = self.chain(span.trace_id);
        let number = self.gone + self.places.len() as u64 + 1;
        let before = self.last.get_mut(chain).map_or(0, |last| std::mem::replace(last, number));
        self.bytes += size_of::<Place>() + span.bytes();
        self.places.push_back(Place { at, span: Some(span), before });
    }

    /// Takes out the oldest place; `None` where nothing is held. Its span may be gone already.
    pub(super) fn pop(&mut self) -> Option<Option<Box<Span>>> {
        let place = self.places.pop_front()?;
        self.gone += 1;
        self.bytes -= size_of::<Place>() + place.span.as_ref().map_or(0, |span| span.bytes());
        Some(place.span)
    }

    /// Takes out the spans of a trace, the oldest first.
    #[expect(clippy::vec_box, reason = "a span goes in and out in its box, without being copied")]
    pub(super) fn take(&mut self, trace: TraceId) -> Vec<Box<Span>> {
        let mut taken = Vec::new();
        let mut number = self.last_of(trace);
        while let Some(place) = self.place(number) {
            number = place.before;
            taken.extend(place.span.take_if(|span| span.trace_id == trace));
        }
        self.bytes -= taken.iter().map(|span| span.bytes()).sum::<usize>();
        taken.reverse();
        taken
    }

    fn chain(&self, trace: TraceId) -> usize {
        self.hasher.hash_one(trace) as usize % CHAINS
    }

    fn last_of(&self, trace: TraceId) -> u64 {
        self.last.get(self.chain(trace)).copied().unwrap_or_default()
    }

    /// The place of this number, while it is there.
    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let index = number.checked_sub(self.gone + 1)?;
        self.places.get_mut(usize::try_from(index).ok()?)
    }

    /// The bytes of the spans that are there.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        let spans = self.places.iter().flat_map(|place| &place.span);
        self.places.len() * size_of::<Place>() + spans.map(|span| span.bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;
    use crate::trace::span::SpanLimits;

    fn span(trace: TraceId) -> Box<Span> {
        let mut span = Box::new(Span::new(SpanLimits::default()));
        span.trace_id = trace;
        span
    }

    /// How many places are looked at to find the spans of a trace.
    fn looked_at(ring: &mut Ring, trace: TraceId) -> usize {
        let mut number = ring.last_of(trace);
        let mut count = 0;
        while let Some(place) = ring.place(number) {
            number = place.before;
            count += 1;
        }
        count
    }

    #[test]
    fn a_trace_is_found_without_a_look_at_all_others() {
        let (mut ring, now, ids) = (Ring::default(), Instant::now(), Ids::seeded(5, 6));
        let traces: Vec<_> = (0..4 * CHAINS).map(|_| ids.trace_id()).collect();
        traces.iter().chain(&traces).for_each(|trace| ring.push(now, span(*trace)));
        let most = traces.iter().map(|trace| looked_at(&mut ring, *trace)).max();
        // Eight on average, whatever the hash is seeded with.
        assert!(most.is_some_and(|most| most < 80), "{most:?}");
        for trace in &traces {
            assert_eq!(ring.take(*trace).len(), 2);
            assert!(ring.take(*trace).is_empty());
        }
        assert_eq!(ring.bytes(), ring.counted());
    }

    #[test]
    fn places_go_in_their_order_and_are_counted_until_then() {
        let (mut ring, now, ids) = (Ring::default(), Instant::now(), Ids::seeded(7, 8));
        let traces: Vec<_> = (0..100).map(|_| ids.trace_id()).collect();
        for _ in 0..3 {
            traces.iter().for_each(|trace| ring.push(now, span(*trace)));
            assert_eq!(ring.take(traces[1]).len(), 1);
            assert_eq!(ring.bytes(), ring.counted());
            assert_eq!(ring.pop().flatten().map(|span| span.trace_id), Some(traces[0]));
            assert!(ring.take(traces[0]).is_empty(), "its place is gone");
            assert!(matches!(ring.pop(), Some(None)));
            for trace in &traces[2..] {
                assert_eq!(ring.pop().flatten().map(|span| span.trace_id), Some(*trace));
            }
            assert!(ring.pop().is_none() && ring.bytes() == 0);
        }
    }
}
