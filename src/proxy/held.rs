//! Spans that nobody decided to record, held for a moment: when one span of
//! their trace is kept for how it ended, here or at a neighbour, they go out
//! with it.

mod ring;
mod traces;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::metrics::counter::Counter;

use self::ring::Ring;
use self::traces::Traces;
use crate::trace::span::Span;

/// How long a span is held, and a trace is known, after what belonged to it has ended here.
pub const HELD_FOR: Duration = Duration::from_secs(5);

/// The most bytes of held spans, over all.
pub const MAX_HELD_BYTES: usize = 8 * 1024 * 1024;

/// The most traces that are known because something of them is in flight, and
/// as many whose last request has just ended, of which more is known than held spans.
pub const MAX_TRACES: usize = 65_536;

const SHARDS: usize = 16;

/// The spans of the process that are held. All of one trace are in one shard,
/// so that workers seldom meet.
#[derive(Debug)]
pub struct HeldSpans {
    shards: [Mutex<Shard>; SHARDS],
    /// Spans that had to go before their time.
    evicted: Counter,
    /// Traces that found no room or had to go before their time.
    forgotten: Counter,
}

#[derive(Debug)]
struct Shard {
    spans: Ring,
    traces: Traces,
}

/// A span that was held, as it leaves.
#[derive(Debug)]
pub struct Encoded {
    /// One element of `ScopeSpans.spans` of OTLP.
    pub bytes: Box<[u8]>,
    /// Whether text of it was cut.
    pub cut: bool,
}

/// What follows from keeping a trace.
#[derive(Debug, Default)]
pub struct Kept {
    /// The spans that were held of it.
    pub spans: Vec<Encoded>,
    /// The sidecars that have to hear of it.
    pub tell: Vec<SocketAddr>,
}

impl HeldSpans {
    /// Holds nothing yet. `evicted` counts spans that make room before their
    /// time, and `forgotten` such traces.
    pub fn new(evicted: Counter, forgotten: Counter) -> Self {
        let shard = |_| {
            let traces = Traces::new(MAX_TRACES / SHARDS);
            Mutex::new(Shard { spans: Ring::default(), traces })
        };
        HeldSpans { shards: std::array::from_fn(shard), evicted, forgotten }
    }

    /// Says that a request of the trace is in flight, until it
    /// [leaves](Self::leave). Answers whether there was room to know it.
    pub fn enter(&self, trace: TraceId) -> bool {
        let entered = self.shard(trace).traces.enter(trace);
        if !entered {
            self.forgotten.inc();
        }
        entered
    }

    /// Says that a request that had entered has ended.
    pub fn leave(&self, trace: TraceId, now: Instant) {
        if self.shard(trace).traces.leave(trace, now) {
            self.forgotten.inc();
        }
    }

    /// Says that the sidecar that takes notices at this address has to do with
    /// the trace. Answers whether it has to hear now that the trace is kept.
    pub fn meet(&self, trace: TraceId, neighbour: SocketAddr) -> bool {
        let mut shard = self.shard(trace);
        let Some(known) = shard.traces.get(&trace) else { return false };
        let met = known.meet(neighbour);
        if met.is_none() {
            self.forgotten.inc();
        }
        met.unwrap_or_default()
    }

    /// Whether the trace is kept.
    pub fn is_kept(&self, trace: TraceId) -> bool {
        self.shard(trace).traces.get(&trace).is_some_and(|known| known.kept)
    }

    /// Holds a span that ended as it is now; without room, the oldest make it.
    /// Answers whether it was not held, because its trace is kept.
    pub fn hold(&self, span: &Span, now: Instant) -> bool {
        let mut shard = self.shard(span.trace_id);
        if shard.traces.get(&span.trace_id).is_some_and(|known| known.kept) {
            return true;
        }
        shard.spans.push(now, span);
        while shard.spans.bytes() > MAX_HELD_BYTES / SHARDS {
            let Some(was_there) = shard.spans.pop() else { break };
            self.evicted.inc_by(was_there.into());
        }
        // Two at most for one that comes: old ones go as fast as they came.
        for _ in 0..2 {
            if shard.is_old(now) {
                shard.spans.pop();
            }
        }
        false
    }

