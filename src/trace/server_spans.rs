//! The requests of this sidecar that outbound calls may belong to: a bounded
//! table, in shards so that workers seldom meet on one lock.

mod came;
mod candidates;
mod holders;
mod keyed;
mod late;
mod values;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use opentelemetry::trace::SpanId;
use parking_lot::{Mutex, MutexGuard};

pub use candidates::{Candidate, Candidates, MAX_LINKED, MAX_LOOKED_AT};
pub use values::{MAX_TEXT_BYTES, MAX_VALUES};

use keyed::Keyed;

use super::context::{LibraryIds, TraceContext};
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;

/// How many shards the table has: workers seldom meet on one lock.
const SHARDS: usize = 16;

/// How many requests of a shard wait at least to be looked at before those
/// that have ended are swept out.
const FRESH: usize = 32;

/// The requests that outbound calls may belong to.
#[derive(Debug)]
pub struct ServerSpans {
    shards: [Mutex<Shard>; SHARDS],
    /// Requests in flight that are in the table.
    named: AtomicUsize,
    /// Requests in flight that are not: no call can name them, and still they
    /// may make calls.
    unnamed: AtomicUsize,
    /// Requests that were answered and may still make calls.
    answered: AtomicU64,
    /// Values that only some of them were given.
    index: values::Index,
    /// The ids of the library MCP Mesh that came with requests.
    came: came::Came,
    /// Whether there ever was one.
    served: AtomicBool,
    /// Per shard, for each of the three kinds of entry.
    capacity: usize,
}

/// A request that the agent has been handed.
#[derive(Debug)]
pub struct Served {
    /// The ids and flags that the agent was given.
    pub context: Traceparent,
    /// The state that goes with them.
    pub tracestate: String,
    /// The span that the caller named as its own.
    pub caller: Option<SpanId>,
    /// The baggage that came with the request.
    pub baggage: Option<Baggage>,
    /// The arguments of the request, to know its calls by, where they [may
    /// tell](super::telling::may_tell).
    pub arguments: Box<[u8]>,
    /// The ids of the library MCP Mesh that came with it.
    pub library: Option<LibraryIds>,
    /// Whether it only asks (a safe method of RFC 9110), as probes do, so that
    /// no work goes on after its answer.
    pub safe: bool,
}

impl Served {
    /// A request of which only the context is known.
    pub fn of(context: Traceparent) -> Self {
        let (tracestate, arguments) = (String::new(), Box::default());
        Served { context, tracestate, caller: None, baggage: None, arguments, library: None, safe: false }
    }
}

/// What [`ServerSpans::end`] has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the request counts as in flight until it is ended"]
pub enum Place {
    /// In the table, under this id.
    Named(SpanId),
    /// Counted only.
    Unnamed,
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

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Entry, Keyed>,
    /// The requests in flight, side by side so that they can be looked through
    /// quickly.
    live: Vec<Candidate>,
    /// What else is known of them, in the same order.
    details: Vec<Details>,
    /// Ids of requests that may be forgotten, the oldest first.
    ended: VecDeque<u64>,
    /// The same of sessions. Their contexts are dangerous for as long as the
    /// session lives, so requests that come and go must not push them out.
    sessions: VecDeque<u64>,
    /// Those among the live ones whose arguments may tell and are not looked at.
    fresh: Vec<u64>,
    /// What those were given that have ended.
    answered: late::Answered,
}

#[derive(Debug, Default)]
struct Entry {
    /// How many requests in flight have this id: that of a caller whose trace
    /// is not recorded may come again and again.
    in_flight: u32,
    /// Its place among the live ones, while any is in flight.
    slot: usize,
    /// Whether it is never a parent.
    session: bool,
    /// Whether somebody named it since it was last considered for forgetting.
    named: bool,
    queued: Queued,
    baggage: Option<Baggage>,
}

/// Which queue of those that may be forgotten an entry is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Queued {
    #[default]
    No,
    Ended,
    Session,
}

