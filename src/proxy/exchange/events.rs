//! What is seen in a stream of events: answers, progress, and in a session of
//! before 2026-07-28 what the server asks and takes back.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Asked, Exchange, Listening, Observer, each_answer};
use crate::mcp::message::{self, Kind, Message, OwnedId};
use crate::mcp::sse::Event;
use crate::proxy::peers::{SessionKey, Way};
use crate::proxy::reverse::{self, Met, Network, Owner};
use crate::proxy::worker::Worker;
use crate::trace::semconv as key;
use crate::w3c::traceparent::Traceparent;

/// What a server says first to a client that listens (MCP 2026-07-28).
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// The revision whose answers come on a stream of their own.
const HTTP_SSE: &str = "2024-11-05";

impl Exchange {
    /// Looks at events on their way to the client, and gives what is to be
    /// passed on now.
    pub(super) fn pass_events(&mut self, data: Bytes) -> Bytes {
        let Observer::Events { mut rewriter, progress } =
            std::mem::replace(&mut self.observer, Observer::Nothing)
        else {
            return data;
        };
        let mut progress = progress;
        let out = rewriter.pass(data, |event| self.event(event, &mut progress));
        let over = self.listening.is_some() && self.listened.is_none() && !self.side.is_stream;
        self.observer = if over && !rewriter.holds() {
            Observer::Nothing
        } else {
            Observer::Events { rewriter, progress }
        };
        out
    }

    /// One event; gives what has to stand in the place of its data.
    fn event(&mut self, event: &Event<'_>, progress: &mut i64) -> Option<Vec<u8>> {
        let Event::Message { event: name, data, .. } = *event else {
            self.note("too_large");
            return None;
        };
        if self.side.is_stream && self.side.session.is_none() {
            // Either it begins with the endpoint, or it is no stream of MCP.
            if name == Some(b"endpoint") {
                self.endpoint(data);
            } else {
                self.side.is_stream = false;
                self.listening = None;
            }
            return None;
        }
        if self.first.completes(data, true) {
            return None;
        }
        let (mut asks, mut notifies) = (false, false);
        each_answer(data, |message| match message.kind() {
            Kind::Response => self.event_answers(message, *progress),
            Kind::Request => asks = true,
            Kind::Notification => {
                notifies = true;
                if is(message, "notifications/progress") {
                    *progress += 1;
                    self.event_progresses(data);
                } else if is(message, "notifications/cancelled") {
                    self.event_cancels(data);
                } else if is(message, ACKNOWLEDGED) {
                    self.subscribed();
                }
            }
        });
        if notifies && self.worker.tracer.policy.now().spans.notifications {
            self.event_notifies(data);
        }
        if asks { self.event_asks(data) } else { None }
    }

    fn event_answers(&mut self, message: &Message<'_>, progress: i64) {
        let Exchange { worker, first, more, side, target, .. } = self;
        let mut waits = std::iter::once(first).chain(more);
        if let Some(waiting) = waits.find(|waiting| waiting.awaits(message)) {
            waiting.progressed(progress);
            waiting.came_to(worker, *side, target.as_ref().map(|target| &target.server), message);
            return waiting.answered(worker, message, None);
        }
        // A stream that was opened for itself brings what another one began.
        if let Some(session) = self.side.session.filter(|_| self.side.is_stream) {
            let resumed = !self.side.elsewhere;
            answered(&self.worker, session, Way::ToServer, message, resumed);
        }
    }

    /// In a stream of its own, the server tells of the progress of a request whose
    /// answer may come there too.
    fn event_progresses(&self, data: &[u8]) {
        let Some(session) = self.side.session.filter(|_| self.side.is_stream) else { return };
        if let Ok(message) = message::parse(data) {
            progressed(&self.worker, session, &message);
        }
    }

    /// The server has begun to notify; what it says from now on is of no interest.
    pub fn subscribed(&mut self) {
        let Exchange { worker, first, listened, .. } = self;
        if worker.tracer.policy.now().spans.notifications {
            *listened = first.context().map(Box::new);
        }
        if first.is_open() && first.answer().is_some_and(|answer| answer.asked == Asked::Notifications) {
            first.end(worker);
            self.listening = Some(Listening::begin(&self.worker));
        }
    }

    /// The server takes a request of its own back.
    fn event_cancels(&mut self, data: &[u8]) {
        let (Some(session), Ok(message)) = (self.side.session, message::parse(data)) else { return };
        cancelled(&self.worker, session, Way::ToClient, &message);
    }

    /// The server asks: a span of its own, and its context in the message.
    fn event_asks(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let session = self.side.session?;
        self.stream.as_ref()?;
        let owner = self.owner(session);
        let worker = Arc::clone(&self.worker);
        self.with_met(owner.as_ref(), |met| reverse::begin(&worker, met, data))?
    }

