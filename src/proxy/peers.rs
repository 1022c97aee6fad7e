//! What is remembered of peers between their requests: the sessions they
//! agreed on, and the requests whose answers may come on another connection.
//!
//! One for the whole process, since a session's connections are spread over
//! the workers. Peers choose the keys, so nothing here grows without bound:
//! each table has a cap, an age, and forgets its oldest entry first.

mod work;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use http::uri::{PathAndQuery, Uri};
use parking_lot::{Mutex, MutexGuard};

pub use self::work::Work;
use super::exchange::Shared;
use super::settings::Authority;
use crate::mcp::message::OwnedId;
use crate::metrics::PeerMetrics;
use crate::trace::aged::Aged;

/// How many shards the table of pending requests has.
const SHARDS: usize = 16;

/// The longest revision that is kept of a session, in bytes; real ones are dates.
const MAX_VERSION: usize = 32;

/// What is remembered of peers.
#[derive(Debug)]
pub struct Peers {
    hasher: RandomState,
    pending: [Mutex<Aged<Key, Arc<Shared>>>; SHARDS],
    sessions: Mutex<Aged<SessionKey, Session>>,
    /// Tasks, by the requests that they came of.
    pub tasks: Work,
    /// Requests that wait for more input, by the state that their retries echo.
    pub states: Work,
    evicted: Evicted,
    age: Duration,
    closed: AtomicBool,
    endpoints: AtomicBool,
}

/// How many entries had to make room since they were last counted, by table.
#[derive(Debug, Default)]
struct Evicted {
    pending: AtomicU64,
    sessions: AtomicU64,
}

/// A session at one server, seen from one side of this sidecar. A keyed hash,
/// so that a peer can neither make it long nor aim at another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(u64);

/// Which of the two peers of a session a request goes to. Each numbers its
/// own requests, so the numbers of the two collide by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the server.
    ToServer,
    /// From the server to the client, before 2026-07-28.
    ToClient,
}

/// A pending request: session, direction and typed id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    session: SessionKey,
    way: Way,
    id: u64,
}

/// Where a request stands in the table, to be taken out again.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    key: Key,
    stamp: u64,
}

#[derive(Debug)]
struct Session {
    version: Option<Box<str>>,
    since: Instant,
}

/// A session that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The revision that it agreed on, where that is known.
    pub version: Option<Box<str>>,
    /// When it was granted.
    pub since: Instant,
}

impl Peers {
    /// Tables of at most `capacity` entries each, which are forgotten after `age`.
    pub fn new(capacity: usize, age: Duration) -> Self {
        let shard = || Mutex::new(Aged::new(capacity.div_ceil(SHARDS)));
        Peers {
            hasher: RandomState::default(),
            pending: std::array::from_fn(|_| shard()),
            sessions: Mutex::new(Aged::new(capacity)),
            tasks: Work::new(capacity),
            states: Work::new(capacity),
            evicted: Evicted::default(),
            age,
            closed: AtomicBool::new(false),
            endpoints: AtomicBool::new(false),
        }
    }

    /// The key of the session that `Mcp-Session-Id` names at this server.
    pub fn session(&self, outbound: bool, server: &Authority, id: &str) -> SessionKey {
        SessionKey(self.hasher.hash_one((outbound, server.port, server.host.as_str(), id)))
    }

    /// The key of the session of 2024-11-05 whose messages are sent to `uri`:
    /// absolute or a path, which a server tells its client by an event.
    pub fn endpoint(&self, outbound: bool, server: &Authority, uri: &str) -> SessionKey {
        let uri = uri.parse::<Uri>().ok();
        let path = uri.as_ref().and_then(Uri::path_and_query).map_or("", PathAndQuery::as_str);
        SessionKey(self.hasher.hash_one((outbound, server.port, server.host.as_str(), path, "endpoint")))
    }

    /// The key of what a server calls by this name. The name may be a secret,
    /// and is not kept.
    pub fn thing(&self, outbound: bool, server: Option<&Authority>, name: &str) -> u64 {
        self.hasher.hash_one((outbound, server, name))
    }

    /// Remembers such a session.
    pub fn learn_endpoint(&self, session: SessionKey, version: &str, now: Instant) {
        self.endpoints.store(true, Ordering::Relaxed);
        self.learn(session, Some(version), now);
    }

    /// Whether there ever was one.
    pub fn has_endpoints(&self) -> bool {
        self.endpoints.load(Ordering::Relaxed)
    }

    /// The key of one of its requests.
    pub fn key(&self, session: SessionKey, way: Way, id: &OwnedId) -> Key {
        Key { session, way, id: self.hasher.hash_one(id) }
    }

    /// Remembers a request that waits for its answer. One that waited under
    /// the same key is given back: a client that had to authenticate sends its
    /// request again.
    pub fn wait(&self, key: Key, exchange: Arc<Shared>, now: Instant) -> (Place, Vec<Arc<Shared>>) {
        let (stamp, displaced) = self.shard(key.session).insert(key, exchange, now);
        if displaced.oldest.is_some() {
            self.evicted.pending.fetch_add(1, Ordering::Relaxed);
        }
        (Place { key, stamp }, displaced.same.into_iter().chain(displaced.oldest).collect())
    }

    /// Forgets a request whose answer has come.
    pub fn answered(&self, place: Place) {
        self.shard(place.key.session).remove_stamped(&place.key, place.stamp);
    }

    /// The request that waits under this key.
    pub fn waiting(&self, key: Key) -> Option<Arc<Shared>> {
        self.shard(key.session).peek(&key).map(Arc::clone)
    }

