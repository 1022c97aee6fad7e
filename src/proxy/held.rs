//! Spans that nobody decided to record, held for a moment: when one span of
//! their trace is kept for how it ended, they go out with it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use prometheus_client::metrics::counter::Counter;

use crate::trace::aged::Aged;
use crate::trace::span::Span;

/// How long a span is held, and how long a trace counts as kept.
pub const HELD_FOR: Duration = Duration::from_secs(5);

/// The most bytes of held spans, over all.
pub const MAX_HELD_BYTES: usize = 8 * 1024 * 1024;

/// The most traces that count as kept at one time.
const MAX_KEPT: usize = 16_384;

const SHARDS: usize = 16;

/// The spans of the process that are held. All of one trace are in one shard,
/// so that workers seldom meet.
#[derive(Debug)]
pub struct HeldSpans {
    shards: [Mutex<Shard>; SHARDS],
    /// Spans that had to go before their time.
    evicted: Counter,
}

#[derive(Debug)]
struct Shard {
    spans: VecDeque<(Instant, Box<Span>)>,
    bytes: usize,
    kept: Aged<TraceId, ()>,
}

/// What becomes of a span that ended and was not sampled.
#[derive(Debug)]
pub enum Held {
    /// Its trace is kept, and so is it.
    Keep(Box<Span>),
    /// It is held; these are not any more and may be used again.
    Gone(Vec<Box<Span>>),
}

impl HeldSpans {
    /// Holds nothing yet; `evicted` counts what makes room before its time.
    pub fn new(evicted: Counter) -> Self {
        let shard = |_| {
            let kept = Aged::new(MAX_KEPT / SHARDS);
            Mutex::new(Shard { spans: VecDeque::new(), bytes: 0, kept })
        };
        HeldSpans { shards: std::array::from_fn(shard), evicted }
    }

    /// Takes a span that ended. Without room, the oldest make it.
    pub fn hold(&self, span: Box<Span>, now: Instant) -> Held {
        let mut shard = self.shard(span.trace_id);
        if shard.kept.peek(&span.trace_id).is_some() {
            return Held::Keep(span);
        }
        shard.bytes += span.bytes();
        shard.spans.push_back((now, span));
        let mut gone = Vec::new();
        while shard.bytes > MAX_HELD_BYTES / SHARDS {
            let Some(oldest) = shard.pop() else { break };
            gone.push(oldest);
            self.evicted.inc();
        }
        // Two at most for one that comes: old ones go as fast as they came.
        while gone.len() < 2 && shard.is_old(now) {
            gone.extend(shard.pop());
        }
        Held::Gone(gone)
    }

    /// Keeps a trace: gives what is held of it, and keeps what still comes.
    pub fn keep(&self, trace: TraceId, now: Instant) -> Vec<Box<Span>> {
        let mut shard = self.shard(trace);
        shard.kept.expire(now, HELD_FOR);
        shard.kept.insert(trace, (), now);
        let mut released = Vec::new();
        let all = std::mem::take(&mut shard.spans);
        for (at, span) in all {
            if span.trace_id == trace {
                shard.bytes -= span.bytes();
                released.push(span);
            } else {
                shard.spans.push_back((at, span));
            }
        }
        released
    }

    /// Forgets what was held long enough, where no traffic does it.
    pub fn expire(&self, now: Instant) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            while shard.is_old(now) {
                shard.pop();
            }
            shard.kept.expire(now, HELD_FOR);
        }
    }

    fn shard(&self, trace: TraceId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(trace.to_bytes()[15]) % SHARDS])
    }
}

impl Shard {
    fn is_old(&self, now: Instant) -> bool {
        self.spans.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= HELD_FOR)
    }

    fn pop(&mut self) -> Option<Box<Span>> {
        let (_, span) = self.spans.pop_front()?;
        self.bytes -= span.bytes();
        Some(span)
    }
}

/// Nothing panics while it holds one of these.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;
    use crate::trace::span::SpanLimits;

    fn span(trace: TraceId, name: &str) -> Box<Span> {
        let mut span = Box::new(Span::new(SpanLimits::default()));
        span.trace_id = trace;
        span.set_name(name);
        span
    }

    fn names(spans: &[Box<Span>]) -> Vec<&str> {
        spans.iter().map(|span| span.name()).collect()
    }

    #[test]
    fn a_kept_trace_takes_along_what_was_before_and_what_comes() {
        let (held, now) = (HeldSpans::new(Counter::default()), Instant::now());
        let (one, other) = (TraceId::from_bytes([1; 16]), TraceId::from_bytes([17; 16]));
        for (trace, name) in [(one, "a"), (other, "b"), (one, "c")] {
            assert!(matches!(held.hold(span(trace, name), now), Held::Gone(gone) if gone.is_empty()));
        }
        assert_eq!(names(&held.keep(one, now)), ["a", "c"]);
        assert!(held.keep(one, now).is_empty(), "once");
        assert!(matches!(held.hold(span(one, "d"), now), Held::Keep(span) if span.name() == "d"));
        assert_eq!(names(&held.keep(other, now)), ["b"]);
    }

    #[test]
    fn time_forgets_both() {
        let (held, now) = (HeldSpans::new(Counter::default()), Instant::now());
        let trace = TraceId::from_bytes([1; 16]);
        held.hold(span(trace, "a"), now);
        held.expire(now + HELD_FOR);
        assert!(held.keep(trace, now + HELD_FOR).is_empty());
        held.expire(now + 2 * HELD_FOR);
        assert!(matches!(held.hold(span(trace, "b"), now + 2 * HELD_FOR), Held::Gone(_)));
        // With traffic it needs nobody to look after it.
        match held.hold(span(trace, "c"), now + 3 * HELD_FOR) {
            Held::Gone(gone) => assert_eq!(names(&gone), ["b"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_make_room() {
        let evicted = Counter::default();
        let (held, now, ids) = (HeldSpans::new(evicted.clone()), Instant::now(), Ids::seeded(1, 2));
        let text = "x".repeat(10_000);
        for _ in 0..2_000 {
            held.hold(span(ids.trace_id(), &text), now);
        }
        let bytes: usize = held.shards.iter().map(|shard| lock(shard).bytes).sum();
        let counted: usize = held
            .shards
            .iter()
            .flat_map(|s| lock(s).spans.iter().map(|(_, s)| s.bytes()).collect::<Vec<_>>())
            .sum();
        assert_eq!(bytes, counted);
        assert!(bytes <= MAX_HELD_BYTES && bytes > MAX_HELD_BYTES / 2, "{bytes}");
        assert!(evicted.get() > 1_000, "{}", evicted.get());
    }
}
