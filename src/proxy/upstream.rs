//! The upstream side of one downstream connection: at most one connection for
//! each target, opened when it is first needed and closed with the downstream.
//!
//! An HTTP/1 connection is driven by the task of its downstream connection
//! and needs no task, channel hop or pool of its own. Because it belongs to
//! one client there is no race for a connection that the server just closed.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::body::{RequestBody, Unmeasured};
use super::error::is_unhandled;
use super::settings::{Limits, Target};
use super::wake::Nudge;
use super::worker::Worker;
use crate::net::dial::DialError;
use crate::net::io::{Signals, Stream, Transport};
use crate::net::registry::Watched;
use crate::net::spelling::{Heads, Spelled};
use crate::net::tls::{Alpn, HandshakeError};
use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// How many targets one downstream connection keeps connections to. A forward
/// proxy client that visits more loses the one that it used first.
const MAX_TARGETS: usize = 8;

/// hyper's connection; its type with upgrades has no public name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

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

/// One upstream connection.
pub struct Upstream {
    target: Arc<Target>,
    /// The address that was reached.
    pub peer: SocketAddr,
    /// Our own address on it, where loops are looked for.
    pub local: Option<IpAddr>,
    signals: Arc<Signals>,
    protocol: Handle,
    busy: AtomicBool,
    /// Whether an exchange on this connection was answered before.
    used: AtomicBool,
}

enum Handle {
    Http1(Box<Http1>),
    Http2(http2::SendRequest<Unmeasured>),
}

struct Http1 {
    sender: Mutex<http1::SendRequest<RequestBody>>,
    driver: Mutex<Option<Driver>>,
    nudge: Arc<Nudge>,
    waker: Waker,
}

/// A server that was just connected to, TLS included.
#[derive(Debug)]
pub struct Reached {
    /// What carries the bytes.
    pub transport: Transport,
    /// What was read from it already.
    pub prefix: Bytes,
    /// The address that was reached.
    pub peer: SocketAddr,
    /// Our own address on it, where that is of interest.
    pub local: Option<IpAddr>,
}

/// Holds an HTTP/1 connection for one exchange.
#[derive(Debug)]
pub struct Guard(Arc<Upstream>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }
}

/// A request that failed.
#[derive(Debug)]
pub struct Failed {
    /// What hyper says.
    pub error: hyper::Error,
    /// Whether no byte of the request has left, or the upstream says that it
    /// has handled none.
    pub unsent: bool,
    /// Whether the connection had served an exchange before.
    pub reused: bool,
}

