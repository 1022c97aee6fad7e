//! What the two ends of the pipes say to each other: the same spans as over
//! HTTP, found by line. Nothing here does I/O.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use opentelemetry::trace::SpanKind;

use crate::mcp::batch;
use crate::mcp::message::{self, Doubt, Kind, Message, OwnedId};
use crate::mcp::method;
use crate::metrics::operations::{self, Operation};
use crate::proxy::access_log::Entry;
use crate::proxy::attributes;
use crate::proxy::begin::{Basis, Under, decide};
use crate::proxy::exchange::{self, Answer, Asked, Awaited, Exchange, MAX_BATCH, Shared, Side, Waiting};
use crate::proxy::facts;
use crate::proxy::headers;
use crate::proxy::inject::{Context, Injection};
use crate::proxy::peers::{Ended, SessionKey, Way};
use crate::proxy::reverse::{self, Met, Network, Owner};
use crate::proxy::settings::{Authority, Exchange as Described};
use crate::proxy::subject::{self, Call};
use crate::proxy::worker::Worker;
use crate::trace::context::TraceContext;
use crate::trace::redact;
use crate::trace::semconv as key;

/// One server behind its pipes.
#[derive(Debug)]
pub struct Talk {
    worker: Arc<Worker>,
    /// There is one session for as long as the process lives.
    session: SessionKey,
    /// What the process was given to continue where a message names nothing.
    environment: Option<TraceContext>,
    /// How many requests have continued that.
    continued: AtomicUsize,
}

impl Talk {
    /// A server that has just been started, in an environment that may name a parent.
    pub fn new(worker: Arc<Worker>, environment: Option<TraceContext>) -> Self {
        let nowhere = Authority { host: String::new(), port: 0 };
        let session = worker.tracer.peers.session(false, &nowhere, "stdio");
        Talk { worker, session, environment, continued: AtomicUsize::new(0) }
    }

    /// A line of the client; what has to stand in its place.
    pub fn from_client(&self, line: &[u8]) -> Option<Vec<u8>> {
        let started = (Instant::now(), SystemTime::now());
        each(line, |data, message| match message.kind() {
            Kind::Response => {
                exchange::answered(&self.worker, self.session, Way::ToClient, message, false);
                None
            }
            _ => self.call(data, message, started),
        })
    }

    /// A line of the server; what has to stand in its place.
    pub fn from_server(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut asks = false;
        exchange::each_answer(line, |message| match message.kind() {
            Kind::Response => {
                if let Some(version) = &message.result_protocol_version {
                    let version = version.decode();
                    self.worker.tracer.peers.learn(self.session, Some(&version), Instant::now());
                }
                exchange::answered(&self.worker, self.session, Way::ToServer, message, false);
            }
            Kind::Request => asks = true,
            Kind::Notification => self.notice(line),
        });
        if !asks {
            return None;
        }
        let owner = self.owner();
        self.with_met(owner.as_ref(), |met| reverse::begin(&self.worker, met, line))
    }

