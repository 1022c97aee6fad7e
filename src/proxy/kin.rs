//! The hops next to ours on the way of an unsampled request: how its sidecars
//! learn of each other, and say in the head of the response what they know by then.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderName, HeaderValue};
use http::response;
use opentelemetry::trace::TraceId;

use super::connection::Connection;
use super::hop;
use super::worker::{Tracer, Worker};
use crate::net::dial;
use crate::trace::hop::{FIELD, Said, neighbour};
use crate::trace::sampler_config::Keep;

/// The field in which a sidecar answers the one of its caller.
const SAID: HeaderName = HeaderName::from_static(FIELD);

/// A request of a trace that is sent only if something of it is kept. The
/// trace counts as in flight for as long as this lives.
#[derive(Debug)]
pub struct Kin {
    tracer: Arc<Tracer>,
    trace: TraceId,
    side: Side,
}

/// What the hop does with the head of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing: the other end is no sidecar that asked for it.
    Silent,
    /// The sidecar of the caller, which takes notices there, is answered in it.
    Answers(Option<SocketAddr>),
    /// The sidecar of the server was asked and may have answered in it.
    Asked,
}

impl Kin {
    /// Has the trace known. `None` without room, and then the request is kept or dropped by itself.
    pub fn enter(tracer: &Arc<Tracer>, trace: TraceId, side: Side) -> Option<Self> {
        if !tracer.held.enter(trace) {
            return None;
        }
        let kin = Kin { tracer: Arc::clone(tracer), trace, side };
        if let Side::Answers(Some(caller)) = side {
            kin.meet(caller);
        }
        Some(kin)
    }

    /// The side of a request that came from `peer` with the port where its
    /// sidecar takes notices, if it came from one.
    pub fn of_caller(port: Option<u16>, peer: IpAddr) -> Side {
        match port {
            None => Side::Silent,
            Some(port) => Side::Answers(neighbour(SocketAddr::new(peer, port), peer, dial::is_private)),
        }
    }

    fn meet(&self, neighbour: SocketAddr) {
        if self.tracer.held.meet(self.trace, neighbour) {
            self.tracer.notices.tell(self.trace, [neighbour]);
        }
    }

    /// Says in the head of a response that leaves, or learns from one that has
    /// come from `peer`, what there is to know of the trace.
    pub fn response(
        &self,
        worker: &Worker,
        head: &mut response::Parts,
        keep: Option<Keep>,
        connection: &Connection,
        peer: IpAddr,
    ) {
        match self.side {
            Side::Silent => {}
            Side::Answers(caller) => self.answer(worker, head, keep, caller, connection.local),
            Side::Asked => self.learn(worker, head, peer),
        }
    }

    fn answer(
        &self,
        worker: &Worker,
        head: &mut response::Parts,
        keep: Option<Keep>,
        caller: Option<SocketAddr>,
        local: Option<IpAddr>,
    ) {
        let failed = head.status.is_client_error() || head.status.is_server_error();
        if failed && keep.is_some_and(|keep| keep.errors) {
            // The answer below is all the notice that the caller needs.
            worker.keep(self.trace, caller, Instant::now());
        }
        let port = self.tracer.notices.port();
        let at = local.filter(|_| port != 0).map(|ip| SocketAddr::new(ip.to_canonical(), port));
        let said = Said { at, kept: self.tracer.held.is_kept(self.trace) };
        hop::remove(&mut head.headers, &[SAID]);
        if said != Said::default()
            && let Ok(value) = HeaderValue::from_str(&said.encode())
        {
            head.headers.append(SAID, value);
        }
    }

    fn learn(&self, worker: &Worker, head: &mut response::Parts, peer: IpAddr) {
        let Some(said) = head.headers.get(SAID).map(|value| Said::parse(value.as_bytes())) else { return };
        hop::remove(&mut head.headers, &[SAID]);
        let Some(said) = said else { return };
        let server = said.at.and_then(|at| neighbour(at, peer, dial::is_private));
        if said.kept {
            worker.keep(self.trace, server, Instant::now());
        } else if let Some(server) = server {
            self.meet(server);
        }
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        self.tracer.held.leave(self.trace, Instant::now());
    }
}
