//! The bodies that pass through: what is sent upstream, and what is sent back
//! while the span's end is looked for in it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::budget::Reserved;
use super::connection::InFlight;
use super::exchange::{Exchange, Held, Progress};
use super::expect::Gate;
use super::upstream::{Guard, Upstream};

/// The error of a body that broke off; hyper turns it into a torn connection.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How many bytes of small frames that are ready together are written as one.
const MERGE_BYTES: usize = 16 * 1024;

/// A request body on its way upstream. In a box, because a request is handed
/// on many times.
#[derive(Debug)]
pub struct RequestBody(Box<Contents>);

#[derive(Debug)]
enum Contents {
    /// Read whole by the message view, perhaps with context spliced in; with
    /// its share of what all held bodies may take, which it gives back when it goes.
    Whole { body: Option<Bytes>, _share: Option<Reserved> },
    /// Not read, or only begun: what was read goes first, the rest follows.
    Stream {
        first: Begun,
        /// The rest, which may hold trailers.
        rest: Incoming,
        /// Closed until the upstream wants the body.
        gate: Option<Gate>,
    },
}

/// What the message view took and gives back, a failure included: a body that
/// broke off must not look like one that ended.
pub type Begun = VecDeque<Result<Frame<Bytes>, hyper::Error>>;

impl Default for RequestBody {
    /// A body of no bytes.
    fn default() -> Self {
        RequestBody(Box::new(Contents::Whole { body: None, _share: None }))
    }
}

impl RequestBody {
    /// A body that was read whole, with its share of what may be held.
    pub fn whole(body: Bytes, reserved: Option<Reserved>) -> Self {
        RequestBody(Box::new(Contents::Whole { body: Some(body), _share: reserved }))
    }

    /// A body that streams through unread.
    pub fn stream(rest: Incoming) -> Self {
        RequestBody::begun(Begun::new(), rest)
    }

    /// A body that streams through behind what was read of it.
    pub fn begun(first: Begun, rest: Incoming) -> Self {
        RequestBody(Box::new(Contents::Stream { first, rest, gate: None }))
    }

    /// Has a body that streams wait at a gate.
    pub fn wait_at(&mut self, gate: Gate) {
        if let Contents::Stream { gate: place, .. } = &mut *self.0 {
            *place = Some(gate);
        }
    }

