//! Whether traffic may be sent to this process, shared by those who know and
//! those who ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A handle on the state; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// The life of the process as an orchestrator sees it. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Not everything is bound yet.
    Starting = 0,
    /// Every listener accepts.
    Ready = 1,
    /// No new traffic is wanted; what is in flight is being finished.
    Draining = 2,
}

impl Readiness {
    /// A handle that says [`State::Starting`].
    pub fn new() -> Self {
        Readiness::default()
    }

    /// Every listener accepts now. It has no effect once draining has begun.
    pub fn set_ready(&self) {
        self.0.fetch_max(State::Ready as u8, Ordering::Relaxed);
    }

    /// No new traffic from now on.
    pub fn set_draining(&self) {
        self.0.fetch_max(State::Draining as u8, Ordering::Relaxed);
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_never_comes_back_from_draining() {
        let readiness = Readiness::new();
        let seen = readiness.clone();
        assert_eq!(seen.state(), State::Starting);
        readiness.set_ready();
        assert_eq!(seen.state(), State::Ready);
        readiness.set_draining();
        readiness.set_ready();
        assert_eq!(seen.state(), State::Draining);
    }
}
