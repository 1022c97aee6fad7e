//! Requests of the server to the client, before 2026-07-28: sampling,
//! elicitation, roots and pings that arrive inside a stream of events and are
//! answered by a later request of the client.
//!
//! Where the pod's application is the server it asks, so the span is a CLIENT
//! one; where it is the client it is asked, and the span is a SERVER one.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::Version;
use opentelemetry::trace::SpanKind;

use super::attributes;
use super::begin::{Basis, Decided, Peer, Under, decide};
use super::exchange::{Answer, Asked, Awaited, Exchange, MAX_BATCH, Shared, Side, Waiting};
use super::facts;
use super::headers;
use super::inject::{Context, Injection};
use super::peers::{SessionKey, Way};
use super::settings::{Authority, Exchange as Described};
use super::subject::Call;
use super::worker::Worker;
use crate::mcp::batch;
use crate::mcp::message::{self, Doubt, Kind, Message, OwnedId};
use crate::mcp::method;
use crate::metrics::operations;
use crate::proxy::access_log::Entry;
use crate::trace::context::TraceContext;
use crate::trace::links::Method;
use crate::trace::semconv as key;
use crate::trace::server_spans::{Served, Standing};
use crate::trace::span::Span;
use crate::w3c::baggage::Baggage;
use crate::w3c::traceparent::Traceparent;

/// Where and when a request of the server was met.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    /// Whether the pod's application is the client, and is asked.
    pub outbound: bool,
    /// Between whom.
    pub network: Network<'a>,
    /// The session, which the answer will name too.
    pub session: Option<SessionKey>,
    /// The session's id, as an attribute.
    pub session_id: Option<&'a str>,
    /// The revision that it agreed on.
    pub version: Option<&'a str>,
    /// The span that the stream belongs to.
    pub owner: Option<&'a Owner>,
}

/// The connection that a request of the server arrives on.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// HTTP between these two.
    Http {
        /// Who connected to us, and gets the request.
        client: &'a Peer,
        /// Whom we connected to, and who asks.
        server: &'a Authority,
        /// The version of HTTP.
        version: Version,
    },
    /// The pipes of a child process.
    Pipe,
}

/// The span that a request of the server hangs under where it names none itself.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its context.
    pub context: TraceContext,
    /// The value of `meshtrace.parent.method`.
    pub method: &'static str,
    /// Whether that is proved.
    pub exact: bool,
    /// Whether as much hangs under it as may: it gets a link then.
    pub full: bool,
}

/// Begins the span of each request of the server that `data` holds, and
/// remembers it until it is answered. Gives the data with context in it, where
/// that is due.
pub fn begin(worker: &Arc<Worker>, met: Met<'_>, data: &[u8]) -> Option<Vec<u8>> {
    let ask = |data: &[u8], message: &Message<'_>| Start { worker, met, message }.ask(data);
    let batch = match message::parse(data) {
        Ok(message) => return ask(data, &message),
        Err(Doubt::Batch) => batch::elements(data, MAX_BATCH).ok()?,
        Err(_) => return None,
    };
    batch::edit(data, batch, |one| {
        let message = message::parse(one).ok().filter(|message| message.kind() == Kind::Request)?;
        ask(one, &message)
    })
}

/// Makes the span of each notification of the server that `data` holds: an
/// instant, where such spans are asked for.
pub fn note(worker: &Arc<Worker>, met: Met<'_>, data: &[u8]) {
    let note = |message: &Message<'_>| {
        if message.kind() == Kind::Notification {
            Start { worker, met, message }.note();
        }
    };
    match message::parse(data) {
        Ok(message) => note(&message),
        Err(Doubt::Batch) => {
            for element in batch::elements(data, MAX_BATCH).unwrap_or_default() {
                if let Some(Ok(message)) = data.get(element).map(message::parse) {
                    note(&message);
                }
            }
        }
        Err(_) => {}
    }
}

struct Start<'a> {
    worker: &'a Arc<Worker>,
    met: Met<'a>,
    message: &'a Message<'a>,
}

fn awaited(id: OwnedId) -> Awaited {
    Awaited::Answer(Answer { id: Some(id), asked: Asked::Other, modern: false, granted: None })
}

