//! Reads the message of a request before it is passed on, where that delays
//! nobody: a JSON body whose length is known and within the limit, or one that
//! is complete within a pause of milliseconds. Everything else streams through
//! and is traced by its headers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header, request};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::body::RequestBody;
use super::budget::{Budget, Reserved};
use super::connection::Connection;
use super::headers::{Media, Survey};
use super::settings::Limits;
use crate::net::registry::Watched;

/// Why the message view has nothing to say of a body: the value of
/// `meshtrace.body` on the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is no JSON to look for.
    NotJson,
    /// `Content-Encoding` hides it.
    Encoded,
    /// It is longer than the limit.
    TooLarge,
    /// It did not come at once and streams.
    Streamed,
    /// Other bodies that are held leave no room for it.
    NoRoom,
}

impl Unread {
    /// The text of the attribute; a body that nobody expects to read has none.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Unread::NotJson => None,
            Unread::Encoded => Some("encoded"),
            Unread::TooLarge => Some("too_large"),
            Unread::Streamed => Some("streamed"),
            Unread::NoRoom => Some("no_room"),
        }
    }
}

/// A body after the attempt: whole, or to be streamed and why.
#[derive(Debug)]
pub enum Read {
    /// The whole body, in one piece, and its share of what may be held.
    Whole(Bytes, Option<Reserved>),
    /// The body as it has to be sent on, unread.
    Unread(RequestBody, Unread),
}

/// Reads the body if it is one that may be waited for.
pub async fn message(
    head: &request::Parts,
    body: Incoming,
    survey: Survey,
    expects: bool,
    connection: &Connection,
) -> Read {
    let limits = connection.worker.limits();
    let unread = |body, why| Read::Unread(RequestBody::stream(body), why);
    if head.method != Method::POST || survey.media() != Media::Json || body.is_end_stream() {
        return unread(body, Unread::NotJson);
    }
    if survey.has(Survey::CONTENT_ENCODING) && is_encoded(&head.headers) {
        return unread(body, Unread::Encoded);
    }
    if expects {
        return unread(body, Unread::Streamed);
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limits.max_body_bytes as u64) {
        return unread(body, Unread::TooLarge);
    }
    let reader = Reader {
        body,
        first: Bytes::new(),
        joined: BytesMut::new(),
        last: None,
        length: 0,
        expected: length.and_then(|length| usize::try_from(length).ok()),
        budget: &connection.worker.held,
        watched: &connection.watched,
        reserved: None,
    };
    reader.run(length.is_some(), limits).await
}

/// Whether a coding other than `identity` is on the body.
pub fn is_encoded(headers: &HeaderMap) -> bool {
    codings(headers).any(|value| !crate::w3c::trim_ows(value).eq_ignore_ascii_case(b"identity"))
}

/// What a head says of the codings of its body, field by field.
pub fn codings(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes)
}

struct Reader<'a> {
    body: Incoming,
    first: Bytes,
    /// The first piece and all others, from the second on. Kept apart, tiny
    /// chunks would take many times the memory that the limit allows.
    joined: BytesMut,
    /// Trailers or a failure, which came last.
    last: Option<Result<Frame<Bytes>, hyper::Error>>,
    length: usize,
    /// The length that the head names.
    expected: Option<usize>,
    budget: &'a Arc<Budget>,
    /// Its connection, which needs no turn once the body is whole.
    watched: &'a Watched,
    /// What is held for it, once it takes more than one read.
    reserved: Option<Reserved>,
}

/// How a turn of reading went.
enum Step {
    /// There was data, and there may be more.
    Data,
    /// The body is whole.
    End,
    /// The limit is passed.
    TooLarge,
    /// Trailers or a failure came, which only a streamed body can pass on.
    Streams,
    /// There is no room to wait for the rest.
    NoRoom,
}