    /// The server notifies: a span of its own for each.
    fn event_notifies(&mut self, data: &[u8]) {
        let owner = self.notifier(data);
        let worker = Arc::clone(&self.worker);
        self.with_met(owner.as_ref(), |met| reverse::note(&worker, met, data));
    }

    /// Says between whom a message of the server passes, and in which session.
    fn with_met<T>(&self, owner: Option<&Owner>, act: impl FnOnce(Met<'_>) -> T) -> Option<T> {
        let stream = self.stream.as_ref()?;
        let session = self.side.session;
        let named = self.named.as_deref();
        let said =
            self.first.attribute(key::MCP_PROTOCOL_VERSION).or(named.and_then(|n| n.version.as_deref()));
        let agreed = match (said, session) {
            (None, Some(session)) => self.worker.tracer.peers.version(session, Instant::now()),
            _ => None,
        };
        Some(act(Met {
            outbound: self.side.outbound,
            network: Network::Http {
                client: &stream.connection.downstream,
                server: &stream.target.server,
                version: stream.version,
            },
            session,
            session_id: self
                .first
                .attribute(key::MCP_SESSION_ID)
                .or(named.and_then(|n| n.session.as_deref())),
            version: said.or(agreed.as_deref()),
            owner,
        }))
    }

    /// The request that a request of the server belongs to: the one whose
    /// stream it comes in, or else the only one in flight.
    fn owner(&mut self, session: SessionKey) -> Option<Owner> {
        if let Some((context, full)) = self.adopt() {
            return Some(Owner { context, method: "stream", exact: true, full });
        }
        let sole = self.worker.tracer.peers.sole(session, Way::ToServer).filter(|_| self.side.is_stream)?;
        let (context, full) = sole.lock().adopt()?;
        Some(Owner { context, method: "session", exact: false, full })
    }

    /// The same of a notification. In a stream of its own it can say of the
    /// progress of which request it tells: SDKs make the token of its id.
    fn notifier(&mut self, data: &[u8]) -> Option<Owner> {
        let Some(session) = self.side.session.filter(|_| self.side.is_stream) else {
            let (context, full) = self.adopt()?;
            return Some(Owner { context, method: "stream", exact: true, full });
        };
        let peers = &self.worker.tracer.peers;
        let message = message::parse(data).ok();
        let token = message.as_ref().and_then(|message| OwnedId::new(message.progress_token.as_ref()?));
        let told = token.and_then(|token| peers.waiting(peers.key(session, Way::ToServer, &token)));
        if let Some((context, full)) = told.and_then(|told| told.lock().adopt()) {
            return Some(Owner { context, method: "progress", exact: false, full });
        }
        self.owner(session)
    }

    /// The server says where this client has to send its messages (2024-11-05).
    fn endpoint(&mut self, uri: &[u8]) {
        let Some(stream) = self.stream.as_ref().filter(|_| self.side.is_stream) else { return };
        let Ok(uri) = std::str::from_utf8(uri) else { return };
        let peers = &self.worker.tracer.peers;
        let session = peers.endpoint(self.side.outbound, &stream.target.server, uri);
        peers.learn_endpoint(session, HTTP_SSE, Instant::now());
        self.side.session = Some(session);
        self.side.elsewhere = true;
    }
}

/// Ends the request that this message answers, if one waits in the session.
pub fn answered(
    worker: &Worker,
    session: SessionKey,
    way: Way,
    message: &Message<'_>,
    resumed: bool,
) -> bool {
    let Some(id) = message.id.as_ref().and_then(OwnedId::new) else { return false };
    let peers = &worker.tracer.peers;
    let waiting = peers.waiting(peers.key(session, way, &id));
    waiting.is_some_and(|exchange| exchange.lock().answered_elsewhere(message, resumed))
}

/// Ends the request that this `notifications/cancelled` is about, and gives
/// its context.
pub fn cancelled(
    worker: &Worker,
    session: SessionKey,
    way: Way,
    message: &Message<'_>,
) -> Option<Traceparent> {
    let id = message.request_id.as_ref()?;
    let peers = &worker.tracer.peers;
    let waiting = peers.waiting(peers.key(session, way, &OwnedId::new(id)?))?;
    waiting.lock().cancelled(id)
}

/// Counts the progress that this `notifications/progress` tells of, where its token is the id of
/// a request that waits, as SDKs make it.
pub fn progressed(worker: &Worker, session: SessionKey, message: &Message<'_>) {
    let peers = &worker.tracer.peers;
    let token = message.progress_token.as_ref().and_then(OwnedId::new);
    let told = token.and_then(|token| peers.waiting(peers.key(session, Way::ToServer, &token)));
    if let (Some(told), Some(token)) = (told, &message.progress_token) {
        told.lock().progressed_elsewhere(token);
    }
}

fn is(message: &Message<'_>, method: &str) -> bool {
    message.method.as_ref().is_some_and(|name| name.eq_str(method))
}
