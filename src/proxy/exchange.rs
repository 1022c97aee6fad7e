//! One traced exchange: the span, what it still waits for, and how it ends.
//!
//! It ends exactly once. Whoever holds it when the deciding message, the end
//! of the body or a failure is seen consumes it; if nobody does, its drop
//! means that the client has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, response};
use opentelemetry::trace::SpanKind;

use super::error::{Breakage, ProxyError};
use super::headers::Survey;
use super::read::{self, Media};
use super::subject::MCP_SESSION_ID;
use super::worker::Worker;
use crate::mcp::message::{self, Kind, Message, OwnedId};
use crate::mcp::sse::{Event, Sse};
use crate::net::tunnel::Passed;
use crate::trace::semconv as key;
use crate::trace::server_spans::Place;
use crate::trace::span::Span;

/// A request whose answer is awaited.
#[derive(Debug)]
pub struct Exchange {
    worker: Arc<Worker>,
    /// `None` where nothing is recorded, and once the span has ended.
    span: Option<Box<Span>>,
    /// Our place in the table of server spans, to be told that it ended.
    remembered: Option<Place>,
    started: Instant,
    awaited: Awaited,
    observer: Observer,
    status: Option<StatusCode>,
}

/// What would answer the request.
#[derive(Debug)]
pub enum Awaited {
    /// The JSON-RPC answer to an MCP request.
    Answer(Answer),
    /// The acknowledgement of an MCP notification.
    Acknowledgement,
    /// The end of the response.
    Response,
}

/// The answer that is awaited.
#[derive(Debug)]
pub struct Answer {
    /// The id that it has to carry, where the request's was read.
    pub id: Option<OwnedId>,
    /// Whether it is the answer to `initialize`, which names the session.
    pub initialize: bool,
    /// Whether a client that leaves means to cancel: since 2026-07-28.
    pub modern: bool,
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
    /// An exchange whose span began at `started`.
    pub fn new(worker: Arc<Worker>, span: Box<Span>, started: Instant, awaited: Awaited) -> Self {
        let remembered = None;
        let observer = Observer::Nothing;
        Exchange { worker, span: Some(span), remembered, started, awaited, observer, status: None }
    }

    /// An exchange without a span, which only counts as in flight for the calls
    /// that the agent makes meanwhile.
    pub fn unrecorded(worker: Arc<Worker>, started: Instant) -> Self {
        Exchange {
            worker,
            span: None,
            remembered: None,
            started,
            awaited: Awaited::Response,
            observer: Observer::Nothing,
            status: None,
        }
    }

    /// Takes over the place of the request in the table of server spans.
    pub fn remember(&mut self, place: Place) {
        self.remembered = Some(place);
    }

