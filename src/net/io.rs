//! The stream under a connection: a TCP socket, with TLS on it or not, that can
//! hand out bytes that were read ahead, notes that something arrived, and can
//! end in a reset.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls::TlsStream;

/// What the owner of a connection and its socket tell each other.
#[derive(Debug, Default)]
pub struct Signals {
    received: AtomicBool,
    reset: AtomicBool,
}

impl Signals {
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

/// A transport with a prefix that is read first.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    prefix: Bytes,
    signals: Arc<Signals>,
}

impl Stream {
    /// Wraps a transport; `prefix` holds what was already read from it.
    pub fn new(transport: impl Into<Transport>, prefix: Bytes, signals: Arc<Signals>) -> Self {
        Stream { transport: transport.into(), prefix, signals }
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
            self.prefix.advance(length);
            self.signals.received.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.signals.received.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
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