/// What a request of the server hangs under.
#[derive(Default)]
struct Parent {
    context: Option<TraceContext>,
    /// `meshtrace.parent.method` and whether it is exact; a SERVER span whose
    /// caller named its parent says nothing of it.
    found: Option<(&'static str, bool)>,
    /// The claim that was not taken, and the owner that is full.
    links: Vec<(Traceparent, &'static str)>,
    /// Whether it stands beside that owner.
    beside: bool,
}

impl Parent {
    fn under(&self) -> Under<'_> {
        match &self.context {
            Some(owner) if self.beside => Under::beside(owner),
            context => Under::context(context.as_ref()),
        }
    }
}

impl Start<'_> {
    fn ask(&self, data: &[u8]) -> Option<Vec<u8>> {
        let id = OwnedId::new(self.message.id.as_ref()?)?;
        let name = self.message.method.as_ref()?.decode();
        let settings = &self.worker.settings;
        let policy = self.worker.tracer.policy.now();
        let described = Described { method: Some(&name), ..Described::default() };
        let ignored = settings.disabled || policy.spans.ignores(&described);
        let call = Call {
            known: method::lookup(&name),
            target: None,
            id: Some(id.clone()),
            notification: false,
            version: self.met.version.map(Into::into),
            modern: false,
            session: self.met.session_id,
            jsonrpc: None,
            method: name,
        };
        if ignored {
            self.park(Waiting::unrecorded(Instant::now()), &call, id);
            return None;
        }
        let formats = settings.propagation.formats;
        let meta = Some(&self.message.meta).filter(|_| formats.tracecontext);
        let claim = meta.and_then(headers::extract_meta);
        let parent = self.parent(claim.as_ref());
        let kind = if self.met.outbound { SpanKind::Server } else { SpanKind::Client };
        let under = parent.under();
        let facts = facts::Method(&call.method);
        let basis = Basis { policy: &policy, facts: &facts, now: Instant::now(), at: SystemTime::now() };
        let decided = decide(self.worker, under, kind, basis, |span| {
            attributes::of_call(span, &call);
            self.describe(span, &parent);
        });
        let injection = self.injection(&decided, claim.as_ref());
        let spliced = if injection.into_meta {
            injection.splice(data, self.message, &settings.propagation)
        } else {
            None
        };
        self.count(&parent);
        let mut waiting = Waiting::unrecorded(basis.now);
        if let Some(span) = decided.span {
            waiting = Waiting::new(span, basis.now, awaited(id.clone()), policy.keep);
            if self.met.outbound {
                // The application makes calls while it is asked.
                waiting.remember(self.worker.tracer.server_spans.begin(Served {
                    tracestate: decided.outgoing.tracestate,
                    caller: parent.context.as_ref().filter(|_| !parent.beside).map(|c| c.parent.span_id),
                    baggage: self.baggage(),
                    ..Served::of(decided.outgoing.parent)
                }));
            }
        }
        self.park(waiting, &call, id);
        spliced
    }

    /// Remembers the request until it is answered, to be counted and logged then.
    fn park(&self, mut waiting: Waiting, call: &Call<'_>, id: OwnedId) {
        let outbound = !self.met.outbound;
        let network = match self.met.network {
            Network::Http { version, .. } => ("tcp", attributes::http_version(version)),
            Network::Pipe => ("pipe", ""),
        };
        let series = self.worker.operations.series(&operations::Operation {
            side: if outbound { operations::Side::Client } else { operations::Side::Server },
            method: &call.method,
            target: operations::Target::None,
            revision: self.met.version,
            network,
            // The port of a client is another one each time.
            server: None,
        });
        if self.worker.access_log.is_some() {
            let (method, context) = (call.method.to_string(), waiting.ids());
            waiting.log(Box::new(Entry { outbound, method, target: String::new(), context }));
        }
        waiting.count(series, outbound, || awaited(id));
        let side = Side { outbound: self.met.outbound, session: self.met.session, ..Side::default() };
        let exchange = Exchange::new(Arc::clone(self.worker), waiting, side);
        Shared::park(exchange, Way::ToClient, Instant::now());
    }

    fn count(&self, parent: &Parent) {
        if let Some(method) = parent.found.and_then(|(name, _)| Method::named(name)) {
            self.worker.metrics.proxy.parent(method.index());
        }
    }

