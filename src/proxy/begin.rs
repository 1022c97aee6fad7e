//! From a request that was read to a request that is ready to leave: find the
//! parent, decide sampling, start the span, inject the context.

mod agent;
mod carried;
mod decide;
mod inbound;
mod model;
mod near;
mod observed;
mod outbound;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Version, header, request};
use opentelemetry::trace::SpanKind;

pub(crate) use self::decide::{Basis, Decided, Under, decide};
use super::agent as agent_attributes;
use super::attributes;
use super::body::RequestBody;
use super::exchange::{self, Answer, Awaited, Exchange, Held, MAX_BATCH, Named, Side, Waiting};
use super::facts::{self, Lazy};
use super::headers::Survey;
use super::inject::{self, Context, Injection};
use super::mesh::Operation;
use super::model as model_attributes;
use super::policy::Policy;
use super::read::Read;
use super::settings::{Authority, Exchange as Described, IgnoreRule, Propagation};
use super::subject::{Call, Quiet, Subject};
use super::worker::Worker;
use crate::genai::Reply;
use crate::mcp::batch;
use crate::mcp::message::{self, Doubt, Message, OwnedId};
use crate::trace::semconv as key;
use crate::trace::server_spans::Served;
use crate::trace::span::{Prepared, Span};
use crate::w3c::traceparent::Traceparent;

/// The other end of a connection, with its address in the form of attributes.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// Its IP as text; an IPv4 address that came through a dual-stack socket is IPv4.
    pub ip: String,
    /// What all spans of calls on the connection say of it, in this version of HTTP.
    pub transport: OnceLock<(Version, Prepared)>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer { address, ip: address.ip().to_canonical().to_string(), transport: OnceLock::new() }
    }
}

/// Where and when a request was met.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// Whether it comes from the pod's own application.
    pub outbound: bool,
    /// Who sent it: the address, as text too, and the port.
    pub downstream: &'a Peer,
    /// Whom it goes to, by the name that it was looked up under.
    pub target: &'a Authority,
    /// Whether the side that is not the pod's own is spoken to in TLS.
    pub secure: bool,
    /// Whether that name is only what the request says, and was not looked up.
    pub claimed: bool,
    /// What its head holds.
    pub survey: Survey,
    /// The address that was reached there, if any was.
    pub upstream: Option<SocketAddr>,
    /// Our own address on the connection with it, where it is known.
    pub local: Option<IpAddr>,
    /// When its head had arrived, on the clock that measures durations.
    pub started: Instant,
    /// The same moment on the clock of dates.
    pub started_at: SystemTime,
}

/// A request ready to leave.
#[derive(Debug)]
pub struct Begun {
    /// The body, with context in `_meta` where that is due.
    pub body: RequestBody,
    /// The exchange to tell of the response; `None` where that is of no interest.
    pub exchange: Option<Held>,
}

/// Steps 5 to 7 of the life of a request.
pub fn begin(worker: &Arc<Worker>, met: Met<'_>, head: &mut request::Parts, read: Read) -> Begun {
    let (bytes, reserved, unread) = match read {
        Read::Whole(bytes, reserved) => (bytes, reserved, None),
        Read::Unread(body, why) => (Bytes::new(), None, Some((body, why))),
    };
    let mut message = Message::default();
    let (message, note) = match &unread {
        Some((_, why)) => (None, why.as_str()),
        None => match message.read(&bytes) {
            Ok(()) => (Some(&message), None),
            Err(Doubt::Batch) => match begin_batch(worker, met, head, &bytes) {
                Some((spliced, exchange)) => {
                    let body = RequestBody::whole(spliced.unwrap_or(bytes), reserved);
                    return Begun { body, exchange };
                }
                None => (None, Some("not_understood")),
            },
            Err(_) => (None, Some("not_understood")),
        },
    };
    let policy = worker.tracer.policy.now();
    let start = Start { worker, policy: &policy, met, head, message, body: &bytes, note };
    let (subject, endpoint) = start.subject();
    let subject = start.or_model(start.or_agent(subject).or_registry(start.head, &bytes));
    let mut started = start.begin(&subject);
    started.count(&start, &subject);
    let side = start.side(&subject, endpoint);
    start.of_session(&subject, side.session, &mut started);
    start.of_others(&subject, &mut started);
    let named = Named::of(&subject);
    let injection = &started.injection;
    let spliced = injection.apply(head, met.survey, &bytes, message, &worker.settings.propagation);
    started.remember(worker);
    let exchange = started.waiting.map(|waiting| {
        let exchange = Exchange::new(Arc::clone(worker), waiting, side);
        Held::new(exchange.in_stream_of(named), met.started)
    });
    let body = match unread {
        Some((body, _)) => body,
        None => RequestBody::whole(spliced.unwrap_or(bytes), reserved),
    };
    Begun { body, exchange }
}