    /// Keeps a trace: gives what is held of it and who has to hear of it, and
    /// keeps what still comes. The neighbour `aware` knows it already.
    pub fn keep(&self, trace: TraceId, aware: Option<SocketAddr>, now: Instant) -> Kept {
        let mut shard = self.shard(trace);
        shard.traces.expire(now);
        let tell = shard.traces.get_or_insert(trace, now).and_then(|known| known.keep(aware));
        match tell {
            Some(tell) => Kept { spans: shard.spans.take(trace), tell },
            None => Kept::default(),
        }
    }

    /// The same for a trace of which another sidecar says that it is kept:
    /// `None` where nothing of it is or was here, which anybody could say.
    pub fn keep_known(&self, trace: TraceId, from: SocketAddr, now: Instant) -> Option<Kept> {
        let mut shard = self.shard(trace);
        shard.traces.expire(now);
        let Shard { spans, traces } = &mut *shard;
        let held = traces.get(&trace).is_none() && spans.holds(trace);
        let known = if held { traces.get_or_insert(trace, now) } else { traces.get(&trace) };
        let tell = known?.keep(Some(from));
        Some(tell.map(|tell| Kept { spans: spans.take(trace), tell }).unwrap_or_default())
    }

    /// Forgets what was held long enough, where no traffic does it.
    pub fn expire(&self, now: Instant) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            while shard.is_old(now) {
                shard.spans.pop();
            }
            shard.spans.rest();
            shard.traces.expire(now);
        }
    }

    fn shard(&self, trace: TraceId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(trace.to_bytes()[15]) % SHARDS].lock()
    }
}