impl Reader<'_> {
    /// Reads until the end, the limit or the pause that shows a stream. A
    /// body of known length is given longer, since its end is sure to come.
    async fn run(mut self, known: bool, limits: &Limits) -> Read {
        let max = limits.max_body_bytes;
        // What is there already needs no timer.
        let mut step = Step::Data;
        while matches!(step, Step::Data) {
            match poll_fn(|cx| Poll::Ready(self.poll_step(max, cx))).await {
                Poll::Ready(next) => step = next,
                Poll::Pending => break,
            }
        }
        if matches!(step, Step::Data) {
            step = self.wait(known, limits).await;
        }
        match step {
            // Sent as a whole it would lose its chunked framing.
            Step::End if self.length == 0 && !known => self.give_back(Unread::NotJson),
            Step::End | Step::Data => Read::Whole(self.data(), self.reserved),
            Step::TooLarge => self.give_back(Unread::TooLarge),
            Step::Streams => self.give_back(Unread::Streamed),
            Step::NoRoom => self.give_back(Unread::NoRoom),
        }
    }

    /// Waits for the rest, up to one deadline; where the length is not known
    /// also only for as long as no pause is longer than the gap.
    async fn wait(&mut self, known: bool, limits: &Limits) -> Step {
        if !self.has_room() {
            return Step::NoRoom;
        }
        let wait = if known { limits.body_wait } else { limits.body_gap };
        let mut deadline = Instant::now() + wait;
        // A body that trickles for ever is a stream, however short its pauses.
        let end = Instant::now() + limits.body_wait.max(limits.body_gap);
        loop {
            let step = poll_fn(|cx| self.poll_step(limits.max_body_bytes, cx));
            match timeout_at(deadline, step).await {
                Ok(Step::Data) if !known => deadline = end.min(Instant::now() + wait),
                Ok(Step::Data) => {}
                Ok(step) => return step,
                Err(_) => return Step::Streams,
            }
        }
    }

    fn poll_step(&mut self, max: usize, cx: &mut Context<'_>) -> Poll<Step> {
        if self.body.is_end_stream() {
            return Poll::Ready(Step::End);
        }
        let body = &mut self.body;
        let item = self.watched.take_quietly(|| {
            let item = Pin::new(&mut *body).poll_frame(cx);
            (item, body.is_end_stream())
        });
        let Some(item) = ready!(item) else {
            return Poll::Ready(Step::End);
        };
        let data = match item.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(trailers)) => return self.streams(Ok(trailers)),
            Err(error) => return self.streams(Err(error)),
        };
        self.length += data.len();
        if self.first.is_empty() {
            self.first = data;
        } else {
            let room = self.has_room();
            if self.joined.is_empty() {
                // Known to be within the limit, and so joined without growing.
                self.joined.reserve(self.expected.filter(|_| room).unwrap_or(self.length));
                self.joined.extend_from_slice(&self.first);
            }
            self.joined.extend_from_slice(&data);
            if !room {
                return Poll::Ready(Step::NoRoom);
            }
        }
        Poll::Ready(if self.length > max { Step::TooLarge } else { Step::Data })
    }

    /// Whether the body may be held, as far as its length is known.
    fn has_room(&mut self) -> bool {
        let wanted = self.expected.unwrap_or(self.length);
        match &mut self.reserved {
            Some(reserved) => reserved.grow_to(wanted),
            None => {
                self.reserved = self.budget.reserve(wanted);
                self.reserved.is_some()
            }
        }
    }

    fn streams(&mut self, last: Result<Frame<Bytes>, hyper::Error>) -> Poll<Step> {
        self.last = Some(last);
        Poll::Ready(Step::Streams)
    }

    /// All data in one piece; the usual single frame is not copied.
    fn data(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.first) } else { self.joined.split().freeze() }
    }

    fn give_back(mut self, why: Unread) -> Read {
        let data = Some(self.data()).filter(|data| !data.is_empty());
        let first: VecDeque<_> =
            data.map(|data| Ok(Frame::data(data))).into_iter().chain(self.last).collect();
        Read::Unread(RequestBody::begun(first, self.body), why)
    }
}