    /// The same body once more, where all of it is here.
    pub fn again(&self) -> Option<Self> {
        match &*self.0 {
            Contents::Whole { body, .. } => {
                Some(RequestBody(Box::new(Contents::Whole { body: body.clone(), _share: None })))
            }
            Contents::Stream { .. } => self.is_end_stream().then(RequestBody::default),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self.get_mut().0 {
            Contents::Whole { body, .. } => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Contents::Stream { first, rest, gate } => {
                if let Some(item) = first.pop_front() {
                    return Poll::Ready(Some(item.map_err(BodyError::from)));
                }
                if let Some(closed) = gate {
                    ready!(closed.poll_open(cx));
                    *gate = None;
                }
                Pin::new(rest).poll_frame(cx).map_err(BodyError::from)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &*self.0 {
            Contents::Whole { body, .. } => body.as_ref().is_none_or(Bytes::is_empty),
            Contents::Stream { first, rest, .. } => first.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.0 {
            Contents::Whole { body, .. } => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Contents::Stream { first, rest, .. } => {
                let ahead: u64 = first.iter().map(data_length).sum();
                let hint = rest.size_hint();
                let mut sum = SizeHint::new();
                sum.set_lower(hint.lower() + ahead);
                if let Some(upper) = hint.upper() {
                    sum.set_upper(upper + ahead);
                }
                sum
            }
        }
    }
}

fn data_length(item: &Result<Frame<Bytes>, hyper::Error>) -> u64 {
    item.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64)
}

/// A request body that does not tell its length: hyper's HTTP/2 client would
/// write it into a `content-length` that the client did not send.
#[derive(Debug)]
pub struct Unmeasured(pub RequestBody);

impl Body for Unmeasured {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// A response body on its way downstream. It drives the upstream connection
/// that it comes from, and it holds the exchange, which thereby ends when the
/// body does: at its end, at its failure, or when the client has gone.
#[derive(Debug)]
pub struct ResponseBody {
    source: Source,
    /// Taken from the source while frames were joined, to be given next.
    ahead: Option<Item>,
    /// The source has failed, and what came before it has been given.
    failing: bool,
    /// The length that the head of an empty body names, which hyper has to
    /// be told so that the field stays where it stands.
    said: Option<u64>,
    exchange: Option<Held>,
    /// Frees both connections for the next exchange when dropped.
    held: Option<(Option<Guard>, InFlight)>,
}

#[derive(Debug)]
enum Source {
    Local(Option<Bytes>),
    Upstream(Incoming, Arc<Upstream>),
}

impl ResponseBody {
    /// A body that the proxy itself made.
    pub fn local(bytes: Bytes) -> Self {
        ResponseBody {
            source: Source::Local(Some(bytes)),
            ahead: None,
            failing: false,
            said: None,
            exchange: None,
            held: None,
        }
    }

    /// Says that the head names this length although no byte will come, as in
    /// answers to `HEAD`, in 304, and for a length of zero.
    pub fn saying(mut self, length: Option<u64>) -> Self {
        if self.is_end_stream() {
            self.said = length;
        }
        self
    }

    /// A body from the upstream, observed on behalf of an exchange if there is one.
    pub fn upstream(
        incoming: Incoming,
        upstream: Arc<Upstream>,
        exchange: Option<Held>,
        held: (Option<Guard>, InFlight),
    ) -> Self {
        let mut body = ResponseBody {
            source: Source::Upstream(incoming, upstream),
            ahead: None,
            failing: false,
            said: None,
            exchange,
            held: Some(held),
        };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Shows data to the exchange, and gives what it lets pass now.
    fn pass(&mut self, data: Bytes) -> Bytes {
        let Some(exchange) = &mut self.exchange else { return data };
        let (mut data, progress) = exchange.with(|exchange| exchange.pass(data));
        if progress == Progress::Decided {
            self.exchange = None;
        } else if self.source_ended() && self.holds() {
            // With HTTP/2 nobody polls again after the last frame.
            data = [data, self.rest()].concat().into();
        }
        data
    }

    fn holds(&mut self) -> bool {
        self.exchange.as_mut().is_some_and(|exchange| exchange.with(|exchange| exchange.holds()))
    }

    fn rest(&mut self) -> Bytes {
        self.exchange.as_mut().map_or_else(Bytes::new, |exchange| exchange.with(Exchange::rest))
    }

    fn source_ended(&self) -> bool {
        self.ahead.is_none()
            && matches!(&self.source, Source::Upstream(incoming, _) if incoming.is_end_stream())
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.with(Exchange::body_ended);
        }
    }

    fn fail(&mut self, error: &hyper::Error) {
        if let Some((_, in_flight)) = &self.held {
            in_flight.torn();
        }
        if let Some(mut exchange) = self.exchange.take() {
            exchange.with(|exchange| exchange.body_failed(error));
        }
    }

    /// The next frame from wherever the body comes from.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(ahead);
        }
        match &mut self.source {
            Source::Local(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Upstream(incoming, upstream) => poll_driven(incoming, upstream, cx),
        }
    }

    /// Joins small data frames that are ready now to the first: a write for
    /// each server-sent event would cost more than all the rest. It waits for
    /// nothing; a frame that does not fit is kept for the next turn.
    fn merge(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let Source::Upstream(incoming, upstream) = &mut self.source else { return first };
        let mut merged: Option<BytesMut> = None;
        let mut length = first.len();
        // Every turn adds at least one byte or ends, so the bytes bound it.
        while length < MERGE_BYTES && !incoming.is_end_stream() {
            let Poll::Ready(item) = poll_driven(incoming, upstream, cx) else { break };
            match item {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|d| d.len() < MERGE_BYTES) => {
                    let data = frame.into_data().unwrap_or_default();
                    length += data.len().max(1);
                    merged.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&data);
                }
                item => {
                    self.ahead = Some(item);
                    break;
                }
            }
        }
        merged.map_or(first, BytesMut::freeze)
    }
}

/// What a body gives: a frame, its failure, or its end.
type Item = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Polls a body and, where it has nothing, the connection that feeds it.
fn poll_driven(incoming: &mut Incoming, upstream: &Upstream, cx: &mut Context<'_>) -> Poll<Item> {
    upstream.turn(cx, |cx| {
        let item = Pin::new(&mut *incoming).poll_frame(cx);
        (item, incoming.is_end_stream())
    })
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match ready!(this.poll_source(cx)) {
            end @ (None | Some(Err(_))) if this.holds() => {
                // What waited for its end belongs before the end of all.
                this.ahead = Some(end);
                return Poll::Ready(Some(Ok(Frame::data(this.rest()))));
            }
            None => {
                this.finish();
                return Poll::Ready(None);
            }
            Some(Err(error)) if !this.failing => {
                // A turn of its own lets hyper write what came before.
                this.failing = true;
                this.ahead = Some(Some(Err(error)));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Err(error)) => {
                this.fail(&error);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        let data = match frame.into_data() {
            Ok(data) => this.merge(data, cx),
            Err(frame) => return Poll::Ready(Some(Ok(frame))),
        };
        let data = this.pass(data);
        if data.is_empty() && this.holds() {
            // It goes on when there is more, or at the end.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // With a known length nobody polls again after the last byte.
        if this.is_end_stream() {
            this.finish();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.said.is_none()
            && self.ahead.is_none()
            && match &self.source {
                Source::Local(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
                Source::Upstream(incoming, _) => incoming.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(length) = self.said {
            return SizeHint::with_exact(length);
        }
        match &self.source {
            Source::Local(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            // Only asked before the first frame, when nothing is kept ahead.
            Source::Upstream(incoming, _) => incoming.size_hint(),
        }
    }
}
