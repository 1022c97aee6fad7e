//! How the body of a response is looked into as it passes, and what its end says.

use bytes::{Bytes, BytesMut};
use http::{header, response};

use super::waiting::Waiting;
use super::{Exchange, MAX_BATCH};
use crate::mcp::batch;
use crate::mcp::message::{self, Doubt, Kind, Message};
use crate::mcp::rewrite::Rewriter;
use crate::proxy::error::Breakage;
use crate::proxy::headers::Media;
use crate::trace::semconv as key;

/// How the response is looked into.
#[derive(Debug)]
pub(super) enum Observer {
    Nothing,
    /// A JSON body, kept until it is whole; usually it is one frame.
    Json {
        first: Bytes,
        /// The first piece and all others, from the second on.
        joined: BytesMut,
    },
    /// A stream of server-sent events.
    Events {
        rewriter: Box<Rewriter>,
        progress: i64,
    },
}

/// Whether more of the response has to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The end has not come.
    Open,
    /// The deciding message has passed; the rest is of no interest.
    Decided,
}

impl Exchange {
    /// Looks at data on its way to the client. Gives what is to be passed on
    /// now: the same, but for events that are edited or wait for their end.
    pub fn pass(&mut self, data: Bytes) -> (Bytes, Progress) {
        for waiting in self.waits_mut() {
            waiting.bytes += data.len() as u64;
        }
        let data = match self.unpacking.take() {
            None => self.look_at(data),
            Some(unpacking) => {
                self.look_into(unpacking, &data);
                data
            }
        };
        // One that was cancelled on another connection is over too.
        let open = self.listening.is_some() || self.waits().any(Waiting::is_awaited) || self.holds();
        (data, if open { Progress::Open } else { Progress::Decided })
    }

    /// The same of what can be read.
    pub(super) fn look_at(&mut self, data: Bytes) -> Bytes {
        if matches!(self.observer, Observer::Events { .. }) {
            return self.pass_events(data);
        }
        self.observe(&data);
        data
    }

    /// Whether some of the response waits for its end.
    pub fn holds(&self) -> bool {
        matches!(&self.observer, Observer::Events { rewriter, .. } if rewriter.holds())
    }

    /// What waits for its end, because that will not come.
    pub fn rest(&mut self) -> Bytes {
        match &mut self.observer {
            Observer::Events { rewriter, .. } => rewriter.rest(),
            _ => Bytes::new(),
        }
    }

    fn observe(&mut self, data: &Bytes) {
        match &mut self.observer {
            Observer::Nothing | Observer::Events { .. } => {}
            Observer::Json { first, joined } => {
                let length = first.len().max(joined.len()) + data.len();
                if length > self.worker.limits().max_body_bytes {
                    self.observer = Observer::Nothing;
                    self.note("too_large");
                } else if first.is_empty() {
                    *first = data.clone();
                } else {
                    if joined.is_empty() {
                        joined.extend_from_slice(first);
                    }
                    joined.extend_from_slice(data);
                }
            }
        }
    }

    /// The response came to its end.
    pub fn body_ended(&mut self) {
        self.unpacked();
        match std::mem::replace(&mut self.observer, Observer::Nothing) {
            Observer::Json { first, joined } if joined.is_empty() => self.json_ended(&first),
            Observer::Json { joined, .. } => self.json_ended(&joined),
            Observer::Events { rewriter, .. } => self.events_ended(rewriter.saw_id()),
            Observer::Nothing => {}
        }
        if self.side.elsewhere && self.status.is_some_and(|status| status.is_success()) {
            self.each(|waiting, worker| _ = waiting.park(worker));
        }
        self.stream_ended();
        let status = self.status;
        self.each(|waiting, worker| waiting.unanswered(worker, status));
    }

    fn json_ended(&mut self, body: &[u8]) {
        if self.first.completes(body, false) {
            return;
        }
        let Exchange { worker, first, more, side, target, status, .. } = self;
        let single = more.is_empty();
        first.registered(body);
        each_answer(body, |message| {
            if message.kind() != Kind::Response {
                return;
            }
            let unread = message.error.is_some() && message.id.is_none();
            for waiting in std::iter::once(&mut *first).chain(more.iter_mut()) {
                // The exchange itself ties one answer to one request. An error
                // that could not read the request carries no id and is for all.
                if waiting.is_open()
                    && waiting.answer().is_some()
                    && (single || unread || waiting.awaits(message))
                {
                    waiting.came_to(worker, *side, target.as_ref().map(|target| &target.server), message);
                    waiting.answered(worker, message, *status);
                    if !unread {
                        break;
                    }
                }
            }
        });
    }

    fn events_ended(&mut self, named: bool) {
        self.stream = None;
        if self.first.awaited.is_whole_body() || self.status.is_some_and(|status| !status.is_success()) {
            return;
        }
        self.each(|waiting, worker| {
            // The client may fetch the answer on another connection.
            if named && waiting.park(worker) {
                return;
            }
            if !named || waiting.awaited.is_modern() {
                waiting.failed(worker, "connection_closed", "the stream ended without a response");
            } else if let Some(span) = &mut waiting.span {
                span.set_static(key::MESHTRACE_RESPONSE, "resumable");
            }
        });
    }

    /// The response broke off.
    pub fn body_failed(&mut self, error: &hyper::Error) {
        let failure = match Breakage::of(error) {
            Breakage::Reset => "connection_reset",
            _ => "connection_closed",
        };
        self.each(|waiting, worker| waiting.failed(worker, failure, "the response broke off"));
    }
}

pub(super) fn observer(
    head: &response::Parts,
    media: Media,
    max_event_bytes: usize,
    may_ask: bool,
) -> Observer {
    match media {
        Media::Json => Observer::Json { first: Bytes::new(), joined: BytesMut::new() },
        Media::Events => {
            // A server that names the length has written the end already, and
            // waits for no answer of the client in between.
            let edits = may_ask && !head.headers.contains_key(header::CONTENT_LENGTH);
            Observer::Events { rewriter: Box::new(Rewriter::new(max_event_bytes, edits)), progress: 0 }
        }
        Media::Other => Observer::Nothing,
    }
}

/// Hands over the message that `data` is, or those of the batch that it is.
pub fn each_answer(data: &[u8], mut take: impl FnMut(&Message<'_>)) {
    let mut message = Message::default();
    match message.read_outcome(data) {
        Ok(()) => take(&message),
        Err(Doubt::Batch) => {
            for element in batch::elements(data, MAX_BATCH).unwrap_or_default() {
                if let Ok(message) = data.get(element).map_or(Err(Doubt::NotJson), message::parse_answer) {
                    take(&message);
                }
            }
        }
        Err(_) => {}
    }
}
