//! Work that outlives the request that began it: a task, or a request that
//! waits for more input. The table says which span began it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::trace::aged::Aged;
use crate::w3c::traceparent::Traceparent;

/// The spans that began work, by a hash of what names the work.
#[derive(Debug)]
pub struct Work {
    table: Mutex<Aged<u64, Begun>>,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct Begun {
    by: Traceparent,
    /// Its end has been seen.
    ended: bool,
}

impl Work {
    pub(super) fn new(capacity: usize) -> Self {
        Work { table: Mutex::new(Aged::new(capacity)), evicted: AtomicU64::new(0) }
    }

    /// Remembers which span began some work.
    pub fn remember(&self, thing: u64, by: Traceparent, now: Instant) {
        let (_, displaced) = self.table.lock().insert(thing, Begun { by, ended: false }, now);
        if displaced.oldest.is_some() {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The span that began it.
    pub fn begun_by(&self, thing: u64, now: Instant) -> Option<Traceparent> {
        self.table.lock().touch(&thing, now).map(|begun| begun.by)
    }

    /// Says that it has ended. Answers whether that is news, as it also is of
    /// work that is not known.
    pub fn ends(&self, thing: u64) -> bool {
        match self.table.lock().peek_mut(&thing) {
            Some(begun) => !std::mem::replace(&mut begun.ended, true),
            None => true,
        }
    }

    pub(super) fn expire(&self, now: Instant, age: Duration) {
        self.table.lock().expire(now, age);
    }

    /// How many there are, and how many had to make room since this was last asked.
    pub(super) fn count(&self) -> (usize, u64) {
        (self.table.lock().len(), self.evicted.swap(0, Ordering::Relaxed))
    }
}
