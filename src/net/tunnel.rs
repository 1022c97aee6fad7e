//! Copies bytes both ways, unread, until both sides are done; a side that
//! breaks off is felt by the other as a reset, never as a clean end.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is in transit for each direction, in bytes.
const BUFFER: usize = 16 * 1024;

/// What passed through a tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Bytes from the first stream to the second.
    pub sent: u64,
    /// Bytes from the second stream to the first.
    pub received: u64,
}

/// What has passed through a tunnel so far, to be read at any time: also when
/// the tunnel is dropped in the middle.
#[derive(Debug, Default)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Meter {
    /// What has passed by now.
    pub fn passed(&self) -> Passed {
        Passed { sent: self.sent.load(Ordering::Relaxed), received: self.received.load(Ordering::Relaxed) }
    }
}

/// Copies until both directions have ended or either fails.
///
/// # Errors
/// What broke.
pub async fn copy<A, B>(a: &mut A, b: &mut B, meter: &Meter) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut a = Counted { inner: a, read: &meter.sent };
    let mut b = Counted { inner: b, read: &meter.received };
    tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, BUFFER, BUFFER).await.map(drop)
}

/// Counts what is read, so that a broken tunnel still knows its bytes.
#[pin_project]
struct Counted<'m, S> {
    #[pin]
    inner: S,
    read: &'m AtomicU64,
}

impl<S: AsyncRead> AsyncRead for Counted<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let result = this.inner.poll_read(cx, buf);
        this.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncWrite> AsyncWrite for Counted<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