    /// The one request of the session that waits in this direction; `None` if
    /// there are several. Looks at every request of the shard.
    pub fn sole(&self, session: SessionKey, way: Way) -> Option<Arc<Shared>> {
        let shard = self.shard(session);
        let mut found = shard.iter().filter(|(key, _)| key.session == session && key.way == way);
        let sole = found.next().map(|(_, exchange)| Arc::clone(exchange));
        sole.filter(|_| found.next().is_none())
    }

    /// Remembers a session that a server has granted.
    pub fn learn(&self, session: SessionKey, version: Option<&str>, now: Instant) {
        let version = version.filter(|version| version.len() <= MAX_VERSION).map(Box::from);
        let mut sessions = self.sessions.lock();
        let since = sessions.peek(&session).map_or(now, |session| session.since);
        let (_, displaced) = sessions.insert(session, Session { version, since }, now);
        drop(sessions);
        if displaced.oldest.is_some() {
            self.evicted.sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The revision that the session agreed on, where it is known.
    pub fn version(&self, session: SessionKey, now: Instant) -> Option<Box<str>> {
        self.sessions.lock().touch(&session, now)?.version.clone()
    }

    /// Forgets a session, and gives what was known of it and what still waits in it.
    pub fn end_session(&self, session: SessionKey) -> (Option<Ended>, Vec<Arc<Shared>>) {
        let ended = self.sessions.lock().remove(&session);
        let ended = ended.map(|Session { version, since }| Ended { version, since });
        (ended, self.shard(session).remove_where(|key, _| key.session == session))
    }

    /// Forgets what is too old, and gives the requests among it.
    pub fn expire(&self, now: Instant) -> Vec<Arc<Shared>> {
        self.sessions.lock().expire(now, self.age);
        self.tasks.expire(now, self.age);
        self.states.expire(now, self.age);
        self.pending.iter().flat_map(|shard| shard.lock().expire(now, self.age)).collect()
    }

    /// Forgets every request, because the sidecar ends, and keeps no more of them.
    pub fn drain(&self) -> Vec<Arc<Shared>> {
        self.closed.store(true, Ordering::Relaxed);
        self.pending.iter().flat_map(|shard| shard.lock().remove_where(|_, _| true)).collect()
    }

    /// Whether the sidecar ends, so that nothing can be answered later.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Some of the requests that wait, at most this many.
    pub fn some(&self, most: usize) -> Vec<Arc<Shared>> {
        let mut some = Vec::new();
        for shard in &self.pending {
            let left = most.saturating_sub(some.len());
            some.extend(shard.lock().iter().take(left).map(|(_, exchange)| Arc::clone(exchange)));
        }
        some
    }

    /// Says how full the tables are.
    pub fn count(&self, metrics: &PeerMetrics) {
        let pending = self.pending.iter().map(|shard| shard.lock().len()).sum();
        metrics.count("pending", pending, self.evicted.pending.swap(0, Ordering::Relaxed));
        let sessions = self.sessions.lock().len();
        metrics.count("sessions", sessions, self.evicted.sessions.swap(0, Ordering::Relaxed));
        for (table, work) in [("tasks", &self.tasks), ("states", &self.states)] {
            let (entries, evicted) = work.count();
            metrics.count(table, entries, evicted);
        }
    }

    fn shard(&self, session: SessionKey) -> MutexGuard<'_, Aged<Key, Arc<Shared>>> {
        self.pending[session.0 as usize % SHARDS].lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message;

    fn server(port: u16) -> Authority {
        Authority { host: "weather".into(), port }
    }

    fn id(text: &str) -> OwnedId {
        let body = format!(r#"{{"id":{text},"method":"x"}}"#);
        OwnedId::new(&message::parse(body.as_bytes()).unwrap().id.unwrap()).unwrap()
    }

    #[test]
    fn sides_servers_ways_and_types_are_told_apart() {
        let peers = Peers::new(16, Duration::from_secs(1));
        let session = peers.session(false, &server(1), "s");
        assert_eq!(session, peers.session(false, &server(1), "s"));
        for other in [peers.session(true, &server(1), "s"), peers.session(false, &server(2), "s")] {
            assert_ne!(session, other);
        }
        let key = |way, text| peers.key(session, way, &id(text));
        let one = key(Way::ToServer, "1");
        assert_eq!(one, key(Way::ToServer, "1.0"), "one number in two spellings");
        assert_ne!(one, key(Way::ToServer, "\"1\""), "number 1 is not text 1");
        assert_ne!(one, key(Way::ToClient, "1"), "each side numbers its own requests");
    }

    #[test]
    fn a_million_invented_sessions_cost_no_more_than_the_cap() {
        let peers = Peers::new(100, Duration::from_secs(60));
        let now = Instant::now();
        for number in 0..1_000_000 {
            let session = peers.session(false, &server(1), &number.to_string());
            peers.learn(session, Some("2025-06-18"), now);
        }
        assert_eq!(peers.sessions.lock().len(), 100);
        assert_eq!(peers.evicted.sessions.load(Ordering::Relaxed), 1_000_000 - 100);
        let last = peers.session(false, &server(1), "999999");
        assert_eq!(peers.version(last, now).as_deref(), Some("2025-06-18"));
        peers.expire(now + Duration::from_secs(61));
        assert_eq!(peers.version(last, now), None);
    }

    #[test]
    fn a_long_version_is_not_kept() {
        let peers = Peers::new(1, Duration::from_secs(60));
        let session = peers.session(false, &server(1), "s");
        peers.learn(session, Some(&"9".repeat(1_000)), Instant::now());
        assert_eq!(peers.version(session, Instant::now()), None);
    }
}
