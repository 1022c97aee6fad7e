//! One downstream connection from its first byte to its last.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tower::Service;

use super::begin::Peer;
use super::body::ResponseBody;
use super::error::Abort;
use super::flow;
use super::route::Route;
use super::upstream::{Reached, Upstreams};
use super::worker::Worker;
use crate::net::detect::{self, Protocol};
use crate::net::io::Stream;
use crate::net::registry::Watched;
use crate::net::spelling::Heads;
use crate::net::tls::{Acceptor, Alpn};

/// What the exchanges of one downstream connection share.
#[derive(Debug)]
pub struct Connection {
    /// Where its requests go.
    pub route: Arc<Route>,
    /// The worker that serves it.
    pub worker: Arc<Worker>,
    /// Who connected.
    pub downstream: Peer,
    /// Our own address on it, where a sidecar that calls is told.
    pub local: Option<IpAddr>,
    /// Its upstream side.
    pub upstreams: Upstreams,
    /// Its entry in the registry.
    pub watched: Arc<Watched>,
    in_flight: AtomicUsize,
    /// A head has begun on this HTTP/1 connection and its deadline is set.
    head_begun: AtomicBool,
    protocol: Protocol,
    /// Whether the downstream speaks TLS.
    pub secure: bool,
}

/// An exchange is going on as long as this lives.
#[derive(Debug)]
pub struct InFlight {
    connection: Arc<Connection>,
    /// Whether its response is a stream, which is counted.
    streams: bool,
}

impl Connection {
    /// Begins an exchange.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.head_begun.load(Ordering::Relaxed) {
            // Its deadline would otherwise be taken for the one of a later exchange.
            self.head_begun.store(false, Ordering::Relaxed);
            self.watched.clear_deadline();
        }
        InFlight { connection: Arc::clone(self), streams: false }
    }

    /// Says that something broke off on it, which must not look like its end.
    pub fn torn(&self) {
        // HTTP/2 resets the one stream, and the others go on.
        if self.protocol == Protocol::Http1 {
            self.watched.signals.reset_on_close();
        }
    }

    /// A moment after which the response is overdue.
    pub fn deadline(&self, after: Duration) -> Deadline<'_> {
        match self.protocol {
            // One exchange at a time: the registry's word is enough, and free.
            Protocol::Http1 => {
                self.watched.set_deadline(self.worker.registry.deadline(after));
                Deadline::Watched(&self.watched)
            }
            Protocol::Http2 => Deadline::At(Box::pin(tokio::time::sleep(after))),
        }
    }
}

impl InFlight {
    /// Says that the response broke off, which must not look like its end.
    pub fn torn(&self) {
        self.connection.torn();
    }

    /// Says that the response is a stream of events.
    pub fn streams(&mut self) {
        if !std::mem::replace(&mut self.streams, true) {
            self.connection.worker.metrics.proxy.open_streams.inc();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // What arrived belonged to the exchange, not to a next head.
        self.connection.watched.signals.take_received();
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.streams {
            self.connection.worker.metrics.proxy.open_streams.dec();
        }
    }
}

/// See [`Connection::deadline`].
#[derive(Debug)]
pub enum Deadline<'a> {
    /// The registry wakes the connection.
    Watched(&'a Watched),
    /// A timer wakes the stream.
    At(Pin<Box<Sleep>>),
}

impl Deadline<'_> {
    /// Whether it has passed.
    pub fn passed(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Deadline::Watched(watched) => watched.take_expired(),
            Deadline::At(timer) => timer.as_mut().poll(cx).is_ready(),
        }
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        if let Deadline::Watched(watched) = self {
            watched.clear_deadline();
        }
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    tcp: TcpStream,
    downstream: SocketAddr,
    route: Arc<Route>,
    worker: Arc<Worker>,
    watched: Arc<Watched>,
) {
    let tells = worker.tracer.notices.port() != 0 && !route.is_outbound();
    let local = if tells { tcp.local_addr().ok().map(|address| address.ip()) } else { None };
    let opened = match route.acceptor() {
        None => open(tcp, &worker, &watched).await,
        // In a box, because it would make every connection larger.
        Some(acceptor) => Box::pin(open_secure(acceptor, tcp, &worker, &watched)).await,
    };
    let Some((protocol, stream)) = opened else { return };
    serve_http(stream, (downstream, local), route, worker, watched, (protocol, None)).await;
}

