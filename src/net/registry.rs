//! The open connections of a worker: how many there are, whose deadline has
//! passed, and how all of them learn that it is time to leave.
//!
//! A timer for each request would cost more than the rest of the watching.
//! Instead every connection keeps its deadline in a word of memory, and one
//! tick a second looks at all of them; deadlines are therefore kept to the
//! second.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{self, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

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
    /// [`POLLED`] and [`WOKEN`].
    turn: AtomicU8,
    waker: Mutex<Option<Waker>>,
    open: Arc<AtomicUsize>,
}

/// The connection's task is running.
const POLLED: u8 = 1;
/// It was woken meanwhile.
const WOKEN: u8 = 2;

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
            turn: AtomicU8::new(0),
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

    fn connections(&self) -> parking_lot::MutexGuard<'_, Vec<Weak<Watched>>> {
        self.connections.lock()
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
        *self.waker.lock() = Some(waker.clone());
    }

    /// Says that the connection's task is running, and so looks around by
    /// itself before it rests. Wakes through a waker of this are noted now.
    pub fn begin_turn(&self) {
        self.turn.store(POLLED, Ordering::Relaxed);
    }

    /// Says that the task rests now; whether it was woken in its turn.
    pub fn end_turn(&self) -> bool {
        self.turn.swap(0, Ordering::AcqRel) & WOKEN != 0
    }

    /// Whether the connection's task is running.
    pub fn is_polled(&self) -> bool {
        self.turn.load(Ordering::Relaxed) & POLLED != 0
    }

    /// Takes something, and with it the wake that is void when it was the
    /// last: `take` says so of it. To be called from the connection's task, while
    /// it waits for nothing that another thread would wake it for.
    pub fn take_quietly<T>(&self, take: impl FnOnce() -> (T, bool)) -> T {
        let before = self.turn.load(Ordering::Relaxed);
        let (taken, last) = take();
        if last && before == POLLED {
            self.turn.fetch_and(!WOKEN, Ordering::AcqRel);
        }
        taken
    }

    /// Wakes the connection, to look around.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }
}

/// Wakes the task of the connection, or has it come again where it is running.
impl task::Wake for Watched {
    fn wake(self: Arc<Self>) {
        task::Wake::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.turn.fetch_or(WOKEN, Ordering::AcqRel) & POLLED == 0 {
            Watched::wake(self);
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

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_in_its_turn_is_noted_and_one_at_rest_reaches_the_task() {
        let counter = Arc::new(Counter::default());
        let watched = Registry::new(Arc::default(), 1).admit().unwrap();
        watched.set_waker(&Waker::from(Arc::clone(&counter)));
        let waker = Waker::from(Arc::clone(&watched));
        waker.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        watched.begin_turn();
        assert!(watched.is_polled());
        waker.wake_by_ref();
        assert_eq!(counter.0.load(Ordering::Relaxed), 1);
        assert!(watched.end_turn() && !watched.is_polled());
        watched.begin_turn();
        assert!(!watched.end_turn(), "that was told");
    }

    #[test]
    fn the_wake_that_comes_with_the_last_is_void_and_no_other() {
        let watched = Registry::new(Arc::default(), 1).admit().unwrap();
        let waker = Waker::from(Arc::clone(&watched));
        let woken = |before: bool, last: bool| {
            watched.begin_turn();
            if before {
                waker.wake_by_ref();
            }
            watched.take_quietly(|| (waker.wake_by_ref(), last));
            watched.end_turn()
        };
        assert!(!woken(false, true));
        assert!(woken(false, false));
        assert!(woken(true, true));
    }
}