#[derive(Debug)]
struct Details {
    tracestate: String,
    /// Empty once they were looked at, or where they hold nothing telling.
    arguments: Box<[u8]>,
    /// The values in them, hashed.
    values: Vec<u64>,
    library: Option<LibraryIds>,
    safe: bool,
    /// How many had been answered when it began, where nothing else was in flight then.
    alone_since: Option<u64>,
}

impl ServerSpans {
    /// A table that remembers at most `capacity` requests in flight, as many
    /// that have ended and as many sessions; beyond that the oldest of the
    /// latter are forgotten, and a request that finds no room is only counted.
    pub fn new(capacity: usize) -> Self {
        ServerSpans {
            shards: Default::default(),
            named: AtomicUsize::new(0),
            unnamed: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            index: values::Index::default(),
            came: came::Came::default(),
            served: AtomicBool::new(false),
            capacity: capacity.div_ceil(SHARDS).max(1),
        }
    }

    /// Remembers a request in flight under the id that the agent was given.
    pub fn begin(&self, served: Served) -> Place {
        let Served { context, tracestate, caller, baggage, mut arguments, library, safe } = served;
        if let Some(ids) = library {
            self.came.remember(ids);
        }
        let id = context.span_id;
        let mut shard = self.shard(id);
        let shard = &mut *shard;
        if shard.live.len() >= self.capacity {
            return self.begin_unnamed();
        }
        let entry = shard.entries.entry(key(id)).or_default();
        if entry.in_flight > 0 || !self.index.keep(arguments.len()) {
            arguments = Box::default();
        }
        let telling = !arguments.is_empty();
        if entry.in_flight == 0 {
            entry.slot = shard.live.len();
            let alone_since = (self.in_flight() == 0).then(|| self.answered.load(Ordering::Relaxed));
            shard.live.push(Candidate { context, caller });
            let values = Vec::new();
            if let Some(ids) = library {
                self.came.begin(key(id), ids);
            }
            shard.details.push(Details { tracestate, arguments, values, library, safe, alone_since });
        }
        entry.in_flight += 1;
        entry.baggage = baggage;
        if telling {
            shard.add_fresh(key(id));
        }
        self.named.fetch_add(1, Ordering::Relaxed);
        if !self.served.load(Ordering::Relaxed) {
            self.served.store(true, Ordering::Relaxed);
        }
        Place::Named(id)
    }

    /// Remembers that a request came with these ids that is not in the table:
    /// a call that brings them back is not proved to be of the one that is.
    pub fn came_with(&self, ids: LibraryIds) {
        self.came.remember(ids);
    }

    /// Counts a request in flight that no call can name.
    pub fn begin_unnamed(&self) -> Place {
        self.unnamed.fetch_add(1, Ordering::Relaxed);
        Place::Unnamed
    }

