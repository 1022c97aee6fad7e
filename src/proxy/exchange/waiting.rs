//! One message whose answer is awaited: its span, what it counts in, and what
//! the answer says of it.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};

use crate::a2a;
use crate::genai;
use crate::mcp::message::{ErrorView, Id, Message, OwnedId};
use crate::metrics::operations::{ErrorType, Exemplar, Outcome, Series, Status};
use crate::proxy::access_log::{End, Entry};
use crate::proxy::agent;
use crate::proxy::attributes;
use crate::proxy::kin::Kin;
use crate::proxy::mesh;
use crate::proxy::model;
use crate::proxy::peers::{Place, SessionKey};
use crate::proxy::worker::Worker;
use crate::trace::context::TraceContext;
use crate::trace::sampler_config::Keep;
use crate::trace::semconv as key;
use crate::trace::server_spans;
use crate::trace::span::{Span, Value};
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;

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
    /// Its answer can come on another connection only.
    parked: bool,
    /// Whether it is a call of the agent and not one to it.
    client: bool,
    /// What it counts in when it ends; `None` where it is no message of MCP, and after that.
    series: Option<Series>,
    /// What the access log says when it ends.
    log: Option<Box<Entry>>,
    /// The bytes of the response's body that have passed.
    pub(super) bytes: u64,
    /// For which outcomes an unsampled span is exported.
    pub(super) keep: Option<Keep>,
    /// The hops around it, where its trace may yet be kept.
    pub(super) kin: Option<Box<Kin>>,
    /// How it ended, as far as is known.
    outcome: Outcome,
}

/// What would answer a message.
#[derive(Debug)]
pub enum Awaited {
    /// The JSON-RPC answer to an MCP request.
    Answer(Answer),
    /// The acknowledgement of an MCP notification.
    Acknowledgement,
    /// The end of the response to a registration in a mesh, which says to
    /// which agents the dependencies were resolved.
    Registration,
    /// The answers of an agent, of which there may be many, to their end.
    Agent(Box<a2a::Reply>),
    /// The answer of a language model, whole or as events, to its end.
    Completion(Box<genai::Reply>),
    /// The end of the response.
    Response,
}

/// Requests whose answers say more than how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// `initialize`: it grants the session.
    Session,
    /// `subscriptions/listen`: its answer comes when the client has heard enough.
    Notifications,
    /// `tasks/get` and its relatives: about work that another request began.
    Task,
    /// Anything else.
    #[default]
    Other,
}

impl Asked {
    /// Reads it off the method.
    pub fn of(method: &str) -> Self {
        match method {
            "initialize" => Asked::Session,
            "subscriptions/listen" => Asked::Notifications,
            _ if method.starts_with("tasks/") => Asked::Task,
            _ => Asked::Other,
        }
    }
}

/// The answer that is awaited.
#[derive(Debug)]
pub struct Answer {
    /// The id that it has to carry, where the request's was read.
    pub id: Option<OwnedId>,
    /// What it is the answer to, where that matters.
    pub asked: Asked,
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

    /// Whether the end of the body, not some message in it, is the end of the answer.
    pub(super) fn is_whole_body(&self) -> bool {
        matches!(self, Awaited::Agent(_) | Awaited::Completion(_))
    }

    /// Whether the span is one of HTTP, which says the status of any response.
    pub(super) fn is_http(&self) -> bool {
        matches!(self, Awaited::Registration | Awaited::Completion(_) | Awaited::Response)
    }
}

impl Waiting {
    /// A message whose span began at `started`. `keep` says for which outcomes
    /// it is exported although it is not sampled.
    pub fn new(span: Box<Span>, started: Instant, awaited: Awaited, keep: Option<Keep>) -> Self {
        let client = span.kind == SpanKind::Client;
        Waiting { span: Some(span), awaited, client, keep, ..Waiting::unrecorded(started) }
    }

    /// A message without a span, which only counts as in flight for the calls
    /// that the agent makes meanwhile.
    pub fn unrecorded(started: Instant) -> Self {
        Waiting {
            span: None,
            remembered: None,
            started,
            awaited: Awaited::Response,
            place: None,
            parked: false,
            client: false,
            series: None,
            log: None,
            bytes: 0,
            keep: None,
            kin: None,
            outcome: Outcome::default(),
        }
    }

    /// Tells it of the hops around it.
    pub fn among(self, kin: Option<Kin>) -> Self {
        Waiting { kin: kin.map(Box::new), ..self }
    }

