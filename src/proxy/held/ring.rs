//! The spans that one shard holds, by age, and where those of one trace are among them.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Instant;

use foldhash::quality::RandomState;
use opentelemetry::trace::TraceId;

use super::Encoded;
use crate::export::otlp;
use crate::trace::span::Span;

/// How many chains there are: some of what fits in a shard, so that a chain has few links beside
/// those of the trace that is looked for.
const CHAINS: usize = 256;

/// What a chunk has room for, unless a single span is larger.
const CHUNK_BYTES: usize = 8 * 1024;

/// Spans in the order in which they came, encoded one behind the other, so that one that nobody
/// asks for costs no allocation. Each is chained to the one before whose trace has the same hash.
/// One that is taken out from between the others leaves its place until its time is over.
#[derive(Debug, Default)]
pub(super) struct Ring {
    places: VecDeque<Place>,
    /// How many places went before the first of these. The places are numbered from one.
    gone: u64,
    /// The number of the last place of each chain, zero for none. Empty until something is held.
    last: Box<[u64]>,
    hasher: RandomState,
    chunks: VecDeque<Vec<u8>>,
    /// How many chunks went before the first of these.
    gone_chunks: u64,
    /// The last chunk that went, to be used again.
    spare: Vec<u8>,
    /// The bytes that chunks have room for.
    room: usize,
}

#[derive(Debug)]
struct Place {
    at: Instant,
    trace: TraceId,
    /// The number of the place before in its chain.
    before: u64,
    chunk: u64,
    start: u32,
    /// Zero once the span was taken out.
    length: u32,
    cut: bool,
}

