//! A histogram of durations that two sets of buckets can be read from.

use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};

/// Upper bounds in seconds of the metrics in the manner of MCP Mesh.
pub(super) const MESH: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Upper bounds in seconds that the conventions for MCP advise.
pub const CONVENTION: [f64; 14] =
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Both of them, in microseconds.
const BOUNDS: [u64; 18] = [
    5_000,
    10_000,
    20_000,
    25_000,
    50_000,
    100_000,
    200_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];

/// How often which duration was seen.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// By the first of [`BOUNDS`] that is not below the duration, and those above all.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
    /// The latest of each bucket that has one.
    exemplars: Vec<(usize, Exemplar)>,
}

/// A span that shows what one of the observations was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// What was observed.
    pub took: Duration,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub at_unix_nanos: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&mut self, took: Duration, exemplar: Option<Exemplar>) {
        let nanos = took.as_nanos();
        let bucket = BOUNDS.partition_point(|bound| u128::from(*bound) * 1_000 < nanos);
        self.counts[bucket] += 1;
        self.sum += took;
        if let Some(exemplar) = exemplar {
            self.keep(bucket, exemplar);
        }
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Histogram) {
        for (into, count) in self.counts.iter_mut().zip(other.counts) {
            *into += count;
        }
        self.sum += other.sum;
        for (bucket, exemplar) in &other.exemplars {
            let newer = |(_, have): &&(usize, Exemplar)| have.at_unix_nanos >= exemplar.at_unix_nanos;
            if !self.exemplars.iter().filter(|(at, _)| at == bucket).any(|have| newer(&have)) {
                self.keep(*bucket, *exemplar);
            }
        }
    }

    /// All that were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of their durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// For each of these bounds, which are ones of ours, and then for no
    /// bound: how many were not above it, and the latest exemplar between it
    /// and the bound before.
    pub fn buckets<'a>(
        &'a self,
        bounds: &'a [f64],
    ) -> impl Iterator<Item = (f64, u64, Option<&'a Exemplar>)> {
        let mut from = 0;
        bounds.iter().copied().chain([f64::INFINITY]).map(move |bound| {
            let end =
                BOUNDS.iter().position(|b| *b as f64 / 1e6 == bound).map_or(self.counts.len(), |at| at + 1);
            let within = self.exemplars.iter().filter(|(at, _)| (from..end).contains(at));
            let latest = within.map(|(_, exemplar)| exemplar).max_by_key(|exemplar| exemplar.at_unix_nanos);
            from = end;
            (bound, self.counts[..end].iter().sum(), latest)
        })
    }

    fn keep(&mut self, bucket: usize, exemplar: Exemplar) {
        match self.exemplars.iter_mut().find(|(at, _)| *at == bucket) {
            Some((_, have)) => *have = exemplar,
            None => self.exemplars.push((bucket, exemplar)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_of_bounds_are_within_ours() {
        for bound in MESH.iter().chain(&CONVENTION) {
            assert!(BOUNDS.iter().any(|b| *b as f64 / 1e6 == *bound), "{bound}");
        }
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for micros in [0, 5_000, 5_001, 10_000, 22_000, 300_000_000, 300_000_001] {
            histogram.observe(Duration::from_micros(micros), None);
        }
        let counts = |bounds: &[f64]| histogram.buckets(bounds).map(|(_, n, _)| n).collect::<Vec<_>>();
        assert_eq!(counts(&MESH), [2, 4, 5, 5, 5, 5, 5, 5, 5, 5, 7]);
        assert_eq!(counts(&CONVENTION), [4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 7]);
        assert_eq!(histogram.count(), 7);
    }

    #[test]
    fn the_latest_exemplar_of_a_bucket_is_shown_there() {
        let exemplar = |id: u8, millis, at| Exemplar {
            trace_id: TraceId::from_bytes([id; 16]),
            span_id: SpanId::from_bytes([id; 8]),
            took: Duration::from_millis(millis),
            at_unix_nanos: at,
        };
        let mut one = Histogram::default();
        let mut other = Histogram::default();
        for (id, millis, at) in [(1, 21, 10), (2, 22, 20)] {
            one.observe(Duration::from_millis(millis), Some(exemplar(id, millis, at)));
        }
        for (id, millis, at) in [(3, 24, 30), (4, 400, 5)] {
            other.observe(Duration::from_millis(millis), Some(exemplar(id, millis, at)));
        }
        other.add(&one);
        let shown = |bounds: &[f64]| {
            let all = other.buckets(bounds);
            all.filter_map(|(bound, _, e)| Some((bound, e?.trace_id.to_bytes()[0]))).collect::<Vec<_>>()
        };
        assert_eq!(shown(&MESH), [(0.025, 3), (0.5, 4)]);
        assert_eq!(shown(&CONVENTION), [(0.05, 3), (0.5, 4)]);
        assert_eq!((other.count(), other.sum()), (4, Duration::from_millis(467)));
    }
}
