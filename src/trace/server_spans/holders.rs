//! Which requests in flight have something, such as a value among their
//! arguments, known by its hash.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::keyed::Keyed;

/// By hash, who has it. As large as what the requests in flight have.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<HashMap<u64, Holder, Keyed>>);

/// The requests that have one thing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holder {
    /// How many.
    count: u32,
    /// All their ids in one, by exclusive or, so that any can be taken out.
    ids: u64,
}

impl Holder {
    /// The id of the one that has it, where it is one.
    pub(super) fn alone(&self) -> Option<u64> {
        (self.count == 1).then_some(self.ids)
    }
}

impl Holders {
    /// A request has these.
    pub(super) fn add(&self, id: u64, hashes: impl IntoIterator<Item = u64>) {
        let mut holders = self.0.lock();
        for hash in hashes {
            let holder = holders.entry(hash).or_default();
            holder.count += 1;
            holder.ids ^= id;
        }
    }

    /// A request that had these has ended.
    pub(super) fn remove(&self, id: u64, hashes: impl IntoIterator<Item = u64>) {
        let mut holders = self.0.lock();
        for hash in hashes {
            let Some(holder) = holders.get_mut(&hash) else { continue };
            holder.count = holder.count.saturating_sub(1);
            holder.ids ^= id;
            if holder.count == 0 {
                holders.remove(&hash);
            }
        }
    }

    /// Who has this, where anybody does.
    pub(super) fn of(&self, hash: u64) -> Option<Holder> {
        self.0.lock().get(&hash).copied()
    }

    /// How many different things are held.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_something_alone_is_known() {
        let holders = Holders::default();
        let alone = |hash| holders.of(hash).and_then(|holder| holder.alone());
        holders.add(7, [1, 2]);
        holders.add(8, [2, 3]);
        assert_eq!((alone(1), alone(2), alone(3), alone(4)), (Some(7), None, Some(8), None));
        assert!(holders.of(2).is_some() && holders.of(4).is_none());
        holders.remove(7, [1, 2, 4]);
        assert_eq!((alone(1), alone(2), holders.len()), (None, Some(8), 2));
        holders.remove(8, [2, 3]);
        assert_eq!(holders.len(), 0);
    }
}
