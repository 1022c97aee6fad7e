//! The way of finished spans from the worker threads to the export task.
//!
//! Each worker encodes into a chunk of its own; only full chunks, and once in a while the partly filled ones, change
//! hands. Nothing here waits: a span that finds the queue full is dropped and counted. The bounds count every span that
//! was recorded and not yet answered for: in a worker's chunk, waiting, or in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::export::otlp;
use crate::metrics::ExportMetrics;
use crate::trace::span::Span;

/// The most bytes that are put together in one chunk, unless a single span is larger.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// A worker's chunk is handed over when it reaches this many bytes: while a usual span still fits, so that the buffer
/// does not double for the last one and memory in use stays near the bytes that are counted.
const FULL_BYTES: usize = CHUNK_BYTES - 4 * 1024;

/// How many emptied buffers are kept for the workers. More come back only after a backlog, and are given to the allocator.
const MAX_SPARE_BUFFERS: usize = 16;

/// How much the queue may hold, and in what portions it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueConfig {
    /// Spans recorded and not yet answered for. The next one is dropped. `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub max_queue_spans: usize,
    /// Encoded bytes of these spans. The span that would pass it is dropped.
    pub max_queue_bytes: usize,
    /// Spans of one request. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub max_batch_spans: usize,
    /// Encoded bytes of one request, before compression. Well below the 4 MiB that gRPC receivers take by default.
    pub max_batch_bytes: usize,
    /// How long a span waits at most before it is sent. `OTEL_BSP_SCHEDULE_DELAY`.
    pub schedule_delay: Duration,
}

impl Default for QueueConfig {
    /// Larger and quicker than the specification's 2,048 spans every 5 s: those lose spans at a few hundred requests a second.
    fn default() -> Self {
        Self {
            max_queue_spans: 65_536,
            max_queue_bytes: 32 * 1024 * 1024,
            max_batch_spans: 512,
            max_batch_bytes: 1024 * 1024,
            schedule_delay: Duration::from_secs(1),
        }
    }
}

/// The handle on the export pipeline. Cloning it is cheap and shares the pipeline; when the last clone is dropped, the
/// pipeline is shut down.
#[derive(Clone, Debug)]
pub struct Exporter {
    pipeline: Option<(Arc<Shared>, mpsc::Sender<Command>)>,
}

/// One worker's way into the pipeline. Cloning is possible but costs contention; give each thread its own.
///
/// Dropping it loses nothing: the export task still takes what it holds.
#[derive(Debug)]
pub struct Recorder {
    lane: Option<(Arc<Shared>, Arc<Slot>)>,
}

impl Exporter {
    /// A pipeline to nowhere: recorders do nothing, flush and shutdown return at once. For `OTEL_TRACES_EXPORTER=none`.
    pub fn disabled() -> Self {
        Self { pipeline: None }
    }

    pub(super) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>) -> Self {
        Self { pipeline: Some((shared, commands)) }
    }

    /// Whether spans go anywhere. If not, there is no reason to record them.
    pub fn is_enabled(&self) -> bool {
        self.pipeline.is_some()
    }

    /// A recorder for one worker thread.
    pub fn worker(&self) -> Recorder {
        let lane = self.pipeline.as_ref().map(|(shared, _)| {
            let slot = Arc::new(Slot::default());
            shared.slots.lock().push(Arc::clone(&slot));
            (Arc::clone(shared), slot)
        });
        Recorder { lane }
    }

    /// Spans and encoded bytes that wait at this moment.
    pub fn waiting(&self) -> (usize, usize) {
        self.pipeline.as_ref().map_or((0, 0), |(shared, _)| shared.level.read())
    }

    /// Sends everything recorded before the call and waits until the collector has answered for it or it was given up.
    ///
    /// Returns whether that happened before `deadline` was over. Spans are not lost by a late flush; they keep waiting.
    /// Has to be awaited in a tokio runtime with timers, any one.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let Some((_, commands)) = &self.pipeline else { return true };
        let (answer, answered) = oneshot::channel();
        let flushed = async {
            let sent = commands.send(Command::Flush { answer }).await;
            sent.is_ok() && answered.await.is_ok()
        };
        tokio::time::timeout(deadline, flushed).await.unwrap_or(false)
    }

    /// Stops recording, sends what waits for at most `deadline`, then ends the export task.
    ///
    /// Returns the number of spans that were lost; they are counted as dropped with the reason `shutdown`. A second call
    /// waits for the first and returns 0.
    pub async fn shutdown(&self, deadline: Duration) -> usize {
        let Some((_, commands)) = &self.pipeline else { return 0 };
        let until = Instant::now() + deadline;
        let (answer, answered) = oneshot::channel();
        if commands.send(Command::Shutdown { until, answer }).await.is_err() {
            return 0;
        }
        answered.await.unwrap_or(0)
    }
}

impl Recorder {
    /// A recorder that drops everything unseen and uncounted.
    pub fn disabled() -> Self {
        Self { lane: None }
    }

    /// Whether spans go anywhere. If not, there is no reason to record them.
    pub fn is_enabled(&self) -> bool {
        self.lane.is_some()
    }

