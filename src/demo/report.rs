//! What has been shown and what is still to be shown: each trace once it is quiet, again if more of it comes.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    time::Duration,
};

use opentelemetry::TraceId;
use tokio::time::{Instant, sleep_until};

use crate::export::tree;
use crate::store::{SpanStore, Trace};

/// A trace to which nothing was added for this long is shown.
const QUIET: Duration = Duration::from_millis(300);

/// The traces that were shown, with the number of spans they had then.
#[derive(Debug, Default)]
pub(super) struct Report {
    shown: HashMap<TraceId, usize>,
}

impl Report {
    /// Prints a trace as it is now.
    pub(super) fn show(&mut self, trace: &Trace, out: &mut impl Write) -> io::Result<()> {
        let entries =
            trace.spans.iter().map(|stored| tree::Entry { service: stored.service(), span: &stored.span });
        for line in tree::render(&entries.collect::<Vec<_>>()) {
            writeln!(out, "{line}")?;
        }
        writeln!(out)?;
        out.flush()?;
        self.shown.insert(trace.id, trace.spans.len());
        Ok(())
    }

    /// Prints every trace that was not shown, or not with all its spans, as soon as it is quiet. Ends only when
    /// `out` fails.
    pub(super) async fn follow(&mut self, store: &SpanStore, out: &mut impl Write) -> io::Result<()> {
        let mut changes = store.changes();
        loop {
            let next = self.show_quiet(store, Instant::now(), out)?;
            let quiet = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = quiet => {}
            }
        }
    }

    /// Prints what is quiet at `now` and returns when the next trace will be.
    fn show_quiet(
        &mut self,
        store: &SpanStore,
        now: Instant,
        out: &mut impl Write,
    ) -> io::Result<Option<Instant>> {
        let traces = store.traces();
        let stored: HashSet<TraceId> = traces.iter().map(|trace| trace.id).collect();
        // The store is bounded, and so this is: what it has forgotten need not be remembered.
        self.shown.retain(|id, _| stored.contains(id));
        let mut next = None;
        for trace in traces {
            if self.shown.get(&trace.id) == Some(&trace.spans.len()) {
                continue;
            }
            let quiet_at = trace.last_arrival + QUIET;
            if quiet_at <= now {
                self.show(&trace, out)?;
            } else {
                next = Some(next.map_or(quiet_at, |next: Instant| next.min(quiet_at)));
            }
        }
        Ok(next)
    }
}

/// The traces that a store holds now.
pub(super) fn ids(store: &SpanStore) -> HashSet<TraceId> {
    store.traces().iter().map(|trace| trace.id).collect()
}

/// Waits until the traces that are not `known` have at least `spans` spans together, for `patience` at most, and
/// returns those traces. The caller of an untraced call cannot know its trace id.
pub(super) async fn arrived_since(
    store: &SpanStore,
    known: &HashSet<TraceId>,
    spans: usize,
    patience: Duration,
) -> Vec<Trace> {
    let fresh = |store: &SpanStore| {
        let mut traces = store.traces();
        traces.retain(|trace| !known.contains(&trace.id));
        traces
    };
    let enough = |store: &SpanStore| {
        let traces = fresh(store);
        let arrived: usize = traces.iter().map(|trace| trace.spans.len()).sum();
        (arrived >= spans).then_some(traces)
    };
    let found = store.wait_until(patience, enough).await;
    found.unwrap_or_else(|| fresh(store))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{resource::v1::Resource, trace::v1::Span};

    use super::*;
    use crate::{demo::tests::request, store::Capacity};

    fn add(store: &SpanStore, trace: u8, id: u8) {
        let span = Span {
            trace_id: vec![trace; 16],
            span_id: vec![id; 8],
            name: format!("span-{trace}-{id}"),
            ..Span::default()
        };
        store.add(request(Resource::default(), span));
    }

    fn step(report: &mut Report, store: &SpanStore, now: Instant) -> (String, Option<Instant>) {
        let mut out = Vec::new();
        let next = report.show_quiet(store, now, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), next)
    }

    #[test]
    fn a_trace_is_shown_when_quiet_and_again_when_it_grew() {
        let store = SpanStore::new(Capacity::default());
        let mut report = Report::default();
        add(&store, 1, 1);
        let quiet_at = store.traces()[0].last_arrival + QUIET;
        let early = quiet_at - Duration::from_nanos(1);
        assert_eq!(step(&mut report, &store, early), (String::new(), Some(quiet_at)));
        let (text, next) = step(&mut report, &store, quiet_at);
        assert!(text.contains("span-1-1"), "{text}");
        assert_eq!(next, None);
        assert_eq!(step(&mut report, &store, quiet_at), (String::new(), None));
        add(&store, 1, 2);
        let quiet_at = store.traces()[0].last_arrival + QUIET;
        let (text, _) = step(&mut report, &store, quiet_at);
        assert!(text.contains("span-1-1") && text.contains("span-1-2"), "{text}");
    }

    #[test]
    fn what_the_store_forgets_is_forgotten() {
        let store = SpanStore::new(Capacity { traces: 1, ..Capacity::default() });
        let mut report = Report::default();
        for trace in 1..=5 {
            add(&store, trace, 1);
            step(&mut report, &store, Instant::now() + QUIET);
        }
        assert_eq!(report.shown.len(), 1);
    }

    #[tokio::test]
    async fn only_new_traces_count_as_arrived() {
        let store = SpanStore::new(Capacity::default());
        add(&store, 1, 1);
        let known = ids(&store);
        add(&store, 2, 1);
        let long = Duration::from_secs(10);
        let arrived = arrived_since(&store, &known, 1, long).await;
        assert_eq!(arrived.iter().map(|t| t.id).collect::<Vec<_>>(), [TraceId::from_bytes([2; 16])]);
        let arrived = arrived_since(&store, &known, 2, Duration::from_millis(1)).await;
        assert_eq!(arrived.len(), 1, "what came is returned when more does not come");
    }
}