/// Serves a connection that speaks HTTP, with the upstream connection that it
/// begins with, if there is one already. Our own address on it is given where
/// it matters.
pub(super) async fn serve_http(
    stream: Stream,
    (downstream, local): (SocketAddr, Option<IpAddr>),
    route: Arc<Route>,
    worker: Arc<Worker>,
    watched: Arc<Watched>,
    (protocol, reached): (Protocol, Option<Reached>),
) {
    let finds_loops = !worker.settings.listening.is_empty();
    let connection = Arc::new(Connection {
        secure: route.acceptor().is_some(),
        route,
        worker,
        downstream: Peer::from(downstream),
        local,
        upstreams: Upstreams::new(&watched, finds_loops, reached),
        watched,
        in_flight: AtomicUsize::new(0),
        head_begun: AtomicBool::new(false),
        protocol,
    });
    match protocol {
        Protocol::Http1 => serve_http1(stream, connection).await,
        Protocol::Http2 => serve_http2(stream, connection).await,
    }
}

/// Waits for the first bytes, which say what the downstream speaks.
async fn open(mut tcp: TcpStream, worker: &Worker, watched: &Watched) -> Option<(Protocol, Stream)> {
    let begun = || watched.set_deadline(worker.registry.deadline(worker.limits().head_timeout));
    let detected = until_drained(detect::detect(&mut tcp, begun), watched).await;
    watched.clear_deadline();
    let (protocol, prefix) = detected?.ok()?;
    Some((protocol, Stream::new(tcp, prefix, Arc::clone(&watched.signals))))
}

/// Carries out the handshake, which says what the downstream speaks.
async fn open_secure(
    acceptor: &Acceptor,
    tcp: TcpStream,
    worker: &Worker,
    watched: &Watched,
) -> Option<(Protocol, Stream)> {
    watched.set_deadline(worker.registry.deadline(worker.limits().handshake_timeout));
    let accepted = until_drained(pin!(acceptor.accept(tcp)), watched).await;
    watched.clear_deadline();
    let refused = match accepted {
        Some(Ok((tls, alpn))) => {
            let protocol = match alpn {
                Alpn::Http1 => Protocol::Http1,
                Alpn::Http2 => Protocol::Http2,
            };
            return Some((protocol, Stream::new(tls, Bytes::new(), Arc::clone(&watched.signals))));
        }
        Some(Err(error)) => {
            tracing::debug!(%error, "a client did not get in");
            error.reason()
        }
        None if watched.is_draining() => return None,
        None => "timeout",
    };
    worker.metrics.proxy.handshake_failed(refused);
    None
}

/// A connection on which nothing has begun leaves at once when told to, and
/// when its time is over.
pub(super) async fn until_drained<F: Future>(future: F, watched: &Watched) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        watched.set_waker(cx.waker());
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if watched.is_draining() || watched.take_expired() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The flow as a tower service, which is where layers would go around it. It
/// is always ready.
fn service(
    connection: Arc<Connection>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<ResponseBody>,
    Error = Abort,
    Future = impl Future<Output = Result<Response<ResponseBody>, Abort>> + Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request| flow::handle(request, Arc::clone(&connection)))
}

