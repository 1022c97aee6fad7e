//! From a request that was read to a request that is ready to leave: find the
//! parent, decide sampling, start the span, inject the context.

mod observed;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{header, request};
use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::attributes;
use super::body::RequestBody;
use super::exchange::{self, Answer, Awaited, Exchange, Held, MAX_BATCH, Named, Side, Waiting};
use super::facts::{self, Lazy};
use super::headers::{self, Survey};
use super::inject::{self, Context, Injection};
use super::mesh::Operation;
use super::policy::Policy;
use super::read::Read;
use super::settings::{Authority, Destinations, Exchange as Described, IgnoreRule, Preference, Propagation};
use super::subject::{Call, Quiet, Subject};
use super::worker::Worker;
use crate::mcp::batch;
use crate::mcp::mesh::mesh_arguments;
use crate::mcp::message::{self, Doubt, Message, Text};
use crate::net::dial;
use crate::trace::context::{Claim, LibraryIds, Outgoing, TraceContext, flags};
use crate::trace::links::{self, Parent};
use crate::trace::places::{self, Destination};
use crate::trace::rules::Facts;
use crate::trace::semconv as key;
use crate::trace::server_spans::{MAX_TEXT_BYTES, Served, may_tell};
use crate::trace::span::Span;
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;

/// The other end of a connection, with its address in the form of attributes.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address.
    pub address: SocketAddr,
    /// Its IP as text; an IPv4 address that came through a dual-stack socket is IPv4.
    pub ip: String,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer { address, ip: address.ip().to_canonical().to_string() }
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
                    let body = RequestBody::Whole(Some(spliced.unwrap_or(bytes)), reserved);
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
    let subject = subject.or_registry(start.head, &bytes);
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
        None => RequestBody::Whole(Some(spliced.unwrap_or(bytes)), reserved),
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

/// A decision, and what follows from it.
pub(crate) struct Decided {
    /// The span, where it is recorded, be it only to be kept for how it ends.
    pub(crate) span: Option<Box<Span>>,
    /// The context that goes on in either case.
    pub(crate) outgoing: Outgoing,
}

/// What a decision is made from.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    /// The rules in force.
    pub(crate) policy: &'a Policy,
    /// What they can look at.
    pub(crate) facts: &'a dyn Facts,
    /// The moment, on the clock that measures durations.
    pub(crate) now: Instant,
    /// The same moment on the clock of dates.
    pub(crate) at: SystemTime,
}

/// Decides about a span, and starts it with what `describe` says of it. The
/// context that goes on is that of the span; where nothing is recorded it is
/// the caller's own, since a span of ours would never be seen.
pub(crate) fn decide(
    worker: &Worker,
    under: Under<'_>,
    kind: SpanKind,
    basis: Basis<'_>,
    describe: impl FnOnce(&mut Span),
) -> Decided {
    let tracer = &worker.tracer;
    let parent = under.context;
    let trace_id = parent.map_or_else(|| tracer.ids.trace_id(), |p| p.parent.trace_id);
    let Basis { policy, facts, now, at } = basis;
    let decision = match under.beside {
        Some(any_sampled) => policy.sampler.decide_beside(any_sampled, trace_id, facts, now),
        None => policy.sampler.decide(parent, trace_id, facts, now),
    };
    // What is kept for how it ends needs an id under which others can hang.
    if !decision.sampled && policy.keep.is_none() {
        let outgoing = match parent {
            Some(parent) => Outgoing::passed_on(parent, &decision, || tracer.ids.span_id()),
            None => Outgoing::unrecorded_root(trace_id, tracer.ids.unrecorded_span_id(trace_id)),
        };
        return Decided { span: None, outgoing };
    }
    let span_id = tracer.ids.span_id();
    let flags = flags(parent, decision.sampled);
    let outgoing = Outgoing::of_span(trace_id, span_id, flags, parent, &decision);
    let mut span = worker.spans.take(worker.settings.span_limits);
    span.trace_id = trace_id;
    span.span_id = span_id;
    span.flags = flags;
    span.parent = under.span;
    span.parent_remote = under.span.is_some();
    span.kind = kind;
    span.start_unix_nanos = unix_nanos(at);
    span.set_tracestate(&outgoing.tracestate);
    describe(&mut span);
    Decided { span: Some(span), outgoing }
}

/// What the library MCP Mesh sent along.
#[derive(Default)]
struct Mesh {
    /// Its own ids.
    ids: Option<LibraryIds>,
    /// The W3C context that it passed on.
    context: Option<TraceContext>,
}

/// What a new span hangs under.
#[derive(Clone, Copy, Default)]
pub(crate) struct Under<'a> {
    /// The trace that it continues.
    context: Option<&'a TraceContext>,
    /// Its parent there.
    span: Option<SpanId>,
    /// Whether any of those is recorded that its new trace stands beside.
    beside: Option<bool>,
}

