//! The export task: gathers what the workers recorded, makes batches, and keeps a few of them in flight.
//!
//! It is one future that owns everything beyond the hand-over; it holds no lock while it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::export::connect::Lane;
use crate::export::console::Console;
use crate::export::queue::{CHUNK_BYTES, Chunk, Command, QueueConfig, Shared};
use crate::export::sender::{Batch, Delivery, Sender};
use crate::metrics::ExportMetrics;

/// Requests in flight at most, each on a connection of its own. One carries 512 spans a round trip; four carry 40,000
/// spans a second to a collector that takes 50 ms.
const MAX_IN_FLIGHT: usize = 4;

/// How long the task goes on when every handle was dropped without a shutdown.
const ABANDONED_DEADLINE: Duration = Duration::from_secs(5);

/// The far end of the pipeline. Nothing leaves before [`Task::run`] is polled.
pub struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) config: QueueConfig,
    pub(super) metrics: ExportMetrics,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) sender: Option<Arc<Sender>>,
    pub(super) console: Option<Console>,
    pub(super) hurry: watch::Sender<bool>,
    pub(super) waiting: VecDeque<Chunk>,
    /// The number of the first chunk of `waiting`; the others follow.
    pub(super) first: u64,
    pub(super) in_flight: JoinSet<Settled>,
    pub(super) pending: Vec<Pending>,
    pub(super) idle: Vec<Lane>,
    pub(super) flushes: Vec<(u64, oneshot::Sender<()>)>,
    pub(super) stop: Option<(Instant, Option<oneshot::Sender<usize>>)>,
}

/// A delivery that came to its end: the connection and the buffers to use again, and what became of the spans.
pub(super) type Settled = (Lane, Vec<Bytes>, Delivery);

/// What is known of a batch in flight without asking its task.
pub(super) struct Pending {
    task: task::Id,
    number: u64,
    spans: usize,
    bytes: usize,
}