impl Ring {
    /// The memory that spans and places take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.room + self.places.len() * size_of::<Place>()
    }

    /// When the oldest came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.places.front().map(|place| place.at)
    }

    /// Puts in a span as the youngest.
    pub(super) fn push(&mut self, at: Instant, span: &Span) {
        if self.last.is_empty() {
            self.last = vec![0; CHAINS].into();
        }
        let trace = span.trace_id;
        let chain = self.chain(trace);
        let number = self.gone + self.places.len() as u64 + 1;
        let before = self.last.get_mut(chain).map_or(0, |last| std::mem::replace(last, number));
        let most = otlp::most_bytes(span);
        if self.chunks.back().is_none_or(|chunk| chunk.capacity() - chunk.len() < most) {
            self.add_chunk(most);
        }
        let chunk = self.gone_chunks + self.chunks.len() as u64 - 1;
        let Some(bytes) = self.chunks.back_mut() else { return };
        let start = bytes.len();
        otlp::encode_span(span, bytes);
        let place = |start, length| Place { at, trace, before, chunk, start, length, cut: span.is_cut() };
        // A chunk is smaller than what a span may hold and a little more.
        let bounds = (u32::try_from(start), u32::try_from(bytes.len() - start));
        self.places.push_back(match bounds {
            (Ok(start), Ok(length)) => place(start, length),
            _ => place(0, 0),
        });
    }

    fn add_chunk(&mut self, most: usize) {
        let mut chunk = std::mem::take(&mut self.spare);
        chunk.reserve_exact(CHUNK_BYTES.max(most));
        self.room += chunk.capacity();
        self.chunks.push_back(chunk);
    }

    /// Takes out the oldest place; `None` where nothing is held. Says whether its span was still there.
    pub(super) fn pop(&mut self) -> Option<bool> {
        let place = self.places.pop_front()?;
        self.gone += 1;
        if self.places.front().is_none_or(|next| next.chunk != place.chunk)
            && let Some(mut chunk) = self.chunks.pop_front()
        {
            self.gone_chunks += 1;
            self.room -= chunk.capacity();
            if chunk.capacity() <= CHUNK_BYTES {
                chunk.clear();
                self.spare = chunk;
            }
        }
        Some(place.length > 0)
    }

    /// Gives back what it has room for, where nothing is held.
    pub(super) fn rest(&mut self) {
        if self.places.is_empty() {
            (self.spare, self.places) = (Vec::new(), VecDeque::new());
        }
    }

    /// Takes out the spans of a trace, the oldest first.
    pub(super) fn take(&mut self, trace: TraceId) -> Vec<Encoded> {
        let mut taken = Vec::new();
        let mut number = self.last_of(trace);
        while let Some(index) = self.index(number)
            && let Some(place) = self.places.get_mut(index)
        {
            number = place.before;
            let length = if place.trace == trace { std::mem::take(&mut place.length) as usize } else { 0 };
            let chunk =
                usize::try_from(place.chunk - self.gone_chunks).ok().and_then(|at| self.chunks.get(at));
            let start = place.start as usize;
            if let Some(bytes) = chunk.and_then(|chunk| chunk.get(start..start + length))
                && length > 0
            {
                taken.push(Encoded { bytes: bytes.into(), cut: place.cut });
            }
        }
        taken.reverse();
        taken
    }

    /// Whether it holds a span of the trace.
    pub(super) fn holds(&self, trace: TraceId) -> bool {
        let mut number = self.last_of(trace);
        while let Some(place) = self.index(number).and_then(|index| self.places.get(index)) {
            if place.trace == trace && place.length > 0 {
                return true;
            }
            number = place.before;
        }
        false
    }

    fn chain(&self, trace: TraceId) -> usize {
        self.hasher.hash_one(trace) as usize % CHAINS
    }

    fn last_of(&self, trace: TraceId) -> u64 {
        self.last.get(self.chain(trace)).copied().unwrap_or_default()
    }

    /// Where the place of this number is, while it is there.
    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.gone + 1)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;
    use crate::trace::span::{SpanLimits, Value};

    fn span(trace: TraceId) -> Span {
        let mut span = Span::new(SpanLimits::default());
        span.trace_id = trace;
        span
    }

    /// What it counts is what is there.
    fn check(ring: &Ring) {
        let room: usize = ring.chunks.iter().map(Vec::capacity).sum();
        assert_eq!(ring.bytes(), room + ring.places.len() * size_of::<Place>());
    }

    /// How many places are looked at to find the spans of a trace.
    fn looked_at(ring: &Ring, trace: TraceId) -> usize {
        let mut number = ring.last_of(trace);
        let mut count = 0;
        while let Some(place) = ring.index(number).and_then(|index| ring.places.get(index)) {
            number = place.before;
            count += 1;
        }
        count
    }

    #[test]
    fn a_trace_is_found_without_a_look_at_all_others() {
        let (mut ring, now, ids) = (Ring::default(), Instant::now(), Ids::seeded(5, 6));
        let traces: Vec<_> = (0..4 * CHAINS).map(|_| ids.trace_id()).collect();
        traces.iter().chain(&traces).for_each(|trace| ring.push(now, &span(*trace)));
        let most = traces.iter().map(|trace| looked_at(&ring, *trace)).max();
        // Eight on average, whatever the hash is seeded with.
        assert!(most.is_some_and(|most| most < 80), "{most:?}");
        for trace in &traces {
            assert_eq!(ring.take(*trace).len(), 2);
            assert!(ring.take(*trace).is_empty());
        }
        check(&ring);
    }

    #[test]
    fn places_go_in_their_order_and_are_counted_until_then() {
        let (mut ring, now, ids) = (Ring::default(), Instant::now(), Ids::seeded(7, 8));
        let traces: Vec<_> = (0..100).map(|_| ids.trace_id()).collect();
        for _ in 0..3 {
            traces.iter().for_each(|trace| ring.push(now, &span(*trace)));
            assert_eq!(ring.take(traces[1]).len(), 1);
            check(&ring);
            assert_eq!(ring.pop(), Some(true));
            assert!(ring.take(traces[0]).is_empty(), "its place is gone");
            assert_eq!(ring.pop(), Some(false), "it was taken");
            for trace in &traces[2..] {
                assert_eq!(ring.places.front().map(|place| place.trace), Some(*trace));
                assert_eq!(ring.pop(), Some(true));
            }
            assert!(ring.pop().is_none() && ring.bytes() == 0);
        }
    }

    #[test]
    fn spans_of_every_size_come_back_as_they_were_encoded() {
        let (mut ring, now, ids) = (Ring::default(), Instant::now(), Ids::seeded(9, 10));
        let trace = ids.trace_id();
        let sizes = [0, 10, CHUNK_BYTES / 2, CHUNK_BYTES, 3 * CHUNK_BYTES, 1, 60_000, 70_000, 5];
        let spans = sizes.map(|size| {
            let mut span = span(trace);
            span.set_name(&"n".repeat(size / 2));
            span.set_str("k", &"v".repeat(size / 2));
            span.add_link(trace, span.span_id, span.flags, false, &[("reason", Value::Str("r"))]);
            if size % 2 == 1 {
                span.error("timeout", "late");
            }
            span
        });
        for span in &spans {
            ring.push(now, span);
            ring.push(now, &self::span(ids.trace_id()));
        }
        check(&ring);
        let encoded = spans.map(|span| {
            let mut bytes = Vec::new();
            otlp::encode_span(&span, &mut bytes);
            assert!(bytes.len() <= otlp::most_bytes(&span));
            (bytes, span.is_cut())
        });
        let taken = ring.take(trace).into_iter().map(|span| (span.bytes.to_vec(), span.cut));
        assert_eq!(taken.collect::<Vec<_>>(), encoded);
        while ring.pop().is_some() {}
        ring.rest();
        assert_eq!((ring.bytes(), ring.spare.capacity(), ring.places.capacity()), (0, 0, 0));
    }
}