    /// Takes in the head of the response and decides how to look at its body.
    pub fn response_head(&mut self, head: &response::Parts, survey: Survey) {
        self.status = Some(head.status);
        let Some(span) = &mut self.span else { return };
        match &self.awaited {
            Awaited::Response => {
                span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(head.status.as_u16()));
            }
            Awaited::Acknowledgement => {}
            Awaited::Answer(answer) => {
                if answer.initialize
                    && head.status.is_success()
                    && let Some(session) = head.headers.get(MCP_SESSION_ID).and_then(|v| v.to_str().ok())
                {
                    span.set_str(key::MCP_SESSION_ID, session);
                }
                if survey.has(Survey::CONTENT_ENCODING) && read::is_encoded(&head.headers) {
                    span.set_static(key::MESHTRACE_RESPONSE, "encoded");
                } else {
                    self.observer = observer(head, self.worker.limits().max_event_bytes);
                }
            }
        }
    }

    /// Looks at data on its way to the client.
    pub fn observe(&mut self, data: &Bytes) -> Progress {
        match &mut self.observer {
            Observer::Nothing => Progress::Open,
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
                Progress::Open
            }
            Observer::Events { .. } => self.observe_events(data),
        }
    }

    fn observe_events(&mut self, data: &Bytes) -> Progress {
        let Observer::Events { sse, progress } = &mut self.observer else { return Progress::Open };
        let (Some(span), Awaited::Answer(answer)) = (&mut self.span, &self.awaited) else {
            return Progress::Decided;
        };
        let kind = span.kind.clone();
        let mut decided = false;
        let mut oversized = false;
        sse.feed(data, |event| match event {
            Event::Message { data, .. } if !decided => match read_event(data, answer) {
                Seen::Answer(message) => {
                    describe_answer(span, &kind, answer, &message);
                    decided = true;
                }
                Seen::Progress => *progress += 1,
                Seen::Other => {}
            },
            Event::Oversized { .. } => oversized = true,
            Event::Message { .. } => {}
        });
        if oversized && !decided {
            span.set_static(key::MESHTRACE_RESPONSE, "too_large");
        }
        if !decided {
            return Progress::Open;
        }
        if *progress > 0 {
            span.set_int(key::MESHTRACE_PROGRESS_COUNT, *progress);
        }
        self.end();
        Progress::Decided
    }

    /// The response came to its end.
    pub fn body_ended(&mut self) {
        match std::mem::replace(&mut self.observer, Observer::Nothing) {
            Observer::Json { first, joined } if joined.is_empty() => self.json_ended(&first),
            Observer::Json { joined, .. } => self.json_ended(&joined),
            Observer::Events { sse, .. } => self.events_ended(&sse),
            Observer::Nothing => self.http_ended(),
        }
        self.end();
    }

    fn json_ended(&mut self, body: &[u8]) {
        let (Some(span), Awaited::Answer(answer)) = (&mut self.span, &self.awaited) else { return };
        match message::parse_answer(body) {
            // The exchange itself ties answer and request together; an error
            // that could not read the request carries no id.
            Ok(message) if message.kind() == Kind::Response => {
                let kind = span.kind.clone();
                if message.error.is_some()
                    && let Some(status) = self.status.filter(|s| !s.is_success())
                {
                    span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
                }
                describe_answer(span, &kind, answer, &message);
            }
            _ => self.http_ended(),
        }
    }

    fn events_ended(&mut self, sse: &Sse) {
        if self.status.is_some_and(|status| !status.is_success()) {
            return self.http_ended();
        }
        let Some(span) = &mut self.span else { return };
        let modern = matches!(&self.awaited, Awaited::Answer(answer) if answer.modern);
        if sse.saw_id() && !modern {
            // The client may fetch the answer on another connection.
            span.set_static(key::MESHTRACE_RESPONSE, "resumable");
        } else {
            span.error("connection_closed", "the stream ended without a response");
        }
    }

    /// The end of a response that holds no JSON-RPC answer.
    fn http_ended(&mut self) {
        let (Some(span), Some(status)) = (&mut self.span, self.status) else { return };
        let client = span.kind == SpanKind::Client;
        let unanswered = match &self.awaited {
            Awaited::Answer(_) => status == StatusCode::ACCEPTED || status.is_redirection(),
            _ => false,
        };
        let expected = status.is_success() && !unanswered;
        if !matches!(self.awaited, Awaited::Response) && !expected {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
        }
        let failed = if client { status.as_u16() >= 400 || unanswered } else { status.is_server_error() };
        if failed {
            span.error(status.as_str(), "");
        }
    }

    /// The response broke off.
    pub fn body_failed(&mut self, error: &hyper::Error) {
        if let Some(span) = &mut self.span {
            let failure = match Breakage::of(error) {
                Breakage::Reset => "connection_reset",
                _ => "connection_closed",
            };
            span.error(failure, "the response broke off");
        }
        self.end();
    }

    /// The proxy answers in place of the upstream.
    pub fn failed(&mut self, error: &ProxyError) {
        if let Some(span) = &mut self.span {
            if matches!(self.awaited, Awaited::Response) {
                span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(error.status().as_u16()));
            }
            span.error(error.error_type(), &error.to_string());
        }
        self.end();
    }

    /// The connection became a tunnel, which has closed now.
    pub fn tunnel_closed(&mut self, passed: Passed, broken: bool) {
        if let Some(span) = &mut self.span {
            span.set_int(key::MESHTRACE_TUNNEL_SENT, passed.sent.try_into().unwrap_or(i64::MAX));
            span.set_int(key::MESHTRACE_TUNNEL_RECEIVED, passed.received.try_into().unwrap_or(i64::MAX));
            if broken {
                span.error("connection_reset", "the tunnel broke off");
            }
        }
        self.end();
    }

    /// Ends the span where the response has begun to switch protocols.
    pub fn switched(&mut self) {
        self.end();
    }

    fn note(&mut self, what: &'static str) {
        if let Some(span) = &mut self.span {
            span.set_static(key::MESHTRACE_RESPONSE, what);
        }
    }

    fn end(&mut self) {
        if let Some(place) = self.remembered.take() {
            self.worker.tracer.server_spans.end(place);
        }
        if let Some(mut span) = self.span.take() {
            let lasted: Duration = self.started.elapsed();
            let nanos = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
            span.end_unix_nanos = span.start_unix_nanos.saturating_add(nanos);
            self.worker.recorder.end(&span);
            self.worker.spans.give(span);
        }
    }

    /// Nobody waits for the answer any more. Since 2026-07-28 that cancels
    /// the request; before, it explicitly does not.
    fn abandoned(&mut self) {
        let Some(span) = &mut self.span else { return };
        let attribute = match &self.awaited {
            Awaited::Answer(answer) if !answer.modern => key::MESHTRACE_DISCONNECTED,
            _ => key::MESHTRACE_CANCELLED,
        };
        span.set_bool(attribute, true);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.abandoned();
        self.end();
    }
}