    /// Has it counted when it ends, which has to be seen then although nothing
    /// may be recorded.
    pub fn count(&mut self, series: Series, client: bool, awaited: impl FnOnce() -> Awaited) {
        self.series = Some(series);
        self.client = client;
        if self.span.is_none() {
            self.awaited = awaited();
        }
    }

    /// The ids of its span, where it has one.
    pub fn ids(&self) -> Option<(TraceId, SpanId, TraceFlags)> {
        self.span.as_ref().map(|span| (span.trace_id, span.span_id, span.flags))
    }

    /// What a line about it has to name: its span, or the context that the access log says.
    pub(super) fn logged_as(&self) -> Option<(TraceId, SpanId, TraceFlags)> {
        self.ids().or_else(|| self.log.as_ref()?.context)
    }

    /// The name of its span, empty where nothing is recorded, and its age.
    pub(super) fn describe(&self) -> (String, Duration) {
        let name = self.span.as_ref().map(|span| span.name().to_owned());
        (name.unwrap_or_default(), self.started.elapsed())
    }

    /// Has it logged when it ends.
    pub fn log(&mut self, entry: Box<Entry>) {
        self.client = entry.outbound;
        self.log = Some(entry);
    }

    /// Takes over the place of the request in the table of server spans.
    pub fn remember(&mut self, place: server_spans::Place) {
        self.remembered = Some(place);
    }

    /// Says where other connections find it.
    pub(super) fn put(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Whether its end is looked for and has not come.
    pub(super) fn is_open(&self) -> bool {
        self.span.is_some() || self.series.is_some() || self.log.is_some()
    }

    /// Whether its end is still to be told to somebody.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_open() || self.remembered.is_some()
    }

    /// Says of how much progress the answer was preceded.
    pub(super) fn progressed(&mut self, count: i64) {
        if let Some(span) = self.span.as_mut().filter(|_| count > 0) {
            span.set_int(key::MESHTRACE_PROGRESS_COUNT, count);
        }
    }

    /// Says of one more step of progress.
    pub(super) fn progressed_once(&mut self) {
        let Some(span) = &mut self.span else { return };
        let before = match span.attribute(key::MESHTRACE_PROGRESS_COUNT) {
            Some(Value::Int(count)) => count,
            _ => 0,
        };
        span.set_int(key::MESHTRACE_PROGRESS_COUNT, before.saturating_add(1));
    }

    /// Says that its answer can come on another connection only, if that
    /// finds it. Answers whether it does.
    pub(super) fn park(&mut self, worker: &Worker) -> bool {
        self.parked = self.place.is_some()
            && !worker.tracer.peers.is_closed()
            && self.is_open()
            && !self.awaited.is_modern();
        self.parked
    }