impl Task {
    /// Exports until [`Exporter::shutdown`](super::Exporter::shutdown) was carried out.
    ///
    /// Runs on any tokio runtime, best on a thread of its own: compression and JSON take milliseconds.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.tick_period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.dispatch();
            self.answer_flushes();
            self.publish_level();
            if self.is_done() {
                break;
            }
            let until = self.stop.as_ref().map(|(until, _)| *until);
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                Some(done) = self.in_flight.join_next_with_id() => self.settle(done),
                command = self.commands.recv(), if until.is_none() => self.obey(command),
                () = shared.arrived.notified() => self.gather(),
                _ = ticks.tick() => self.tick(),
                () = sleep_until(until) => break,
            }
        }
        self.finish();
    }

    fn tick_period(&self) -> Duration {
        match self.console {
            Some(_) => self.config.schedule_delay.min(Console::LONGEST_DELAY),
            None => self.config.schedule_delay,
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        self.gather_all();
        match command {
            Some(Command::Flush { answer }) => {
                if let Some(console) = &mut self.console {
                    console.finish();
                }
                self.flushes.push((self.next_number(), answer));
            }
            Some(Command::Shutdown { until, answer }) => self.begin_stop(until, Some(answer)),
            None => self.begin_stop(Instant::now() + ABANDONED_DEADLINE, None),
        }
    }

    fn begin_stop(&mut self, until: Instant, answer: Option<oneshot::Sender<usize>>) {
        self.shared.close();
        self.gather_all();
        self.stop = Some((until, answer));
        // Nobody listens when there is nothing to hurry.
        let _ = self.hurry.send(true);
    }

    fn tick(&mut self) {
        self.gather_all();
        if let Some(sender) = &self.sender {
            sender.health.tick(
                self.metrics.spans_dropped_queue_spans.get() + self.metrics.spans_dropped_queue_bytes.get(),
            );
        }
        if let Some(console) = &mut self.console {
            console.tick(Instant::now());
        }
    }

    /// Takes the chunks that are full, and those that are only begun.
    fn gather_all(&mut self) {
        for chunk in self.shared.take_begun() {
            self.wait(chunk);
        }
        self.gather();
    }

    fn gather(&mut self) {
        for chunk in self.shared.take_full() {
            self.wait(chunk);
        }
    }

    fn wait(&mut self, chunk: Chunk) {
        if let Some(console) = &mut self.console {
            console.observe(&chunk.bytes, Instant::now());
        }
        if self.sender.is_none() {
            self.shared.level.release(chunk.spans, chunk.bytes.len());
            self.shared.recycle(chunk.bytes);
            return;
        }
        // Small chunks are copied together. Otherwise a quiet time without a collector would leave a large buffer for
        // each few spans, and the memory in use would be many times the bytes that are counted.
        if let Some(last) = self.waiting.back_mut()
            && last.bytes.len() + chunk.bytes.len() <= CHUNK_BYTES
            && last.spans + chunk.spans <= self.config.max_batch_spans
        {
            last.bytes.extend_from_slice(&chunk.bytes);
            last.spans += chunk.spans;
            self.shared.recycle(chunk.bytes);
            return;
        }
        self.waiting.push_back(chunk);
    }

    /// Starts requests. While the collector is away only one batch tries, so that it is not met by a crowd.
    fn dispatch(&mut self) {
        let Some(sender) = self.sender.clone() else { return };
        while !self.waiting.is_empty() {
            let allowed = if sender.health.is_up() { MAX_IN_FLIGHT } else { 1 };
            if self.in_flight.len() >= allowed {
                return;
            }
            let batch = self.next_batch();
            let (number, spans, bytes) = (batch.number, batch.spans, batch.bytes);
            let mut lane = self.idle.pop().unwrap_or_default();
            let sender = Arc::clone(&sender);
            let task = self.in_flight.spawn(async move {
                let delivery = sender.deliver(&mut lane, &batch).await;
                (lane, batch.parts, delivery)
            });
            self.pending.push(Pending { task: task.id(), number, spans, bytes });
        }
    }

    /// Whole chunks, as many as a request may hold, and at least one.
    fn next_batch(&mut self) -> Batch {
        let mut batch = Batch { parts: Vec::new(), spans: 0, bytes: 0, number: self.first };
        while let Some(chunk) = self.waiting.front() {
            let fits = batch.spans + chunk.spans <= self.config.max_batch_spans
                && batch.bytes + chunk.bytes.len() <= self.config.max_batch_bytes;
            if !fits && !batch.parts.is_empty() {
                break;
            }
            let Some(chunk) = self.waiting.pop_front() else { break };
            self.first += 1;
            batch.spans += chunk.spans;
            batch.bytes += chunk.bytes.len();
            batch.parts.push(Bytes::from(chunk.bytes));
        }
        batch
    }

    fn settle(&mut self, done: Result<(task::Id, Settled), JoinError>) {
        let (id, settled) = match done {
            Ok((id, settled)) => (id, Some(settled)),
            Err(error) => (error.id(), None),
        };
        let Some(at) = self.pending.iter().position(|pending| pending.task == id) else { return };
        let Pending { spans, bytes, .. } = self.pending.swap_remove(at);
        self.shared.level.release(spans, bytes);
        let spans = spans as u64;
        // A delivery that panicked is one that was refused.
        let Some((lane, parts, delivery)) = settled else {
            self.metrics.spans_failed_refused.inc_by(spans);
            return;
        };
        match delivery {
            Delivery::Accepted { rejected } => {
                self.metrics.spans_exported.inc_by(spans - rejected);
                self.metrics.spans_rejected.inc_by(rejected);
            }
            Delivery::Refused => _ = self.metrics.spans_failed_refused.inc_by(spans),
            Delivery::Expired => _ = self.metrics.spans_failed_expired.inc_by(spans),
        }
        self.idle.push(lane);
        for part in parts {
            if part.is_unique() {
                self.shared.recycle(part.into());
            }
        }
    }

    fn next_number(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn answer_flushes(&mut self) {
        // Chunks leave in the order of their numbers, so the waiting ones come after all that are in flight.
        let oldest = self.pending.iter().map(|pending| pending.number).min().unwrap_or(self.first);
        let done = |(mark, answer): &mut (u64, oneshot::Sender<()>)| *mark <= oldest || answer.is_closed();
        for (_, answer) in self.flushes.extract_if(.., done) {
            // Whoever asked may have stopped waiting, and is then forgotten.
            let _ = answer.send(());
        }
    }

    fn publish_level(&self) {
        let (spans, bytes) = self.shared.level.read();
        self.metrics.queue_spans.set(i64::try_from(spans).unwrap_or(i64::MAX));
        self.metrics.queue_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The level also counts a span that a worker is just handing over, so none is missed.
    fn is_done(&self) -> bool {
        self.stop.is_some() && self.shared.level.read().0 == 0
    }

    fn finish(&mut self) {
        self.shared.close();
        self.gather_all();
        if let Some(console) = &mut self.console {
            console.finish();
        }
        let (lost, bytes) = self.shared.level.read();
        self.metrics.spans_dropped_shutdown.inc_by(lost as u64);
        self.shared.level.release(lost, bytes);
        self.publish_level();
        if lost > 0 {
            tracing::warn!(lost_spans = lost, "stopped before all spans were sent");
        }
        self.flushes.clear();
        if let Some((_, Some(answer))) = self.stop.take() {
            let _ = answer.send(lost);
        }
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
