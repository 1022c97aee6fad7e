//! How calls found their parents, in numbers for the operator: per method, and
//! for what is not proved the destinations that see most of it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::links::Method;

/// The most destinations that are told apart. One more takes the place of the
/// one with the fewest calls.
pub const MAX_DESTINATIONS: usize = 64;

/// The most bytes of a host that are kept.
const MAX_HOST_BYTES: usize = 253;

/// Counts the calls without a proved parent by their destination.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    rows: Vec<Row>,
    /// The calls of destinations that had to make room.
    others: u64,
}

#[derive(Debug)]
struct Row {
    host: String,
    port: u16,
    calls: [u64; Method::ALL.len()],
}

impl Row {
    fn total(&self) -> u64 {
        self.calls.iter().sum()
    }
}

impl Tally {
    /// Counts one call.
    pub fn count(&self, host: &str, port: u16, method: Method) {
        let host = host.get(..MAX_HOST_BYTES).unwrap_or(host);
        let mut all = self.0.lock();
        if let Some(row) = all.rows.iter_mut().find(|row| row.port == port && row.host == host) {
            row.calls[method.index()] += 1;
            return;
        }
        if all.rows.len() >= MAX_DESTINATIONS {
            let fewest = all.rows.iter().enumerate().min_by_key(|(_, row)| row.total()).map(|(at, _)| at);
            let gone = fewest.map(|at| all.rows.swap_remove(at));
            all.others += gone.map_or(0, |row| row.total());
        }
        let mut row = Row { host: host.to_owned(), port, calls: Default::default() };
        row.calls[method.index()] = 1;
        all.rows.push(row);
    }

    /// What was counted: the destinations with the most calls first, and the
    /// calls of those that had to make room.
    pub fn destinations(&self) -> (Vec<Unproved>, u64) {
        let all = self.0.lock();
        let mut list: Vec<_> = all.rows.iter().map(Unproved::of).collect();
        list.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.destination.cmp(&b.destination)));
        (list, all.others)
    }
}

/// Calls to one destination whose parent is not proved.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Unproved {
    /// `host:port`.
    pub destination: String,
    /// How many calls there were.
    pub calls: u64,
    /// The same by `meshtrace.parent.method`.
    pub methods: BTreeMap<String, u64>,
}

impl Unproved {
    fn of(row: &Row) -> Self {
        let host = if row.host.contains(':') { format!("[{}]", row.host) } else { row.host.clone() };
        Unproved {
            destination: format!("{host}:{}", row.port),
            calls: row.total(),
            methods: by_method(|method| row.calls[method.index()]),
        }
    }
}

/// How the calls of an agent found their parents: what `/debug/links` says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Report {
    /// The name of the agent.
    pub service: String,
    /// Requests that are being worked on now.
    pub in_flight: usize,
    /// Calls by `meshtrace.parent.method`, those that there were.
    pub methods: BTreeMap<String, u64>,
    /// Calls whose arguments speak for another parent than the context that they carried.
    pub conflicts: u64,
    /// Destinations of calls without a proved parent, the most calls first, at
    /// most [`MAX_DESTINATIONS`].
    pub unproved: Vec<Unproved>,
    /// Such calls to destinations that had to make room.
    pub others: u64,
}

/// A map of the methods that there were calls of.
pub fn by_method(count: impl Fn(Method) -> u64) -> BTreeMap<String, u64> {
    let counts = Method::ALL.into_iter().map(|method| (method.as_str().to_owned(), count(method)));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_apart_within_the_bound() {
        let tally = Tally::default();
        for _ in 0..3 {
            tally.count("db", 5432, Method::Ambiguous);
            tally.count("::1", 80, Method::Background);
        }
        tally.count("db", 5432, Method::InferredSingle);
        let (list, others) = tally.destinations();
        assert_eq!((list[0].destination.as_str(), list[0].calls, others), ("db:5432", 4, 0));
        assert_eq!(list[0].methods, [("ambiguous".into(), 3), ("inferred.single".into(), 1)].into());
        assert_eq!(list[1].destination, "[::1]:80");
        for number in 0..1_000 {
            tally.count(&format!("host{number}"), 80, Method::Background);
        }
        let (list, others) = tally.destinations();
        assert_eq!(list.len(), MAX_DESTINATIONS);
        assert_eq!(list[0].destination, "db:5432", "those with many calls stay");
        assert_eq!(list.iter().map(|row| row.calls).sum::<u64>() + others, 1_007);
        tally.count(&"x".repeat(10_000), 80, Method::Background);
        let (list, _) = tally.destinations();
        assert!(list.iter().all(|row| row.destination.len() <= MAX_HOST_BYTES + 8));
    }
}
