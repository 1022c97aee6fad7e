//! The stream under a connection: a TCP socket, with TLS on it or not, that can
//! hand out bytes that were read ahead, notes that something arrived, and can
//! end in a reset.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::spelling::{Heads, Respelled, Spelled};
use super::tls::TlsStream;

/// What the owner of a connection and its socket tell each other.
#[derive(Debug, Default)]
pub struct Signals {
    received: AtomicBool,
    reset: AtomicBool,
    spelling: Mutex<Spelling>,
}

/// The spelling of field names on an HTTP/1 connection.
#[derive(Debug, Default)]
struct Spelling {
    /// Of what is read.
    heads: Heads,
    /// Of what is written next.
    next: Option<Spelled>,
    /// The head that is being written.
    head: Option<Respelled>,
}

impl Signals {
    /// The field names of the oldest head that was read and not asked for, as
    /// they were spelled.
    pub fn take_spelled(&self) -> Spelled {
        self.spelling.lock().heads.take()
    }

    /// Has the names of the next head that is written spelled like this.
    pub fn spell(&self, spelled: Spelled) {
        self.spelling.lock().next = Some(spelled).filter(|spelled| !spelled.is_empty());
    }

    /// Does the same for a request, whose response is what is read next.
    pub fn spell_request(&self, spelled: Spelled) {
        let mut spelling = self.spelling.lock();
        spelling.next = Some(spelled).filter(|spelled| !spelled.is_empty());
        spelling.heads.expect();
    }

    /// Gives back what no head was written with.
    pub fn unspelled(&self) -> Spelled {
        self.spelling.lock().next.take().unwrap_or_default()
    }

    /// Says that what passes is no HTTP any more.
    pub fn stop_spelling(&self) {
        self.spelling.lock().heads.stop();
    }

    /// Whether bytes arrived since this was last asked.
    pub fn take_received(&self) -> bool {
        // A plain load first: the usual answer needs no write to the line.
        self.received.load(Ordering::Relaxed) && self.received.swap(false, Ordering::Relaxed)
    }

    /// Makes the socket end in a reset instead of a clean close, so that a
    /// peer which reads until the end cannot take a torn message for whole.
    pub fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// What carries the bytes of a connection.
#[derive(Debug)]
pub enum Transport {
    /// The socket as it is.
    Tcp(TcpStream),
    /// TLS on the socket, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Transport::Tcp(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Transport::Tcp(tcp)
    }
}

impl From<TlsStream<TcpStream>> for Transport {
    fn from(tls: TlsStream<TcpStream>) -> Self {
        Transport::Tls(Box::new(tls))
    }
}

impl Transport {
    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }
}

/// How many pieces are written at once together with a head.
const MAX_SLICES: usize = 8;

/// A transport with a prefix that is read first.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    prefix: Bytes,
    signals: Arc<Signals>,
    /// Whether the spelling of field names is looked after.
    spelled: bool,
    /// Whether all that was written has left, so that a head can begin.
    clean: bool,
}

impl Stream {
    /// Wraps a transport; `prefix` holds what was already read from it.
    pub fn new(transport: impl Into<Transport>, prefix: Bytes, signals: Arc<Signals>) -> Self {
        Stream { transport: transport.into(), prefix, signals, spelled: false, clean: true }
    }

    /// Keeps the spelling of the names in these heads, and gives the heads that
    /// are written the spelling that [`Signals::spell`] says.
    pub fn spelling(mut self, heads: Heads) -> Self {
        self.signals.spelling.lock().heads = heads;
        self.spelled = true;
        self
    }

    fn saw(&self, bytes: &[u8]) {
        self.signals.received.store(true, Ordering::Relaxed);
        if self.spelled {
            self.signals.spelling.lock().heads.saw(bytes);
        }
    }

    /// Writes the rest of a head that is spelled as it came, and what follows
    /// it, where `first` begins with one.
    fn poll_write_head(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        more: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        let clean = std::mem::take(&mut self.clean);
        let mut spelling = self.signals.spelling.lock();
        if let Some(spelled) = spelling.next.take() {
            // Behind what has not left, no head could be found.
            spelling.head = if clean { Respelled::of(spelled, first) } else { None };
        }
        let head = spelling.head.as_mut()?;
        let rest = head.rest();
        let rest = &rest[..rest.len().min(first.len())];
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let after = [IoSlice::new(rest), IoSlice::new(&first[rest.len()..])];
        let filled = after.into_iter().chain(more.iter().copied()).filter(|slice| !slice.is_empty());
        let count = slices.iter_mut().zip(filled).map(|(slot, slice)| *slot = slice).count();
        let result = self.transport.poll_write_vectored(cx, &slices[..count]);
        if let Poll::Ready(Ok(written)) = result
            && head.wrote(written)
        {
            spelling.head = None;
        }
        Some(result)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..length]);
            self.saw(&self.prefix[..length]);
            self.prefix.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.saw(&buf.filled()[before..]);
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.spelled
            && let Some(result) = self.poll_write_head(cx, buf, &[])
        {
            return result;
        }
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.spelled
            && let Some((first, more)) = bufs.split_first()
            && let Some(result) = self.poll_write_head(cx, first, more)
        {
            return result;
        }
        self.transport.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.clean |= result.is_ready();
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.signals.reset.load(Ordering::Relaxed) {
            // The drop that follows resets; a FIN now would look like an end.
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.signals.reset.load(Ordering::Relaxed) {
            let _ = SockRef::from(self.transport.tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Prepares a dialled socket: no delay for small writes, and probes that find
/// out when the other host is gone. This host cannot go alone.
pub fn tune(tcp: &TcpStream, peer: IpAddr) {
    // A socket that closed meanwhile refuses these; its next read says so.
    let _ = tcp.set_nodelay(true);
    if !peer.is_loopback() {
        let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive());
    }
}

/// Prepares a listening socket, from which accepted ones inherit it.
pub fn tune_listener(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15))
}