impl<'a> Under<'a> {
    pub(crate) fn context(context: Option<&'a TraceContext>) -> Self {
        Under { context, span: context.map(|c| c.parent.span_id), beside: None }
    }
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

    /// A request to the pod: its SERVER span continues what the caller sent.
    fn inbound(&self, subject: &Subject<'_>) -> Started {
        let mesh = self.mesh(subject);
        let claim = self.claim(&mesh);
        // Whoever has nothing better continues the library's own trace.
        let of_library = mesh.ids.and_then(LibraryIds::context).filter(|_| claim.parent.is_none());
        let tracer = &self.worker.tracer;
        let trusted = self.propagation().trust_inbound;
        let parent = claim.context().or(of_library.as_ref()).filter(|_| trusted);
        let mut injection = self.injection(subject);
        if !trusted {
            injection.context = Context::Strip;
            injection.drop_baggage = true;
        }
        let session_long = is_session_long(subject);
        if session_long {
            // Whatever inherits the context of a session would be parented
            // wrongly for as long as it lives, so the agent gets none of ours.
            for context in claim.all() {
                tracer.server_spans.never_a_parent(context.parent.span_id);
            }
            self.take_mark_off(&mut injection, &claim);
        }
        if !self.wants_span(subject) {
            self.take_mark_off(&mut injection, &claim);
            return self.ignored(subject, parent, injection);
        }
        let decided = self.decide(subject, Under::context(parent));
        let waiting = match decided.span {
            Some(mut span) => {
                if session_long {
                    tracer.server_spans.never_a_parent(span.span_id);
                }
                self.link_inbound(&mut span, &claim);
                self.configured(&mut span, subject, || if trusted { self.baggage() } else { None });
                Some(self.waiting(span, subject))
            }
            None => self.is_worked_on(subject).then(|| self.unrecorded()),
        };
        if session_long {
            return self.unnamed(subject, Started::new(waiting, injection));
        }
        let baggage = if trusted { self.baggage() } else { None };
        injection.baggage = baggage.clone();
        let caller = parent.map(|p| p.parent.span_id);
        let served = Served {
            caller,
            baggage,
            arguments: self.telling_arguments(),
            library: mesh.ids,
            safe: self.head.method.is_safe(),
            ..Served::of(decided.outgoing.parent)
        };
        injection.context = Context::Write(decided.outgoing);
        Started { waiting, injection, served: Some(served) }
    }

    /// A request to the pod that gets no span. What the agent calls meanwhile
    /// may still belong to it, and then hangs under the caller.
    fn ignored(&self, subject: &Subject<'_>, parent: Option<&TraceContext>, injection: Injection) -> Started {
        if self.worker.settings.disabled || !self.is_worked_on(subject) {
            return Started::new(self.unseen(subject), injection);
        }
        let started = Started::new(Some(self.unrecorded()), injection);
        let Some(context) = parent.filter(|_| !is_session_long(subject)) else {
            return self.unnamed(subject, started);
        };
        let tracestate = context.state_without_mark();
        let served = Served { tracestate, ..Served::of(context.parent) };
        Started { served: Some(served), ..started }
    }

    /// A request that no call can name, and that may make calls.
    fn unnamed(&self, subject: &Subject<'_>, mut started: Started) -> Started {
        if let Some(waiting) = started.waiting.as_mut().filter(|_| self.is_worked_on(subject)) {
            waiting.remember(self.worker.tracer.server_spans.begin_unnamed());
        }
        started
    }

    /// A call of the pod: its CLIENT span hangs under what the rules find.
    fn outbound(&self, subject: &Subject<'_>) -> Started {
        let tracer = &self.worker.tracer;
        let mesh = self.mesh(subject);
        let claim = self.claim(&mesh);
        let mut injection = self.injection(subject);
        let allowed = self.may_see_context();
        if !allowed && self.is_copied(&claim) {
            // The agent copied what we gave it; that is not for strangers.
            injection.context = Context::Strip;
            injection.drop_baggage = true;
        }
        if !self.wants_span(subject) {
            self.take_mark_off(&mut injection, &claim);
            return Started::new(self.unseen(subject), injection);
        }
        let call = links::Call {
            claim,
            library: mesh.ids,
            mcp: matches!(subject, Subject::Call(_)),
            session: match subject {
                Subject::Call(call) => call.session,
                _ => None,
            },
            destination: self.destination(subject),
            texts: self.texts(subject),
        };
        let parent = links::parent_of_call(call, &tracer.known(self.propagation().inference));
        self.count(&parent);
        let under = Under { context: parent.context.as_ref(), span: parent.span, beside: parent.sampled };
        let decided = self.decide(subject, under);
        if allowed {
            injection.baggage = self.outgoing_baggage(parent.server_span);
            injection.context = Context::Write(decided.outgoing);
        }
        let waiting = decided.span.map(|mut span| {
            self.describe_parent(&mut span, &parent);
            let restored = || parent.server_span.and_then(|id| tracer.server_spans.baggage(id));
            self.configured(&mut span, subject, || self.baggage().or_else(restored));
            self.waiting(span, subject)
        });
        Started::new(waiting, injection)
    }

