//! When a refused or lost export request is sent again: exponential back-off with jitter, and what the collector asks for.
//!
//! The rules are those of the OTLP specification, sections "OTLP/HTTP Response" and "OTLP/gRPC Throttling".

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest wait that a collector may ask for. Beyond it, its wish is cut: the queue behind is bounded.
pub const MAX_ASKED_WAIT: Duration = Duration::from_secs(30);

/// How long and how often a batch is tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetryConfig {
    /// The wait after the first failure.
    pub first_wait: Duration,
    /// The longest wait that back-off grows to.
    pub max_wait: Duration,
    /// How long a batch is tried in all, waits included. Then it is dropped and counted. `OTEL_BSP_EXPORT_TIMEOUT`.
    pub max_total: Duration,
}

impl Default for RetryConfig {
    /// Five minutes in all instead of the specification's 30 s, so that a collector may restart without a loss.
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(5),
            max_total: Duration::from_secs(300),
        }
    }
}

/// The waits of one batch.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
    max: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(config: &RetryConfig) -> Self {
        // Jitter has to differ between processes, no more; the standard library's hash keys do.
        let random = RandomState::new().hash_one(0_u8);
        Self { first: config.first_wait, next: config.first_wait, max: config.max_wait, random }
    }

    /// The wait before the next attempt. What the collector asked for is followed, within reason: an attempt at once
    /// would make a loop, and one in an hour would cost the spans behind.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let jittered = self.next.mul_f64(0.8 + 0.4 * self.fraction());
        self.next = (self.next * 2).min(self.max);
        match asked {
            Some(asked) => asked.max(self.first).min(MAX_ASKED_WAIT),
            None => jittered,
        }
    }

    /// A number from 0 to 1, by a xorshift generator.
    fn fraction(&mut self) -> f64 {
        self.random |= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from((self.random >> 32) as u32) / f64::from(u32::MAX)
    }
}

/// The wait that a `Retry-After` header (RFC 9110, 10.2.3) asks for: seconds, or a date in the form that senders must use.
pub(super) fn retry_after(value: &str, now_unix_seconds: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = unix_seconds(value)?;
    Some(Duration::from_secs(until.saturating_sub(now_unix_seconds)))
}

/// The IMF-fixdate of RFC 9110, 5.6.7, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn unix_seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_once(", ")?.1.strip_suffix(" GMT")?.split(' ');
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = words.next()?.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if words.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since the epoch with years that begin in March, so that the leap day is the last of its year.
    let march_year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let days = march_year * 365 + march_year / 4 - march_year / 100
        + march_year / 400
        + (month_from_march * 153 + 2) / 5
        + day
        - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_follow_the_collector_within_reason() {
        let config = RetryConfig {
            first_wait: Duration::from_millis(100),
            max_wait: Duration::from_millis(400),
            max_total: Duration::MAX,
        };
        let mut backoff = Backoff::new(&config);
        for nominal in [100, 200, 400, 400] {
            let wait = backoff.wait(None).as_millis();
            assert!((nominal * 8 / 10..=nominal * 12 / 10).contains(&wait), "{wait} for {nominal}");
        }
        assert_eq!(backoff.wait(Some(Duration::ZERO)), Duration::from_millis(100));
        assert_eq!(backoff.wait(Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(backoff.wait(Some(Duration::from_secs(3000))), MAX_ASKED_WAIT);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_777;
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400 - now)),
            ("-1", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:47", None),
            ("Sun, 99 Nov 1994 08:49:47 GMT", None),
            ("Sun, 06 Nov 0000 08:49:47 GMT", None),
            (", 06 Nov 99999999999999999999 0:0:0 GMT", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
