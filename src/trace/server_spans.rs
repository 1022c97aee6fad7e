//! The server spans of this sidecar that outbound calls may name: a bounded
//! table, in shards so that workers seldom meet on one lock.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry::trace::SpanId;

use super::context::TraceContext;
use crate::w3c::baggage::Baggage;

/// How many shards the table has: workers seldom meet on one lock.
const SHARDS: usize = 16;

/// The spans of this sidecar that outbound calls may name.
#[derive(Debug)]
pub struct ServerSpans {
    shards: [Mutex<Shard>; SHARDS],
    in_flight: AtomicUsize,
    /// Per shard, for each of the two kinds of entry.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Entry, Keyed>,
    /// Ids that may be forgotten, the oldest first.
    ended: VecDeque<u64>,
}

/// Hashes ids, which are random already, by one secret multiplication. A
/// caller that chooses ids cannot choose their buckets without the secret.
#[derive(Clone, Debug)]
struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Keyed(RandomState::new().build_hasher().finish() | 1)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Multiplied;

    fn build_hasher(&self) -> Multiplied {
        Multiplied { secret: self.0, hash: 0 }
    }
}

#[derive(Debug)]
struct Multiplied {
    secret: u64,
    hash: u64,
}

impl Hasher for Multiplied {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.hash ^ id ^ self.secret) * u128::from(self.secret);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }
}

#[derive(Clone, Debug)]
struct Entry {
    standing: Standing,
    /// Whether the id is in the queue of those that may be forgotten.
    queued: bool,
    baggage: Option<Baggage>,
}

/// What a span id means as a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A request that is being worked on.
    InFlight,
    /// A request that was answered.
    Ended,
    /// The context of a session, a notification or a stream: never a parent.
    Session,
}

impl ServerSpans {
    /// A table that remembers at most `capacity` requests in flight and as
    /// many that have ended; beyond that the oldest ended ones are forgotten,
    /// and a request that finds no room is not remembered.
    pub fn new(capacity: usize) -> Self {
        ServerSpans {
            shards: Default::default(),
            in_flight: AtomicUsize::new(0),
            capacity: capacity.div_ceil(SHARDS).max(1),
        }
    }

    /// Remembers a request in flight under the id that the agent was given.
    /// Answers whether there was room.
    pub fn begin(&self, id: SpanId, baggage: Option<Baggage>) -> bool {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard(id);
        if shard.entries.len() - shard.ended.len() >= self.capacity {
            return false;
        }
        // The id of a caller whose trace is not recorded comes again and again.
        let queued = shard.entries.get(&key(id)).is_some_and(|entry| entry.queued);
        shard.entries.insert(key(id), Entry { standing: Standing::InFlight, queued, baggage });
        true
    }

    /// Says that the request of this id was answered.
    pub fn end(&self, id: SpanId) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.shard(id);
        if let Some(entry) = shard.entries.get_mut(&key(id))
            && entry.standing == Standing::InFlight
        {
            entry.standing = Standing::Ended;
            if !std::mem::replace(&mut entry.queued, true) {
                shard.retire(id, self.capacity);
            }
        }
    }

    /// Remembers an id that no call may have as parent.
    pub fn never_a_parent(&self, id: SpanId) {
        let entry = Entry { standing: Standing::Session, queued: true, baggage: None };
        let mut shard = self.shard(id);
        let replaced = shard.entries.insert(key(id), entry);
        if !replaced.is_some_and(|old| old.queued) {
            shard.retire(id, self.capacity);
        }
    }

    /// What is known of an id.
    pub fn standing(&self, id: SpanId) -> Option<Standing> {
        self.shard(id).entries.get(&key(id)).map(|entry| entry.standing)
    }

    /// Whether a context is one that this sidecar handed out, or grew from one.
    pub fn knows(&self, context: &TraceContext) -> bool {
        let known = |id| self.standing(id).is_some();
        known(context.parent.span_id) || context.mesh_span().is_some_and(known)
    }

    /// The baggage that came with the request that has this id.
    pub fn baggage(&self, id: SpanId) -> Option<Baggage> {
        self.shard(id).entries.get(&key(id)).and_then(|entry| entry.baggage.clone())
    }

    /// How many requests are being worked on now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn shard(&self, id: SpanId) -> std::sync::MutexGuard<'_, Shard> {
        let index = usize::from(id.to_bytes()[7]) % SHARDS;
        // Nothing panics while it holds the lock, and a table of hints stays
        // usable even if something did.
        self.shards[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Shard {
    fn retire(&mut self, id: SpanId, capacity: usize) {
        self.ended.push_back(key(id));
        while self.ended.len() > capacity {
            if let Some(oldest) = self.ended.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

fn key(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;

    fn id(text: &str) -> SpanId {
        SpanId::from_hex(text).unwrap()
    }

    const OURS: &str = "b7ad6b7169203331";
    const THEIRS: &str = "00f067aa0ba902b7";

    #[test]
    fn baggage_is_found_by_the_id() {
        let spans = ServerSpans::new(64);
        spans.begin(id(OURS), Baggage::parse([b"k=v".as_slice()]));
        assert_eq!(spans.baggage(id(OURS)).unwrap().as_str(), "k=v");
        spans.end(id(OURS));
        assert_eq!(spans.baggage(id(OURS)).unwrap().as_str(), "k=v");
        assert!(spans.baggage(id(THEIRS)).is_none());
    }

    #[test]
    fn the_table_is_bounded_in_both_kinds() {
        let spans = ServerSpans::new(SHARDS * 4);
        let ids = Ids::seeded(1, 2);
        let mut refused = 0;
        let given: Vec<_> = (0..1_000).map(|_| ids.span_id()).collect();
        for id in &given {
            refused += usize::from(!spans.begin(*id, None));
        }
        assert_eq!(refused, 1_000 - SHARDS * 4);
        for id in &given {
            spans.end(*id);
            spans.never_a_parent(ids.span_id());
        }
        let held: usize = spans.shards.iter().map(|s| s.lock().unwrap().entries.len()).sum();
        assert!(held <= SHARDS * 8, "{held}");
        assert_eq!(spans.in_flight(), 0);
    }

    #[test]
    fn a_live_id_that_turns_out_to_be_a_sessions_does_not_stay_for_ever() {
        let spans = ServerSpans::new(SHARDS);
        let ids = Ids::seeded(3, 4);
        for _ in 0..1_000 {
            let id = ids.span_id();
            spans.begin(id, None);
            spans.never_a_parent(id);
            spans.end(id);
        }
        let held: usize = spans.shards.iter().map(|s| s.lock().unwrap().entries.len()).sum();
        assert!(held <= SHARDS, "{held}");
    }

    #[test]
    fn an_id_that_comes_again_takes_one_place() {
        let spans = ServerSpans::new(SHARDS * 2);
        for _ in 0..1_000 {
            assert!(spans.begin(id(OURS), None));
            assert!(spans.begin(id(OURS), None));
            spans.end(id(OURS));
            spans.end(id(OURS));
        }
        assert_eq!(spans.standing(id(OURS)), Some(Standing::Ended));
        assert_eq!(spans.in_flight(), 0);
    }
}
