//! The open connections of a worker: how many there are, whose deadline has
//! passed, and how all of them learn that it is time to leave.
//!
//! A timer for each request would cost more than the rest of the watching.
//! Instead every connection keeps its deadline in a word of memory, and one
//! tick a second looks at all of them; deadlines are therefore kept to the
//! second.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::io::Signals;

/// No deadline is set.
const NEVER: u32 = u32::MAX;

/// The connections of one worker, and the count that all workers share.
#[derive(Debug)]
pub struct Registry {
    connections: Mutex<Vec<Weak<Watched>>>,
    open: Arc<AtomicUsize>,
    max_open: usize,
    /// Seconds since `started`, as of the last tick.
    now: AtomicU32,
    started: Instant,
    draining: AtomicBool,
}

/// One connection as its worker watches it.
#[derive(Debug)]
pub struct Watched {
    /// What the socket says.
    pub signals: Arc<Signals>,
    deadline: AtomicU32,
    expired: AtomicBool,
    draining: AtomicBool,
    polled: AtomicBool,
    waker: Mutex<Option<Waker>>,
    open: Arc<AtomicUsize>,
}

impl Registry {
    /// A registry that admits connections while fewer than `max_open` are
    /// open over all registries that share the counter `open`.
    pub fn new(open: Arc<AtomicUsize>, max_open: usize) -> Self {
        Registry {
            connections: Mutex::new(Vec::new()),
            open,
            max_open,
            now: AtomicU32::new(0),
            started: Instant::now(),
            draining: AtomicBool::new(false),
        }
    }

    /// Admits a connection, or says that there are too many.
    pub fn admit(&self) -> Option<Arc<Watched>> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        if before >= self.max_open {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let watched = Arc::new(Watched {
            signals: Arc::default(),
            deadline: AtomicU32::new(NEVER),
            expired: AtomicBool::new(false),
            draining: AtomicBool::new(self.draining.load(Ordering::Relaxed)),
            polled: AtomicBool::new(false),
            waker: Mutex::new(None),
            open: Arc::clone(&self.open),
        });
        let mut connections = self.connections();
        if connections.len() == connections.capacity() {
            connections.retain(|one| one.strong_count() > 0);
        }
        connections.push(Arc::downgrade(&watched));
        Some(watched)
    }

    /// The deadline that is `after` from now, in the unit of this registry.
    /// It is never early; it is at most two seconds late.
    pub fn deadline(&self, after: Duration) -> u32 {
        let seconds = u32::try_from(after.as_secs()).unwrap_or(NEVER - 2);
        self.now.load(Ordering::Relaxed).saturating_add(seconds.saturating_add(2)).min(NEVER - 1)
    }

    /// Wakes the connections whose deadline has passed. To be called about
    /// once a second.
    pub fn tick(&self) {
        let now = u32::try_from(self.started.elapsed().as_secs()).unwrap_or(NEVER - 1);
        self.now.store(now, Ordering::Relaxed);
        self.connections().retain(|one| {
            let Some(watched) = one.upgrade() else { return false };
            if watched.deadline.load(Ordering::Relaxed) <= now {
                watched.deadline.store(NEVER, Ordering::Relaxed);
                watched.expired.store(true, Ordering::Relaxed);
                watched.wake();
            }
            true
        });
    }

    /// How many connections of this worker are open.
    pub fn open(&self) -> usize {
        self.connections().iter().filter(|one| one.strong_count() > 0).count()
    }

    /// Tells every connection, and those still to come, to finish what is in
    /// flight and close.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for watched in self.connections().iter().filter_map(Weak::upgrade) {
            watched.draining.store(true, Ordering::Relaxed);
            watched.wake();
        }
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Watched>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Sets the deadline; the connection is woken when it has passed.
    pub fn set_deadline(&self, deadline: u32) {
        self.expired.store(false, Ordering::Relaxed);
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Takes the deadline back, even one that has passed and was not asked for.
    pub fn clear_deadline(&self) {
        self.expired.store(false, Ordering::Relaxed);
        self.deadline.store(NEVER, Ordering::Relaxed);
    }

    /// Whether a deadline passed; asking takes the answer.
    pub fn take_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed) && self.expired.swap(false, Ordering::Relaxed)
    }

    /// Whether the connection is asked to finish and close.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Says whom to wake. A connection calls this once from its task, which
    /// stays the same for its whole life.
    pub fn set_waker(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Says whether the connection's task is running, and so looks around by
    /// itself before it rests.
    pub fn set_polled(&self, polled: bool) {
        self.polled.store(polled, Ordering::Relaxed);
    }

    /// Whether the connection's task is running.
    pub fn is_polled(&self) -> bool {
        self.polled.load(Ordering::Relaxed)
    }

    /// Wakes the connection, to look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_refused_over_the_limit() {
        let open = Arc::new(AtomicUsize::new(0));
        let registry = Registry::new(Arc::clone(&open), 2);
        let first = registry.admit().unwrap();
        let _second = registry.admit().unwrap();
        assert!(registry.admit().is_none());
        drop(first);
        assert!(registry.admit().is_some());
        assert_eq!(open.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn closed_connections_are_forgotten() {
        let registry = Registry::new(Arc::default(), 10);
        for _ in 0..1_000 {
            drop(registry.admit());
        }
        assert!(registry.connections().len() < 16);
        registry.tick();
        assert!(registry.connections().is_empty());
    }

    #[test]
    fn a_deadline_that_has_passed_is_told_once() {
        let registry = Registry::new(Arc::default(), 10);
        let watched = registry.admit().unwrap();
        registry.tick();
        assert!(!watched.take_expired());
        watched.set_deadline(0);
        registry.tick();
        assert!(watched.take_expired());
        registry.tick();
        assert!(!watched.take_expired());
        assert!(registry.deadline(Duration::MAX) < NEVER);
    }

    #[test]
    fn draining_reaches_old_and_new_connections() {
        let registry = Registry::new(Arc::default(), 10);
        let old = registry.admit().unwrap();
        assert!(!old.is_draining());
        registry.drain();
        assert!(old.is_draining());
        assert!(registry.admit().unwrap().is_draining());
    }
}
