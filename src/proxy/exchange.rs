//! One traced exchange: the messages of a request, what they still wait for,
//! and how they end.
//!
//! Each ends exactly once. Whoever holds the exchange when the deciding
//! message, the end of the body or a failure is seen ends them; if nobody
//! does, its drop means that the client has gone.

mod held;
mod waiting;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{StatusCode, response};

pub use self::held::{Held, Shared};
pub use self::waiting::{Answer, Awaited, Waiting};
use super::error::{Breakage, ProxyError};
use super::headers::Survey;
use super::peers::SessionKey;
use super::read::{self, Media};
use super::settings::Authority;
use super::subject::MCP_SESSION_ID;
use super::worker::Worker;
use crate::mcp::batch;
use crate::mcp::message::{self, Doubt, Kind, Message};
use crate::mcp::sse::{Event, Sse};
use crate::net::tunnel::Passed;
use crate::trace::semconv as key;

/// The most messages of one batch that get a span each. A longer one passes unread.
pub const MAX_BATCH: usize = 128;

/// A request whose response is awaited.
#[derive(Debug)]
pub struct Exchange {
    worker: Arc<Worker>,
    /// The message, or the first of a batch.
    first: Waiting,
    /// The others of a batch.
    more: Vec<Waiting>,
    side: Side,
    observer: Observer,
    status: Option<StatusCode>,
}

/// Where an exchange takes place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    /// Whether the request comes from the pod's own application.
    pub outbound: bool,
    /// The session that it names, before 2026-07-28.
    pub session: Option<SessionKey>,
    /// Whether the request asks to end it.
    pub ends_session: bool,
}

/// How the response is looked into.
#[derive(Debug)]
enum Observer {
    Nothing,
    /// A JSON body, kept until it is whole; usually it is one frame.
    Json {
        first: Bytes,
        /// The first piece and all others, from the second on.
        joined: BytesMut,
    },
    /// A stream of server-sent events.
    Events {
        sse: Box<Sse>,
        progress: i64,
    },
}

/// Whether more of the response has to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The end has not come.
    Open,
    /// The deciding message has passed; the rest is of no interest.
    Decided,
}

impl Exchange {
    /// An exchange of one message.
    pub fn new(worker: Arc<Worker>, waiting: Waiting, side: Side) -> Self {
        Exchange::of_batch(worker, waiting, Vec::new(), side)
    }

    /// An exchange of several messages.
    pub fn of_batch(worker: Arc<Worker>, first: Waiting, more: Vec<Waiting>, side: Side) -> Self {
        Exchange { worker, first, more, side, observer: Observer::Nothing, status: None }
    }

