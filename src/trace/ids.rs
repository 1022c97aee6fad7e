//! Fresh trace and span ids: random, unique within the process, and free of
//! locks and of any global state.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::trace::{SpanId, TraceId};

/// The increment of SplitMix64: odd, so that the counter visits every value.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of ids. All 128 bits of its trace ids are random, which is what
/// the `random` flag of W3C Trace Context Level 2 promises.
#[derive(Debug)]
pub struct Ids {
    state: AtomicU64,
    other: AtomicU64,
    /// Ties the span ids of unrecorded roots to their trace ids.
    secret: u64,
}

impl Ids {
    /// Seeds from the randomness that the operating system gave the process.
    pub fn new() -> Self {
        Ids::seeded(entropy(1), entropy(2))
    }

    /// The same ids for the same seeds, for tests.
    pub fn seeded(a: u64, b: u64) -> Self {
        Ids { state: AtomicU64::new(a), other: AtomicU64::new(b), secret: mix(a ^ b.rotate_left(32)) }
    }

    /// A new trace id, never all zeros.
    pub fn trace_id(&self) -> TraceId {
        TraceId::from_bytes(self.random().to_be_bytes())
    }

    /// 128 random bits.
    pub fn random(&self) -> u128 {
        u128::from(next(&self.other)) << 64 | u128::from(next(&self.state))
    }

    /// The span id for a trace of ours that nobody records. It follows from
    /// the trace id, so that our own context is known again without a table.
    pub fn unrecorded_span_id(&self, trace: TraceId) -> SpanId {
        let trace = u128::from_be_bytes(trace.to_bytes());
        let mixed = mix((trace >> 64) as u64 ^ mix(trace as u64 ^ self.secret));
        SpanId::from_bytes(mixed.max(1).to_be_bytes())
    }

    /// A new span id, never all zeros.
    pub fn span_id(&self) -> SpanId {
        SpanId::from_bytes(next(&self.state).to_be_bytes())
    }
}

impl Default for Ids {
    fn default() -> Self {
        Ids::new()
    }
}

fn entropy(salt: u64) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(salt);
    hasher.finish()
}

/// One step of SplitMix64: a permutation of the counter, so no value repeats
/// before all 2^64 were given. Zero, which W3C forbids, is stepped over.
fn next(state: &AtomicU64) -> u64 {
    loop {
        let z = mix(state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP));
        if z != 0 {
            return z;
        }
    }
}

/// The output function of SplitMix64: a permutation of all values.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_valid_and_do_not_repeat() {
        let ids = Ids::new();
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            let span = ids.span_id();
            assert_ne!(span, SpanId::INVALID);
            assert_ne!(ids.trace_id(), TraceId::INVALID);
            assert!(seen.insert(span));
        }
    }

    #[test]
    fn the_low_bits_are_spread_evenly() {
        let ids = Ids::seeded(1, 2);
        let ones: u32 = (0..10_000).map(|_| ids.trace_id().to_bytes()[15] as u32 & 1).sum();
        assert!((4_800..5_200).contains(&ones), "{ones}");
    }

    #[test]
    fn zero_is_never_given() {
        // The state whose next output is zero: the permutation maps 0 to 0.
        let ids = Ids::seeded(0u64.wrapping_sub(STEP), 0);
        assert_ne!(ids.span_id(), SpanId::INVALID);
    }
}
