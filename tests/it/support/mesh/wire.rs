//! Bodies for both ends: whole, or as a test gives them piece by piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// A body on its way out.
pub enum Body {
    /// All of it, with its length.
    Whole(Option<Bytes>),
    /// Piece by piece, without a length; an error tears the connection.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// The end of a body that a test writes to.
pub type Pieces = mpsc::Sender<io::Result<Bytes>>;

impl Body {
    /// A body in pieces and the end to write them to.
    pub fn pieces() -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(64);
        (sender, Body::Pieces(receiver))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Body::Whole(Some(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Pieces(receiver) => {
                receiver.poll_recv(cx).map(|item| item.map(|item| item.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}