/// The same for a batch (MCP 2025-03-26): each message has a parent, a span
/// and a context of its own; the headers can hold one, that of the first
/// request. `None` where it is no batch of MCP.
fn begin_batch(
    worker: &Arc<Worker>,
    met: Met<'_>,
    head: &mut request::Parts,
    bytes: &Bytes,
) -> Option<(Option<Bytes>, Option<Held>)> {
    let mut messages = Vec::new();
    for element in batch::elements(bytes, MAX_BATCH).ok()? {
        messages.push((message::parse(bytes.get(element.clone())?).ok()?, element));
    }
    let policy = worker.tracer.policy.now();
    let mut side = Side::default();
    let mut all = Vec::with_capacity(messages.len());
    for (message, _) in &messages {
        let start =
            Start { worker, policy: &policy, met, head, message: Some(message), body: b"", note: None };
        let (subject, endpoint) = start.subject();
        if matches!(subject, Subject::Http) {
            return None;
        }
        let mut started = start.begin(&subject);
        started.count(&start, &subject);
        if side.session.is_none() {
            side = start.side(&subject, endpoint);
        }
        start.of_session(&subject, side.session, &mut started);
        all.push(started);
    }
    let edits: Vec<_> =
        all.iter().zip(&messages).map(|(started, (m, at))| (&started.injection, m, at.clone())).collect();
    let spliced = inject::apply_to_batch(&edits, head, met.survey, bytes, &worker.settings.propagation);
    let mut waits = Vec::with_capacity(all.len());
    for mut started in all {
        started.remember(worker);
        waits.extend(started.waiting);
    }
    let mut waits = waits.into_iter();
    let exchange = waits.next().map(|first| {
        let exchange = Exchange::of_batch(Arc::clone(worker), first, waits.collect(), side);
        Held::new(exchange, met.started)
    });
    Some((spliced, exchange))
}

struct Start<'a> {
    worker: &'a Arc<Worker>,
    policy: &'a Policy,
    met: Met<'a>,
    head: &'a request::Parts,
    message: Option<&'a Message<'a>>,
    /// The body, where it was read.
    body: &'a [u8],
    note: Option<&'static str>,
}

/// A request that is decided about.
struct Started {
    waiting: Option<Waiting>,
    injection: Injection,
    /// What calls may have as parent from now on.
    served: Option<Served>,
}

impl Started {
    fn new(waiting: Option<Waiting>, injection: Injection) -> Self {
        Started { waiting, injection, served: None }
    }

    /// Lets calls have the request as parent, with the context that it was given.
    fn remember(&mut self, worker: &Worker) {
        if let (Some(mut served), Some(waiting)) = (self.served.take(), &mut self.waiting) {
            if let Context::Write(given) = &mut self.injection.context {
                served.tracestate = std::mem::take(&mut given.tracestate);
            }
            waiting.remember(worker.tracer.server_spans.begin(served));
        }
    }
}

