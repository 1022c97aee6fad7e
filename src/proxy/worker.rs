//! What the connections of one worker share: settings, the tracer, the
//! recorder that finished spans go to, and the registry of connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::trace::TraceId;
use parking_lot::Mutex;

use tokio::net::TcpStream;

use super::access_log::AccessLog;
use super::budget::Budget;
use super::exchange::Forgotten;
use super::held::{HeldSpans, Kept};
use super::notices::Notices;
use super::peers::Peers;
use super::policy::InForce;
use super::settings::{Authority, Limits, Originate, Propagation};
use crate::export::queue::Recorder;
use crate::metrics::Metrics;
use crate::metrics::operations::Lane;
use crate::net::dial::{self, DialError};
use crate::net::registry::Registry;
use crate::net::resolve::Resolver;
use crate::net::tls::Connector;
use crate::trace::ids::Ids;
use crate::trace::links::{Inference, Known};
use crate::trace::places::{Background, Stuck};
use crate::trace::semconv as key;
use crate::trace::server_spans::ServerSpans;
use crate::trace::span::{Span, SpanLimits};
use crate::trace::tally::Tally;

/// What a worker needs to serve connections.
#[derive(Debug)]
pub struct Worker {
    /// How requests are to be treated; the same for all workers.
    pub settings: Arc<Settings>,
    /// Who decides and remembers; the same for all workers.
    pub tracer: Arc<Tracer>,
    /// Where the spans of this worker go when they end.
    pub recorder: Recorder,
    /// The open connections of this worker.
    pub registry: Arc<Registry>,
    /// Who looks names up; the same for all workers.
    pub resolver: Resolver,
    /// How TLS is spoken to servers, where any is; the same for all workers.
    pub connector: Option<Arc<Connector>>,
    /// What held bodies may take; the same for all workers.
    pub held: Arc<Budget>,
    /// Counters.
    pub metrics: Metrics,
    /// Where a line for each request goes, if anywhere.
    pub access_log: Option<AccessLog>,
    /// What each operation of this worker counts in.
    pub operations: Lane,
    /// Storage of spans that ended, to be used again.
    pub spans: SpanPool,
}

/// Spans that have ended, kept because filling a used one allocates nothing.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a span goes in and out in its box, without being copied")]
pub struct SpanPool(Mutex<Vec<Box<Span>>>);

/// How many spans are kept for use again; more are in flight only under load.
const POOLED: usize = 64;

impl SpanPool {
    /// An empty span.
    pub fn take(&self, limits: SpanLimits) -> Box<Span> {
        self.0.lock().pop().unwrap_or_else(|| Box::new(Span::with_room(limits)))
    }

    /// Takes a span back. It has to have been made with the same limits.
    pub fn give(&self, mut span: Box<Span>) {
        span.clear();
        let mut spans = self.0.lock();
        if spans.len() < POOLED {
            spans.push(span);
        }
    }
}

impl Worker {
    /// Connects to a server within `connect_timeout`.
    ///
    /// # Errors
    /// Which step failed.
    pub async fn dial(&self, server: &Authority) -> Result<(TcpStream, SocketAddr), DialError> {
        let limit = self.limits().connect_timeout;
        let dialled = dial::dial(&self.resolver, &server.host, server.port, limit).await;
        if let Err(DialError::Lookups) = dialled {
            self.metrics.proxy.lookups_full.inc();
        }
        dialled
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Ends what waits for other connections, because the sidecar stops.
    pub fn forget_peers(&self) {
        for exchange in self.tracer.peers.drain() {
            exchange.lock().forgotten(Forgotten::Stopping);
        }
    }

    /// Sends a span that ended.
    pub fn record(&self, span: Box<Span>) {
        self.recorder.end(&span);
        self.spans.give(span);
    }

    /// Holds a span that was not sampled, or sends it where its trace is kept.
    pub fn hold(&self, mut span: Box<Span>, now: Instant) {
        // Why it is sent, if it is: another one of its trace is kept.
        span.set_static(key::MESHTRACE_SAMPLING_REASON, "trace");
        if self.tracer.held.hold(&span, now) {
            self.recorder.end(&span);
        }
        self.spans.give(span);
    }

    /// Sends what is held of a trace, and what still comes of it, and has the
    /// sidecars around told, but for the one that is `aware` of it.
    pub fn keep(&self, trace: TraceId, aware: Option<SocketAddr>, now: Instant) {
        let Kept { spans, tell } = self.tracer.held.keep(trace, aware, now);
        self.tracer.notices.tell(trace, tell);
        spans.iter().for_each(|span| self.recorder.end_encoded(&span.bytes, span.cut));
    }

    /// Forgets what is too old of what is remembered of peers, and counts
    /// the rest. One worker does it for all, about once a second.
    pub fn look_after_peers(&self, now: Instant) {
        for exchange in self.tracer.peers.expire(now) {
            exchange.lock().forgotten(Forgotten::Overdue);
        }
        self.tracer.peers.count(&self.metrics.peers);
        self.tracer.held.expire(now);
        let seconds = now.saturating_duration_since(self.tracer.began).as_secs();
        self.metrics.operations.tick(u32::try_from(seconds).unwrap_or(u32::MAX));
    }
}

/// How requests are treated.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// How context travels.
    pub propagation: Propagation,
    /// The bounds within a span.
    pub span_limits: SpanLimits,
    /// No spans at all, as `OTEL_SDK_DISABLED` asks; context still passes.
    pub disabled: bool,
    /// Which hosts are spoken to in TLS although the application does not.
    pub originate: Vec<Originate>,
    /// The addresses that this proxy listens on, to recognise a loop.
    pub listening: Vec<SocketAddr>,
}

impl Settings {
    /// Whether an address that was reached is this proxy itself. `local` is
    /// our own end of that connection: to reach oneself, both are the same host.
    pub fn is_ours(&self, peer: SocketAddr, local: Option<IpAddr>) -> bool {
        self.listening.iter().any(|listen| {
            listen.port() == peer.port()
                && (listen.ip() == peer.ip()
                    || (listen.ip().is_unspecified()
                        && (peer.ip().is_loopback() || Some(peer.ip()) == local)))
        })
    }
}

/// Decides about spans and remembers them.
#[derive(Debug)]
pub struct Tracer {
    /// When the process began to serve.
    pub began: Instant,
    /// What decides about requests that begin now.
    pub policy: InForce,
    /// Fresh ids.
    pub ids: Ids,
    /// The requests that outbound calls may have as parent.
    pub server_spans: ServerSpans,
    /// Destinations that are called when nothing is in flight.
    pub background: Background,
    /// Outbound sessions whose context is not fresh.
    pub stuck: Stuck,
    /// What is remembered of peers between their requests.
    pub peers: Peers,
    /// Where the calls go whose parent is not proved.
    pub tally: Tally,
    /// Spans that go out only if another one of their trace does.
    pub held: HeldSpans,
    /// Who tells other sidecars of traces that are kept.
    pub notices: Notices,
}

impl Tracer {
    /// What the rules that find a parent know, besides the call.
    pub fn known(&self, inference: Inference) -> Known<'_> {
        Known { spans: &self.server_spans, background: &self.background, stuck: &self.stuck, inference }
    }
}
