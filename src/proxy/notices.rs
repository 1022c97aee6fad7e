//! Tells the sidecars around that a trace is kept, and hears it from them.
//!
//! A packet of UDP to a port beside the admin port: nothing waits for it, no
//! state is kept for who does not listen, and nothing comes back. All that a
//! notice can do is to have spans sent that are held anyway, of traces whose
//! ids its sender knows.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::trace::TraceId;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::held::Kept;
use super::worker::Tracer;
use crate::export::queue::Recorder;
use crate::metrics::NoticeMetrics;
use crate::trace::hop::{self, MAX_NOTICE_BYTES, MAX_TRACES};
use crate::trace::rate::Bucket;

/// The most notices that wait to be sent; one more is dropped.
const QUEUE: usize = 4_096;

/// The most packets that are sent in a second; one more is dropped.
const SENT_PER_SECOND: f64 = 1_000.0;

/// The most packets that are read in a second. The others wait in the kernel, which drops them.
const READ_PER_SECOND: f64 = 1_000.0;

/// How long a notice waits for others to the same sidecar.
const LINGER: Duration = Duration::from_millis(10);

/// How long reading pauses when it is too much, or fails.
const PAUSE: Duration = Duration::from_millis(20);

/// A trace, and who has to hear that it is kept.
type Notice = (SocketAddr, TraceId);

/// The way of notices out. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Notices {
    out: Option<mpsc::Sender<Notice>>,
    port: u16,
    metrics: NoticeMetrics,
}

/// What [`Notices`] give is sent from here, by [`Post::run`].
#[derive(Debug)]
pub struct Waiting(mpsc::Receiver<Notice>);

impl Notices {
    /// Tells nobody, and hears of nothing.
    pub fn none() -> Self {
        Notices { out: None, port: 0, metrics: NoticeMetrics::default() }
    }

    /// Others may send notices to this port.
    pub fn at(port: u16, metrics: NoticeMetrics) -> (Self, Waiting) {
        let (out, waiting) = mpsc::channel(QUEUE);
        (Notices { out: Some(out), port, metrics }, Waiting(waiting))
    }

    /// The port that others are told; 0 where notices are not taken.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has these sidecars told, if there is room.
    pub fn tell(&self, trace: TraceId, neighbours: impl IntoIterator<Item = SocketAddr>) {
        let Some(out) = &self.out else { return };
        for neighbour in neighbours {
            if out.try_send((neighbour, trace)).is_err() {
                self.metrics.dropped.inc();
            }
        }
    }
}

/// Sends and receives notices.
#[derive(Debug)]
pub struct Post {
    /// Bound, and not blocking.
    pub socket: std::net::UdpSocket,
    /// What is to be sent.
    pub waiting: Waiting,
    /// Who knows the traces.
    pub tracer: Arc<Tracer>,
    /// Where the spans go of those that are kept.
    pub recorder: Recorder,
    /// Counters.
    pub metrics: NoticeMetrics,
}

impl Post {
    /// Works until `stop`, and then sends what still waits.
    ///
    /// # Errors
    /// The socket cannot be had in this event loop.
    pub async fn run(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let socket = UdpSocket::from_std(self.socket)?;
        let now = Instant::now();
        let mut sending = Sending {
            is_v6: socket.local_addr()?.is_ipv6(),
            socket: &socket,
            bucket: Bucket::new(SENT_PER_SECOND, now),
            metrics: &self.metrics,
        };
        let mut waiting = self.waiting.0;
        let receiving = Receiving {
            socket: &socket,
            tracer: &self.tracer,
            recorder: &self.recorder,
            metrics: &self.metrics,
        };
        tokio::select! {
            () = sending.run(&mut waiting) => {}
            () = receiving.run() => {}
            () = stop => {}
        }
        sending.rest(&mut waiting).await;
        Ok(())
    }
}

struct Sending<'a> {
    socket: &'a UdpSocket,
    is_v6: bool,
    bucket: Bucket,
    metrics: &'a NoticeMetrics,
}

impl Sending<'_> {
    async fn run(&mut self, waiting: &mut mpsc::Receiver<Notice>) {
        let mut some = Vec::new();
        while waiting.recv_many(&mut some, QUEUE).await > 0 {
            tokio::time::sleep(LINGER).await;
            self.send(&mut some, waiting).await;
        }
    }

    async fn rest(&mut self, waiting: &mut mpsc::Receiver<Notice>) {
        self.send(&mut Vec::new(), waiting).await;
    }

    /// Sends these and what has come meanwhile, in as few packets as they fit.
    async fn send(&mut self, some: &mut Vec<Notice>, waiting: &mut mpsc::Receiver<Notice>) {
        while some.len() < QUEUE
            && let Ok(notice) = waiting.try_recv()
        {
            some.push(notice);
        }
        let mut by_neighbour = HashMap::<SocketAddr, Vec<TraceId>>::new();
        for (neighbour, trace) in some.drain(..) {
            by_neighbour.entry(neighbour).or_default().push(trace);
        }
        for (neighbour, traces) in by_neighbour {
            for traces in traces.chunks(MAX_TRACES) {
                let count = u64::try_from(traces.len()).unwrap_or(u64::MAX);
                let sent = self.bucket.take(Instant::now())
                    && self
                        .socket
                        .send_to(&hop::encode_notice(traces), self.written(neighbour))
                        .await
                        .is_ok();
                let counter = if sent { &self.metrics.sent } else { &self.metrics.dropped };
                counter.inc_by(count);
            }
        }
    }

    /// The address as the family of the socket has to have it.
    fn written(&self, neighbour: SocketAddr) -> SocketAddr {
        match neighbour.ip() {
            IpAddr::V4(v4) if self.is_v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), neighbour.port()),
            _ => neighbour,
        }
    }
}

