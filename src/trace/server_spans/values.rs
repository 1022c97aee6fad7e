//! Which values only one request in flight was given. A call that holds one is
//! probably of that request.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry::trace::SpanId;

use super::holders::Holders;
use super::late::Given;
use super::{ServerSpans, key};
use crate::trace::telling::for_each_value;

/// How much of the arguments of a request or call is looked at, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;

/// The most values of one request or call.
pub const MAX_VALUES: usize = 8;

/// The most bytes of arguments that wait to be looked at; those of further
/// requests are not kept.
const MAX_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// The most values that are known of all requests in flight.
const MAX_HELD: usize = 16 * 1024;

/// The most arguments that one call makes us look at, in bytes.
const BUDGET_BYTES: usize = 16 * 1024;

/// Which requests in flight hold which values.
#[derive(Debug, Default)]
pub(super) struct Index {
    holders: Holders,
    /// The bytes of arguments that wait to be looked at.
    kept: AtomicUsize,
    secret: RandomState,
}

impl Index {
    /// Says whether so many bytes of arguments may be kept, and counts them if so.
    pub(super) fn keep(&self, bytes: usize) -> bool {
        let fits = bytes == 0 || self.kept.load(Ordering::Relaxed) + bytes <= MAX_KEPT_BYTES;
        if bytes > 0 && fits {
            self.kept.fetch_add(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Forgets what a request held that has ended, and the arguments that
    /// nobody looked at.
    pub(super) fn forget(&self, id: u64, values: &[u64], kept: usize) {
        if kept > 0 {
            self.kept.fetch_sub(kept, Ordering::Relaxed);
        }
        if !values.is_empty() {
            self.holders.remove(id, values.iter().copied());
        }
    }

    fn has_room(&self) -> bool {
        self.holders.len() + MAX_VALUES <= MAX_HELD
    }

    /// The different values in this text, hashed.
    fn values_in(&self, texts: &[&[u8]]) -> Vec<u64> {
        let mut values = Vec::new();
        let mut left = MAX_TEXT_BYTES;
        for text in texts {
            let text = &text[..text.len().min(left)];
            left -= text.len();
            for_each_value(text, |value| {
                let hash = self.secret.hash_one(value);
                if !values.contains(&hash) {
                    values.push(hash);
                }
                values.len() < MAX_VALUES
            });
        }
        values
    }
}

impl ServerSpans {
    /// The requests in flight that alone hold a value in these texts of a
    /// call, each once. Nothing is said where not all could be looked at.
    pub fn owners(&self, texts: &[&[u8]]) -> Vec<SpanId> {
        let mut owners = Vec::new();
        let values = self.index.values_in(texts);
        if values.is_empty() || !self.index_fresh() {
            return owners;
        }
        let alone = |value: &u64| self.index.holders.of(*value).and_then(|holder| holder.alone());
        for id in values.iter().filter_map(alone) {
            let id = SpanId::from_bytes(id.to_be_bytes());
            if !owners.contains(&id) {
                owners.push(id);
            }
        }
        owners
    }

    /// Whether a request that was answered had been given one of the values in
    /// these texts, or may have been. One that is forgotten was not.
    pub fn was_given(&self, id: SpanId, texts: &[&[u8]]) -> bool {
        let values = self.index.values_in(texts);
        let shares = |given: &[u64]| values.iter().any(|value| given.contains(value));
        match self.shard(id).answered.given(key(id)) {
            Some(Given::Values(given)) => shares(given),
            Some(Given::Arguments(arguments)) => shares(&self.index.values_in(&[arguments])),
            Some(Given::Unknown) => true,
            None => false,
        }
    }

    /// Looks at the arguments of requests that nobody has looked at yet; says
    /// whether that was all of them.
    fn index_fresh(&self) -> bool {
        let mut budget = BUDGET_BYTES;
        for shard in &self.shards {
            let shard = &mut *shard.lock();
            while let Some(id) = shard.fresh.pop() {
                let entry = shard.entries.get(&id).filter(|entry| entry.in_flight > 0);
                let Some(live) = entry.and_then(|entry| shard.details.get_mut(entry.slot)) else { continue };
                if live.arguments.is_empty() {
                    continue;
                }
                if live.arguments.len().min(MAX_TEXT_BYTES) > budget || !self.index.has_room() {
                    shard.fresh.push(id);
                    return false;
                }
                // Not kept any longer than it takes.
                let arguments = std::mem::take(&mut live.arguments);
                self.index.forget(id, &[], arguments.len());
                budget -= arguments.len().min(MAX_TEXT_BYTES);
                let values = self.index.values_in(&[&arguments]);
                self.index.holders.add(id, values.iter().copied());
                live.values = values;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::server_spans::{Place, Served};
    use crate::w3c::traceparent::Traceparent;

    const X: &str = "order-1234567890-x";
    const Y: &str = "order-1234567890-y";

    fn serve(spans: &ServerSpans, number: u64, arguments: &str) -> Place {
        let text = format!("00-{:032x}-{number:016x}-01", 1);
        let context = Traceparent::parse(text.as_bytes()).unwrap();
        let arguments = arguments.as_bytes().into();
        spans.begin(Served { arguments, ..Served::of(context) })
    }

    fn id(number: u64) -> SpanId {
        SpanId::from_bytes(number.to_be_bytes())
    }

    #[test]
    fn the_one_that_was_given_a_value_owns_it() {
        let spans = ServerSpans::new(64);
        let first = serve(&spans, 1, X);
        let second = serve(&spans, 2, &format!("{X} {Y}"));
        let long = format!("{}{X}", "word ".repeat(100));
        let third = serve(&spans, 3, &long);
        let owner = |text: &str| spans.owners(&[text.as_bytes()]);
        assert_eq!(owner(X), [], "held by three");
        assert_eq!(owner(Y), [id(2)]);
        assert_eq!(owner("none"), []);
        spans.end(second);
        assert_eq!(owner(Y), []);
        spans.end(third);
        assert_eq!(owner(&format!("{X} {X}")), [id(1)]);
        let fourth = serve(&spans, 4, Y);
        assert_eq!(spans.owners(&[X.as_bytes(), Y.as_bytes()]), [id(1), id(4)]);
        spans.end(first);
        spans.end(fourth);
        assert!(spans.index.holders.len() == 0);
    }

    #[test]
    fn what_was_given_outlives_the_answer() {
        let spans = ServerSpans::new(64);
        let long = format!("{}{X}", "word ".repeat(100));
        for (number, arguments, looked_at, of_x, of_y) in [
            (1, X, true, true, false),
            (2, X, false, true, false),
            (3, "", false, false, false),
            (4, &long, true, true, false),
            (5, &long, false, true, true),
        ] {
            let place = serve(&spans, number, arguments);
            if looked_at {
                spans.owners(&[X.as_bytes()]);
            }
            assert!(!spans.was_given(id(number), &[X.as_bytes()]), "{number}: in flight");
            spans.end(place);
            let given = |text: &str| spans.was_given(id(number), &[text.as_bytes()]);
            assert_eq!((given(X), given(Y)), (of_x, of_y), "{number}");
        }
        assert!(!spans.was_given(id(6), &[X.as_bytes()]), "never heard of");
    }

    #[test]
    fn what_is_held_and_looked_at_is_bounded() {
        let spans = ServerSpans::new(65_536);
        let mut places = Vec::new();
        for number in 1..10_000 {
            let values: Vec<_> = (0..12).map(|n| format!("value-{number:08}-{n}")).collect();
            places.push(serve(&spans, number, &values.join(" ")));
        }
        // One call looks at its budget only, and says nothing until all are known.
        assert_eq!(spans.owners(&[b"value-00000001-0"]), []);
        let looked_at = spans.index.holders.len();
        assert!(looked_at > 0 && looked_at < 1_000, "{looked_at}");
        for _ in 0..1_000 {
            spans.owners(&[b"value-00000001-0"]);
        }
        let held = spans.index.holders.len();
        assert!(held <= MAX_HELD && held > MAX_HELD - 2 * MAX_VALUES, "{held}");
        for place in places {
            spans.end(place);
        }
        assert!(spans.index.holders.len() == 0);
        let waiting: usize = spans.shards.iter().map(|shard| shard.lock().fresh.len()).sum();
        assert!(waiting <= 10_000, "{waiting}");
        assert_eq!(spans.index.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn arguments_that_nobody_asks_for_are_bounded_and_swept_out() {
        let spans = ServerSpans::new(65_536);
        let text = " ".repeat(MAX_TEXT_BYTES);
        let places: Vec<_> = (1..5_000).map(|number| serve(&spans, number, &text)).collect();
        assert_eq!(spans.index.kept.load(Ordering::Relaxed), MAX_KEPT_BYTES);
        places.into_iter().for_each(|place| spans.end(place));
        for number in 5_000..10_000 {
            let place = serve(&spans, number, X);
            spans.end(place);
        }
        assert_eq!(spans.index.kept.load(Ordering::Relaxed), 0);
        let waiting: usize = spans.shards.iter().map(|shard| shard.lock().fresh.len()).sum();
        assert!(waiting <= 16 * 33, "{waiting}");
    }

    #[test]
    fn only_the_beginning_of_a_text_is_looked_at() {
        let spans = ServerSpans::new(64);
        let _ = serve(&spans, 1, &format!("{}{X}", " ".repeat(MAX_TEXT_BYTES)));
        let _ = serve(&spans, 2, &format!("{}{Y}", " ".repeat(MAX_TEXT_BYTES - Y.len())));
        assert_eq!(spans.owners(&[X.as_bytes()]), []);
        assert_eq!(spans.owners(&[Y.as_bytes()]), [id(2)]);
        let long = " ".repeat(MAX_TEXT_BYTES);
        assert_eq!(spans.owners(&[long.as_bytes(), Y.as_bytes()]), []);
    }
}