async fn serve_http1(stream: Stream, connection: Arc<Connection>) {
    let limits = connection.worker.limits();
    let mut builder = http1::Builder::new();
    builder.auto_date_header(false).header_read_timeout(None).max_header_size(limits.max_head_bytes);
    if let Some(most) = limits.max_headers_if_changed() {
        builder.max_headers(most);
    }
    let service = service(Arc::clone(&connection));
    // What waits until a service is ready would move each request twice more.
    let service = service_fn(move |request| service.clone().call(request));
    let stream = stream.spelling(Heads::of_requests(limits.max_head_bytes));
    let server = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut server = pin!(server);
    let mut watch = Watch { connection: &connection, closing: false };
    poll_fn(|cx| {
        connection.watched.set_waker(cx.waker());
        Poll::Ready(())
    })
    .await;
    // hyper wakes whoever polls it for much that is done in the same turn.
    let waker = Waker::from(Arc::clone(&connection.watched));
    let result = poll_fn(|task| {
        let cx = &mut Context::from_waker(&waker);
        connection.watched.begin_turn();
        let mut result = Poll::Pending;
        // Two turns at most: the second lets a close that was just asked for happen.
        for _ in 0..2 {
            result = server.as_mut().poll(cx).map(Some);
            if result.is_ready() {
                break;
            }
            match watch.look(cx) {
                Verdict::Stay => break,
                Verdict::Finish => server.as_mut().graceful_shutdown(),
                Verdict::Leave => result = Poll::Ready(None),
            }
            if result.is_ready() {
                break;
            }
        }
        let woken = connection.watched.end_turn();
        if result.is_pending() && (woken || connection.upstreams.any_waiting()) {
            task.waker().wake_by_ref();
        }
        result
    })
    .await;
    if let Some(Err(error)) = result {
        tracing::debug!(downstream = %connection.downstream.address, %error, "connection ended");
    }
}

async fn serve_http2(stream: Stream, connection: Arc<Connection>) {
    let limits = connection.worker.limits();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .auto_date_header(false);
    let service = service(Arc::clone(&connection));
    let service = service_fn(move |request| service.clone().call(request));
    let mut server = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut closing = false;
    let result = poll_fn(|cx| {
        for _ in 0..2 {
            if let Poll::Ready(result) = server.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let upstream_closed = connection.route.is_fixed() && connection.upstreams.any_closed();
            if closing || !(upstream_closed || connection.watched.is_draining()) {
                break;
            }
            closing = true;
            server.as_mut().graceful_shutdown();
        }
        Poll::Pending
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(downstream = %connection.downstream.address, %error, "connection ended");
    }
}

/// Looks after a connection between the turns of hyper's server.
struct Watch<'a> {
    connection: &'a Connection,
    closing: bool,
}

enum Verdict {
    Stay,
    /// Finish what is in flight, then close.
    Finish,
    /// Close now.
    Leave,
}

impl Watch<'_> {
    fn look(&mut self, cx: &mut Context<'_>) -> Verdict {
        let connection = self.connection;
        let watched = &connection.watched;
        if connection.in_flight.load(Ordering::Relaxed) > 0 {
            if connection.upstreams.drive_waiting(cx) {
                // What that brought may be for a body which nobody was told of.
                cx.waker().wake_by_ref();
            }
        } else {
            // An answer may end before its request, whose rest is no head.
            let head = watched.signals.take_received() && !connection.upstreams.any_sending();
            let upstream_closed = connection.upstreams.drive_idle(cx);
            if upstream_closed && connection.route.is_fixed() && !self.closing {
                self.closing = true;
                return Verdict::Finish;
            }
            if head && !connection.head_begun.swap(true, Ordering::Relaxed) {
                let limit = connection.worker.limits().head_timeout;
                watched.set_deadline(connection.worker.registry.deadline(limit));
            }
            if connection.head_begun.load(Ordering::Relaxed) && watched.take_expired() {
                connection.worker.metrics.proxy.failed("head_timeout");
                return Verdict::Leave;
            }
        }
        if watched.is_draining() && !self.closing {
            self.closing = true;
            if connection.head_begun.load(Ordering::Relaxed) {
                // hyper waits for the rest of a head that has begun.
                watched.set_deadline(connection.worker.registry.deadline(Duration::ZERO));
            }
            return Verdict::Finish;
        }
        Verdict::Stay
    }
}
