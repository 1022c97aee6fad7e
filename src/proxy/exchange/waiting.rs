//! One message whose answer is awaited: its span, and what the answer says of it.

use std::time::{Duration, Instant};

use http::StatusCode;
use opentelemetry::trace::SpanKind;

use crate::mcp::message::{Message, OwnedId};
use crate::proxy::peers::{Place, SessionKey};
use crate::proxy::worker::Worker;
use crate::trace::semconv as key;
use crate::trace::server_spans;
use crate::trace::span::Span;

/// A message that was passed on, until it is answered.
#[derive(Debug)]
pub struct Waiting {
    /// `None` where nothing is recorded, and once the span has ended.
    pub(super) span: Option<Box<Span>>,
    /// Our place in the table of server spans, to be told that it ended.
    remembered: Option<server_spans::Place>,
    started: Instant,
    pub(super) awaited: Awaited,
    /// Where other connections find it.
    place: Option<Place>,
}

/// What would answer a message.
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
    /// Whether it is the answer to `initialize`, which grants the session.
    pub initialize: bool,
    /// Whether a client that leaves means to cancel: since 2026-07-28.
    pub modern: bool,
    /// The session that the head of the answer to `initialize` named.
    pub granted: Option<SessionKey>,
}

impl Awaited {
    /// Whether a client that leaves means to cancel: since 2026-07-28.
    pub(super) fn is_modern(&self) -> bool {
        matches!(self, Awaited::Answer(answer) if answer.modern)
    }
}

impl Waiting {
    /// A message whose span began at `started`.
    pub fn new(span: Box<Span>, started: Instant, awaited: Awaited) -> Self {
        Waiting { span: Some(span), remembered: None, started, awaited, place: None }
    }

    /// A message without a span, which only counts as in flight for the calls
    /// that the agent makes meanwhile.
    pub fn unrecorded(started: Instant) -> Self {
        Waiting { span: None, remembered: None, started, awaited: Awaited::Response, place: None }
    }

    /// Takes over the place of the request in the table of server spans.
    pub fn remember(&mut self, place: server_spans::Place) {
        self.remembered = Some(place);
    }

    /// Says where other connections find it.
    pub(super) fn put(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Whether its span is recorded and has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.span.is_some()
    }

    /// Whether its end is still to be told to somebody.
    pub(super) fn is_awaited(&self) -> bool {
        self.span.is_some() || self.remembered.is_some()
    }

    /// Says of how much progress the answer was preceded.
    pub(super) fn progressed(&mut self, count: i64) {
        if let Some(span) = self.span.as_mut().filter(|_| count > 0) {
            span.set_int(key::MESHTRACE_PROGRESS_COUNT, count);
        }
    }

    /// The answer that is awaited, where it is one.
    pub(super) fn answer(&self) -> Option<&Answer> {
        match &self.awaited {
            Awaited::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether this message, which is an answer, is the one awaited.
    pub(super) fn awaits(&self, message: &Message<'_>) -> bool {
        let Some(answer) = self.answer().filter(|_| self.is_open()) else { return false };
        match (&answer.id, &message.id) {
            (Some(wanted), Some(id)) => wanted.matches(id),
            // An error about a request that could not be read has no id.
            (_, None) => message.error.is_some(),
            (None, Some(_)) => true,
        }
    }

    /// Writes what the answer says onto the span (conventions for MCP spans),
    /// and ends it.
    pub(super) fn answered(&mut self, worker: &Worker, message: &Message<'_>, status: Option<StatusCode>) {
        let (Some(span), Awaited::Answer(answer)) = (&mut self.span, &self.awaited) else { return };
        if message.error.is_some()
            && let Some(status) = status.filter(|s| !s.is_success())
        {
            span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
        }
        if answer.initialize {
            let version = message.result_protocol_version.as_ref().map(|version| version.decode());
            if let Some(version) = &version {
                span.set_str(key::MCP_PROTOCOL_VERSION, version);
            }
            if let Some(session) = answer.granted.filter(|_| message.has_result) {
                worker.tracer.peers.learn(session, version.as_deref(), Instant::now());
            }
        }
        if message.is_error {
            span.error(key::TOOL_ERROR, "");
        }
        describe_error(span, message);
        self.end(worker);
    }

    /// The message was taken, if that is all that it waits for.
    pub(super) fn acknowledged(&mut self, worker: &Worker) {
        if matches!(self.awaited, Awaited::Acknowledgement) {
            self.end(worker);
        }
    }

    /// The response ended, and it holds no JSON-RPC answer to this message.
    pub(super) fn unanswered(&mut self, worker: &Worker, status: Option<StatusCode>) {
        if let (Some(span), Some(status)) = (&mut self.span, status) {
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
        self.end(worker);
    }

    /// Ends the span as failed.
    pub(super) fn failed(&mut self, worker: &Worker, error_type: &str, description: &str) {
        if let Some(span) = &mut self.span {
            span.error(error_type, description);
        }
        self.end(worker);
    }

    /// Nobody waits for the answer any more. Since 2026-07-28 that cancels
    /// the request; before, it explicitly does not.
    pub(super) fn abandoned(&mut self, worker: &Worker) {
        if let Some(span) = &mut self.span {
            let attribute = match &self.awaited {
                Awaited::Answer(answer) if !answer.modern => key::MESHTRACE_DISCONNECTED,
                _ => key::MESHTRACE_CANCELLED,
            };
            span.set_bool(attribute, true);
        }
        self.end(worker);
    }

    /// Ends the span as it stands. Only the first call has an effect.
    pub(super) fn end(&mut self, worker: &Worker) {
        if let Some(place) = self.place.take() {
            worker.tracer.peers.answered(place);
        }
        if let Some(place) = self.remembered.take() {
            worker.tracer.server_spans.end(place);
        }
        if let Some(mut span) = self.span.take() {
            let lasted: Duration = self.started.elapsed();
            let nanos = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
            span.end_unix_nanos = span.start_unix_nanos.saturating_add(nanos);
            worker.recorder.end(&span);
            worker.spans.give(span);
        }
    }
}

fn describe_error(span: &mut Span, message: &Message<'_>) {
    let Some(error) = &message.error else { return };
    let text = error.message.as_ref().map(|m| m.decode()).unwrap_or_default();
    let Some(code) = error.code else {
        return span.error("_OTHER", &text);
    };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(code);
    span.set_str(key::RPC_RESPONSE_STATUS_CODE, digits);
    if span.kind == SpanKind::Client || !key::is_callers_fault(code) {
        span.error(digits, &text);
    }
}
