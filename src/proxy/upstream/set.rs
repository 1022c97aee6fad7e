//! The upstream connections that belong to one downstream connection: found,
//! opened, driven while nobody uses them, and forgotten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;

use bytes::Bytes;
use http::Version;
use parking_lot::Mutex;

use super::{Guard, Handle, Reached, Upstream};
use crate::net::dial::DialError;
use crate::net::io::Transport;
use crate::net::registry::Watched;
use crate::net::tls::{Alpn, HandshakeError};
use crate::proxy::settings::Target;
use crate::proxy::worker::Worker;

/// How many targets one downstream connection keeps connections to. A forward
/// proxy client that visits more loses the one that it used first.
const MAX_TARGETS: usize = 8;

/// The upstream connections of one downstream connection.
#[derive(Debug)]
pub struct Upstreams {
    open: Mutex<Vec<Arc<Upstream>>>,
    /// Held while an HTTP/2 connection is opened: streams that begin together
    /// wait for the one that they will share.
    opening: tokio::sync::Mutex<()>,
    finds_loops: bool,
    /// A connection to the one target there is, from before the first request.
    reached: Mutex<Option<Reached>>,
    /// The downstream connection, which is woken when an HTTP/2 one ends.
    downstream: Arc<Watched>,
}

impl Upstreams {
    /// None yet, for this downstream connection. `finds_loops` says whether
    /// our own address matters in any case, which costs a question to the kernel, and
    /// `reached` is the first connection where it is there already.
    pub fn new(downstream: &Arc<Watched>, finds_loops: bool, reached: Option<Reached>) -> Self {
        Upstreams {
            finds_loops,
            reached: Mutex::new(reached),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            downstream: Arc::clone(downstream),
        }
    }

    /// The connection to a target, opened if there is none that lives.
    pub async fn get(
        &self,
        target: &Arc<Target>,
        version: Version,
        worker: &Worker,
    ) -> Result<(Arc<Upstream>, Guard), DialError> {
        let upstream = match self.find(target, version) {
            Some(upstream) => upstream,
            None => self.open(target, version, worker).await?,
        };
        upstream.busy.store(true, Ordering::Relaxed);
        let guard = Guard(Arc::clone(&upstream));
        Ok((upstream, guard))
    }

    async fn open(
        &self,
        target: &Arc<Target>,
        version: Version,
        worker: &Worker,
    ) -> Result<Arc<Upstream>, DialError> {
        let limits = worker.limits();
        let shared = version == Version::HTTP_2;
        let by = tokio::time::Instant::now() + limits.connect_timeout;
        // Where the host is silent, each would otherwise wait for all before it.
        let turn = async { if shared { Some(self.opening.lock().await) } else { None } };
        let turn = tokio::time::timeout_at(by, turn).await;
        let _turn = turn.map_err(|_| DialError::Timeout(limits.connect_timeout))?;
        if shared && let Some(upstream) = self.find(target, version) {
            return Ok(upstream);
        }
        let ready = self.reached.lock().take();
        let reached = match ready {
            Some(reached) => reached,
            None => self.reach(target, version, worker, by).await?,
        };
        let target = Arc::clone(target);
        let upstream = Upstream::open(target, reached, version, limits, &self.downstream).await?;
        let upstream = Arc::new(upstream);
        self.add(Arc::clone(&upstream));
        Ok(upstream)
    }

    async fn reach(
        &self,
        target: &Target,
        version: Version,
        worker: &Worker,
        by: tokio::time::Instant,
    ) -> Result<Reached, DialError> {
        let (tcp, peer) = worker.dial(&target.server).await?;
        // With `keep` it is where servers can tell us what became of a trace.
        let asked = self.finds_loops || worker.tracer.policy.now().keep.is_some();
        let local = if asked { tcp.local_addr().ok() } else { None };
        let mut transport = Transport::Tcp(tcp);
        if target.secure {
            // In a box, because it would make every exchange larger.
            let secured = Box::pin(secured(transport, target, version, worker));
            let secured = tokio::time::timeout_at(by, secured).await;
            transport = secured.map_err(|_| DialError::Timeout(worker.limits().connect_timeout))??;
        }
        Ok(Reached { transport, prefix: Bytes::new(), peer, local: local.map(|address| address.ip()) })
    }

    /// Lets go of a connection, so that the next exchange gets another.
    pub fn forget(&self, upstream: &Arc<Upstream>) {
        self.open.lock().retain(|one| !Arc::ptr_eq(one, upstream));
    }

    /// Whether a connection has ended and nobody has asked for it since.
    pub fn any_closed(&self) -> bool {
        self.open.lock().iter().any(|upstream| !upstream.is_open())
    }

    /// Drives the connections that no exchange drives, so that a close by the
    /// server is noticed. Says whether one closed.
    pub fn drive_idle(&self, cx: &mut Context<'_>) -> bool {
        let mut open = self.open.lock();
        let before = open.len();
        open.retain(|upstream| {
            upstream.busy.load(Ordering::Relaxed) || {
                upstream.drive(cx);
                upstream.is_open()
            }
        });
        open.len() < before
    }

    /// Whether something happened to a connection that was not driven since.
    pub fn any_waiting(&self) -> bool {
        self.open.lock().iter().any(|upstream| upstream.is_waiting())
    }

    /// Drives the connections on which something happened that the exchange
    /// did not look at: its client reads nothing now, but may still send.
    /// Says whether there were any.
    pub fn drive_waiting(&self, cx: &mut Context<'_>) -> bool {
        let mut driven = false;
        for upstream in &*self.open.lock() {
            if upstream.is_waiting() {
                upstream.drive(cx);
                driven = true;
            }
        }
        driven
    }

    /// Whether some HTTP/1 connection lives and cannot take a request now.
    pub fn any_sending(&self) -> bool {
        let sending = |upstream: &Arc<Upstream>| match &upstream.protocol {
            Handle::Http1(http1) => {
                let sender = http1.sender();
                !sender.is_ready() && !sender.is_closed()
            }
            Handle::Http2(_) => false,
        };
        self.open.lock().iter().any(sending)
    }

    fn find(&self, target: &Target, version: Version) -> Option<Arc<Upstream>> {
        let mut open = self.open.lock();
        open.retain(|upstream| upstream.is_open());
        let fits = |upstream: &&Arc<Upstream>| {
            *upstream.target == *target
                && match upstream.protocol {
                    Handle::Http1(_) => version != Version::HTTP_2 && !upstream.busy.load(Ordering::Relaxed),
                    Handle::Http2(_) => version == Version::HTTP_2,
                }
        };
        open.iter().find(fits).cloned()
    }

    fn add(&self, upstream: Arc<Upstream>) {
        let mut open = self.open.lock();
        if open.len() >= MAX_TARGETS
            && let Some(idle) = open.iter().position(|u| !u.busy.load(Ordering::Relaxed))
        {
            open.remove(idle);
        }
        open.push(upstream);
    }
}

/// Speaks TLS on the socket, offering the one protocol that the downstream speaks.
async fn secured(
    transport: Transport,
    target: &Target,
    version: Version,
    worker: &Worker,
) -> Result<Transport, DialError> {
    let (Some(connector), Transport::Tcp(tcp)) = (&worker.connector, transport) else {
        return Err(DialError::Tls(HandshakeError::Name));
    };
    let alpn = if version == Version::HTTP_2 { Alpn::Http2 } else { Alpn::Http1 };
    let secured = connector.connect(&target.server.host, tcp, alpn).await;
    secured.map(Transport::from).map_err(DialError::Tls)
}
