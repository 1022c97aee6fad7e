//! Who holds an exchange: usually the one response that ends it, alone. Before
//! 2026-07-28 a request of a session can also be answered or cancelled on
//! another connection, which then finds it in the table of pending requests.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::{Exchange, Forgotten, Waiting};
use crate::mcp::message::OwnedId;
use crate::proxy::peers::{SessionKey, Way};

/// An exchange that other connections can reach.
#[derive(Debug)]
pub struct Shared(Mutex<Exchange>);

impl Shared {
    /// The exchange, for as long as the guard lives. Whoever has it must not
    /// hold a lock of the table of pending requests.
    pub fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock()
    }

    /// Remembers a request that was passed on by itself, without a response of
    /// its own, until somebody answers it.
    pub fn park(exchange: Exchange, way: Way, now: Instant) {
        let Some(session) = exchange.side.session else { return };
        let shared = Arc::new(Shared(Mutex::new(exchange)));
        let mut locked = shared.lock();
        let displaced = locked.register(&shared, session, way, now);
        locked.each(|waiting, worker| _ = waiting.park(worker));
        drop(locked);
        forget(&shared, displaced);
    }
}

fn forget(newcomer: &Arc<Shared>, displaced: Vec<Arc<Shared>>) {
    for exchange in displaced {
        // Twice the same id in one batch: nobody could tell them apart.
        // One that is being worked on, even by the caller, ends by that or when it is dropped.
        if !Arc::ptr_eq(&exchange, newcomer)
            && let Some(mut exchange) = exchange.0.try_lock()
        {
            exchange.forgotten(Forgotten::Displaced);
        }
    }
}

/// An exchange in the hands of the request and then of the response. Dropping
/// it means that the client has gone.
#[derive(Debug)]
pub struct Held(Inner);

#[derive(Debug)]
enum Inner {
    Alone(Box<Exchange>),
    Shared(Arc<Shared>),
}

impl Held {
    /// An exchange that began at `now`. In a session, others can reach its requests.
    pub fn new(exchange: Exchange, now: Instant) -> Self {
        match exchange.side.session {
            Some(session) if exchange.waits().any(|w| w.id().is_some()) => {
                Held::in_session(exchange, session, now)
            }
            _ => Held(Inner::Alone(Box::new(exchange))),
        }
    }

    fn in_session(exchange: Exchange, session: SessionKey, now: Instant) -> Self {
        let shared = Arc::new(Shared(Mutex::new(exchange)));
        let displaced = shared.lock().register(&shared, session, Way::ToServer, now);
        forget(&shared, displaced);
        Held(Inner::Shared(shared))
    }

    /// Does something with the exchange.
    pub fn with<T>(&mut self, act: impl FnOnce(&mut Exchange) -> T) -> T {
        match &mut self.0 {
            Inner::Alone(exchange) => act(exchange),
            Inner::Shared(shared) => act(&mut shared.lock()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.with(Exchange::left);
    }
}

impl Exchange {
    /// Puts its requests where other connections of the session find them.
    /// Gives what had to make room.
    fn register(
        &mut self,
        shared: &Arc<Shared>,
        session: SessionKey,
        way: Way,
        now: Instant,
    ) -> Vec<Arc<Shared>> {
        let worker = Arc::clone(&self.worker);
        let peers = &worker.tracer.peers;
        let mut displaced = Vec::new();
        for waiting in self.waits_mut() {
            if let Some(key) = waiting.id().map(|id| peers.key(session, way, id)) {
                let (place, gone) = peers.wait(key, Arc::clone(shared), now);
                waiting.put(place);
                displaced.extend(gone);
            }
        }
        displaced
    }
}

impl Waiting {
    /// The id under which others can find the request, where it has one.
    fn id(&self) -> Option<&OwnedId> {
        self.answer().filter(|_| self.is_open())?.id.as_ref()
    }
}
