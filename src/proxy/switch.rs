//! Connections that stop being HTTP: `CONNECT` to a forward proxy, and
//! upgrades that the upstream agreed to. From there on bytes are copied.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Response, StatusCode, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::begin::{self, Met};
use super::body::{RequestBody, ResponseBody};
use super::connection::Connection;
use super::error::ProxyError;
use super::exchange::Held;
use super::flow::refuse;
use super::headers::Survey;
use super::hop::Asked;
use super::read::{Read, Unread};
use super::settings::Target;
use super::upstream::Upstream;
use crate::net::io;
use crate::net::tunnel::{self, Meter};

/// Whether this response turns the connection into something else.
pub fn switches<B>(response: &Response<B>, asked: Asked) -> bool {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => asked.upgrade,
        status => asked.connect && status.is_success(),
    }
}

/// Copies between two upgraded connections until both are done.
pub fn join(
    downstream: OnUpgrade,
    mut upstream: OnUpgrade,
    driven: Arc<Upstream>,
    connection: Arc<Connection>,
) {
    tokio::spawn(async move {
        // The task that drove the upstream connection may have ended by now.
        let upstream = poll_fn(|cx| {
            driven.drive(cx);
            Pin::new(&mut upstream).poll(cx)
        });
        let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) else { return };
        connection.watched.signals.stop_spelling();
        let mut downstream = TokioIo::new(downstream);
        let mut upstream = TokioIo::new(upstream);
        let result = tunnel::copy(&mut downstream, &mut upstream, &Meter::default()).await;
        if result.is_err() {
            connection.torn();
            driven.reset_on_close();
        }
    });
}

/// Carries out a `CONNECT`: dials, answers 200, copies. The bytes inside are
/// not ours, so the one span of the tunnel says where it went and how much
/// passed.
pub async fn connect(
    mut head: request::Parts,
    body: Incoming,
    target: Arc<Target>,
    connection: Arc<Connection>,
    started: (Instant, SystemTime),
) -> Response<ResponseBody> {
    let dialled = connection.worker.dial(&target.server).await;
    let met = Met {
        outbound: true,
        downstream: &connection.downstream,
        target: &target.server,
        claimed: false,
        secure: false,
        survey: Survey::of(&head.headers),
        upstream: dialled.as_ref().ok().map(|(_, peer)| *peer),
        local: None,
        started: started.0,
        started_at: started.1,
    };
    let read = Read::Unread(RequestBody::stream(body), Unread::NotJson);
    let exchange = begin::begin(&connection.worker, met, &mut head, read).exchange;
    let result = match dialled {
        Ok((tcp, peer)) if connection.worker.settings.is_ours(peer, local_ip(&tcp)) => {
            Err(ProxyError::Loop(target.to_string()))
        }
        Ok((tcp, _)) => Ok(tcp),
        Err(error) => Err(ProxyError::Dial(target.to_string(), error)),
    };
    match result {
        Ok(tcp) => {
            let downstream = hyper::upgrade::on(http::Request::from_parts(head, ()));
            tokio::spawn(carry(downstream, tcp, exchange, connection));
            Response::new(ResponseBody::local(bytes::Bytes::new()))
        }
        Err(error) => {
            let context = exchange.and_then(|mut exchange| exchange.with(|exchange| exchange.failed(&error)));
            refuse(&connection, &error, context)
        }
    }
}

async fn carry(downstream: OnUpgrade, tcp: TcpStream, exchange: Option<Held>, connection: Arc<Connection>) {
    let mut tunnel = Tunnel { exchange, meter: Meter::default() };
    let Ok(downstream) = downstream.await else {
        return tunnel.closed(Some("the client left before the tunnel was open"));
    };
    connection.watched.signals.stop_spelling();
    let mut downstream = TokioIo::new(downstream);
    let signals = Arc::<io::Signals>::default();
    let mut upstream = io::Stream::new(tcp, bytes::Bytes::new(), Arc::clone(&signals));
    let result = tunnel::copy(&mut downstream, &mut upstream, &tunnel.meter).await;
    if result.is_err() {
        connection.torn();
        signals.reset_on_close();
    }
    tunnel.closed(result.is_err().then_some("the tunnel broke off"));
}

/// The one span of a tunnel and what has passed through it.
struct Tunnel {
    exchange: Option<Held>,
    meter: Meter,
}

impl Tunnel {
    fn closed(&mut self, broken: Option<&'static str>) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.with(|exchange| exchange.tunnel_closed(self.meter.passed(), broken));
        }
    }
}

impl Drop for Tunnel {
    /// It is dropped with its span only when the process stops.
    fn drop(&mut self) {
        self.closed(Some("the tunnel was cut off when the proxy stopped"));
    }
}

fn local_ip(tcp: &TcpStream) -> Option<std::net::IpAddr> {
    tcp.local_addr().ok().map(|address| address.ip())
}
