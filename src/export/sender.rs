//! The delivery of one batch: the request, its attempts, and what it came to.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::export::config::{Compression, OtlpConfig, Protocol};
use crate::export::connect::{Dialer, Frames, Lane};
use crate::export::health::{Health, State};
use crate::export::otlp::Envelope;
use crate::export::retry::Backoff;
use crate::export::verdict::{Encoding, Verdict};
use crate::export::{grpc, http};
use crate::metrics::ExportMetrics;
use crate::net::tls::TlsError;

/// Encoded spans that go out in one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) parts: Vec<Bytes>,
    pub(super) spans: usize,
    pub(super) bytes: usize,
    /// The place of its oldest chunk in the order of the queue.
    pub(super) number: u64,
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Delivery {
    /// Accepted but for some spans.
    Accepted { rejected: u64 },
    /// Given up: a retry cannot help.
    Refused,
    /// Given up: its time was over.
    Expired,
}

/// Everything that batches have in common.
pub(super) struct Sender {
    config: OtlpConfig,
    dialer: Dialer,
    /// What comes in front of spans; other signals are whole.
    envelope: Option<Envelope>,
    gzip: AtomicBool,
    metrics: ExportMetrics,
    pub(super) health: Health,
    /// Turns true when the process stops: waits end at once, and later ones are short.
    hurry: watch::Receiver<bool>,
}

/// The wait between attempts while the process stops.
const HURRIED_WAIT: Duration = Duration::from_millis(100);

impl Sender {
    pub(super) fn new(
        config: OtlpConfig,
        envelope: Option<Envelope>,
        metrics: ExportMetrics,
        hurry: watch::Receiver<bool>,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            dialer: Dialer::new(&config)?,
            envelope,
            gzip: AtomicBool::new(config.compression == Compression::Gzip),
            metrics,
            health: Health::new(config.endpoint.to_string(), config.signal),
            hurry,
            config,
        })
    }

    /// Tries until the batch is accepted, refused, or its time is over.
    pub(super) async fn deliver(&self, lane: &mut Lane, batch: &Batch) -> Delivery {
        let until = Instant::now() + self.config.retry.max_total;
        let mut backoff = Backoff::new(&self.config.retry);
        let mut encoding =
            if self.gzip.load(Ordering::Relaxed) { Encoding::Gzip } else { Encoding::Identity };
        let mut body = self.body(batch, encoding);
        let mut hurry = self.hurry.clone();
        loop {
            let (after, why) = match self.attempt(lane, encoding, &body).await {
                Verdict::Accepted { rejected, message } => {
                    let rejected = rejected.min(batch.spans as u64);
                    self.accepted(encoding, rejected, &message);
                    return Delivery::Accepted { rejected };
                }
                Verdict::Refused { plain_may_help: true, .. } if encoding == Encoding::Gzip => {
                    self.metrics.requests_refused.inc();
                    encoding = Encoding::Identity;
                    body = self.body(batch, encoding);
                    continue;
                }
                Verdict::Refused { why, .. } => {
                    self.metrics.requests_refused.inc();
                    self.health.found(State::Refusing, &why);
                    return Delivery::Refused;
                }
                Verdict::Retry { after, why } => (after, why),
            };
            self.health.found(State::Down, &why);
            let wait = if *hurry.borrow() { HURRIED_WAIT } else { backoff.wait(after) };
            if Instant::now() + wait >= until {
                return Delivery::Expired;
            }
            pause(wait, &mut hurry).await;
        }
    }

    fn accepted(&self, encoding: Encoding, rejected: u64, message: &str) {
        if encoding == Encoding::Identity && self.gzip.swap(false, Ordering::Relaxed) {
            tracing::warn!(endpoint = %self.config.endpoint, signal = self.config.signal.as_str(), "the collector does not take gzip; {} are sent uncompressed from now on", self.config.signal.noun());
        }
        self.health.found(State::Up, "");
        if rejected > 0 || !message.is_empty() {
            self.health.rejected(rejected, message);
        }
        let counter = if rejected > 0 { &self.metrics.requests_partial } else { &self.metrics.requests_ok };
        counter.inc();
    }

    /// One request and the meaning of its answer. A connection that the collector closed while it was idle says nothing
    /// about the collector, so the request is sent once more at once, on a new one.
    async fn attempt(&self, lane: &mut Lane, encoding: Encoding, body: &Frames) -> Verdict {
        for _ in 0..2 {
            let exchange = lane.exchange(&self.dialer, self.request(encoding, body.clone()));
            let answer = match tokio::time::timeout(self.config.timeout, exchange).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(broken)) => {
                    self.metrics.requests_network.inc();
                    if broken.reused {
                        continue;
                    }
                    return Verdict::Retry { after: None, why: broken.reason };
                }
                Err(_) => {
                    self.metrics.requests_timeout.inc();
                    return Verdict::Retry {
                        after: None,
                        why: format!("no answer within {:?}", self.config.timeout),
                    };
                }
            };
            let verdict = match self.config.protocol {
                Protocol::Grpc => grpc::verdict(&answer, encoding),
                Protocol::HttpProtobuf | Protocol::HttpJson => {
                    http::verdict(&answer, encoding, SystemTime::now())
                }
            };
            if matches!(verdict, Verdict::Retry { .. }) {
                self.metrics.requests_retryable.inc();
            }
            return verdict;
        }
        Verdict::Retry { after: None, why: "the connection was closed twice".to_owned() }
    }

    fn request(&self, encoding: Encoding, body: Frames) -> ::http::Request<Frames> {
        match self.config.protocol {
            Protocol::Grpc => grpc::request(&self.config, encoding, self.config.timeout, body),
            Protocol::HttpProtobuf | Protocol::HttpJson => http::request(&self.config, encoding, body),
        }
    }

    /// The body of the request: the prefix and the spans as they are, unless the encoding asks for other bytes.
    fn body(&self, batch: &Batch, encoding: Encoding) -> Frames {
        let mut parts = Vec::with_capacity(batch.parts.len() + 2);
        parts.extend(self.envelope.as_ref().map(|envelope| Bytes::from(envelope.prefix(batch.bytes))));
        parts.extend(batch.parts.iter().cloned());
        if self.config.protocol == Protocol::HttpJson {
            parts = vec![self.config.signal.json(&parts.concat()).into()];
        }
        if encoding == Encoding::Gzip {
            parts = vec![gzip(&parts)];
        }
        if self.config.protocol == Protocol::Grpc {
            let len = parts.iter().map(Bytes::len).sum();
            parts.insert(0, grpc::message_prefix(len, encoding));
        }
        Frames::new(parts)
    }
}

async fn pause(wait: Duration, hurry: &mut watch::Receiver<bool>) {
    let hurried = *hurry.borrow_and_update();
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        Ok(()) = hurry.changed(), if !hurried => {}
    }
}

/// Writing into a vector cannot fail; if it ever did, the collector would answer that the body is broken.
fn gzip(parts: &[Bytes]) -> Bytes {
    let len: usize = parts.iter().map(Bytes::len).sum();
    let mut encoder = GzEncoder::new(Vec::with_capacity(len / 8), Level::fast());
    for part in parts {
        let _ = encoder.write_all(part);
    }
    encoder.finish().unwrap_or_default().into()
}