    /// Takes in the head of the response, which `server` sent, and decides how
    /// to look at its body.
    pub fn response_head(&mut self, head: &response::Parts, survey: Survey, server: &Authority) {
        self.status = Some(head.status);
        if let Waiting { span: Some(span), awaited: Awaited::Response, .. } = &mut self.first {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(head.status.as_u16()));
        }
        if head.status == StatusCode::NOT_FOUND || (self.side.ends_session && head.status.is_success()) {
            self.session_ended();
        }
        if !self.more.is_empty() && head.status.is_success() {
            // Beside requests, the head is all the acknowledgement there is.
            self.each(Waiting::acknowledged);
        }
        if !self.waits().any(|waiting| waiting.is_open() && waiting.answer().is_some()) {
            return;
        }
        if head.status.is_success() {
            self.session_granted(head, server);
        }
        if survey.has(Survey::CONTENT_ENCODING) && read::is_encoded(&head.headers) {
            self.note("encoded");
        } else {
            self.observer = observer(head, self.worker.limits().max_event_bytes);
        }
    }

    /// A server names the session in the head of its answer to `initialize`;
    /// whether there is one, the answer itself will say.
    fn session_granted(&mut self, head: &response::Parts, server: &Authority) {
        let Waiting { span: Some(span), awaited: Awaited::Answer(answer), .. } = &mut self.first else {
            return;
        };
        if answer.initialize
            && let Some(id) = head.headers.get(MCP_SESSION_ID).and_then(|v| v.to_str().ok())
        {
            span.set_str(key::MCP_SESSION_ID, id);
            answer.granted = Some(self.worker.tracer.peers.session(self.side.outbound, server, id));
        }
    }

    /// The server does not know the session, or no longer.
    fn session_ended(&mut self) {
        let Some(session) = self.side.session.take() else { return };
        // Those of other connections hear it from their own server.
        drop(self.worker.tracer.peers.end_session(session));
    }

    /// Looks at data on its way to the client.
    pub fn observe(&mut self, data: &Bytes) -> Progress {
        match &mut self.observer {
            Observer::Nothing => {}
            Observer::Json { first, joined } => {
                let length = first.len().max(joined.len()) + data.len();
                if length > self.worker.limits().max_body_bytes {
                    self.observer = Observer::Nothing;
                    self.note("too_large");
                } else if first.is_empty() {
                    *first = data.clone();
                } else {
                    if joined.is_empty() {
                        joined.extend_from_slice(first);
                    }
                    joined.extend_from_slice(data);
                }
            }
            Observer::Events { .. } => self.observe_events(data),
        }
        // One that was cancelled on another connection is over too.
        if self.waits().any(Waiting::is_awaited) { Progress::Open } else { Progress::Decided }
    }

    fn observe_events(&mut self, data: &Bytes) {
        let Exchange { worker, first, more, observer: Observer::Events { sse, progress }, .. } = self else {
            return;
        };
        let mut oversized = false;
        sse.feed(data, |event| match event {
            Event::Message { data, .. } => each_answer(data, |message| match message.kind() {
                Kind::Response => {
                    let waiting = std::iter::once(&mut *first).chain(more.iter_mut());
                    if let Some(waiting) = waiting.into_iter().find(|waiting| waiting.awaits(message)) {
                        waiting.progressed(*progress);
                        waiting.answered(worker, message, None);
                    }
                }
                _ if is_progress(message) => *progress += 1,
                _ => {}
            }),
            Event::Oversized { .. } => oversized = true,
        });
        if oversized {
            self.note("too_large");
        }
    }

    /// The response came to its end.
    pub fn body_ended(&mut self) {
        match std::mem::replace(&mut self.observer, Observer::Nothing) {
            Observer::Json { first, joined } if joined.is_empty() => self.json_ended(&first),
            Observer::Json { joined, .. } => self.json_ended(&joined),
            Observer::Events { sse, .. } => self.events_ended(&sse),
            Observer::Nothing => {}
        }
        let status = self.status;
        self.each(|waiting, worker| waiting.unanswered(worker, status));
    }

    fn json_ended(&mut self, body: &[u8]) {
        let Exchange { worker, first, more, status, .. } = self;
        let single = more.is_empty();
        each_answer(body, |message| {
            if message.kind() != Kind::Response {
                return;
            }
            let unread = message.error.is_some() && message.id.is_none();
            for waiting in std::iter::once(&mut *first).chain(more.iter_mut()) {
                // The exchange itself ties one answer to one request. An error
                // that could not read the request carries no id and is for all.
                if waiting.is_open()
                    && waiting.answer().is_some()
                    && (single || unread || waiting.awaits(message))
                {
                    waiting.answered(worker, message, *status);
                    if !unread {
                        break;
                    }
                }
            }
        });
    }

    fn events_ended(&mut self, sse: &Sse) {
        if self.status.is_some_and(|status| !status.is_success()) {
            return;
        }
        let named = sse.saw_id();
        self.each(|waiting, worker| match &mut waiting.span {
            // The client may fetch the answer on another connection.
            Some(span) if named && !waiting.awaited.is_modern() => {
                span.set_static(key::MESHTRACE_RESPONSE, "resumable");
            }
            _ => waiting.failed(worker, "connection_closed", "the stream ended without a response"),
        });
    }

    /// The response broke off.
    pub fn body_failed(&mut self, error: &hyper::Error) {
        let failure = match Breakage::of(error) {
            Breakage::Reset => "connection_reset",
            _ => "connection_closed",
        };
        self.each(|waiting, worker| waiting.failed(worker, failure, "the response broke off"));
    }

    /// The proxy answers in place of the upstream.
    pub fn failed(&mut self, error: &ProxyError) {
        if let Waiting { span: Some(span), awaited: Awaited::Response, .. } = &mut self.first {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(error.status().as_u16()));
        }
        let text = error.to_string();
        self.each(|waiting, worker| waiting.failed(worker, error.error_type(), &text));
    }

    /// The connection became a tunnel, which has closed now, or broke off in
    /// the way that is said.
    pub fn tunnel_closed(&mut self, passed: Passed, broken: Option<&'static str>) {
        if let Some(span) = &mut self.first.span {
            span.set_int(key::MESHTRACE_TUNNEL_SENT, passed.sent.try_into().unwrap_or(i64::MAX));
            span.set_int(key::MESHTRACE_TUNNEL_RECEIVED, passed.received.try_into().unwrap_or(i64::MAX));
            if let Some(how) = broken {
                span.error("connection_reset", how);
            }
        }
        self.each(Waiting::end);
    }

    /// Ends the spans where the response has begun to switch protocols.
    pub fn switched(&mut self) {
        self.each(Waiting::end);
    }

    /// Nobody reads the response any more.
    pub(super) fn left(&mut self) {
        self.observer = Observer::Nothing;
        self.each(Waiting::abandoned);
    }

    /// The table of pending requests has no place for it any more.
    pub fn forgotten(&mut self) {}

    fn note(&mut self, what: &'static str) {
        for waiting in self.waits_mut() {
            if let Some(span) = &mut waiting.span {
                span.set_static(key::MESHTRACE_RESPONSE, what);
            }
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut Waiting, &Worker)) {
        act(&mut self.first, &self.worker);
        for waiting in &mut self.more {
            act(waiting, &self.worker);
        }
    }

    fn waits(&self) -> impl Iterator<Item = &Waiting> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn waits_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }
}

fn observer(head: &response::Parts, max_event_bytes: usize) -> Observer {
    match read::media(&head.headers) {
        Media::Json => Observer::Json { first: Bytes::new(), joined: BytesMut::new() },
        Media::Events => Observer::Events { sse: Box::new(Sse::new(max_event_bytes)), progress: 0 },
        Media::Other => Observer::Nothing,
    }
}

/// Hands over the message that `data` is, or those of the batch that it is.
fn each_answer(data: &[u8], mut take: impl FnMut(&Message<'_>)) {
    match message::parse_answer(data) {
        Ok(message) => take(&message),
        Err(Doubt::Batch) => {
            for element in batch::elements(data, MAX_BATCH).unwrap_or_default() {
                if let Ok(message) = data.get(element).map_or(Err(Doubt::NotJson), message::parse_answer) {
                    take(&message);
                }
            }
        }
        Err(_) => {}
    }
}

fn is_progress(message: &Message<'_>) -> bool {
    message.method.as_ref().is_some_and(|method| method.eq_str("notifications/progress"))
}
