//! One message whose answer is awaited: its span, what it counts in, and what
//! the answer says of it.

mod awaited;
mod ends;

use std::time::{Duration, Instant};

use http::StatusCode;
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};

pub use self::awaited::{Answer, Asked, Awaited, Forgotten};
use crate::mcp::message::{ErrorView, Id, Message};
use crate::metrics::operations::{ErrorType, Outcome, Series, Status};
use crate::proxy::access_log::Entry;
use crate::proxy::agent;
use crate::proxy::attributes;
use crate::proxy::kin::Kin;
use crate::proxy::mesh;
use crate::proxy::model;
use crate::proxy::peers::Place;
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
}