impl Shard {
    fn is_old(&self, now: Instant) -> bool {
        self.spans.oldest().is_some_and(|at| now.saturating_duration_since(at) >= HELD_FOR)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
    use prost::Message;

    use super::*;
    use crate::trace::ids::Ids;
    use crate::trace::span::SpanLimits;

    fn held_spans() -> HeldSpans {
        HeldSpans::new(Counter::default(), Counter::default())
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 7], port))
    }

    fn span(trace: TraceId, name: &str) -> Span {
        let mut span = Span::new(SpanLimits::default());
        span.trace_id = trace;
        span.set_name(name);
        span
    }

    fn names(spans: &[Encoded]) -> Vec<String> {
        let spans = spans.iter().flat_map(|span| ScopeSpans::decode(&*span.bytes).unwrap().spans);
        spans.map(|span| span.name).collect()
    }

    #[test]
    fn a_kept_trace_takes_along_what_was_before_and_what_comes() {
        let (held, now) = (held_spans(), Instant::now());
        let (one, other) = (TraceId::from_bytes([1; 16]), TraceId::from_bytes([17; 16]));
        for (trace, name) in [(one, "a"), (other, "b"), (one, "c")] {
            assert!(!held.hold(&span(trace, name), now));
        }
        assert_eq!(names(&held.keep(one, None, now).spans), ["a", "c"]);
        assert!(held.keep(one, None, now).spans.is_empty(), "once");
        assert!(held.hold(&span(one, "d"), now), "it goes out at once");
        assert_eq!(names(&held.keep(other, None, now).spans), ["b"]);
    }

    #[test]
    fn time_forgets_both() {
        let (held, now) = (held_spans(), Instant::now());
        let trace = TraceId::from_bytes([1; 16]);
        held.hold(&span(trace, "a"), now);
        held.expire(now + HELD_FOR);
        assert!(held.keep(trace, None, now + HELD_FOR).spans.is_empty());
        held.expire(now + 2 * HELD_FOR);
        assert!(!held.hold(&span(trace, "b"), now + 2 * HELD_FOR));
        // With traffic it needs nobody to look after it.
        assert!(!held.hold(&span(trace, "c"), now + 3 * HELD_FOR));
        assert_eq!(names(&held.keep(trace, None, now + 3 * HELD_FOR).spans), ["c"]);
    }

    #[test]
    fn bytes_are_bounded_and_the_oldest_make_room() {
        let evicted = Counter::default();
        let (held, now, ids) =
            (HeldSpans::new(evicted.clone(), Counter::default()), Instant::now(), Ids::seeded(1, 2));
        let text = "x".repeat(10_000);
        for _ in 0..2_000 {
            held.hold(&span(ids.trace_id(), &text), now);
        }
        let bytes: usize = held.shards.iter().map(|shard| shard.lock().spans.bytes()).sum();
        assert!(bytes <= MAX_HELD_BYTES && bytes > MAX_HELD_BYTES / 2, "{bytes}");
        assert!(evicted.get() > 1_000, "{}", evicted.get());
    }

    #[test]
    fn each_neighbour_of_a_trace_hears_of_it_once() {
        let (held, now) = (held_spans(), Instant::now());
        let trace = TraceId::from_bytes([1; 16]);
        assert!(!held.meet(trace, address(1)), "of what nobody knows");
        assert!(held.enter(trace) && held.enter(trace));
        for port in [1, 2, 1, 3] {
            assert!(!held.meet(trace, address(port)));
        }
        held.leave(trace, now);
        let kept = held.keep_known(trace, address(2), now).unwrap();
        assert_eq!(kept.tell, [address(1), address(3)]);
        assert!(held.keep(trace, None, now).tell.is_empty());
        assert!(held.is_kept(trace));
        assert!(
            !held.meet(trace, address(1)) && held.meet(trace, address(4)) && !held.meet(trace, address(4))
        );
    }

    /// A request may take much longer than a span is held.
    #[test]
    fn a_trace_is_known_for_as_long_as_it_is_in_flight_and_a_moment_more() {
        let (held, now) = (held_spans(), Instant::now());
        let trace = TraceId::from_bytes([1; 16]);
        assert!(held.keep_known(trace, address(1), now).is_none());
        assert!(held.enter(trace));
        let later = now + 100 * HELD_FOR;
        held.expire(later);
        assert!(held.keep_known(trace, address(1), later).is_some());
        held.expire(later + 100 * HELD_FOR);
        assert!(held.is_kept(trace));
        held.leave(trace, later);
        assert!(held.is_kept(trace));
        held.expire(later + HELD_FOR);
        assert!(!held.is_kept(trace));
        assert!(held.keep_known(trace, address(1), later + HELD_FOR).is_none());
    }

    #[test]
    fn a_trace_that_ended_without_more_is_known_by_what_is_held_of_it() {
        let (held, now) = (held_spans(), Instant::now());
        let [one, other] = [[1; 16], [2; 16]].map(TraceId::from_bytes);
        for trace in [one, other] {
            assert!(held.enter(trace));
        }
        held.hold(&span(one, "a"), now);
        for trace in [one, other] {
            held.leave(trace, now);
        }
        assert_eq!(held.shards.iter().map(|shard| shard.lock().traces.len()).sum::<usize>(), 0);
        assert!(held.keep_known(other, address(1), now).is_none(), "of which nothing is held");
        let kept = held.keep_known(one, address(1), now).unwrap();
        assert_eq!(names(&kept.spans), ["a"]);
        assert!(held.is_kept(one) && held.hold(&span(one, "b"), now), "what still comes goes out");
        held.expire(now + HELD_FOR);
        assert!(!held.is_kept(one));
    }

    #[test]
    fn traces_and_neighbours_are_bounded() {
        let forgotten = Counter::default();
        let held = HeldSpans::new(Counter::default(), forgotten.clone());
        let (now, ids) = (Instant::now(), Ids::seeded(3, 4));
        let traces: Vec<_> = (0..2 * MAX_TRACES).map(|_| ids.trace_id()).collect();
        let entered: Vec<_> = traces.into_iter().filter(|trace| held.enter(*trace)).collect();
        assert!(entered.len() <= MAX_TRACES && entered.len() > MAX_TRACES * 9 / 10);
        assert_eq!(usize::try_from(forgotten.get()).unwrap(), 2 * MAX_TRACES - entered.len());
        let before = forgotten.get();
        for port in 1..=1_000 {
            held.meet(entered[0], address(port));
        }
        let told = held.keep(entered[0], None, now).tell.len();
        assert!(told < 100, "{told}");
        assert_eq!(forgotten.get() - before, 1_000 - told as u64);
        entered.iter().for_each(|trace| held.leave(*trace, now));
        let before = forgotten.get();
        for _ in 0..2 * MAX_TRACES {
            let trace = ids.trace_id();
            assert!(held.enter(trace));
            held.meet(trace, address(1));
            held.leave(trace, now);
        }
        let known: usize = held.shards.iter().map(|shard| shard.lock().traces.len()).sum();
        assert!(known <= MAX_TRACES, "{known}");
        assert!(forgotten.get() > before);
    }
}