impl Start<'_> {
    fn begin(&self, subject: &Subject<'_>) -> Started {
        if self.met.outbound { self.outbound(subject) } else { self.inbound(subject) }
    }

    /// Whether the agent is busy with a request, and so may make calls for it.
    fn is_worked_on(&self, subject: &Subject<'_>) -> bool {
        match subject {
            Subject::Quiet(_) => false,
            Subject::Call(call) => !call.notification && call.method != LISTEN,
            Subject::Registry(_) | Subject::Agent(_) | Subject::Model(_) | Subject::Http => true,
        }
    }

    fn unrecorded(&self) -> Waiting {
        Waiting::unrecorded(self.met.started)
    }

    /// A request without a span whose response matters all the same.
    fn unseen(&self, subject: &Subject<'_>) -> Option<Waiting> {
        let matters = match subject {
            Subject::Quiet(Quiet::Stream { .. }) => !self.worker.settings.disabled,
            Subject::Quiet(Quiet::End(_)) => true,
            _ => false,
        };
        matters.then(|| self.unrecorded())
    }

    fn propagation(&self) -> &Propagation {
        &self.worker.settings.propagation
    }

    fn wants_span(&self, subject: &Subject<'_>) -> bool {
        let spans = &self.policy.spans;
        let method = match subject {
            Subject::Quiet(_) => return false,
            Subject::Registry(_) | Subject::Http if !spans.http => return false,
            Subject::Registry(call) => Some(call.operation.as_str()),
            Subject::Agent(call) => Some(call.method.operation),
            Subject::Model(call) => Some(call.api.operation()),
            Subject::Http => None,
            Subject::Call(call) => Some(&*call.method),
        };
        let rules = &spans.ignore;
        let named = |rule: &IgnoreRule| rule.user_agent.is_some();
        let agent = rules.iter().any(named).then(|| self.head.headers.get(header::USER_AGENT)).flatten();
        let described = Described {
            path: Some(self.head.uri.path()),
            user_agent: agent.and_then(|value| value.to_str().ok()),
            method,
            host: rules
                .iter()
                .any(|rule| rule.host.is_some())
                .then(|| facts::named_host(self.head))
                .flatten(),
            task_status: None,
        };
        !self.worker.settings.disabled && !spans.ignores(&described)
    }

    /// Decides, and starts the span with what is known of the request.
    fn decide(&self, subject: &Subject<'_>, under: Under<'_>) -> Decided {
        let baggage = Lazy::new(|| self.baggage());
        let facts = facts::Request { met: &self.met, head: self.head, subject, baggage };
        let basis =
            Basis { policy: self.policy, facts: &facts, now: self.met.started, at: self.met.started_at };
        let kind = if self.met.outbound { SpanKind::Client } else { SpanKind::Server };
        decide(self.worker, under, kind, basis, |span| {
            match subject {
                Subject::Call(call) => {
                    attributes::of_call(span, call);
                    attributes::of_transport(span, &self.met, self.head.version);
                }
                Subject::Agent(call) => {
                    agent_attributes::of_call(span, call);
                    if let Some(id) = self.message.and_then(|m| m.id.as_ref()).and_then(OwnedId::new) {
                        span.set_str(key::JSONRPC_REQUEST_ID, id.as_str());
                    }
                    attributes::of_transport(span, &self.met, self.head.version);
                }
                Subject::Model(call) => {
                    model_attributes::of_call(span, call);
                    attributes::of_transport(span, &self.met, self.head.version);
                }
                _ => {
                    attributes::of_http(span, self.head, &self.met);
                    attributes::of_version(span, self.head.version);
                    attributes::of_client(span, &self.met);
                    if let Subject::Registry(call) = subject {
                        attributes::of_registry(span, call);
                    }
                }
            }
            attributes::of_server(span, &self.met);
            let is_read = matches!(subject, Subject::Model(call) if call.request.is_some());
            if let Some(note) = self.note.filter(|_| !is_read) {
                span.set_static(key::MESHTRACE_BODY, note);
            }
        })
    }

    fn waiting(&self, span: Box<Span>, subject: &Subject<'_>) -> Waiting {
        let awaited = match subject {
            Subject::Call(call) => awaited(call),
            Subject::Registry(call) if call.operation == Operation::Register => Awaited::Registration,
            Subject::Agent(_) => Awaited::Agent(Box::default()),
            Subject::Model(call) => Awaited::Completion(Box::new(Reply::new(call.api))),
            _ => Awaited::Response,
        };
        Waiting::new(span, self.met.started, awaited, self.policy.keep)
    }

    fn link(&self, span: &mut Span, other: Option<Traceparent>, reason: &'static str) {
        if let Some(other) = other {
            attributes::link(span, &other, reason);
        }
    }
}

fn awaited(call: &Call<'_>) -> Awaited {
    if call.notification {
        return Awaited::Acknowledgement;
    }
    let asked = exchange::Asked::of(&call.method);
    Awaited::Answer(Answer { id: call.id.clone(), asked, modern: call.modern, granted: None })
}

/// The request that stays open for as long as a client listens (MCP 2026-07-28).
const LISTEN: &str = "subscriptions/listen";

/// Whether what this request carries outlives the request in the agent: SDKs
/// start the tasks of a session while they handle one of these.
fn is_session_long(subject: &Subject<'_>) -> bool {
    match subject {
        Subject::Quiet(_) => true,
        Subject::Call(call) => call.notification || call.method == "initialize" || call.method == LISTEN,
        Subject::Registry(_) | Subject::Agent(_) | Subject::Model(_) | Subject::Http => false,
    }
}
