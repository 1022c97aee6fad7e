//! The upstream side of one downstream connection: at most one connection for
//! each target, opened when it is first needed and closed with the downstream.
//!
//! An HTTP/1 connection is driven by the task of its downstream connection
//! and needs no task, channel hop or pool of its own. Because it belongs to
//! one client there is no race for a connection that the server just closed.

mod set;

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

pub use self::set::Upstreams;
use super::body::{RequestBody, Unmeasured};
use super::error::is_unhandled;
use super::settings::{Limits, Target};
use super::wake::Nudge;
use crate::net::dial::DialError;
use crate::net::io::{Signals, Stream, Transport};
use crate::net::registry::Watched;
use crate::net::spelling::{Heads, Spelled};
use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// hyper's connection; its type with upgrades has no public name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// One upstream connection.
pub struct Upstream {
    target: Arc<Target>,
    /// The address that was reached.
    pub peer: SocketAddr,
    /// Our own address on it, where that is of interest.
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
        let _: Poll<()> = self.turn(cx, |_| (Poll::Pending, false));
    }

    /// Moves the connection on, and looks for what it should bring, in turns.
    /// `look` says whether what it found is the last.
    pub fn turn<T>(
        &self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&mut Context<'_>) -> (Poll<T>, bool),
    ) -> Poll<T> {
        match &self.protocol {
            Handle::Http1(http1) => http1.nudge.turn(&http1.waker, cx, |cx| http1.drive(cx), look),
            Handle::Http2(_) => look(cx).0,
        }
    }

    /// Takes the request out of its place, sends it, waits for the head of its
    /// response and leaves that in its place: both are large to hand on. After
    /// a failure the request is back if it may be sent once more.
    ///
    /// Over HTTP/1 the names of the head are spelled as `spelled` says, which
    /// then holds how those of the response were.
    pub async fn send(
        &self,
        request: &mut Option<Request<RequestBody>>,
        response: &mut Option<Response<Incoming>>,
        spelled: &mut Spelled,
    ) -> Result<(), Failed> {
        let reused = self.used.load(Ordering::Relaxed);
        let mut unsent = false;
        let answered = match &self.protocol {
            Handle::Http1(http1) => {
                let answered = self.send_http1(http1, request, response, &mut unsent, spelled).await;
                if answered.is_ok() {
                    *spelled = self.signals.take_spelled();
                } else if spelled.is_empty() {
                    *spelled = self.signals.unspelled();
                }
                answered
            }
            Handle::Http2(sender) => send_http2(sender.clone(), request, response, &mut unsent).await,
        };
        match answered {
            Ok(()) => {
                self.used.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Failed { error, unsent, reused }),
        }
    }

    async fn send_http1(
        &self,
        http1: &Http1,
        request: &mut Option<Request<RequestBody>>,
        response: &mut Option<Response<Incoming>>,
        unsent: &mut bool,
        spelled: &mut Spelled,
    ) -> Answered {
        let ready = poll_fn(|cx| {
            // Only when driven it notices that the server has closed it.
            if self.is_waiting() {
                self.drive(cx);
            }
            self.turn(cx, |cx| (http1.sender().poll_ready(cx), false))
        });
        ready.await.inspect_err(|_| *unsent = true)?;
        let Some(sent) = request.take() else { return Ok(()) };
        self.signals.spell_request(std::mem::take(spelled));
        let mut sending = pin!(http1.sender().try_send_request(sent));
        poll_fn(|cx| {
            self.turn(cx, |cx| {
                let answered = match sending.as_mut().poll(cx) {
                    Poll::Pending => return (Poll::Pending, false),
                    Poll::Ready(Ok(answer)) => {
                        *response = Some(answer);
                        Ok(())
                    }
                    Poll::Ready(Err(mut failed)) => {
                        *request = failed.take_message();
                        *unsent = request.is_some();
                        Err(failed.into_error())
                    }
                };
                (Poll::Ready(answered), false)
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
    fn sender(&self) -> parking_lot::MutexGuard<'_, http1::SendRequest<RequestBody>> {
        self.sender.lock()
    }

    fn drive(&self, cx: &mut Context<'_>) {
        let mut driver = self.driver.lock();
        if let Some(connection) = driver.as_mut()
            && connection.as_mut().poll(cx).is_ready()
        {
            // Whatever went wrong reaches the exchange through its sender.
            *driver = None;
        }
    }
}

/// What came of a request that was sent.
type Answered = Result<(), hyper::Error>;

async fn send_http2(
    mut sender: http2::SendRequest<Unmeasured>,
    request: &mut Option<Request<RequestBody>>,
    response: &mut Option<Response<Incoming>>,
    unsent: &mut bool,
) -> Answered {
    sender.ready().await.inspect_err(|_| *unsent = true)?;
    let Some(sent) = request.take() else { return Ok(()) };
    let (mut head, body) = sent.into_parts();
    head.version = Version::HTTP_2;
    let again = body.again().map(|body| Request::from_parts(head.clone(), body));
    let answered = sender.try_send_request(Request::from_parts(head, Unmeasured(body))).await;
    answered.map(|answer| *response = Some(answer)).map_err(|mut failed| {
        let message = failed.take_message().map(|message| message.map(|body| body.0));
        let error = failed.into_error();
        if let Some(message) = message.or(again.filter(|_| is_unhandled(&error))) {
            *request = Some(message);
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