    /// An attribute of the span that is text.
    pub(super) fn attribute(&self, key: &str) -> Option<&str> {
        match self.span.as_ref()?.attribute(key)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Nobody can find it any more.
    pub(super) fn unplace(&mut self, worker: &Worker) {
        if let Some(place) = self.place.take() {
            worker.tracer.peers.answered(place);
        }
    }

    /// Says that the client has left its stream.
    pub(super) fn disconnected(&mut self) {
        if let Some(span) = &mut self.span {
            span.set_bool(key::MESHTRACE_DISCONNECTED, true);
        }
    }

    /// Whether it is the request of this id.
    pub(super) fn has_id(&self, id: &Id<'_>) -> bool {
        self.answer().and_then(|answer| answer.id.as_ref()).is_some_and(|own| own.matches(id))
    }

    /// Its context as what hangs under it has to have it, while it is recorded.
    pub(super) fn context(&self) -> Option<TraceContext> {
        let span = self.span.as_ref()?;
        let parent = Traceparent { trace_id: span.trace_id, span_id: span.span_id, flags: span.flags };
        Some(TraceContext { parent, tracestate: Tracestate::parse([span.tracestate().as_bytes()]) })
    }

    /// Links the span to another one.
    pub fn link(&mut self, to: &Traceparent, reason: &'static str) {
        if let Some(span) = &mut self.span {
            attributes::link(span, to, reason);
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
        let Awaited::Answer(answer) = &self.awaited else { return };
        if answer.asked == Asked::Session {
            let version = message.result_protocol_version.as_ref().map(|version| version.decode());
            if let (Some(version), Some(span)) = (&version, &mut self.span) {
                span.set_str(key::MCP_PROTOCOL_VERSION, version);
            }
            if let Some(session) = answer.granted.filter(|_| message.has_result) {
                worker.tracer.peers.learn(session, version.as_deref(), Instant::now());
            }
        }
        if message.is_error {
            self.fails(ErrorType::Named(key::TOOL_ERROR), "");
        }
        if let Some(error) = &message.error {
            if let (Some(span), Some(status)) = (&mut self.span, status.filter(|s| !s.is_success())) {
                span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            }
            self.refused(error);
        }
        self.end(worker);
    }

    /// Whether the body of the response says something for the span.
    pub(super) fn is_told_by_body(&self) -> bool {
        self.is_open()
            && (matches!(self.awaited, Awaited::Answer(_) | Awaited::Registration)
                || self.awaited.is_whole_body())
    }

    /// Takes in the answer of a model or an agent, or an event of it; says whether it is one.
    pub(super) fn completes(&mut self, data: &[u8], is_event: bool) -> bool {
        let reply = match &mut self.awaited {
            Awaited::Completion(reply) => reply,
            Awaited::Agent(reply) => {
                reply.read(data);
                return true;
            }
            _ => return false,
        };
        if let Some(span) = self.span.as_mut().filter(|_| is_event && reply.begins()) {
            span.set_double(key::GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, self.started.elapsed().as_secs_f64());
        }
        reply.read(data);
        true
    }

    /// Writes what a model or an agent answered onto the span.
    fn completed(&mut self) {
        let Some(span) = &mut self.span else { return };
        match &mut self.awaited {
            Awaited::Completion(reply) => {
                model::of_reply(span, reply);
                if reply.error.is_some() {
                    self.outcome.status = Status::Error;
                }
            }
            Awaited::Agent(reply) => {
                agent::of_reply(span, reply);
                if let Some(error) = reply.error.take() {
                    let kind = error.code.map_or(ErrorType::Named("_OTHER"), ErrorType::Code);
                    self.fails(kind, &error.message);
                }
            }
            _ => {}
        }
    }

    /// Writes what the registry answered onto the span of a registration.
    pub(super) fn registered(&mut self, body: &[u8]) {
        if let (Some(span), Awaited::Registration) = (&mut self.span, &self.awaited)
            && let Some(agents) = mesh::resolved(body)
        {
            span.set_str(key::AGENT_TARGET, &agents);
        }
    }

    /// The answer is a JSON-RPC error.
    fn refused(&mut self, error: &ErrorView<'_>) {
        let text = error.message.as_ref().map(|m| m.decode()).unwrap_or_default();
        let Some(code) = error.code else {
            return self.fails(ErrorType::Named("_OTHER"), &text);
        };
        self.outcome = Outcome { status: Status::Error, code: Some(code), ..self.outcome };
        if let Some(span) = &mut self.span {
            let mut digits = itoa::Buffer::new();
            span.set_str(key::RPC_RESPONSE_STATUS_CODE, digits.format(code));
        }
        if self.client || !key::is_callers_fault(code) {
            self.fails(ErrorType::Code(code), &text);
        }
    }

    /// Says that it failed, on the span and to those who count.
    pub(super) fn fails(&mut self, error: ErrorType, description: &str) {
        self.outcome = Outcome { status: Status::Error, error: Some(error), ..self.outcome };
        let Some(span) = &mut self.span else { return };
        let mut digits = itoa::Buffer::new();
        let error_type = match error {
            ErrorType::Named(name) => name,
            ErrorType::Code(code) => digits.format(code),
            ErrorType::Http(status) => digits.format(status),
        };
        span.error(error_type, description);
    }

    /// The message was taken, if that is all that it waits for.
    pub(super) fn acknowledged(&mut self, worker: &Worker) {
        if matches!(self.awaited, Awaited::Acknowledgement) {
            self.end(worker);
        }
    }

    /// The response ended, and it holds no JSON-RPC answer to this message.
    pub(super) fn unanswered(&mut self, worker: &Worker, status: Option<StatusCode>) {
        if self.parked {
            return;
        }
        if let Some(status) = status.filter(|_| self.is_open()) {
            let unanswered = match &self.awaited {
                Awaited::Answer(_) => status == StatusCode::ACCEPTED || status.is_redirection(),
                _ => false,
            };
            let expected = status.is_success() && !unanswered;
            if let Some(span) = self.span.as_mut().filter(|_| !expected)
                && !self.awaited.is_http()
            {
                span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            }
            let refused = status.as_u16() >= 400 || unanswered;
            if status.is_server_error() || (self.client && refused) {
                self.fails(ErrorType::Http(status.as_u16()), "");
            } else if refused {
                self.outcome.status = Status::Error;
            }
        }
        self.end(worker);
    }

    /// Ends the span as failed.
    pub(super) fn failed(&mut self, worker: &Worker, error_type: &'static str, description: &str) {
        if self.is_open() {
            self.fails(ErrorType::Named(error_type), description);
        }
        self.end(worker);
    }

    /// Nobody waits for the answer any more. Since 2026-07-28 that cancels
    /// the request; before, it explicitly does not.
    pub(super) fn abandoned(&mut self, worker: &Worker) {
        if self.parked {
            return;
        }
        self.outcome.status = Status::Cancelled;
        if let Some(span) = &mut self.span {
            let attribute = match &self.awaited {
                Awaited::Answer(answer) if !answer.modern => key::MESHTRACE_DISCONNECTED,
                // The task goes on, and can be subscribed to again.
                Awaited::Agent(_) => key::MESHTRACE_DISCONNECTED,
                _ => key::MESHTRACE_CANCELLED,
            };
            span.set_bool(attribute, true);
        }
        self.end(worker);
    }

    /// The client, or the server whose request this is, wants no answer any more.
    pub(super) fn cancelled(&mut self, worker: &Worker) {
        self.outcome.status = Status::Cancelled;
        if let Some(span) = &mut self.span {
            span.set_bool(key::MESHTRACE_CANCELLED, true);
        }
        self.end(worker);
    }

    /// Nobody can find it any more. If nobody else has it either, that is its end.
    pub(super) fn forgotten(&mut self, worker: &Worker, why: Forgotten) {
        self.place = None;
        if !self.parked {
            return;
        }
        match why {
            Forgotten::Displaced => self.noted("forgotten"),
            Forgotten::Stopping => self.noted("pending"),
            Forgotten::Overdue => return self.failed(worker, "timeout", "no answer came in time"),
            Forgotten::EndOfSession => {
                return self.failed(worker, "connection_closed", "the session ended without an answer");
            }
        }
        self.end(worker);
    }

    /// The span is of no interest after all.
    pub(super) fn discard(&mut self, worker: &Worker) {
        if let Some(span) = self.span.take() {
            worker.spans.give(span);
        }
        self.end(worker);
    }

    /// Says something of the response on the span.
    pub(super) fn noted(&mut self, what: &'static str) {
        if let Some(span) = &mut self.span {
            span.set_static(key::MESHTRACE_RESPONSE, what);
        }
    }

    /// Ends the span as it stands. Only the first call has an effect.
    pub(super) fn end(&mut self, worker: &Worker) {
        self.unplace(worker);
        if let Some(place) = self.remembered.take() {
            worker.tracer.server_spans.end(place);
        }
        if !self.is_open() {
            return;
        }
        self.completed();
        let took: Duration = self.started.elapsed();
        let mut exemplar = None;
        if let Some(mut span) = self.span.take() {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            span.end_unix_nanos = span.start_unix_nanos.saturating_add(nanos);
            let (trace_id, span_id) = (span.trace_id, span.span_id);
            let now = self.started + took;
            let kept = self.reason(&span, took);
            if span.flags.is_sampled() || kept.is_some() {
                exemplar = Some(Exemplar { trace_id, span_id, took, at_unix_nanos: span.end_unix_nanos });
                if let Some(reason) = kept {
                    span.set_static(key::MESHTRACE_SAMPLING_REASON, reason);
                }
                worker.record(span);
            } else {
                worker.hold(span, now);
            }
            if kept.is_some() {
                worker.keep(trace_id, None, now);
            }
        }
        self.kin = None;
        if let (Some(entry), Some(log)) = (self.log.take(), &worker.access_log) {
            let end = End { outcome: self.outcome, took, bytes: self.bytes, at: SystemTime::now() };
            log.write(*entry, &end);
        }
        if let Some(series) = self.series.take() {
            worker.operations.observe(series, self.outcome, took, exemplar);
        }
    }

    /// Why a span goes out that is not sampled, if it does.
    fn reason(&self, span: &Span, took: Duration) -> Option<&'static str> {
        let keep = self.keep.filter(|_| !span.flags.is_sampled())?;
        keep.reason(self.outcome.status == Status::Error, took)
    }
}

/// Why a request is no longer in the table of pending ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Another request took its place.
    Displaced,
    /// Its time is over.
    Overdue,
    /// Its session is over.
    EndOfSession,
    /// The sidecar stops.
    Stopping,
}
