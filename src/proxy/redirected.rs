//! A connection that the kernel redirected: finds out where it was meant to
//! go, connects there at once, and serves it if it turns out to be HTTP. All
//! else is passed on unread.
//!
//! Whatever happens to the one side happens to the other: what is refused or
//! breaks off there breaks off here, as it would have without us.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::connection::{self, until_drained};
use super::route::Route;
use super::settings::{Authority, Redirected, Target};
use super::unopened::Unopened;
use super::upstream::Reached;
use super::worker::Worker;
use crate::net::detect::Carries;
use crate::net::detect::first::{self, Found};
use crate::net::io::{Signals, Stream};
use crate::net::registry::Watched;
use crate::net::tunnel::Meter;
use crate::net::{dial, original_dst, tunnel};

/// What the connections of one redirected listener share, over all workers.
#[derive(Debug)]
pub struct Redirection {
    /// Whether they come from the pod's own application.
    outbound: bool,
    ports: Redirected,
    /// Our own ends of connections to where outbound ones were meant to go:
    /// who comes from one of these is ourselves.
    own: Mutex<HashSet<SocketAddr>>,
    said_direct: AtomicBool,
    said_loop: AtomicBool,
}

/// Why a redirected connection is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It was not redirected: somebody connected to our port.
    Direct,
    /// It would come back to us, or has just come from us.
    Loop,
    /// Where it was meant to go, nobody took it.
    Unreached,
}

impl Refusal {
    /// The label of the counter.
    fn reason(self) -> &'static str {
        match self {
            Refusal::Direct => "not_redirected",
            Refusal::Loop => "loop",
            Refusal::Unreached => "unreached",
        }
    }
}

impl Redirection {
    /// For the listener of this direction.
    pub fn new(outbound: bool, ports: Redirected) -> Self {
        Redirection {
            outbound,
            ports,
            own: Mutex::default(),
            said_direct: AtomicBool::new(false),
            said_loop: AtomicBool::new(false),
        }
    }

    /// Whether connections come from the pod's own application.
    pub fn is_outbound(&self) -> bool {
        self.outbound
    }

    /// Where a connection was meant to go.
    fn target(&self, tcp: &TcpStream, downstream: SocketAddr) -> Result<SocketAddr, Refusal> {
        if self.is_own(downstream) {
            return Err(Refusal::Loop);
        }
        let target = original_dst::of(tcp, downstream).ok_or(Refusal::Direct)?;
        // Inbound everything is for an address of this pod; outbound another
        // pod may have a server at a port of ours.
        let ours = [self.ports.inbound, self.ports.outbound].contains(&target.port());
        if ours && (!self.outbound || target.ip().to_canonical().is_loopback()) {
            return Err(Refusal::Direct);
        }
        Ok(target)
    }

    fn is_opaque(&self, port: u16) -> bool {
        self.ports.opaque_ports.iter().any(|ports| ports.contains(&port))
    }

    fn is_own(&self, downstream: SocketAddr) -> bool {
        self.outbound && self.own().contains(&plain(downstream))
    }

    fn own(&self) -> parking_lot::MutexGuard<'_, HashSet<SocketAddr>> {
        self.own.lock()
    }

    /// Says what is wrong, once: a port scan must not fill the log.
    fn say(&self, refusal: Refusal, downstream: SocketAddr) {
        let first = |said: &AtomicBool| !said.swap(true, Ordering::Relaxed);
        match refusal {
            Refusal::Loop if first(&self.said_loop) => tracing::error!(
                "a connection of the sidecar was redirected to itself: it has to run as the user that the rules \
                 spare (meshtrace capture install --uid); it was closed, and others will be"
            ),
            Refusal::Direct if first(&self.said_direct) => tracing::warn!(
                %downstream,
                port = if self.outbound { self.ports.outbound } else { self.ports.inbound },
                "refused a connection to a port for redirected ones that was not redirected; further ones are only \
                 counted"
            ),
            _ => {}
        }
    }
}

/// Our own end of an outbound connection, known as such while it lives.
struct Own<'a>(&'a Redirection, SocketAddr);

impl<'a> Own<'a> {
    fn new(redirection: &'a Redirection, local: SocketAddr) -> Self {
        redirection.own().insert(plain(local));
        Own(redirection, plain(local))
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.0.own().remove(&self.1);
    }
}

