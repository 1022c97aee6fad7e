//! A token bucket for traces a second. It reads no clock: whoever asks says
//! what time it is, so that a test can decide that too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;

/// How long a bucket counts as cutting after it refused something.
const CUTTING: u64 = SECOND;

/// Lets a number of traces through each second, and as many at once after a
/// quiet second; at least one. Shared by all workers.
///
/// One number says it all: the moment at which the bucket will be full again
/// (the "theoretical arrival time" of ATM's generic cell rate algorithm).
#[derive(Debug)]
pub struct Bucket {
    /// The times below count from here.
    base: Instant,
    /// Nanoseconds that one token takes to come back.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills.
    depth: u64,
    full_at: AtomicU64,
    /// Until when the bucket counts as cutting; 0 before the first refusal.
    cutting_until: AtomicU64,
}

impl Bucket {
    /// A full bucket for this many traces a second, a positive number. `now`
    /// is any moment that is not after the first one it is asked about.
    pub fn new(per_second: f64, now: Instant) -> Self {
        let interval = (SECOND as f64 / per_second).round().clamp(1.0, u64::MAX as f64 / 4.0) as u64;
        Bucket {
            base: now,
            interval,
            depth: interval.max(SECOND),
            full_at: AtomicU64::new(0),
            cutting_until: AtomicU64::new(0),
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let now = self.nanos(now);
        let latest = now.saturating_add(self.depth);
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(self.interval);
            (next <= latest).then_some(next)
        });
        if taken.is_err() {
            self.cutting_until.fetch_max(now.saturating_add(CUTTING), Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Whether it refused something within the last second. What it lets
    /// through meanwhile is no known share of what was asked for.
    pub fn is_cutting(&self, now: Instant) -> bool {
        let until = self.cutting_until.load(Ordering::Relaxed);
        until != 0 && self.nanos(now) < until
    }

    fn nanos(&self, now: Instant) -> u64 {
        let since: Duration = now.saturating_duration_since(self.base);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `asked` questions at this moment are answered with a token.
    fn taken(bucket: &Bucket, now: Instant, asked: usize) -> usize {
        (0..asked).filter(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_second_of_traffic_at_once_and_then_the_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let bucket = Bucket::new(100.0, start);
        assert_eq!(taken(&bucket, at(0), 1_000), 100);
        assert_eq!(taken(&bucket, at(9), 10), 0, "a token takes 10 ms");
        assert_eq!(taken(&bucket, at(10), 10), 1);
        assert_eq!(taken(&bucket, at(510), 1_000), 50);
        assert_eq!(taken(&bucket, at(60_000), 1_000), 100, "it never holds more than a second's worth");
    }

    #[test]
    fn a_steady_rate_is_kept_exactly() {
        let start = Instant::now();
        for (rate, seconds, expect) in [(3.0, 100, 303), (0.5, 100, 51), (1_000.0, 10, 11_000), (7.5, 10, 82)]
        {
            let bucket = Bucket::new(rate, start);
            // Asked every 100 us, far more often than it gives.
            let kept = (0..=seconds * 10_000).filter(|n| bucket.take(start + Duration::from_micros(n * 100)));
            assert_eq!(kept.count(), expect, "{rate}");
        }
    }

    #[test]
    fn below_the_rate_nothing_is_refused() {
        let start = Instant::now();
        let bucket = Bucket::new(10.0, start);
        let all = (0..1_000).all(|n| bucket.take(start + Duration::from_millis(n * 101)));
        assert!(all && !bucket.is_cutting(start + Duration::from_secs(101)));
    }

    #[test]
    fn it_says_for_a_second_that_it_is_cutting() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let bucket = Bucket::new(1.0, start);
        assert!(bucket.take(at(0)) && !bucket.is_cutting(at(0)));
        assert!(!bucket.take(at(500)) && bucket.is_cutting(at(500)));
        assert!(bucket.is_cutting(at(1_499)) && !bucket.is_cutting(at(1_500)));
    }

    #[test]
    fn extreme_rates_and_clocks_do_no_harm() {
        let start = Instant::now();
        let fast = Bucket::new(1e30, start);
        assert!(taken(&fast, start, 10_000) == 10_000);
        let slow = Bucket::new(1e-30, start);
        assert_eq!(taken(&slow, start + Duration::from_secs(1 << 30), 10), 1);
        // A moment before the bucket was made counts as that moment.
        let bucket = Bucket::new(1.0, start + Duration::from_secs(5));
        assert_eq!(taken(&bucket, start, 10), 1);
    }

    #[test]
    fn threads_share_the_tokens() {
        let start = Instant::now();
        let bucket = Bucket::new(500.0, start);
        let bucket = &bucket;
        let total: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(move || taken(bucket, start, 400))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(total, 500);
    }
}