    /// Encodes a finished span into the worker's chunk. Never waits; over a limit the span is dropped and counted.
    ///
    /// The caller may clear and use the span again at once.
    pub fn end(&self, span: &Span) {
        self.add(span.is_cut(), |chunk| otlp::encode_span(span, chunk));
    }

    /// The same with a span that was encoded before, as one element of `ScopeSpans.spans`.
    pub fn end_encoded(&self, span: &[u8], cut: bool) {
        self.add(cut, |chunk| chunk.extend_from_slice(span));
    }

    #[inline]
    fn add(&self, cut: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let Some((shared, slot)) = &self.lane else { return };
        if cut {
            shared.metrics.spans_cut.inc();
        }
        if !shared.level.take_span(&shared.config) {
            shared.metrics.spans_dropped_queue_spans.inc();
            return;
        }
        {
            let mut chunk = slot.chunk.lock();
            if shared.closed.load(Ordering::Relaxed) {
                shared.level.release(1, 0);
                shared.metrics.spans_dropped_shutdown.inc();
                return;
            }
            let before = chunk.bytes.len();
            write(&mut chunk.bytes);
            if !shared.level.take_bytes(chunk.bytes.len() - before, &shared.config) {
                chunk.bytes.truncate(before);
                shared.level.release(1, 0);
                shared.metrics.spans_dropped_queue_bytes.inc();
                return;
            }
            chunk.spans += 1;
            if chunk.bytes.len() < FULL_BYTES && chunk.spans < shared.config.max_batch_spans {
                return;
            }
            // Handed over before the lock on the chunk ends, so that a flush that finds the worker's chunk empty finds this one.
            let full = chunk.swap(shared.spare_buffer());
            shared.handover.lock().full.push(full);
        }
        shared.arrived.notify_one();
    }
}

/// Encoded spans that stay together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) spans: usize,
}

/// What a worker and the export task share.
#[derive(Debug, Default)]
pub(super) struct Slot {
    chunk: Mutex<Chunk>,
}

/// What the export task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Flush { answer: oneshot::Sender<()> },
    Shutdown { until: Instant, answer: oneshot::Sender<usize> },
}

/// The state behind all handles.
#[derive(Debug)]
pub(super) struct Shared {
    config: QueueConfig,
    pub(super) level: Level,
    closed: AtomicBool,
    slots: Mutex<Vec<Arc<Slot>>>,
    handover: Mutex<Handover>,
    pub(super) arrived: Notify,
    metrics: ExportMetrics,
}

#[derive(Debug, Default)]
struct Handover {
    full: Vec<Chunk>,
    spare: Vec<Vec<u8>>,
}

impl Shared {
    pub(super) fn new(config: QueueConfig, metrics: ExportMetrics) -> Self {
        Self {
            config,
            level: Level::default(),
            closed: AtomicBool::new(false),
            slots: Mutex::default(),
            handover: Mutex::default(),
            arrived: Notify::new(),
            metrics,
        }
    }

    /// Takes the chunks that workers have filled.
    pub(super) fn take_full(&self) -> Vec<Chunk> {
        std::mem::take(&mut self.handover.lock().full)
    }

    /// Takes what the workers have begun, and forgets the workers that are gone.
    pub(super) fn take_begun(&self) -> Vec<Chunk> {
        let slots = self.slots.lock().clone();
        let mut begun = Vec::new();
        for slot in &slots {
            let spare = self.spare_buffer();
            let mut chunk = slot.chunk.lock();
            if chunk.spans > 0 {
                begun.push(chunk.swap(spare));
            } else {
                drop(chunk);
                self.recycle(spare);
            }
        }
        drop(slots);
        // A slot that only this list holds belongs to a worker that is gone, and was emptied just now.
        self.slots.lock().retain(|slot| Arc::strong_count(slot) > 1 || !slot.chunk.lock().bytes.is_empty());
        begun
    }

    /// From here on every span is dropped. A recorder that is just encoding finishes first, so nothing slips past.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Gives an emptied buffer back to the workers.
    pub(super) fn recycle(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > 2 * CHUNK_BYTES {
            return;
        }
        buffer.clear();
        let spare = &mut self.handover.lock().spare;
        if spare.len() < MAX_SPARE_BUFFERS {
            spare.push(buffer);
        }
    }

    fn spare_buffer(&self) -> Vec<u8> {
        self.handover.lock().spare.pop().unwrap_or_default()
    }
}

impl Chunk {
    fn swap(&mut self, empty: Vec<u8>) -> Self {
        std::mem::replace(self, Self { bytes: empty, spans: 0 })
    }
}

/// How much waits. A reservation that would pass the limit is undone, so the limits hold at every moment.
#[derive(Debug, Default)]
pub(super) struct Level {
    spans: AtomicUsize,
    bytes: AtomicUsize,
}

impl Level {
    fn take_span(&self, config: &QueueConfig) -> bool {
        let taken = self.spans.fetch_add(1, Ordering::Relaxed) < config.max_queue_spans;
        if !taken {
            self.spans.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn take_bytes(&self, bytes: usize, config: &QueueConfig) -> bool {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= config.max_queue_bytes;
        if !taken {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    pub(super) fn release(&self, spans: usize, bytes: usize) {
        self.spans.fetch_sub(spans, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> (usize, usize) {
        (self.spans.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}