/// The same address however a dual-stack socket writes it.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Serves a redirected connection until it ends.
pub async fn serve(
    tcp: TcpStream,
    downstream: SocketAddr,
    redirection: Arc<Redirection>,
    worker: Arc<Worker>,
    watched: Arc<Watched>,
) {
    let reached = match redirection.target(&tcp, downstream) {
        Ok(target) => until_drained(reach(&redirection, target, downstream, &worker), &watched).await,
        Err(refusal) => Some(Err(refusal)),
    };
    let (server, target, local) = match reached {
        Some(Ok(reached)) => reached,
        Some(Err(refusal)) => {
            worker.metrics.proxy.redirected_refused(refusal.reason());
            redirection.say(refusal, downstream);
            return reset(&tcp);
        }
        None => return,
    };
    let _own = redirection.outbound.then(|| Own::new(&redirection, local));
    // By now our own end is known of every connection that this may be the other end of.
    if redirection.is_own(downstream) {
        worker.metrics.proxy.redirected_refused(Refusal::Loop.reason());
        redirection.say(Refusal::Loop, downstream);
        return reset(&tcp);
    }
    let tells_tls = worker.tracer.policy.now().spans.tls && !worker.settings.disabled;
    let found = if redirection.is_opaque(target.port()) {
        Ok(Found::nothing())
    } else {
        match until_drained(first::between(&tcp, &server, tells_tls), &watched).await {
            Some(found) => found,
            None => return,
        }
    };
    match found {
        Ok(Found { carries: Carries::Http(protocol), from_client, from_server }) => {
            let stream = Stream::new(tcp, from_client, Arc::clone(&watched.signals));
            let route = Route::Original(Arc::new(plain_target(target)), redirection.outbound);
            let reached = Reached {
                transport: server.into(),
                prefix: from_server,
                peer: target,
                local: Some(local.ip()),
            };
            connection::serve_http(
                stream,
                (downstream, (!redirection.outbound).then(|| target.ip())),
                Arc::new(route),
                worker,
                watched,
                (protocol, Some(reached)),
            )
            .await;
        }
        Ok(found) => {
            let ends = (downstream, target);
            let mut unopened = (tells_tls && found.carries == Carries::Tls)
                .then(|| Unopened::begin(&worker, redirection.outbound, ends, &found.from_client));
            splice(tcp, server, found, &watched.signals, &mut unopened).await;
        }
        Err(_) => {
            reset(&tcp);
            reset(&server);
        }
    }
}

type Connected = (TcpStream, SocketAddr, SocketAddr);

/// Connects to where the connection was meant to go: for as long as the kernel
/// tries, which is what the client would have had.
async fn reach(
    redirection: &Redirection,
    target: SocketAddr,
    downstream: SocketAddr,
    worker: &Worker,
) -> Result<Connected, Refusal> {
    let target = plain(target);
    let connected = dial::connect_to(target).await;
    let (tcp, _) = connected.map_err(|error| {
        tracing::debug!(%downstream, %target, %error, "redirected connection not passed on");
        Refusal::Unreached
    })?;
    let local = tcp.local_addr().map_err(|_| Refusal::Unreached)?;
    if redirection.outbound && worker.settings.is_ours(target, Some(local.ip())) {
        return Err(Refusal::Loop);
    }
    Ok((tcp, target, local))
}

/// Copies what is not ours to read, to its end.
async fn splice(
    client: TcpStream,
    server: TcpStream,
    found: Found,
    signals: &Arc<Signals>,
    unopened: &mut Option<Unopened>,
) {
    let server_signals = Arc::<Signals>::default();
    let mut client = Stream::new(client, found.from_client, Arc::clone(signals));
    let mut server = Stream::new(server, found.from_server, Arc::clone(&server_signals));
    let unread = Meter::default();
    let meter = unopened.as_ref().map_or(&unread, |unopened| &unopened.meter);
    if tunnel::copy(&mut client, &mut server, meter).await.is_err() {
        if let Some(unopened) = unopened {
            unopened.broke_off();
        }
        signals.reset_on_close();
        server_signals.reset_on_close();
    }
}

/// Makes the socket end in a reset.
fn reset(tcp: &TcpStream) {
    // A socket that closed meanwhile needs none.
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

fn plain_target(address: SocketAddr) -> Target {
    let server = Authority { host: address.ip().to_string(), port: address.port() };
    Target { server, secure: false }
}
