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
use crate::trace::hop::{FIELD, Listens, Said, neighbour};
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

    /// The side of a request that came from `peer` with word of where its
    /// sidecar takes notices, if it came from one; this sidecar takes them at the port `ours`.
    ///
    /// Anybody can say any address. One that is not the peer's is believed with
    /// the port of sidecars alone, so that nobody else is ever sent a packet there.
    pub fn of_caller(listens: Option<Listens>, peer: IpAddr, ours: u16) -> Side {
        let Some(Listens { port, address }) = listens else { return Side::Silent };
        let at = |ip| neighbour(SocketAddr::new(ip, port), peer, dial::is_private);
        let said = address.filter(|_| port == ours).and_then(at);
        Side::Answers(said.or_else(|| at(peer)))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The address of a caller that says another one than it comes from, which no peer can prove.
    #[test]
    fn what_a_caller_says_of_itself_is_believed_of_sidecars_only() {
        let cases = [
            // Behind address translation, and behind the proxy of a mesh in the pod.
            ("10.0.0.7", 14020, "10.0.0.1", "10.0.0.7:14020"),
            ("10.0.0.7", 14020, "127.0.0.6", "10.0.0.7:14020"),
            ("fd00::7", 14020, "fd00::1", "[fd00::7]:14020"),
            ("::ffff:10.0.0.7", 14020, "10.0.0.1", "10.0.0.7:14020"),
            ("10.0.0.7", 14020, "10.0.0.7", "10.0.0.7:14020"),
            // Another port is one of the peer's.
            ("10.0.0.7", 8125, "10.0.0.1", "10.0.0.1:8125"),
            // Not in the network, or on this machine.
            ("8.8.8.8", 14020, "10.0.0.1", "10.0.0.1:14020"),
            ("255.255.255.255", 14020, "10.0.0.1", "10.0.0.1:14020"),
            ("224.0.0.1", 14020, "10.0.0.1", "10.0.0.1:14020"),
            ("ff02::1", 14020, "10.0.0.1", "10.0.0.1:14020"),
            ("127.0.0.1", 14020, "10.0.0.1", "10.0.0.1:14020"),
            ("::1", 14020, "10.0.0.1", "10.0.0.1:14020"),
        ];
        for (address, port, peer, expect) in cases {
            let listens = Listens { port, address: address.parse().ok() };
            let side = Kin::of_caller(Some(listens), peer.parse().unwrap(), 14020);
            assert_eq!(side, Side::Answers(expect.parse().ok()), "{address} {port} of {peer}");
        }
        let nowhere = |address: &str, port, peer: &str, ours| {
            let listens = Listens { port, address: address.parse().ok() };
            let side = Kin::of_caller(Some(listens), peer.parse().unwrap(), ours);
            assert_eq!(side, Side::Answers(None), "{address} {port} of {peer}");
        };
        nowhere("10.0.0.7", 14020, "8.8.8.8", 14020);
        nowhere("10.0.0.7", 0, "10.0.0.1", 0);
        nowhere("10.0.0.7", 0, "10.0.0.1", 14020);
        let plain = Listens { port: 14020, address: None };
        let side = Kin::of_caller(Some(plain), "10.0.0.1".parse().unwrap(), 14020);
        assert_eq!(side, Side::Answers("10.0.0.1:14020".parse().ok()));
        assert_eq!(Kin::of_caller(None, "10.0.0.1".parse().unwrap(), 14020), Side::Silent);
    }
}