    fn with_met<T>(&self, owner: Option<&Owner>, act: impl FnOnce(Met<'_>) -> T) -> T {
        let version = self.version();
        act(Met {
            outbound: false,
            network: Network::Pipe,
            session: Some(self.session),
            session_id: None,
            version: version.as_deref(),
            owner,
        })
    }

    /// Nothing will be answered any more.
    pub fn ended(&self) {
        let (ended, waiting) = self.worker.tracer.peers.end_session(self.session);
        if let Some(Ended { version, since }) = ended {
            let sessions = &self.worker.metrics.sessions;
            sessions.ended(operations::Side::Server, version.as_deref(), "pipe", None, since.elapsed());
        }
        for exchange in waiting {
            exchange.lock().forgotten(exchange::Forgotten::EndOfSession);
        }
    }

    fn notice(&self, line: &[u8]) {
        let Ok(message) = message::parse(line) else { return };
        exchange::cancelled(&self.worker, self.session, Way::ToClient, &message);
        if message.method.as_ref().is_some_and(|m| m.eq_str("notifications/progress")) {
            exchange::progressed(&self.worker, self.session, &message);
        }
        // A subscription is granted; it stays open for as long as the client listens.
        let acknowledged = message.method.as_ref().is_some_and(|m| m.eq_str(exchange::ACKNOWLEDGED));
        if let Some(id) =
            message.meta.subscription_id.as_ref().filter(|_| acknowledged).and_then(OwnedId::new)
        {
            let peers = &self.worker.tracer.peers;
            if let Some(listening) = peers.waiting(peers.key(self.session, Way::ToServer, &id)) {
                listening.lock().subscribed();
            }
        }
        if self.worker.tracer.policy.now().spans.notifications {
            let owner = self.notifier(&message);
            self.with_met(owner.as_ref(), |met| reverse::note(&self.worker, met, line));
        }
    }

    /// The request that a notification of the server belongs to: that of whose
    /// progress it tells, since SDKs make the token of its id, or else the only one.
    fn notifier(&self, message: &Message<'_>) -> Option<Owner> {
        let peers = &self.worker.tracer.peers;
        let token = message.progress_token.as_ref().and_then(OwnedId::new);
        let told = token.and_then(|token| peers.waiting(peers.key(self.session, Way::ToServer, &token)));
        match told.and_then(|told| told.lock().adopt()) {
            Some((context, full)) => Some(Owner { context, method: "progress", exact: false, full }),
            None => self.owner(),
        }
    }

    /// Whether as many requests continue what the process was given as may.
    fn is_full(&self) -> bool {
        let full = self.continued.load(Ordering::Relaxed) >= self.worker.limits().stream_spans;
        match full {
            true => _ = self.worker.metrics.peers.full.inc(),
            false => _ = self.continued.fetch_add(1, Ordering::Relaxed),
        }
        full
    }

    fn version(&self) -> Option<Box<str>> {
        self.worker.tracer.peers.version(self.session, Instant::now())
    }

    /// The one request that the server works on, to which what it asks belongs.
    fn owner(&self) -> Option<Owner> {
        let sole = self.worker.tracer.peers.sole(self.session, Way::ToServer)?;
        let (context, full) = sole.lock().adopt()?;
        Some(Owner { context, method: "session", exact: false, full })
    }

    /// A request or notification: its SERVER span, and its context in the message.
    fn call(&self, data: &[u8], message: &Message<'_>, started: (Instant, SystemTime)) -> Option<Vec<u8>> {
        let name = message.method.as_ref()?.decode();
        let cancelled = match name == "notifications/cancelled" {
            true => exchange::cancelled(&self.worker, self.session, Way::ToServer, message),
            false => None,
        };
        let settings = &self.worker.settings;
        let described = Described { method: Some(&name), ..Described::default() };
        let policy = self.worker.tracer.policy.now();
        let ignored = settings.disabled || policy.spans.ignores(&described);
        let version = message.meta.protocol_version.as_ref().map(|version| version.decode());
        let offered = message.params_protocol_version.as_ref().map(|version| version.decode());
        let version = version.or(offered).or_else(|| self.version().map(|v| Cow::Owned(v.into_string())));
        let id = message.id.as_ref().and_then(OwnedId::new);
        let modern = version.as_deref().is_some_and(subject::is_modern);
        let call = Call::of_message(name, message, version);
        let awaited = || match call.notification {
            true => Awaited::Acknowledgement,
            false => Awaited::Answer(Answer { id, asked: Asked::of(&call.method), modern, granted: None }),
        };
        if ignored {
            self.park(Waiting::unrecorded(started.0), &call, awaited, started.0);
            return None;
        }
        let formats = settings.propagation.formats;
        let meta = Some(&message.meta).filter(|_| formats.tracecontext);
        let claim = meta.and_then(headers::extract_meta);
        let trusted = settings.propagation.trust_inbound;
        let claimed = claim.as_ref().filter(|_| trusted);
        // What takes a request back hangs under it, where it names nothing better.
        let taken_back = cancelled.map(|parent| TraceContext { parent, tracestate: None });
        let claimed = claimed.or(taken_back.as_ref());
        let given = self.environment.as_ref().filter(|_| claimed.is_none());
        let full = given.filter(|_| self.is_full());
        let under = match full {
            Some(given) => Under::beside(given),
            None => Under::context(claimed.or(given)),
        };
        let facts = facts::Method(&call.method);
        let basis = Basis { policy: &policy, facts: &facts, now: started.0, at: started.1 };
        let decided = decide(&self.worker, under, SpanKind::Server, basis, |span| {
            attributes::of_call(span, &call);
            span.set_static(key::NETWORK_TRANSPORT, "pipe");
            if let Some(claim) = claim.as_ref().filter(|_| !trusted) {
                attributes::link(span, &claim.parent, "untrusted");
            }
            if let Some(given) = full {
                attributes::link(span, &given.parent, "full");
            }
        });
        let mut injection = Injection::nothing();
        injection.drop_baggage = !trusted;
        let session_long =
            call.notification || matches!(Asked::of(&call.method), Asked::Session | Asked::Notifications);
        if session_long {
            // Whatever inherits this would be parented wrongly for as long as the session lives.
            let spans = &self.worker.tracer.server_spans;
            claim.iter().for_each(|claim| spans.never_a_parent(claim.parent.span_id));
            injection.context = if trusted { Context::Leave } else { Context::Strip };
        } else {
            injection.context = Context::Write(decided.outgoing);
        }
        match decided.span {
            Some(span) => {
                let mut waiting = Waiting::new(span, started.0, awaited(), policy.keep);
                if let Some(target) = &cancelled {
                    waiting.link(target, "cancels");
                }
                waiting.goes_on(&self.worker, false, None, message, started.0);
                self.park(waiting, &call, || Awaited::Response, started.0);
            }
            None => self.park(Waiting::unrecorded(started.0), &call, awaited, started.0),
        }
        let writes = settings.propagation.write_meta;
        if writes { injection.splice(data, message, &settings.propagation) } else { None }
    }

    /// Remembers a message until it is answered, to be counted and logged
    /// then. `awaited` is asked where it has no span.
    fn park(&self, mut waiting: Waiting, call: &Call<'_>, awaited: impl FnOnce() -> Awaited, now: Instant) {
        let target = call.target.as_deref();
        let counted = match (call.known.map(|known| &known.target), target) {
            (Some(method::Target::ToolName), Some(tool)) => operations::Target::Tool(tool),
            (Some(method::Target::PromptName), Some(prompt)) => operations::Target::Prompt(prompt),
            _ => operations::Target::None,
        };
        let series = self.worker.operations.series(&Operation {
            side: operations::Side::Server,
            method: &call.method,
            target: counted,
            revision: call.version.as_deref(),
            network: ("pipe", ""),
            server: None,
        });
        if self.worker.access_log.is_some() {
            let resource = call.known.is_some_and(|k| matches!(k.target, method::Target::ResourceUri));
            let target = target.unwrap_or_default();
            let target = if resource { redact::uri(target).into_owned() } else { target.to_owned() };
            let (method, context) = (call.method.to_string(), waiting.ids());
            waiting.log(Box::new(Entry { outbound: false, method, target, context }));
        }
        waiting.count(series, false, awaited);
        let side = Side { session: Some(self.session), ..Side::default() };
        // A notification is over as soon as it has passed.
        Shared::park(Exchange::new(Arc::clone(&self.worker), waiting, side), Way::ToServer, now);
    }
}

/// Hands over the message of a line, or those of the batch that it is; puts the
/// line together again where one of them changed.
fn each(line: &[u8], mut take: impl FnMut(&[u8], &Message<'_>) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let batch = match message::parse(line) {
        Ok(message) => return take(line, &message),
        Err(Doubt::Batch) => batch::elements(line, MAX_BATCH).ok()?,
        Err(_) => return None,
    };
    batch::edit(line, batch, |one| take(one, &message::parse(one).ok()?))
}