    /// Says that the request was answered.
    pub fn end(&self, place: Place) {
        let Place::Named(id) = place else {
            self.unnamed.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        self.named.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.shard(id);
        if let Some(ended) = shard.end(id, self.capacity) {
            // Under the lock, so that nobody adds them meanwhile.
            self.index.forget(key(id), &ended.values, ended.arguments.len());
            if !ended.safe {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(ids) = ended.library {
                self.came.end(key(id), ids);
            }
            shard.answered.remember(key(id), ended.values, ended.arguments);
        }
    }

    /// Remembers an id that no call may have as parent.
    pub fn never_a_parent(&self, id: SpanId) {
        let mut shard = self.shard(id);
        let entry = shard.entries.entry(key(id)).or_default();
        entry.session = true;
        if entry.queued != Queued::Session {
            entry.queued = Queued::Session;
            shard.sessions.push_back(key(id));
            shard.forget(Queued::Session, self.capacity);
        }
    }

    /// What is known of an id that a call names.
    pub fn standing(&self, id: SpanId) -> Option<Standing> {
        let mut shard = self.shard(id);
        let entry = shard.entries.get_mut(&key(id))?;
        entry.named = true;
        Some(match entry {
            Entry { session: true, .. } => Standing::Session,
            Entry { in_flight: 0, .. } => Standing::Ended,
            _ => Standing::InFlight,
        })
    }

    /// Whether a context is one that this sidecar handed out, or grew from one.
    pub fn knows(&self, context: &TraceContext) -> bool {
        let known = |id: SpanId| self.shard(id).entries.contains_key(&key(id));
        known(context.parent.span_id) || context.mesh_span().is_some_and(known)
    }

    /// The baggage that came with the request that has this id.
    pub fn baggage(&self, id: SpanId) -> Option<Baggage> {
        self.shard(id).entries.get(&key(id)).and_then(|entry| entry.baggage.clone())
    }

    /// The context that the agent was given with a request that is in flight.
    pub fn context(&self, id: SpanId) -> Option<TraceContext> {
        let shard = self.shard(id);
        let entry = shard.entries.get(&key(id)).filter(|entry| entry.in_flight > 0)?;
        let (live, details) = (shard.live.get(entry.slot)?, shard.details.get(entry.slot)?);
        let tracestate = Tracestate::parse([details.tracestate.as_bytes()]);
        Some(TraceContext { parent: live.context, tracestate })
    }

    /// Whether any request was ever remembered; where none is, the contexts of
    /// other sidecars reach the agent without us.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// How many requests are being worked on now.
    pub fn in_flight(&self) -> usize {
        self.named.load(Ordering::Relaxed) + self.unnamed.load(Ordering::Relaxed)
    }

    fn shard(&self, id: SpanId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(id.to_bytes()[7]) % SHARDS].lock()
    }
}

impl Shard {
    /// Ends a request; gives it where no other of its id is in flight.
    fn end(&mut self, id: SpanId, capacity: usize) -> Option<Details> {
        let entry = self.entries.get_mut(&key(id))?;
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight > 0 || entry.slot >= self.details.len() {
            return None;
        }
        let slot = entry.slot;
        let newly = entry.queued == Queued::No;
        if newly {
            entry.queued = Queued::Ended;
        }
        self.live.swap_remove(slot);
        let ended = self.details.swap_remove(slot);
        if let Some(moved) = self.live.get(slot)
            && let Some(entry) = self.entries.get_mut(&key(moved.context.span_id))
        {
            entry.slot = slot;
        }
        if newly {
            self.ended.push_back(key(id));
            self.forget(Queued::Ended, capacity);
        }
        Some(ended)
    }

    /// Remembers whose arguments are to be looked at. Where nobody ever asks,
    /// those that have ended are swept out from time to time.
    fn add_fresh(&mut self, id: u64) {
        if self.fresh.len() >= FRESH && self.fresh.len() >= 2 * self.live.len() {
            let entries = &self.entries;
            self.fresh.retain(|id| entries.get(id).is_some_and(|entry| entry.in_flight > 0));
        }
        self.fresh.push(id);
    }

    /// Forgets the oldest of one kind until there is room. A session that was
    /// named meanwhile is spared once, because it is in use.
    fn forget(&mut self, kind: Queued, capacity: usize) {
        let mut spared = 0;
        loop {
            let queue = if kind == Queued::Session { &mut self.sessions } else { &mut self.ended };
            if queue.len() <= capacity {
                return;
            }
            let Some(oldest) = queue.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&oldest).filter(|entry| entry.queued == kind) else {
                continue;
            };
            if entry.in_flight > 0 {
                entry.queued = Queued::No;
            } else if kind == Queued::Session && spared < capacity && std::mem::take(&mut entry.named) {
                spared += 1;
                queue.push_back(oldest);
            } else {
                self.entries.remove(&oldest);
            }
        }
    }
}

fn key(id: SpanId) -> u64 {
    u64::from_be_bytes(id.to_bytes())
}
