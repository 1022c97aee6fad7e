//! What is said about the collector: once when it goes and once when it is back, never for each batch.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::export::signal::Signal;

/// The least time between two messages of one kind, so that a collector that comes and goes does not fill the log. What
/// is held back for that long is said later, if it still holds.
const QUIET: Duration = Duration::from_secs(10);

/// How the collector was found to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It accepts spans.
    Up,
    /// It cannot be reached, or asks us to come again; spans wait.
    Down,
    /// It answers, and refuses what we send; spans are lost.
    Refusing,
}

/// The state as it is and as it was last told.
#[derive(Debug)]
pub(super) struct Health {
    endpoint: String,
    /// What the collector is sent. Each message says it, so that those about log records do not become log records.
    signal: Signal,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    now: State,
    why: String,
    told: State,
    dropped: u64,
    /// When each kind of message was last said. Each has a pace of its own, so that a short outage is told from both ends.
    up: Option<Instant>,
    down: Option<Instant>,
    refusing: Option<Instant>,
    rejected: Option<Instant>,
    dropping: Option<Instant>,
}

impl Health {
    /// `endpoint` is shown in the messages; it must hold no secret. `signal` is what is sent there.
    pub(super) fn new(endpoint: String, signal: Signal) -> Self {
        let told = Told {
            now: State::Up,
            why: String::new(),
            told: State::Up,
            dropped: 0,
            up: None,
            down: None,
            refusing: None,
            rejected: None,
            dropping: None,
        };
        Self { endpoint, signal, told: Mutex::new(told) }
    }

    /// The state after an attempt. Said at once if it is a change, unless the last change was said a moment ago.
    pub(super) fn found(&self, state: State, why: &str) {
        {
            let mut told = self.told.lock();
            told.now = state;
            why.clone_into(&mut told.why);
        }
        self.tell_state();
    }

    /// Whether the last attempt succeeded.
    pub(super) fn is_up(&self) -> bool {
        self.told.lock().now == State::Up
    }

    /// Says what was held back, when its time has come.
    pub(super) fn tick(&self, dropped_in_all: u64) {
        self.tell_state();
        self.tell_dropped(dropped_in_all);
    }

    /// A partial success, or a success with a message.
    pub(super) fn rejected(&self, spans: u64, message: &str) {
        let mut told = self.told.lock();
        if is_due(&mut told.rejected) {
            tracing::warn!(endpoint = %self.endpoint, signal = self.signal.as_str(), rejected_spans = spans, message, "the collector accepted a batch with reservations");
        }
    }

    fn tell_state(&self) {
        let mut told = self.told.lock();
        if told.now == told.told {
            return;
        }
        let last = match told.now {
            State::Up => &mut told.up,
            State::Down => &mut told.down,
            State::Refusing => &mut told.refusing,
        };
        if !is_due(last) {
            return;
        }
        told.told = told.now;
        let (endpoint, why) = (&self.endpoint, &told.why);
        let (signal, noun) = (self.signal.as_str(), self.signal.noun());
        match told.now {
            State::Up => tracing::warn!(%endpoint, signal, "the collector accepts {noun} again"),
            State::Down => {
                tracing::warn!(%endpoint, signal, %why, "the collector is not available; {noun} wait in the queue")
            }
            State::Refusing => {
                tracing::warn!(%endpoint, signal, %why, "the collector refuses our {noun}; they are lost")
            }
        }
    }

    fn tell_dropped(&self, dropped_in_all: u64) {
        let mut told = self.told.lock();
        let more = dropped_in_all.saturating_sub(told.dropped);
        if more > 0 && is_due(&mut told.dropping) {
            told.dropped = dropped_in_all;
            tracing::warn!(endpoint = %self.endpoint, signal = self.signal.as_str(), dropped_spans = more, "the export queue is full; spans were dropped");
        }
    }
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= QUIET);
    if due {
        *last = Some(now);
    }
    due
}
