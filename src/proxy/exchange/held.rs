//! Who holds an exchange: usually the one response that ends it, alone. Before
//! 2026-07-28 a request of a session can also be answered or cancelled on
//! another connection, which then finds it in the table of pending requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Exchange, Waiting};
use crate::mcp::message::OwnedId;
use crate::proxy::peers::{SessionKey, Way};

/// An exchange that other connections can reach.
#[derive(Debug)]
pub struct Shared(Mutex<Exchange>);

impl Shared {
    /// The exchange, for as long as the guard lives. Whoever has it must not
    /// hold a lock of the table of pending requests.
    pub fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut locked = shared.lock();
        let worker = Arc::clone(&locked.worker);
        let peers = &worker.tracer.peers;
        let mut displaced = Vec::new();
        for waiting in locked.waits_mut() {
            if let Some(key) = waiting.id().map(|id| peers.key(session, Way::ToServer, id)) {
                let (place, gone) = peers.wait(key, Arc::clone(&shared), now);
                waiting.put(place);
                displaced.extend(gone);
            }
        }
        drop(locked);
        for exchange in displaced {
            // Twice the same id in one batch: nobody could tell them apart.
            if !Arc::ptr_eq(&exchange, &shared) {
                exchange.lock().forgotten();
            }
        }
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

impl Waiting {
    /// The id under which others can find the request, where it has one.
    fn id(&self) -> Option<&OwnedId> {
        self.answer().filter(|_| self.is_open())?.id.as_ref()
    }
}
