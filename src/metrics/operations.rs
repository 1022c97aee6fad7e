//! What every MCP request and notification counts in, recorded or not: how
//! many there were, how they ended and how long they took.
//!
//! Each worker has a lane of its own, so that counting meets nobody; a scrape
//! adds the lanes up. The labels come from peers and are therefore bounded
//! over all lanes: what finds no room is counted as `other`. What was not
//! used for a while makes room, so that a flood of names passes.

mod aging;
mod histogram;
mod text;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

pub use self::histogram::{CONVENTION, Exemplar, Histogram};

/// The most combinations of labels, before that of the outcome.
pub const MAX_SERIES: usize = 500;

/// The most different outcomes in one of them.
const MAX_OUTCOMES: usize = 16;

/// The longest label that is taken over, in bytes.
const MAX_LABEL_BYTES: usize = 128;

/// What stands for labels that found no room.
pub const OTHER: &str = "other";

/// The counters of the process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<HashSet<Labels>>,
    /// Seconds since the start, which somebody counts.
    clock: AtomicU32,
    lanes: Mutex<Vec<Arc<Mutex<Table>>>>,
}

/// The counters of one worker.
#[derive(Debug)]
pub struct Lane {
    shared: Operations,
    table: Arc<Mutex<Table>>,
}

/// A combination of labels in the lane that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    at: u32,
    /// How often the place had been given away before.
    generation: u32,
}

/// Which side of the sidecar an operation was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// In front of the agent: `mcp.server.operation.duration`.
    Server,
    /// Behind it: `mcp.client.operation.duration`.
    Client,
}

/// What an operation is about, as far as it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation<'a> {
    /// Where it was seen.
    pub side: Side,
    /// The method of MCP.
    pub method: &'a str,
    /// What the method is about.
    pub target: Target<'a>,
    /// The revision of MCP, where it is said.
    pub revision: Option<&'a str>,
    /// `network.transport` and the version of HTTP, as the conventions write them.
    pub network: (&'static str, &'static str),
    /// Host and port of the server; of a client's operation only.
    pub server: Option<(&'a str, u16)>,
}

/// The tool or prompt of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target<'a> {
    /// Neither.
    None,
    /// `gen_ai.tool.name`
    Tool(&'a str),
    /// `gen_ai.prompt.name`
    Prompt(&'a str),
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// `status` of the metrics in the manner of MCP Mesh.
    pub status: Status,
    /// `error.type`, which the conventions have for what they call an error.
    pub error: Option<ErrorType>,
    /// `rpc.response.status_code`.
    pub code: Option<i64>,
}

/// The three ways in which a request can end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// It was answered, and not with an error.
    #[default]
    Success,
    /// It failed, or was answered with an error of any kind.
    Error,
    /// Nobody waited for the answer.
    Cancelled,
}

/// A value of `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorType {
    /// One of a fixed set.
    Named(&'static str),
    /// A JSON-RPC code.
    Code(i64),
    /// A status of HTTP.
    Http(u16),
}

impl Status {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Error => "error",
            Status::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for ErrorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ErrorType::Named(name) => f.write_str(name),
            ErrorType::Code(code) => code.fmt(f),
            ErrorType::Http(status) => status.fmt(f),
        }
    }
}

/// The labels of a series, owned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Labels {
    side: Side,
    method: Box<str>,
    tool: Option<Box<str>>,
    prompt: Option<Box<str>>,
    revision: Option<Box<str>>,
    network: (&'static str, &'static str),
    server: Option<(Box<str>, u16)>,
}

impl Labels {
    fn of(operation: &Operation<'_>) -> Self {
        let (tool, prompt) = match operation.target {
            Target::None => (None, None),
            Target::Tool(name) => (Some(name.into()), None),
            Target::Prompt(name) => (None, Some(name.into())),
        };
        Labels {
            side: operation.side,
            method: operation.method.into(),
            tool,
            prompt,
            revision: operation.revision.map(Box::from),
            network: operation.network,
            server: operation.server.map(|(host, port)| (host.into(), port)),
        }
    }

    fn is(&self, operation: &Operation<'_>) -> bool {
        let (tool, prompt) = match operation.target {
            Target::None => (None, None),
            Target::Tool(name) => (Some(name), None),
            Target::Prompt(name) => (None, Some(name)),
        };
        self.side == operation.side
            && &*self.method == operation.method
            && self.tool.as_deref() == tool
            && self.prompt.as_deref() == prompt
            && self.revision.as_deref() == operation.revision
            && self.network == operation.network
            && self.server.as_ref().map(|(host, port)| (&**host, *port)) == operation.server
    }
}

#[derive(Debug, Default)]
struct Table {
    hasher: RandomState,
    /// Where a series is, by the hash of its labels.
    index: HashMap<u64, u32, RandomState>,
    series: Vec<Counted>,
    /// The places in it that are free.
    free: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Counted {
    /// `None` where the place is free.
    labels: Option<Labels>,
    generation: u32,
    /// When it was last used, in seconds since the start.
    used: u32,
    outcomes: Vec<(Outcome, Histogram)>,
}

impl Operations {
    /// A lane for one worker.
    pub fn lane(&self) -> Lane {
        let table = Arc::<Mutex<Table>>::default();
        self.0.lanes.lock().push(Arc::clone(&table));
        Lane { shared: self.clone(), table }
    }