impl Upstreams {
    /// None yet, for this downstream connection. `finds_loops` says whether
    /// our own address matters, which costs a question to the kernel, and
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
        let ready = self.reached.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        let local = if self.finds_loops { tcp.local_addr().ok() } else { None };
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
        self.lock().retain(|one| !Arc::ptr_eq(one, upstream));
    }

    /// Whether a connection has ended and nobody has asked for it since.
    pub fn any_closed(&self) -> bool {
        self.lock().iter().any(|upstream| !upstream.is_open())
    }

    /// Drives the connections that no exchange drives, so that a close by the
    /// server is noticed. Says whether one closed.
    pub fn drive_idle(&self, cx: &mut Context<'_>) -> bool {
        let mut open = self.lock();
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
        self.lock().iter().any(|upstream| upstream.is_waiting())
    }

    /// Drives the connections on which something happened that the exchange
    /// did not look at: its client reads nothing now, but may still send.
    /// Says whether there were any.
    pub fn drive_waiting(&self, cx: &mut Context<'_>) -> bool {
        let mut driven = false;
        for upstream in &*self.lock() {
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
        self.lock().iter().any(sending)
    }

    fn find(&self, target: &Target, version: Version) -> Option<Arc<Upstream>> {
        let mut open = self.lock();
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
        let mut open = self.lock();
        if open.len() >= MAX_TARGETS
            && let Some(idle) = open.iter().position(|u| !u.busy.load(Ordering::Relaxed))
        {
            open.remove(idle);
        }
        open.push(upstream);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Upstream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Upstream {
    async fn open(
        target: Arc<Target>,
        reached: Reached,
        version: Version,
        limits: &Limits,
        downstream: &Arc<Watched>,
    ) -> Result<Self, DialError> {
        let Reached { transport, prefix, peer, local } = reached;
        let signals = Arc::<Signals>::default();
        let io = Stream::new(transport, prefix, Arc::clone(&signals));
        let failed = |e: hyper::Error| DialError::Connect(std::io::Error::other(e));
        let protocol = if version == Version::HTTP_2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
                .handshake(TokioIo::new(io))
                .await
                .map_err(failed)?;
            // It ends when the last sender and stream of this downstream are gone.
            let downstream = Arc::downgrade(downstream);
            tokio::spawn(async move {
                // Whatever went wrong reaches the exchanges through their streams.
                let _ = connection.await;
                if let Some(downstream) = downstream.upgrade() {
                    downstream.wake();
                }
            });
            Handle::Http2(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.max_header_size(limits.max_head_bytes);
            if let Some(most) = limits.max_headers_if_changed() {
                builder.max_headers(most);
            }
            let io = io.spelling(Heads::of_responses(limits.max_head_bytes));
            let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(failed)?;
            let nudge = Nudge::fired(Arc::clone(downstream));
            Handle::Http1(Box::new(Http1 {
                sender: Mutex::new(sender),
                driver: Mutex::new(Some(Box::pin(connection.with_upgrades()))),
                waker: Waker::from(Arc::clone(&nudge)),
                nudge,
            }))
        };
        Ok(Upstream {
            target,
            peer,
            local,
            signals,
            protocol,
            busy: AtomicBool::new(false),
            used: AtomicBool::new(false),
        })
    }

    /// Moves the connection on where something happened to it: writes what is
    /// to be written, reads what has come. HTTP/2 connections move by themselves.
    pub fn drive(&self, cx: &mut Context<'_>) {
        let _: Poll<()> = self.turn(cx, |_| Poll::Pending);
    }

    /// Moves the connection on, and looks for what it should bring, in turns.
    pub fn turn<T>(
        &self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &self.protocol {
            Handle::Http1(http1) => http1.nudge.turn(&http1.waker, cx, |cx| http1.drive(cx), look),
            Handle::Http2(_) => look(cx),
        }
    }

    /// Takes the request out of its place, sends it and waits for the head of
    /// its response. After a failure it is back if it may be sent once more.
    ///
    /// Over HTTP/1 the names of the head are spelled as `spelled` says, which
    /// then holds how those of the response were.
    pub async fn send(
        &self,
        request: &mut Request<RequestBody>,
        spelled: &mut Spelled,
    ) -> Result<Response<Incoming>, Failed> {
        let reused = self.used.load(Ordering::Relaxed);
        let mut unsent = false;
        let answered = match &self.protocol {
            Handle::Http1(http1) => {
                let answered = self.send_http1(http1, request, &mut unsent, spelled).await;
                if answered.is_ok() {
                    *spelled = self.signals.take_spelled();
                } else if spelled.is_empty() {
                    *spelled = self.signals.unspelled();
                }
                answered
            }
            Handle::Http2(sender) => send_http2(sender.clone(), request, &mut unsent).await,
        };
        match answered {
            Ok(response) => {
                self.used.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Err(error) => Err(Failed { error, unsent, reused }),
        }
    }

    async fn send_http1(
        &self,
        http1: &Http1,
        request: &mut Request<RequestBody>,
        unsent: &mut bool,
        spelled: &mut Spelled,
    ) -> Answered {
        // The connection notices the end of the last exchange only when driven.
        let ready = poll_fn(|cx| self.turn(cx, |cx| http1.sender().poll_ready(cx))).await;
        ready.inspect_err(|_| *unsent = true)?;
        self.signals.spell_request(std::mem::take(spelled));
        let mut response = pin!(http1.sender().try_send_request(std::mem::take(request)));
        poll_fn(|cx| {
            self.turn(cx, |cx| {
                // Taken apart at once, because a failure with its request is large to hand on.
                response.as_mut().poll(cx).map_err(|mut failed| {
                    if let Some(message) = failed.take_message() {
                        *request = message;
                        *unsent = true;
                    }
                    failed.into_error()
                })
            })
        })
        .await
    }

    /// Makes the connection end in a reset: what it carried broke off.
    pub fn reset_on_close(&self) {
        // HTTP/2 resets the one stream, and the others go on.
        if matches!(self.protocol, Handle::Http1(_)) {
            self.signals.reset_on_close();
        }
    }

    /// Whether something happened to it that nobody has looked at.
    fn is_waiting(&self) -> bool {
        matches!(&self.protocol, Handle::Http1(http1) if http1.nudge.has_fired())
    }

    fn is_open(&self) -> bool {
        match &self.protocol {
            Handle::Http1(http1) => !http1.sender().is_closed(),
            Handle::Http2(sender) => !sender.is_closed(),
        }
    }
}

impl Http1 {
    fn sender(&self) -> std::sync::MutexGuard<'_, http1::SendRequest<RequestBody>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drive(&self, cx: &mut Context<'_>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = driver.as_mut()
            && connection.as_mut().poll(cx).is_ready()
        {
            // Whatever went wrong reaches the exchange through its sender.
            *driver = None;
        }
    }
}

/// What came of a request that was sent.
type Answered = Result<Response<Incoming>, hyper::Error>;

async fn send_http2(
    mut sender: http2::SendRequest<Unmeasured>,
    request: &mut Request<RequestBody>,
    unsent: &mut bool,
) -> Answered {
    *request.version_mut() = Version::HTTP_2;
    sender.ready().await.inspect_err(|_| *unsent = true)?;
    let (head, body) = std::mem::take(request).into_parts();
    let again = body.again().map(|body| Request::from_parts(head.clone(), body));
    let answered = sender.try_send_request(Request::from_parts(head, Unmeasured(body))).await;
    answered.map_err(|mut failed| {
        let message = failed.take_message().map(|message| message.map(|body| body.0));
        let error = failed.into_error();
        if let Some(message) = message.or(again.filter(|_| is_unhandled(&error))) {
            *request = message;
            *unsent = true;
        }
        error
    })
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Waits for `future`, but not beyond the moment that `expired` says so.
pub async fn unless<F: Future>(
    mut future: Pin<&mut F>,
    mut expired: impl FnMut(&mut Context<'_>) -> bool,
) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if expired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
