//! The bounds of the data path.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bounds of everything that could grow or wait on the data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest request or response body that the message view reads, in
    /// bytes. A longer body streams through and is traced by its headers.
    pub max_body_bytes: usize,
    /// Most bytes of bodies that are held, requests until they have come whole and what is unpacked,
    /// over all connections. A body without room streams through.
    pub held_bytes: usize,
    /// Longest single server-sent event that is looked into, in bytes.
    /// A longer one streams through unseen.
    pub max_event_bytes: usize,
    /// Longest request or response head, in bytes; a longer request is 431.
    pub max_head_bytes: usize,
    /// Most header fields in one head; a request with more is 431.
    pub max_headers: usize,
    /// Most downstream connections at once, over all listeners and workers.
    pub max_connections: usize,
    /// Most HTTP/2 streams that one downstream connection may have open.
    pub max_concurrent_streams: u32,
    /// Longest time for a client's TLS handshake, from its connection on.
    pub handshake_timeout: Duration,
    /// Longest time for a request head to arrive once its first byte is in.
    pub head_timeout: Duration,
    /// Longest time that the message view waits for a body of known length
    /// before the body streams through unseen.
    pub body_wait: Duration,
    /// Longest pause in a body of unknown length before the message view
    /// stops waiting for its end and lets it stream.
    pub body_gap: Duration,
    /// Longest time to reach the upstream, name resolution and TLS included;
    /// 504 after it.
    pub connect_timeout: Duration,
    /// Longest silence of the upstream before its response head; 504 after it.
    pub response_timeout: Duration,
    /// Longest time that shutting down waits for the application to go and
    /// for exchanges in flight.
    pub drain_timeout: Duration,
    /// Longest time after that for the last spans to leave.
    pub flush_timeout: Duration,
    /// How long a client that sent `Expect: 100-continue` is given to hear
    /// from the upstream before the body is read without its answer.
    pub expect_timeout: Duration,
    /// Most requests that are remembered because their answer may come on
    /// another connection, and most sessions; the oldest makes room.
    pub pending: usize,
    /// How long such a request is remembered, and a session that nobody uses.
    pub pending_timeout: Duration,
    /// Most spans of one long stream, or of what a process was given as parent,
    /// that hang under its span; later ones are traces of their own with a link.
    pub stream_spans: usize,
}

impl Limits {
    /// The most fields of a head where it differs from what hyper keeps room
    /// for without asking the allocator.
    pub fn max_headers_if_changed(&self) -> Option<usize> {
        (self.max_headers != HYPER_HEADERS).then_some(self.max_headers)
    }
}

/// The default of hyper's parser, which it holds on the stack.
const HYPER_HEADERS: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_body_bytes: MIB,
            held_bytes: 64 * MIB,
            max_event_bytes: MIB,
            max_head_bytes: 64 * KIB,
            max_headers: HYPER_HEADERS,
            max_connections: 16_384,
            max_concurrent_streams: 256,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(30),
            body_wait: Duration::from_secs(5),
            body_gap: Duration::from_millis(5),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60 * 60),
            drain_timeout: Duration::from_secs(20),
            flush_timeout: Duration::from_secs(5),
            expect_timeout: Duration::from_secs(1),
            pending: 16_384,
            pending_timeout: Duration::from_secs(60 * 60),
            stream_spans: 1_000,
        }
    }
}
