//! The one span of a redirected TLS connection, which passes unopened: whom
//! it was for, how much passed, how long it took. It is a trace of its own,
//! because nothing in it can be read that would say what it belongs to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::SpanKind;

use super::begin::{self, Basis, Under};
use super::worker::Worker;
use crate::net::detect::tls;
use crate::net::tunnel::Meter;
use crate::trace::links;
use crate::trace::rules::{Facts, Field};
use crate::trace::sampler_config::Keep;
use crate::trace::semconv as key;
use crate::trace::span::Span;

/// A connection with its span, which ends when this is dropped.
pub(super) struct Unopened {
    worker: Arc<Worker>,
    /// `None` where the trace is not recorded.
    span: Option<Box<Span>>,
    started: Instant,
    keep: Option<Keep>,
    broken: bool,
    /// What passes.
    pub(super) meter: Meter,
}

/// What the sampling rules can look at.
struct Known {
    host: String,
    peer: String,
}

impl Facts for Known {
    fn any(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        match field {
            Field::Host => test(&self.host),
            Field::Peer => test(&self.peer),
            _ => false,
        }
    }
}

impl Unopened {
    /// Begins the span. `hello` is what the client said first; `outbound`
    /// says which end of the connection is the pod's own.
    pub(super) fn begin(
        worker: &Arc<Worker>,
        outbound: bool,
        (downstream, target): (SocketAddr, SocketAddr),
        hello: &[u8],
    ) -> Self {
        let kind = if outbound { SpanKind::Client } else { SpanKind::Server };
        let peer = if outbound { target } else { downstream };
        let named = tls::server_name(hello);
        let known = Known {
            host: named.unwrap_or_else(|| target.ip().to_canonical().to_string()),
            peer: peer.ip().to_canonical().to_string(),
        };
        let started = Instant::now();
        let policy = worker.tracer.policy.now();
        let basis = Basis { policy: &policy, facts: &known, now: started, at: SystemTime::now() };
        let tracer = &worker.tracer;
        let method = outbound.then(|| links::of_connection(&tracer.server_spans));
        if let Some(method) = method {
            worker.metrics.proxy.parent(method.index());
            tracer.tally.count(&known.host, target.port(), method);
        }
        let decided = begin::decide(worker, Under::default(), kind, basis, |span| {
            span.set_name_static("TLS");
            if let Some(method) = method {
                span.set_static(key::MESHTRACE_PARENT_METHOD, method.as_str());
                span.set_bool(key::MESHTRACE_PARENT_EXACT, false);
            }
            span.set_static(key::NETWORK_TRANSPORT, "tcp");
            span.set_static(key::NETWORK_PROTOCOL_NAME, "tls");
            span.set_str(key::SERVER_ADDRESS, &known.host);
            span.set_int(key::SERVER_PORT, i64::from(target.port()));
            span.set_str(key::NETWORK_PEER_ADDRESS, &known.peer);
            span.set_int(key::NETWORK_PEER_PORT, i64::from(peer.port()));
        });
        Unopened {
            worker: Arc::clone(worker),
            span: decided.span,
            started,
            keep: policy.keep,
            broken: false,
            meter: Meter::default(),
        }
    }

    /// Says that the connection broke off.
    pub(super) fn broke_off(&mut self) {
        self.broken = true;
        if let Some(span) = &mut self.span {
            span.error("connection_reset", "the connection broke off");
        }
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        let passed = self.meter.passed();
        span.set_int(key::MESHTRACE_TUNNEL_SENT, passed.sent.try_into().unwrap_or(i64::MAX));
        span.set_int(key::MESHTRACE_TUNNEL_RECEIVED, passed.received.try_into().unwrap_or(i64::MAX));
        let took = self.started.elapsed();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        span.end_unix_nanos = span.start_unix_nanos.saturating_add(nanos);
        if span.flags.is_sampled() {
            return self.worker.record(span);
        }
        // How long a connection is open says nothing of how it fared.
        match self.keep.and_then(|keep| keep.reason(self.broken, Duration::ZERO)) {
            Some(reason) => {
                span.set_static(key::MESHTRACE_SAMPLING_REASON, reason);
                self.worker.record(span);
            }
            None => self.worker.spans.give(span),
        }
    }
}