struct Receiving<'a> {
    socket: &'a UdpSocket,
    tracer: &'a Tracer,
    recorder: &'a Recorder,
    metrics: &'a NoticeMetrics,
}

impl Receiving<'_> {
    async fn run(&self) {
        let bucket = Bucket::new(READ_PER_SECOND, Instant::now());
        // One byte more, to see that a packet is too long.
        let mut packet = [0; MAX_NOTICE_BYTES + 1];
        loop {
            match self.socket.recv_from(&mut packet).await {
                Ok((length, from)) => self.received(packet.get(..length).unwrap_or_default(), from),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            while !bucket.take(Instant::now()) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn received(&self, packet: &[u8], from: SocketAddr) {
        let Some(traces) = hop::parse_notice(packet) else {
            self.metrics.malformed.inc();
            return;
        };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        for trace in traces {
            let Some(Kept { spans, tell }) = self.tracer.held.keep_known(trace, from, Instant::now()) else {
                self.metrics.unknown.inc();
                continue;
            };
            self.metrics.known.inc();
            self.tracer.notices.tell(trace, tell);
            spans.iter().for_each(|span| self.recorder.end_encoded(&span.bytes, span.cut));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;

    fn neighbour(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let metrics = NoticeMetrics::default();
        let (notices, waiting) = Notices::at(1, metrics.clone());
        let ids = Ids::seeded(1, 2);
        for _ in 0..QUEUE + 10 {
            notices.tell(ids.trace_id(), [neighbour(9)]);
        }
        assert_eq!(metrics.dropped.get(), 10);
        drop(waiting);
        notices.tell(ids.trace_id(), [neighbour(9), neighbour(10)]);
        assert_eq!(metrics.dropped.get(), 12);
        Notices::none().tell(ids.trace_id(), [neighbour(9)]);
    }

    #[tokio::test]
    async fn notices_to_one_sidecar_go_in_few_packets() {
        let metrics = NoticeMetrics::default();
        let (notices, waiting) = Notices::at(1, metrics.clone());
        let ids = Ids::seeded(1, 2);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let others =
            [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("[::1]:0").await.unwrap()];
        let at = others[0].local_addr().unwrap();
        let traces: Vec<_> = (0..2 * MAX_TRACES + 1).map(|_| ids.trace_id()).collect();
        for trace in &traces {
            // The second one is of a family that the socket has not.
            notices.tell(*trace, [at, others[1].local_addr().unwrap()]);
        }
        let bucket = Bucket::new(SENT_PER_SECOND, Instant::now());
        let mut sending = Sending { is_v6: false, socket: &socket, bucket, metrics: &metrics };
        sending.rest(&mut { waiting.0 }).await;
        let mut told = Vec::new();
        for expected in [MAX_TRACES, MAX_TRACES, 1] {
            let mut packet = [0; 2 * MAX_NOTICE_BYTES];
            let (length, _) = others[0].recv_from(&mut packet).await.unwrap();
            let before = told.len();
            told.extend(hop::parse_notice(&packet[..length]).unwrap());
            assert_eq!(told.len() - before, expected);
        }
        assert_eq!(told, traces);
        let count = u64::try_from(traces.len()).unwrap();
        assert_eq!((metrics.sent.get(), metrics.dropped.get()), (count, count));
    }

    #[tokio::test]
    async fn packets_are_bounded_in_a_second() {
        let metrics = NoticeMetrics::default();
        let (notices, waiting) = Notices::at(1, metrics.clone());
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let trace = Ids::seeded(1, 2).trace_id();
        notices.tell(trace, (1..=2_000).map(neighbour));
        let now = Instant::now();
        let mut sending =
            Sending { is_v6: false, socket: &socket, bucket: Bucket::new(1.0, now), metrics: &metrics };
        sending.rest(&mut { waiting.0 }).await;
        // One at once, and one more for each second that this test has taken.
        let (sent, took) = (metrics.sent.get(), now.elapsed().as_secs());
        assert!(sent >= 1 && sent <= 2 + took, "{sent}");
        assert_eq!(sent + metrics.dropped.get(), 2_000);
    }
}