fn observer(head: &response::Parts, max_event_bytes: usize) -> Observer {
    match read::media(&head.headers) {
        Media::Json => Observer::Json { first: Bytes::new(), joined: BytesMut::new() },
        Media::Events => Observer::Events { sse: Box::new(Sse::new(max_event_bytes)), progress: 0 },
        Media::Other => Observer::Nothing,
    }
}

enum Seen<'a> {
    Answer(Box<Message<'a>>),
    Progress,
    Other,
}

fn read_event<'a>(data: &'a [u8], answer: &Answer) -> Seen<'a> {
    let Ok(message) = message::parse_answer(data) else { return Seen::Other };
    match message.kind() {
        Kind::Response => {
            let ours = match (&answer.id, &message.id) {
                (Some(wanted), Some(id)) => wanted.matches(id),
                // An error about a request that could not be read has no id.
                (_, None) => message.error.is_some(),
                (None, Some(_)) => true,
            };
            if ours { Seen::Answer(Box::new(message)) } else { Seen::Other }
        }
        Kind::Notification if message.method.as_ref().is_some_and(|m| m.eq_str("notifications/progress")) => {
            Seen::Progress
        }
        _ => Seen::Other,
    }
}

/// Writes what the answer says onto the span (conventions for MCP spans).
fn describe_answer(span: &mut Span, kind: &SpanKind, answer: &Answer, message: &Message<'_>) {
    if answer.initialize
        && let Some(version) = &message.result_protocol_version
    {
        let version = version.decode();
        span.set_str(key::MCP_PROTOCOL_VERSION, &version);
    }
    if message.is_error {
        span.error(key::TOOL_ERROR, "");
    }
    let Some(error) = &message.error else { return };
    let text = error.message.as_ref().map(|m| m.decode()).unwrap_or_default();
    let Some(code) = error.code else {
        return span.error("_OTHER", &text);
    };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(code);
    span.set_str(key::RPC_RESPONSE_STATUS_CODE, digits);
    if *kind == SpanKind::Client || !key::is_callers_fault(code) {
        span.error(digits, &text);
    }
}
