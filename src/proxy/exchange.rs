//! One traced exchange: the messages of a request, what they still wait for,
//! and how they end.
//!
//! Each ends exactly once. Whoever holds the exchange when the deciding
//! message, the end of the body or a failure is seen ends them; if nobody
//! does, its drop means that the client has gone.

mod body;
mod encoded;
mod events;
mod held;
mod outcome;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;

use http::{StatusCode, Version, response};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use prometheus_client::metrics::gauge::Gauge;

use self::body::{Observer, observer};
pub use self::body::{Progress, each_answer};
use self::encoded::Unpacking;
pub use self::events::{ACKNOWLEDGED, answered, cancelled, progressed};
pub use self::held::{Held, Shared};
pub use self::waiting::{Answer, Asked, Awaited, Forgotten, Waiting};
use super::connection::Connection;
use super::error::ProxyError;
use super::headers::{Media, Survey};
use super::peers::{Ended, SessionKey};
use super::read;
use super::settings::{Authority, Target};
use super::subject::{MCP_SESSION_ID, Quiet, Subject};
use super::worker::Worker;
use crate::mcp::message::{Id, Message};
use crate::metrics::operations::{self, ErrorType};
use crate::net::tunnel::Passed;
use crate::trace::context::TraceContext;
use crate::trace::semconv as key;
use crate::w3c::traceparent::Traceparent;

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
    /// The stream of a session that the response is, in which the server may ask. Holds the
    /// connection, so it goes when the response ends, though an answer may still be awaited.
    stream: Option<Stream>,
    /// What a request for such a stream named.
    named: Option<Box<Named>>,
    /// The server that answers.
    target: Option<Arc<Target>>,
    /// Counts a stream that stays open beyond any answer.
    listening: Option<Listening>,
    /// The span of the request that asked for it, where its notifications get spans.
    listened: Option<Box<TraceContext>>,
    /// How many spans hang under the one of this exchange because it owns their stream.
    adopted: usize,
    observer: Observer,
    /// What makes a compressed body readable for the observer.
    unpacking: Option<Box<Unpacking>>,
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
    /// Whether the request asks for a stream of what the server has to say.
    pub is_stream: bool,
    /// Whether answers come on such a stream only (MCP 2024-11-05).
    pub elsewhere: bool,
}

/// What a request for a stream says of its session.
#[derive(Debug)]
pub struct Named {
    session: Option<Box<str>>,
    version: Option<Box<str>>,
}

impl Named {
    /// Reads it where the request is one for a stream.
    pub fn of(subject: &Subject<'_>) -> Option<Box<Self>> {
        match subject {
            Subject::Quiet(Quiet::Stream { session, version }) => {
                Some(Box::new(Named { session: session.map(Box::from), version: version.map(Box::from) }))
            }
            _ => None,
        }
    }
}

/// Between whom a response passes.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The connection that it is for.
    pub connection: Arc<Connection>,
    /// The server that it comes from.
    pub target: Arc<Target>,
    /// Its version of HTTP.
    pub version: Version,
}

impl Exchange {
    /// An exchange of one message.
    pub fn new(worker: Arc<Worker>, waiting: Waiting, side: Side) -> Self {
        Exchange::of_batch(worker, waiting, Vec::new(), side)
    }

    /// An exchange of several messages.
    pub fn of_batch(worker: Arc<Worker>, first: Waiting, more: Vec<Waiting>, side: Side) -> Self {
        Exchange {
            worker,
            first,
            more,
            side,
            stream: None,
            named: None,
            target: None,
            listening: None,
            listened: None,
            adopted: 0,
            observer: Observer::Nothing,
            unpacking: None,
            status: None,
        }
    }

    /// The same where the request is one for a stream.
    pub fn in_stream_of(mut self, named: Option<Box<Named>>) -> Self {
        self.named = named;
        self
    }

