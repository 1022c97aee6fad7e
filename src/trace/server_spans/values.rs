//! Values that tell requests apart: long words with digits in them, such as
//! identifiers, that only one request in flight was given. A call that holds
//! one is probably of that request.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry::trace::SpanId;

use super::keyed::Keyed;
use super::{ServerSpans, lock};

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

/// Arguments up to this long are looked at when their request begins, which
/// takes less than keeping them for later.
const SHORT_BYTES: usize = 256;

/// The shortest and the longest value, in bytes, and the fewest digits in one:
/// names of things have none, and what is longer is content.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = 16..=128;
const MIN_DIGITS: usize = 4;

/// Which requests in flight hold which values.
#[derive(Debug, Default)]
pub(super) struct Index {
    holders: Mutex<HashMap<u64, Holders, Keyed>>,
    /// The bytes of arguments that wait to be looked at.
    kept: AtomicUsize,
    secret: RandomState,
}

/// The requests that hold one value: with one alone, `ids` is its id.
#[derive(Clone, Copy, Debug, Default)]
struct Holders {
    count: u32,
    /// All their ids in one, by exclusive or, so that any can be taken out.
    ids: u64,
}

impl Index {
    fn add(&self, id: u64, values: &[u64]) {
        let mut holders = self.lock();
        for value in values {
            let holder = holders.entry(*value).or_default();
            holder.count += 1;
            holder.ids ^= id;
        }
    }

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
        if values.is_empty() {
            return;
        }
        let mut holders = self.lock();
        for value in values {
            let Some(holder) = holders.get_mut(value) else { continue };
            holder.count = holder.count.saturating_sub(1);
            holder.ids ^= id;
            if holder.count == 0 {
                holders.remove(value);
            }
        }
    }

    fn has_room(&self) -> bool {
        self.lock().len() + MAX_VALUES <= MAX_HELD
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

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Holders, Keyed>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these arguments may hold a value, so that they are worth keeping
/// for as long as the request is in flight.
pub fn may_tell(arguments: &[u8]) -> bool {
    let mut found = false;
    if arguments.len() <= SHORT_BYTES {
        for_each_value(arguments, |_| {
            found = true;
            false
        });
        return found;
    }
    true
}

/// Hands over the values in a text until `accept` has enough. A run of word
/// characters that is long enough covers one place in sixteen, so only those
/// are looked at until one is found.
fn for_each_value<'t>(text: &'t [u8], mut accept: impl FnMut(&'t [u8]) -> bool) {
    let shortest = *VALUE_BYTES.start();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut at = shortest - 1;
    while let Some(byte) = text.get(at) {
        if !is_word(byte) {
            at += shortest;
            continue;
        }
        let before = text[..at].iter().rev().take_while(|byte| is_word(byte)).count();
        let after = text[at..].iter().take_while(|byte| is_word(byte)).count();
        let value = &text[at - before..at + after];
        let telling = VALUE_BYTES.contains(&value.len())
            && value.iter().filter(|byte| byte.is_ascii_digit()).count() >= MIN_DIGITS;
        if telling && !accept(value) {
            return;
        }
        at += after + shortest;
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
        let holders = self.index.lock();
        for holder in values.iter().filter_map(|value| holders.get(value)).filter(|holder| holder.count == 1)
        {
            let id = SpanId::from_bytes(holder.ids.to_be_bytes());
            if !owners.contains(&id) {
                owners.push(id);
            }
        }
        owners
    }

    /// Looks at the arguments of requests that nobody has looked at yet; says
    /// whether that was all of them.
    fn index_fresh(&self) -> bool {
        let mut budget = BUDGET_BYTES;
        for shard in &self.shards {
            let shard = &mut *lock(shard);
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
                self.index.add(id, &values);
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

    fn found(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        for_each_value(text.as_bytes(), |value| {
            all.push(String::from_utf8_lossy(value).into_owned());
            true
        });
        all
    }

    #[test]
    fn values_are_long_words_with_digits() {
        let id = "3f2a9c41-77de-4b1a-9a55-0c1d2e3f4a5b";
        for text in [
            id.to_owned(),
            format!("{{\"order\":\"{id}\"}}"),
            format!("please look up {id}, thank you very much indeed"),
            format!("/orders/{id}/items?page=1"),
            format!("{}{id}", " ".repeat(15)),
            format!("x {id}"),
        ] {
            assert_eq!(found(&text), [id], "{text}");
        }
        let none = [
            "",
            "{\"a\":1}",
            "{\"destination_airport_code\":\"FRA\"}",
            "2026-11-26T10:00:00.000Z",
            "1732630000.123456",
            "short-1234",
            &"1234567890".repeat(13),
        ];
        for text in none {
            assert_eq!(found(text), [""; 0], "{text}");
        }
        assert_eq!(found("order-00000001-a,order-00000002-b").len(), 2, "neighbours");
        assert_eq!(found("1234567890123456"), ["1234567890123456"]);
    }

    /// The quick search finds what a plain one does.
    #[test]
    fn no_value_is_missed() {
        let ids = crate::trace::ids::Ids::seeded(1, 2);
        for _ in 0..2_000 {
            let random = ids.random().to_le_bytes();
            let alphabet = b"ab12345678901234567890-_xyzq,:  \"";
            let text: String = (0..200)
                .map(|n| {
                    char::from(
                        alphabet[usize::from(
                            random[n % 16].rotate_left(n as u32 / 16).wrapping_mul(7 + n as u8),
                        ) % alphabet.len()],
                    )
                })
                .collect();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let plain: Vec<_> = text
                .split(|c| !is_word(c))
                .filter(|w| VALUE_BYTES.contains(&w.len()))
                .filter(|w| w.bytes().filter(u8::is_ascii_digit).count() >= MIN_DIGITS)
                .collect();
            assert_eq!(found(&text), plain, "{text}");
        }
    }

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
        assert!(spans.index.lock().is_empty());
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
        let looked_at = spans.index.lock().len();
        assert!(looked_at > 0 && looked_at < 1_000, "{looked_at}");
        for _ in 0..1_000 {
            spans.owners(&[b"value-00000001-0"]);
        }
        let held = spans.index.lock().len();
        assert!(held <= MAX_HELD && held > MAX_HELD - 2 * MAX_VALUES, "{held}");
        for place in places {
            spans.end(place);
        }
        assert!(spans.index.lock().is_empty());
        let waiting: usize = spans.shards.iter().map(|shard| lock(shard).fresh.len()).sum();
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
        let waiting: usize = spans.shards.iter().map(|shard| lock(shard).fresh.len()).sum();
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