    fn count(&self, parent: &Parent) {
        let method = parent.provenance.method;
        self.worker.metrics.proxy.parent(method.index());
        if parent.provenance.conflict {
            self.worker.metrics.proxy.parent_conflicts.inc();
        }
        if !method.is_proof() {
            self.worker.tracer.tally.count(&self.met.target.host, self.met.target.port, method);
        }
    }

    /// Whether a context of ours is among what a call carries.
    fn is_copied(&self, claim: &Claim) -> bool {
        let tracer = &self.worker.tracer;
        let unrecorded = |p: &Traceparent| p.span_id == tracer.ids.unrecorded_span_id(p.trace_id);
        claim.all().any(|c| c.is_shim_marked() || tracer.server_spans.knows(c) || unrecorded(&c.parent))
    }

    /// Context that is passed on as it came loses the mark of the shim, which
    /// means something between the agent and its own sidecar only.
    fn take_mark_off(&self, injection: &mut Injection, claim: &Claim) {
        let marked = claim.all().any(TraceContext::is_shim_marked);
        if let (true, Context::Leave, Some(context)) = (marked, &injection.context, claim.context()) {
            injection.context = Context::Write(Outgoing::unmarked(context));
            injection.into_meta = self.message.is_some_and(|message| message.meta.traceparent.is_some());
        }
    }

