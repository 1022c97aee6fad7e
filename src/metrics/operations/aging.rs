//! Makes room among the labels: those that nobody used for a while go, and
//! what they counted goes on as `other`, so that no total ever falls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Counted, Labels, MAX_SERIES, OTHER, Operation, Operations, Side, Table, Target};

/// How long labels may be unused, in seconds, before others can have their place.
pub(super) const UNUSED_FOR: u32 = 300;

impl Operations {
    /// Says how many seconds have passed since the start. Where there is no
    /// room left, it then makes some.
    pub fn tick(&self, seconds: u32) {
        self.0.clock.store(seconds, Ordering::Relaxed);
        if self.0.known.lock().len() >= MAX_SERIES {
            self.make_room(seconds);
        }
    }

    fn make_room(&self, now: u32) {
        let lanes: Vec<_> = self.0.lanes.lock().iter().map(Arc::clone).collect();
        let mut used = HashMap::<Labels, u32>::new();
        for lane in &lanes {
            for counted in &lane.lock().series {
                if let Some(labels) = &counted.labels {
                    let latest = used.entry(labels.clone()).or_default();
                    *latest = counted.used.max(*latest);
                }
            }
        }
        used.retain(|labels, used| now.saturating_sub(*used) >= UNUSED_FOR && !labels.are_other());
        for labels in used.keys() {
            self.0.known.lock().remove(labels);
        }
        for lane in &lanes {
            let mut table = lane.lock();
            for labels in used.keys() {
                if !table.remove(labels, now) {
                    // Somebody has just used it again.
                    self.0.known.lock().insert(labels.clone());
                }
            }
        }
    }
}

impl Labels {
    /// Whether they stand for others, and so stay.
    fn are_other(&self) -> bool {
        &*self.method == OTHER || self.tool.as_deref() == Some(OTHER) || self.prompt.as_deref() == Some(OTHER)
    }

    fn operation(&self) -> Operation<'_> {
        let target = match (&self.tool, &self.prompt) {
            (Some(tool), _) => Target::Tool(tool),
            (None, Some(prompt)) => Target::Prompt(prompt),
            (None, None) => Target::None,
        };
        Operation {
            side: self.side,
            method: &self.method,
            target,
            revision: self.revision.as_deref(),
            network: self.network,
            server: self.server.as_ref().map(|(host, port)| (&**host, *port)),
        }
    }

    /// What goes on counting for them. A method that has tools is one of a
    /// few, and stays; another one may have been invented.
    fn others(&self) -> Operation<'_> {
        let own = self.operation();
        let target = match own.target {
            Target::None => Target::None,
            Target::Tool(_) => Target::Tool(OTHER),
            Target::Prompt(_) => Target::Prompt(OTHER),
        };
        let method = if target == Target::None { OTHER } else { own.method };
        Operation { method, target, revision: None, server: own.server.map(|_| (OTHER, 0)), ..own }
    }
}

impl Table {
    /// Takes labels out, and lets others count what they did. Answers whether
    /// they were unused until now.
    fn remove(&mut self, labels: &Labels, now: u32) -> bool {
        let hash = self.hash(&labels.operation());
        let Some(at) = self.index.get(&hash).copied() else { return true };
        let Some(counted) = self.series.get_mut(at as usize) else { return true };
        if counted.labels.as_ref() != Some(labels) {
            return true;
        }
        if now.saturating_sub(counted.used) < UNUSED_FOR {
            return false;
        }
        let generation = counted.generation.wrapping_add(1);
        let free = Counted { labels: None, generation, used: now, outcomes: Vec::new() };
        let outcomes = std::mem::replace(counted, free).outcomes;
        self.index.remove(&hash);
        let others = labels.others();
        let series = match self.find(&others, now) {
            Some(series) => series,
            None => self.add(&others, Labels::of(&others), now),
        };
        // Not before, or it would be the place of its own successor.
        self.free.push(at);
        if let Some(into) = self.series.get_mut(series.at as usize) {
            for (outcome, histogram) in outcomes {
                into.histogram(outcome).add(&histogram);
            }
        }
        true
    }

    /// The place of what is known of by nothing.
    pub(super) fn other(&mut self, now: u32) -> u32 {
        let other = Operation {
            side: Side::Server,
            method: OTHER,
            target: Target::None,
            revision: None,
            network: ("tcp", ""),
            server: None,
        };
        let series = match self.find(&other, now) {
            Some(series) => series,
            None => self.add(&other, Labels::of(&other), now),
        };
        series.at
    }
}
