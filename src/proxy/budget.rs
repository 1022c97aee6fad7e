//! How much memory request bodies may take that are held until they have come
//! whole, and the unpacking of answers: one sum for all connections. What came with one read is not counted,
//! because the buffer of its connection holds it anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum, and its limit.
#[derive(Debug)]
pub struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    /// Room for `most` bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Budget { held: AtomicUsize::new(0), most })
    }

    /// Takes so many bytes, if there is room for them.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        let mut reserved = Reserved { budget: Arc::clone(self), bytes: 0 };
        reserved.grow_to(bytes).then_some(reserved)
    }

    /// The same for what can be done without, which leaves half of the room to
    /// what cannot.
    pub fn reserve_spare(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        self.reserve(bytes).filter(|_| self.held() <= self.most / 2)
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Bytes that were taken, until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reserved {
    /// Makes it this many bytes, if there is room for those that are new.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if self.budget.held.fetch_add(more, Ordering::Relaxed).saturating_add(more) > self.budget.most {
            self.budget.held.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let mut one = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        assert!(one.grow_to(80) && one.grow_to(70) && !one.grow_to(101));
        let other = budget.reserve(20).unwrap();
        assert_eq!(budget.held(), 100);
        drop(one);
        assert_eq!(budget.held(), 20);
        drop(other);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_can_be_done_without_takes_half_at_most() {
        let budget = Budget::new(100);
        let one = budget.reserve_spare(50).unwrap();
        assert!(budget.reserve_spare(1).is_none());
        assert_eq!(budget.held(), 50);
        assert!(budget.reserve(50).is_some());
        drop(one);
        assert_eq!(budget.held(), 0);
    }
}
