//! The sockets: bound first, so that nothing runs where one cannot be had.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use super::StartError;
use super::tls::Tls;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::net::listen;
use crate::proxy::accept::Door;
use crate::proxy::notices::{self, Notices};
use crate::proxy::redirected::Redirection;
use crate::proxy::route::Route;
use crate::proxy::settings::Redirected;

/// The sockets of a sidecar, before anybody serves on them.
pub(super) struct Bound {
    listeners: Vec<(Door, Vec<TcpListener>)>,
    /// That of the admin port.
    pub(super) admin: Option<TcpListener>,
    /// Where other sidecars say that a trace is kept: beside the admin port.
    notices: Option<UdpSocket>,
}

/// Binds every listener of the configuration.
pub(super) fn bind(config: &Config, tls: &Tls) -> Result<Bound, StartError> {
    let count = config.workers;
    let mut listeners = Vec::new();
    for inbound in &config.inbound {
        let sockets = bind_one("--inbound", inbound.listen, count)?;
        let at = sockets.first().and_then(|s| s.local_addr().ok()).unwrap_or(inbound.listen);
        if inbound.app.ip().is_some_and(|ip| {
            at.port() == inbound.app.port && (at.ip() == ip || (at.ip().is_unspecified() && ip.is_loopback()))
        }) {
            return Err(StartError::Loop(at));
        }
        listeners.push((Door::Explicit(Arc::new(Route::inbound(inbound, tls.acceptor.as_ref()))), sockets));
    }
    for outbound in &config.outbound {
        let sockets = bind_one("--outbound", outbound.listen, count)?;
        listeners.push((Door::Explicit(Arc::new(Route::outbound(outbound))), sockets));
    }
    if let Some(redirected) = &config.redirected {
        listeners.extend(bind_redirected(redirected, count)?);
    }
    let admin = match config.admin {
        Some(address) => bind_one("--admin", address, 1)?.pop(),
        None => None,
    };
    let packets = |address| {
        listen::bind_packets(address).map_err(|error| StartError::Bind { flag: "--admin", address, error })
    };
    let notices = config.admin.map(packets).transpose()?;
    Ok(Bound { listeners, admin, notices })
}

/// The listeners for redirected connections; where the machine has no IPv6,
/// those for IPv4 suffice.
fn bind_redirected(ports: &Redirected, count: usize) -> Result<Vec<(Door, Vec<TcpListener>)>, StartError> {
    let door = |outbound| Door::Redirected(Arc::new(Redirection::new(outbound, ports.clone())));
    let [inbound, outbound_v4, outbound_v6] = ports.addresses();
    let (from_outside, from_inside) = (door(false), door(true));
    let mut listeners = vec![
        (from_outside, bind_one("--redirected-inbound", inbound, count)?),
        (from_inside.clone(), bind_one("--redirected-outbound", outbound_v4, count)?),
    ];
    match bind_one("--redirected-outbound", outbound_v6, count) {
        Ok(sockets) => listeners.push((from_inside, sockets)),
        Err(StartError::Bind { error, .. }) if listen::is_absent(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn bind_one(flag: &'static str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, StartError> {
    listen::bind_dual(address, count).map_err(|error| StartError::Bind { flag, address, error })
}

impl Bound {
    /// Where the listeners behind these doors are.
    pub(super) fn addresses(&self, wanted: impl Fn(&Door) -> bool) -> Vec<SocketAddr> {
        let wanted = self.listeners.iter().filter(|(door, _)| wanted(door));
        wanted.filter_map(|(_, sockets)| sockets.first()?.local_addr().ok()).collect()
    }

    /// The way of notices out, and what it needs in order to lead anywhere.
    pub(super) fn notices(&mut self, metrics: &Metrics) -> (Notices, Option<(UdpSocket, notices::Waiting)>) {
        let at = self.notices.take().and_then(|socket| Some((socket.local_addr().ok()?.port(), socket)));
        let Some((port, socket)) = at else { return (Notices::none(), None) };
        let (notices, waiting) = Notices::at(port, metrics.notices.clone());
        (notices, Some((socket, waiting)))
    }

    /// Each worker has a socket of its own for each listener.
    pub(super) fn of_worker(&self, index: usize) -> Result<Vec<(Door, TcpListener)>, StartError> {
        let sockets = self.listeners.iter().filter_map(|(door, sockets)| Some((door, sockets.get(index)?)));
        let cloned = sockets.map(|(door, socket)| Ok((door.clone(), socket.try_clone()?)));
        cloned.collect::<io::Result<_>>().map_err(StartError::Thread)
    }
}