    /// Whether these labels may be counted by. Each set of them is one of at
    /// most [`MAX_SERIES`] over all lanes.
    fn admits(&self, labels: &Labels) -> bool {
        let mut known = self.0.known.lock();
        known.contains(labels) || (known.len() < MAX_SERIES && known.insert(labels.clone()))
    }

    /// Everything that was counted, over all lanes.
    fn sum(&self) -> BTreeMap<Labels, BTreeMap<Outcome, Histogram>> {
        let mut sum = BTreeMap::<Labels, BTreeMap<Outcome, Histogram>>::new();
        let lanes = self.0.lanes.lock().clone();
        for lane in lanes {
            // A few at a time: a worker that wants to count must not wait for all.
            for first in (0..).step_by(16) {
                let some: Vec<Counted> = lane.lock().series.iter().skip(first).take(16).cloned().collect();
                if some.is_empty() {
                    break;
                }
                for counted in some {
                    let Some(labels) = counted.labels else { continue };
                    let into = sum.entry(labels).or_default();
                    for (outcome, histogram) in counted.outcomes {
                        into.entry(outcome).or_default().add(&histogram);
                    }
                }
            }
        }
        sum
    }

    /// Appends everything as OpenMetrics text, for the agent of this name.
    /// A process without workers has nothing to say.
    pub fn encode(&self, agent: &str, out: &mut String) {
        if self.0.lanes.lock().is_empty() {
            return;
        }
        text::encode(&self.sum(), agent, out);
    }
}

impl Lane {
    /// The series of an operation that begins.
    pub fn series(&self, operation: &Operation<'_>) -> Series {
        let now = self.shared.0.clock.load(Ordering::Relaxed);
        let mut table = self.table.lock();
        if let Some(series) = table.find(operation, now) {
            return series;
        }
        let fits = |text: &str| text.len() <= MAX_LABEL_BYTES;
        let short = fits(operation.method)
            && operation.revision.is_none_or(fits)
            && operation.server.is_none_or(|(host, _)| fits(host))
            && match operation.target {
                Target::None => true,
                Target::Tool(name) | Target::Prompt(name) => fits(name),
            };
        if short {
            let labels = Labels::of(operation);
            if self.shared.admits(&labels) {
                return table.add(operation, labels, now);
            }
        }
        // One for each side and transport is always admitted.
        let other = Operation {
            method: OTHER,
            target: Target::None,
            revision: None,
            server: operation.server.map(|_| (OTHER, 0)),
            ..*operation
        };
        match table.find(&other, now) {
            Some(series) => series,
            None => table.add(&other, Labels::of(&other), now),
        }
    }

    /// Counts an operation that ended after this time. Those that are
    /// sampled say which span shows it.
    pub fn observe(&self, series: Series, outcome: Outcome, took: Duration, exemplar: Option<Exemplar>) {
        let now = self.shared.0.clock.load(Ordering::Relaxed);
        let mut table = self.table.lock();
        // It took so long that its place was given away.
        let given = table.series.get(series.at as usize).is_none_or(|c| c.generation != series.generation);
        let at = if given { table.other(now) } else { series.at };
        let Some(counted) = table.series.get_mut(at as usize) else { return };
        counted.used = now;
        counted.histogram(outcome).observe(took, exemplar);
    }
}

impl Counted {
    fn histogram(&mut self, outcome: Outcome) -> &mut Histogram {
        let mut wanted = outcome;
        if !self.outcomes.iter().any(|(o, _)| *o == wanted) {
            if self.outcomes.len() >= MAX_OUTCOMES {
                wanted = Outcome {
                    error: outcome.error.map(|_| ErrorType::Named("_OTHER")),
                    code: None,
                    ..outcome
                };
            }
            if !self.outcomes.iter().any(|(o, _)| *o == wanted) {
                self.outcomes.push((wanted, Histogram::default()));
            }
        }
        let at = self.outcomes.iter().position(|(o, _)| *o == wanted).unwrap_or_default();
        &mut self.outcomes[at].1
    }
}

impl Table {
    fn find(&mut self, operation: &Operation<'_>, now: u32) -> Option<Series> {
        let at = *self.index.get(&self.hash(operation))?;
        let counted = self.series.get_mut(at as usize)?;
        // Two of one hash share a series only if they are the same.
        if !counted.labels.as_ref().is_some_and(|labels| labels.is(operation)) {
            return None;
        }
        counted.used = now;
        Some(Series { at, generation: counted.generation })
    }

    fn add(&mut self, operation: &Operation<'_>, labels: Labels, now: u32) -> Series {
        let hash = self.hash(operation);
        let place = self.free.pop().unwrap_or(u32::try_from(self.series.len()).unwrap_or(u32::MAX));
        self.index.insert(hash, place);
        if let Some(counted) = self.series.get_mut(place as usize) {
            (counted.labels, counted.used) = (Some(labels), now);
            return Series { at: place, generation: counted.generation };
        }
        self.series.push(Counted { labels: Some(labels), generation: 0, used: now, outcomes: Vec::new() });
        Series { at: place, generation: 0 }
    }

    fn hash(&self, operation: &Operation<'_>) -> u64 {
        use std::hash::BuildHasher;
        self.hasher.hash_one(operation)
    }
}

#[cfg(test)]
mod tests;
