//! A table that others fill: bounded in number and in age, and the oldest
//! entry makes room for a new one.
//!
//! It reads no clock. Every change takes constant time on average, whatever
//! was removed in between.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

/// A bounded table whose entries grow old.
#[derive(Debug)]
pub struct Aged<K, V> {
    entries: HashMap<K, Entry<V>, RandomState>,
    /// Keys by age, the oldest first. One whose stamp is no longer that of its entry is stale.
    order: VecDeque<(u64, K)>,
    capacity: usize,
    next_stamp: u64,
}

#[derive(Debug)]
struct Entry<V> {
    stamp: u64,
    since: Instant,
    value: V,
}

/// What had to go when an entry came.
#[derive(Debug)]
pub struct Displaced<V> {
    /// The entry that stood under the same key.
    pub same: Option<V>,
    /// The oldest entry, which made room.
    pub oldest: Option<V>,
}

/// How many stale keys are kept before they are swept.
const SLACK: usize = 32;

impl<K: Copy + Eq + Hash, V> Aged<K, V> {
    /// A table of at most `capacity` entries, and of one at least.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Aged { entries: HashMap::default(), order: VecDeque::new(), capacity, next_stamp: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts in an entry as the youngest. Answers its stamp, which no other entry ever has.
    pub fn insert(&mut self, key: K, value: V, now: Instant) -> (u64, Displaced<V>) {
        let stamp = self.stamp(key);
        let same = self.entries.insert(key, Entry { stamp, since: now, value }).map(|entry| entry.value);
        let oldest = if self.entries.len() > self.capacity { self.pop_oldest() } else { None };
        (stamp, Displaced { same, oldest })
    }

    /// Looks an entry up.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Looks an entry up in order to change it.
    pub fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Makes an entry the youngest, and gives it.
    pub fn touch(&mut self, key: &K, now: Instant) -> Option<&mut V> {
        if !self.entries.contains_key(key) {
            return None;
        }
        let stamp = self.stamp(*key);
        let entry = self.entries.get_mut(key)?;
        entry.stamp = stamp;
        entry.since = now;
        Some(&mut entry.value)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// Takes an entry out if it is the very one that was given this stamp.
    pub fn remove_stamped(&mut self, key: &K, stamp: u64) -> Option<V> {
        if self.entries.get(key)?.stamp == stamp { self.remove(key) } else { None }
    }

    /// Takes out all that `wanted` says. Looks at every entry.
    pub fn remove_where(&mut self, mut wanted: impl FnMut(&K, &V) -> bool) -> Vec<V> {
        self.entries
            .extract_if(|key, entry| wanted(key, &entry.value))
            .map(|(_, entry)| entry.value)
            .collect()
    }

    /// Goes through all entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// Takes out the entries that have not been put in or touched for `age`.
    pub fn expire(&mut self, now: Instant, age: Duration) -> Vec<V> {
        let mut expired = Vec::new();
        while let Some((stamp, key)) = self.order.front().copied() {
            match self.entries.get(&key) {
                Some(entry) if entry.stamp != stamp => {}
                Some(entry) if now.saturating_duration_since(entry.since) < age => break,
                Some(_) => expired.extend(self.remove(&key)),
                None => {}
            }
            self.order.pop_front();
        }
        expired
    }

    fn pop_oldest(&mut self) -> Option<V> {
        while let Some((stamp, key)) = self.order.pop_front() {
            if let Some(value) = self.remove_stamped(&key, stamp) {
                return Some(value);
            }
        }
        None
    }

    /// A new stamp for this key, at the young end.
    fn stamp(&mut self, key: K) -> u64 {
        if self.order.len() > 2 * self.entries.len() + SLACK {
            let entries = &self.entries;
            self.order.retain(|(stamp, key)| entries.get(key).is_some_and(|entry| entry.stamp == *stamp));
        }
        self.next_stamp += 1;
        self.order.push_back((self.next_stamp, key));
        self.next_stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_oldest_makes_room() {
        let mut table = Aged::new(2);
        let now = Instant::now();
        for key in [1, 2, 3] {
            let (_, displaced) = table.insert(key, key * 10, now);
            assert_eq!((displaced.same, displaced.oldest), (None, (key == 3).then_some(10)));
        }
        assert!(table.touch(&2, now).is_some());
        assert_eq!(table.insert(4, 40, now).1.oldest, Some(30), "2 was touched, so 3 is older");
        assert_eq!(table.insert(4, 41, now).1.same, Some(40));
        assert_eq!((table.peek(&2), table.peek(&4), table.len()), (Some(&20), Some(&41), 2));
    }

    #[test]
    fn entries_expire_by_the_given_clock() {
        let mut table = Aged::new(10);
        let start = Instant::now();
        table.insert(1, 'a', start);
        table.insert(2, 'b', start + SECOND);
        table.insert(3, 'c', start + 2 * SECOND);
        table.touch(&1, start + 3 * SECOND);
        assert_eq!(table.expire(start + 3 * SECOND, 2 * SECOND), ['b']);
        assert_eq!(table.expire(start + 9 * SECOND, 2 * SECOND), ['c', 'a']);
        assert!(table.is_empty());
    }

    #[test]
    fn a_stamp_belongs_to_one_entry() {
        let mut table = Aged::new(10);
        let now = Instant::now();
        let (first, _) = table.insert(1, 'a', now);
        let (second, _) = table.insert(1, 'b', now);
        assert_eq!(table.remove_stamped(&1, first), None, "another one stands there now");
        assert_eq!(table.remove_stamped(&1, second), Some('b'));
        assert_eq!(table.remove_stamped(&1, second), None);
    }

    #[test]
    fn invented_keys_cost_no_more_than_the_cap() {
        let mut table = Aged::new(100);
        let now = Instant::now();
        table.insert(u64::MAX, (), now);
        for key in 0..50_000_u64 {
            table.insert(key, (), now);
            if key % 3 == 0 {
                table.remove(&key);
            }
            // An old one that stays must not keep the stale ones behind it.
            table.touch(&u64::MAX, now);
            assert!(table.len() <= 100 && table.order.len() <= 2 * 100 + SLACK + 2);
        }
    }
}