    fn note(&self) {
        let Some(name) = self.message.method.as_ref().map(|name| name.decode()) else { return };
        let settings = &self.worker.settings;
        let policy = self.worker.tracer.policy.now();
        let described = Described { method: Some(&name), ..Described::default() };
        if settings.disabled || policy.spans.ignores(&described) {
            return;
        }
        let call = Call::of_message(name, self.message, self.met.version.map(Into::into));
        let call = Call { session: self.met.session_id, ..call };
        let meta = Some(&self.message.meta).filter(|_| settings.propagation.formats.tracecontext);
        let parent = self.parent(meta.and_then(headers::extract_meta).as_ref());
        let kind = if self.met.outbound { SpanKind::Server } else { SpanKind::Client };
        let facts = facts::Method(&call.method);
        let basis = Basis { policy: &policy, facts: &facts, now: Instant::now(), at: SystemTime::now() };
        let decided = decide(self.worker, parent.under(), kind, basis, |span| {
            attributes::of_call(span, &call);
            self.describe(span, &parent);
        });
        self.count(&parent);
        if let Some(span) = decided.span {
            let waiting = Waiting::new(span, basis.now, Awaited::Acknowledgement, policy.keep);
            // It is over as soon as it has passed.
            drop(Exchange::new(Arc::clone(self.worker), waiting, Side::default()));
        }
    }

    fn is_trusted(&self) -> bool {
        !self.met.outbound || self.worker.settings.propagation.trust_inbound
    }

    /// What the message names; else the request whose stream it came in. A
    /// context that a whole session inherits is no parent.
    fn parent(&self, claim: Option<&TraceContext>) -> Parent {
        let mut parent = Parent::default();
        if let Some(claim) = claim {
            let standing = self.worker.tracer.server_spans.standing(claim.parent.span_id);
            if !self.is_trusted() {
                parent.links.push((claim.parent, "untrusted"));
            } else if !self.met.outbound && standing == Some(Standing::Session) {
                parent.links.push((claim.parent, "session"));
            } else {
                parent.context = Some(claim.clone());
                parent.found = (!self.met.outbound).then_some(("propagated.meta", true));
                return parent;
            }
        }
        match self.met.owner {
            Some(owner) => {
                parent.context = Some(owner.context.clone());
                parent.found = Some((owner.method, owner.exact));
                if owner.full {
                    parent.beside = true;
                    parent.links.push((owner.context.parent, "full"));
                }
            }
            None if self.worker.tracer.server_spans.in_flight() > 0 => {
                parent.found = Some(("ambiguous", false))
            }
            None => parent.found = Some(("background", false)),
        }
        parent
    }

    fn describe(&self, span: &mut Span, parent: &Parent) {
        match self.met.network {
            Network::Http { client, server, version } => {
                attributes::of_protocol(span, version);
                if self.met.outbound {
                    span.set_str(key::CLIENT_ADDRESS, &server.host);
                    span.set_int(key::CLIENT_PORT, i64::from(server.port));
                } else {
                    span.set_str(key::SERVER_ADDRESS, &client.ip);
                    span.set_int(key::SERVER_PORT, i64::from(client.address.port()));
                }
            }
            Network::Pipe => span.set_static(key::NETWORK_TRANSPORT, "pipe"),
        }
        if let Some((method, exact)) = parent.found {
            span.set_static(key::MESHTRACE_PARENT_METHOD, method);
            span.set_bool(key::MESHTRACE_PARENT_EXACT, exact);
        }
        for (to, reason) in &parent.links {
            attributes::link(span, to, reason);
        }
    }

    fn injection(&self, decided: &Decided, claim: Option<&TraceContext>) -> Injection {
        let propagation = &self.worker.settings.propagation;
        let mut injection = Injection::nothing();
        injection.into_meta = propagation.write_meta;
        injection.drop_baggage = !self.is_trusted();
        if self.may_see_context() {
            injection.context = Context::Write(decided.outgoing.clone());
        } else if claim.is_some_and(|claim| self.worker.tracer.server_spans.knows(claim)) {
            injection.context = Context::Strip;
            injection.drop_baggage = true;
        }
        injection
    }

    /// Whether our context may go to whom the request goes.
    fn may_see_context(&self) -> bool {
        let (false, Network::Http { client, .. }) = (self.met.outbound, self.met.network) else {
            return true;
        };
        self.worker.settings.propagation.to.include(&client.ip, Some(client.address.ip()))
    }

    fn baggage(&self) -> Option<Baggage> {
        let formats = self.worker.settings.propagation.formats;
        let text = self.message.meta.baggage.as_ref().filter(|_| formats.baggage && self.is_trusted())?;
        Baggage::parse([text.decode().as_bytes()])
    }
}