    /// Takes in the head of the response, which passes from the target, reached
    /// at `peer`, to the connection, and decides how to look at its body.
    pub fn response_head(
        &mut self,
        head: &mut response::Parts,
        survey: Survey,
        media: Media,
        (connection, target, peer): (&Arc<Connection>, &Arc<Target>, IpAddr),
    ) {
        self.status = Some(head.status);
        // The headers of a batch hold the context of its first request.
        if let Waiting { kin: Some(kin), keep, .. } = &self.first {
            kin.response(&self.worker, head, *keep, connection, peer);
        }
        if let Waiting { span: Some(span), awaited, .. } = &mut self.first
            && awaited.is_http()
        {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(head.status.as_u16()));
        }
        if head.status == StatusCode::NOT_FOUND || (self.side.ends_session && head.status.is_success()) {
            self.session_ended();
        }
        if !self.more.is_empty() && head.status.is_success() {
            // Beside requests, the head is all the acknowledgement there is.
            self.each(Waiting::acknowledged);
        }
        let awaits = self.waits().any(Waiting::is_told_by_body);
        if !awaits && !self.side.is_stream {
            return;
        }
        if head.status.is_success() {
            self.session_granted(head, &target.server);
        }
        self.target = Some(Arc::clone(target));
        let encoded = survey.has(Survey::CONTENT_ENCODING) && read::is_encoded(&head.headers);
        if !encoded || self.unpacks(head, media) {
            let legacy = !self.first.awaited.is_modern() && head.status.is_success();
            let may_ask = legacy && (self.side.session.is_some() || self.side.is_stream);
            let notifies = media == Media::Events && self.worker.tracer.policy.now().spans.notifications;
            if may_ask || notifies {
                self.stream = Some(Stream {
                    connection: Arc::clone(connection),
                    target: Arc::clone(target),
                    version: head.version,
                });
            }
            if legacy && self.side.is_stream {
                self.listening = Some(Listening::begin(&self.worker));
            }
            self.observer = observer(head, media, self.worker.limits().max_event_bytes, may_ask && !encoded);
        }
    }

    /// A server names the session in the head of its answer to `initialize`;
    /// whether there is one, the answer itself will say.
    fn session_granted(&mut self, head: &response::Parts, server: &Authority) {
        let Waiting { span, awaited: Awaited::Answer(answer), .. } = &mut self.first else { return };
        if answer.asked == Asked::Session
            && let Some(id) = head.headers.get(MCP_SESSION_ID).and_then(|v| v.to_str().ok())
        {
            if let Some(span) = span {
                span.set_str(key::MCP_SESSION_ID, id);
            }
            answer.granted = Some(self.worker.tracer.peers.session(self.side.outbound, server, id));
        }
    }

    /// The server does not know the session, or no longer.
    fn session_ended(&mut self) {
        let Some(session) = self.side.session.take() else { return };
        // Not to meet oneself in the table, and nobody else twice.
        self.each(Waiting::unplace);
        let (ended, waiting) = self.worker.tracer.peers.end_session(session);
        if let Some(Ended { version, since }) = ended {
            let side = if self.side.outbound { operations::Side::Client } else { operations::Side::Server };
            let lost = (self.status == Some(StatusCode::NOT_FOUND)).then_some("404");
            self.worker.metrics.sessions.ended(side, version.as_deref(), "tcp", lost, since.elapsed());
        }
        for exchange in waiting {
            exchange.lock().forgotten(Forgotten::EndOfSession);
        }
    }

    /// The proxy answers in place of the upstream. Gives the context of the request.
    pub fn failed(&mut self, error: &ProxyError) -> Option<(TraceId, SpanId, TraceFlags)> {
        let context = self.first.logged_as();
        if let Waiting { span: Some(span), awaited, .. } = &mut self.first
            && awaited.is_http()
        {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(error.status().as_u16()));
        }
        let text = error.to_string();
        self.each(|waiting, worker| waiting.failed(worker, error.error_type(), &text));
        context
    }

    /// The connection became a tunnel, which has closed now, or broke off in
    /// the way that is said.
    pub fn tunnel_closed(&mut self, passed: Passed, broken: Option<&'static str>) {
        if let Some(span) = &mut self.first.span {
            span.set_int(key::MESHTRACE_TUNNEL_SENT, passed.sent.try_into().unwrap_or(i64::MAX));
            span.set_int(key::MESHTRACE_TUNNEL_RECEIVED, passed.received.try_into().unwrap_or(i64::MAX));
        }
        if let Some(how) = broken {
            self.first.fails(ErrorType::Named("connection_reset"), how);
        }
        self.each(Waiting::end);
    }

    /// Ends the spans where the response has begun to switch protocols.
    pub fn switched(&mut self) {
        self.each(Waiting::end);
    }

    /// Nobody reads the response any more. Before 2026-07-28 a client that
    /// leaves a stream may come back for the answer.
    pub(super) fn left(&mut self) {
        let resumable = matches!(&self.observer, Observer::Events { rewriter, .. } if rewriter.saw_id());
        // One that waits on for its answer keeps nothing of what this response took.
        self.observer = Observer::Nothing;
        self.unpacking = None;
        self.stream = None;
        if resumable {
            self.each(|waiting, worker| {
                if waiting.park(worker) {
                    waiting.disconnected();
                }
            });
        }
        self.each(Waiting::abandoned);
        self.stream_ended();
    }

    /// With its stream of events a session of 2024-11-05 is over.
    fn stream_ended(&mut self) {
        if self.side.is_stream && self.side.elsewhere {
            self.session_ended();
        }
    }

    /// Name and age of each message that still waits.
    pub fn describe(&self) -> Vec<(String, std::time::Duration)> {
        self.waits().filter(|waiting| waiting.is_open()).map(Waiting::describe).collect()
    }

    /// The table of pending requests has no place for it any more.
    pub fn forgotten(&mut self, why: Forgotten) {
        self.each(|waiting, worker| waiting.forgotten(worker, why));
    }

    /// An answer that came on another connection. Says whether it was awaited.
    pub fn answered_elsewhere(&mut self, message: &Message<'_>, resumed: bool) -> bool {
        let Exchange { worker, first, more, side, target, .. } = self;
        let waiting = std::iter::once(first).chain(more).find(|waiting| waiting.awaits(message));
        let Some(waiting) = waiting else { return false };
        if let Some(span) = waiting.span.as_mut().filter(|_| resumed) {
            span.set_bool(key::MESHTRACE_RESUMED, true);
        }
        waiting.came_to(worker, *side, target.as_ref().map(|target| &target.server), message);
        waiting.answered(worker, message, None);
        true
    }

    /// Progress of the request of this id was told of on another connection.
    pub fn progressed_elsewhere(&mut self, id: &Id<'_>) {
        if let Some(waiting) = self.waits_mut().find(|waiting| waiting.is_open() && waiting.has_id(id)) {
            waiting.progressed_once();
        }
    }

    /// The request of this id is not to be answered any more. Gives its
    /// context, to be linked to.
    pub fn cancelled(&mut self, id: &Id<'_>) -> Option<Traceparent> {
        let Exchange { worker, first, more, .. } = self;
        let named = |waiting: &&mut Waiting| waiting.is_open() && waiting.has_id(id);
        let waiting = std::iter::once(first).chain(more).find(named)?;
        let context = waiting.context()?.parent;
        waiting.cancelled(worker);
        Some(context)
    }

    /// The context of its one request that is not answered yet.
    pub fn context(&self) -> Option<TraceContext> {
        let mut open = self.waits().filter(|waiting| waiting.is_open() && waiting.answer().is_some());
        let only = open.next()?;
        if open.next().is_some() { None } else { only.context() }
    }

    /// The span that a message of the server hangs under: that of its one open
    /// request, or of the one that asked for the stream; and whether as much
    /// hangs under it already as may.
    pub fn adopt(&mut self) -> Option<(TraceContext, bool)> {
        let context = self.context().or_else(|| self.listened.as_deref().cloned())?;
        let full = self.adopted >= self.worker.limits().stream_spans;
        if full {
            self.worker.metrics.peers.full.inc();
        } else {
            self.adopted += 1;
        }
        Some((context, full))
    }

    /// The context of its request of this id, if that is not answered yet.
    pub fn context_of(&self, id: &Id<'_>) -> Option<TraceContext> {
        self.waits().find(|waiting| waiting.is_open() && waiting.has_id(id))?.context()
    }

    fn note(&mut self, what: &'static str) {
        self.waits_mut().for_each(|waiting| waiting.noted(what));
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

/// Counts an open stream for as long as it lives.
#[derive(Debug)]
struct Listening(Gauge);

impl Listening {
    fn begin(worker: &Worker) -> Self {
        let streams = worker.metrics.peers.streams.clone();
        streams.inc();
        Listening(streams)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Nobody has it any more: what has not ended ends as it stands.
impl Drop for Exchange {
    fn drop(&mut self) {
        self.each(Waiting::end);
    }
}