    /// Where a call goes, and for what.
    fn destination<'s>(&'s self, subject: &'s Subject<'_>) -> Destination<'s> {
        let (method, about) = match subject {
            Subject::Call(call) => (&*call.method, ""),
            _ => (self.head.method.as_str(), places::about(self.head.uri.path())),
        };
        Destination { host: &self.met.target.host, port: self.met.target.port, method, about }
    }

    /// The arguments of a request, as far as its calls may be known by them.
    fn telling_arguments(&self) -> Box<[u8]> {
        let arguments = self.message.and_then(|message| message.arguments).unwrap_or_default();
        match may_tell(arguments) {
            true => arguments[..arguments.len().min(MAX_TEXT_BYTES)].into(),
            false => Box::default(),
        }
    }

    /// What a call says, to be compared with the arguments of requests.
    fn texts(&self, subject: &Subject<'_>) -> [&[u8]; 2] {
        match (subject, self.message) {
            (Subject::Call(_), message) => [message.and_then(|m| m.arguments).unwrap_or_default(), b""],
            _ => {
                [self.head.uri.path_and_query().map_or(b"".as_slice(), |p| p.as_str().as_bytes()), self.body]
            }
        }
    }

    /// Whether the agent is busy with a request, and so may make calls for it.
    fn is_worked_on(&self, subject: &Subject<'_>) -> bool {
        match subject {
            Subject::Quiet(_) => false,
            Subject::Call(call) => !call.notification && call.method != LISTEN,
            Subject::Registry(_) | Subject::Http => true,
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

    /// What the library MCP Mesh sent along, where it made the request. Of its
    /// trace nothing says whether it is recorded, so the share decides.
    fn mesh(&self, subject: &Subject<'_>) -> Mesh {
        if !self.met.survey.has(Survey::MESH) || !self.propagation().formats.tracecontext {
            return Mesh::default();
        }
        let arguments = self.message.and_then(|message| message.arguments);
        let arguments = arguments.map(mesh_arguments).unwrap_or_default();
        let text = |text: Option<Text<'_>>| text.map(|text| text.decode().into_owned());
        let (trace, parent) = headers::mesh_ids(&self.head.headers);
        let (trace, parent) = match trace {
            Some(trace) => (Some(trace.to_owned()), parent.map(str::to_owned)),
            None => (text(arguments.trace_id), text(arguments.parent_span)),
        };
        let ids = trace.and_then(|trace| {
            let is_hex =
                |text: &String, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
            let trace = Some(trace).filter(|t| is_hex(t, 32)).and_then(|t| TraceId::from_hex(&t).ok())?;
            let parent = parent.filter(|p| is_hex(p, 16)).and_then(|p| SpanId::from_hex(&p).ok());
            let baggage = Lazy::new(|| self.baggage());
            let facts = facts::Request { met: &self.met, head: self.head, subject, baggage };
            let sampled = self.policy.sampler.decide(None, trace, &facts, self.met.started).sampled;
            let parent = parent.filter(|id| *id != SpanId::INVALID);
            (trace != TraceId::INVALID).then_some(LibraryIds { trace, parent, sampled })
        });
        let context = text(arguments.traceparent).and_then(|parent| {
            let parent = Traceparent::parse(parent.as_bytes())?;
            let tracestate = text(arguments.tracestate).and_then(|t| Tracestate::parse([t.as_bytes()]));
            Some(TraceContext { parent, tracestate })
        });
        Mesh { ids, context }
    }

    fn claim(&self, mesh: &Mesh) -> Claim {
        let formats = self.propagation().formats;
        let from_headers = match self.met.survey.has(Survey::TRACE) {
            true => headers::extract(&self.head.headers, formats),
            false => None,
        };
        let meta = self.message.map(|m| &m.meta).filter(|_| formats.tracecontext);
        let from_meta = meta.and_then(headers::extract_meta);
        Claim::choose(from_meta, from_headers, self.propagation().parent == Preference::Header)
            .with_library(mesh.context.clone())
    }

    /// The baggage that came: `_meta` counts where it has the key, else the
    /// headers; the two are never mixed.
    fn baggage(&self) -> Option<Baggage> {
        let formats = self.propagation().formats;
        if !formats.baggage {
            return None;
        }
        match self.message.and_then(|m| m.meta.baggage.as_ref()) {
            Some(text) => Baggage::parse([text.decode().as_bytes()]),
            None if self.met.survey.has(Survey::BAGGAGE) => {
                headers::extract_baggage(&self.head.headers, formats)
            }
            None => None,
        }
    }

    fn outgoing_baggage(&self, server_span: Option<SpanId>) -> Option<Baggage> {
        if !self.propagation().formats.baggage {
            return None;
        }
        let restored = || server_span.and_then(|id| self.worker.tracer.server_spans.baggage(id));
        let mut baggage = self.baggage().or_else(restored).unwrap_or_default();
        for (name, value) in &self.propagation().baggage_set {
            if !baggage.set(name, value) {
                self.worker.metrics.proxy.baggage_full();
            }
        }
        (!baggage.is_empty()).then_some(baggage)
    }

    /// Whether our context may go where this call goes.
    fn may_see_context(&self) -> bool {
        let reached = self.met.upstream.map(|address| address.ip());
        match &self.propagation().to {
            Destinations::Private if self.met.claimed => reached.is_some_and(dial::is_private),
            to => to.include(&self.met.target.host, reached),
        }
    }

    fn injection(&self, subject: &Subject<'_>) -> Injection {
        let mut injection = Injection::nothing();
        injection.into_meta = self.propagation().write_meta && matches!(subject, Subject::Call(_));
        injection
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
                    attributes::of_protocol(span, self.head.version);
                }
                _ => {
                    attributes::of_http(span, self.head, &self.met);
                    attributes::of_version(span, self.head.version);
                    if let Subject::Registry(call) = subject {
                        attributes::of_registry(span, call);
                    }
                }
            }
            attributes::of_peers(span, &self.met);
            if let Some(note) = self.note {
                span.set_static(key::MESHTRACE_BODY, note);
            }
        })
    }

    fn waiting(&self, span: Box<Span>, subject: &Subject<'_>) -> Waiting {
        let awaited = match subject {
            Subject::Call(call) => awaited(call),
            Subject::Registry(call) if call.operation == Operation::Register => Awaited::Registration,
            _ => Awaited::Response,
        };
        Waiting::new(span, self.met.started, awaited, self.policy.keep)
    }

    /// Links to the claim that lost, or to the one that is not trusted.
    fn link_inbound(&self, span: &mut Span, claim: &Claim) {
        if self.propagation().trust_inbound {
            self.link(span, claim.other.as_ref().map(|(c, _)| c.parent), "other_carrier");
        } else {
            self.link(span, claim.context().map(|c| c.parent), "untrusted");
        }
    }

    fn link(&self, span: &mut Span, other: Option<Traceparent>, reason: &'static str) {
        if let Some(other) = other {
            attributes::link(span, &other, reason);
        }
    }

    fn describe_parent(&self, span: &mut Span, parent: &Parent) {
        let provenance = &parent.provenance;
        span.set_static(key::MESHTRACE_PARENT_METHOD, provenance.method.as_str());
        span.set_bool(key::MESHTRACE_PARENT_EXACT, provenance.exact);
        if provenance.candidates > 1 {
            span.set_int(
                key::MESHTRACE_PARENT_CANDIDATES,
                provenance.candidates.try_into().unwrap_or(i64::MAX),
            );
        }
        if provenance.late {
            span.set_bool(key::MESHTRACE_PARENT_LATE, true);
        }
        if provenance.conflict {
            span.set_bool(key::MESHTRACE_PARENT_CONFLICT, true);
        }
        for link in &parent.links {
            self.link(span, Some(link.to), link.reason);
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
        Subject::Registry(_) | Subject::Http => false,
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
