//! Spans in memory, by trace, within limits: when it is full the oldest trace makes room.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// How much a [`SpanStore`] keeps. Reaching any of them evicts the trace that began first.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Traces.
    pub traces: usize,
    /// Spans of all traces together.
    pub spans: usize,
    /// Bytes of all spans together, as OTLP encodes them. In memory a span takes several times that.
    pub bytes: usize,
}

impl Default for Capacity {
    /// 1,000 traces, 10,000 spans, 16 MiB.
    fn default() -> Self {
        Self { traces: 1_000, spans: 10_000, bytes: 16 << 20 }
    }
}

/// What happened to the spans so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Spans taken in.
    pub stored: u64,
    /// Spans refused: an id that the W3C and OTLP forbid, or a trace that alone exceeds the capacity.
    pub rejected: u64,
    /// Spans that were stored and had to make room.
    pub evicted_spans: u64,
    /// Traces that were stored and had to make room.
    pub evicted_traces: u64,
}

/// One span with what its batch said about where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSpan {
    /// The process that made it; shared by the spans of a batch.
    pub resource: Arc<Resource>,
    /// The instrumentation that made it; shared by the spans of a batch.
    pub scope: Arc<InstrumentationScope>,
    /// The span itself. Its trace and span ids are valid, its parent id is valid or empty.
    pub span: Span,
}

impl StoredSpan {
    /// The resource's `service.name`; empty when there is none.
    pub fn service(&self) -> &str {
        let attributes = &self.resource.attributes;
        let name = attributes.iter().find(|a| a.key == "service.name");
        match name.and_then(|a| a.value.as_ref()?.value.as_ref()) {
            Some(Value::StringValue(name)) => name,
            _ => "",
        }
    }

    /// The span's id.
    pub fn id(&self) -> SpanId {
        span_id(&self.span.span_id)
    }

    /// The parent's id; `SpanId::INVALID` (zero) for a root.
    pub fn parent(&self) -> SpanId {
        span_id(&self.span.parent_span_id)
    }
}

/// The spans of one trace that have arrived so far.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its id.
    pub id: TraceId,
    /// Its spans, in the order in which they arrived. A span that was sent twice is here twice.
    pub spans: Vec<Arc<StoredSpan>>,
    /// When the latest of them arrived.
    pub last_arrival: Instant,
    bytes: usize,
}

/// Not all spans of a trace came in time.
#[derive(Debug, thiserror::Error)]
#[error("{} of {wanted} spans arrived in {waited:?}", .arrived.len())]
pub struct Missing {
    /// How many were waited for.
    pub wanted: usize,
    /// For how long.
    pub waited: Duration,
    /// The ones that came.
    pub arrived: Vec<Arc<StoredSpan>>,
}

/// A bounded store of spans. A clone is another handle on the same store.
#[derive(Clone, Debug)]
pub struct SpanStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    capacity: Capacity,
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    traces: HashMap<TraceId, Trace>,
    /// Trace ids, the one that began first in front.
    order: VecDeque<TraceId>,
    spans: usize,
    bytes: usize,
    counts: Counts,
}

impl SpanStore {
    /// An empty store.
    pub fn new(capacity: Capacity) -> Self {
        let shared = Shared { capacity, state: Mutex::default(), changes: watch::Sender::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Takes the spans of one export request in and says how many it refused.
    pub fn add(&self, request: ExportTraceServiceRequest) -> u64 {
        let mut state = self.state();
        let rejected_before = state.counts.rejected;
        for batch in request.resource_spans {
            let resource = Arc::new(batch.resource.unwrap_or_default());
            for batch in batch.scope_spans {
                let scope = Arc::new(batch.scope.unwrap_or_default());
                for span in batch.spans {
                    let stored =
                        StoredSpan { resource: Arc::clone(&resource), scope: Arc::clone(&scope), span };
                    state.insert(stored, &self.shared.capacity);
                }
            }
        }
        let rejected = state.counts.rejected - rejected_before;
        drop(state);
        self.shared.changes.send_replace(());
        rejected
    }

    /// One trace, if any of its spans is here.
    pub fn trace(&self, id: TraceId) -> Option<Trace> {
        self.state().traces.get(&id).cloned()
    }

    /// All traces, the one that began first in front.
    pub fn traces(&self) -> Vec<Trace> {
        let state = self.state();
        let in_order = state.order.iter();
        in_order.filter_map(|id| state.traces.get(id).cloned()).collect()
    }

    /// What happened to the spans so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// A receiver that is marked changed whenever spans arrive.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    /// Waits until `look` finds what it looks for, and asks it again whenever spans arrive.
    /// `None` when `limit` passes first.
    pub async fn wait_until<T>(
        &self,
        limit: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes();
        let found = async {
            loop {
                if let Some(found) = look(self) {
                    return Some(found);
                }
                // The sender lives in `self`; an error cannot happen and would only end the wait.
                changes.changed().await.ok()?;
            }
        };
        timeout(limit, found).await.ok().flatten()
    }

    /// Waits until at least `spans` spans of the trace `id` have arrived.
    ///
    /// # Errors
    /// [`Missing`], with those that did arrive, when `limit` passes first.
    pub async fn wait_for(&self, id: TraceId, spans: usize, limit: Duration) -> Result<Trace, Missing> {
        let enough = |store: &Self| store.trace(id).filter(|trace| trace.spans.len() >= spans);
        let found = self.wait_until(limit, enough).await;
        found.ok_or_else(|| Missing {
            wanted: spans,
            waited: limit,
            arrived: self.trace(id).map_or_else(Vec::new, |trace| trace.spans),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }
}

impl State {
    fn insert(&mut self, span: StoredSpan, capacity: &Capacity) {
        let Some(id) = valid_trace(&span.span) else {
            self.counts.rejected += 1;
            return;
        };
        let bytes = encoded_len(&span);
        if !self.make_room(id, bytes, capacity) {
            self.counts.rejected += 1;
            return;
        }
        let trace = match self.traces.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.order.push_back(id);
                entry.insert(Trace { id, spans: Vec::new(), last_arrival: Instant::now(), bytes: 0 })
            }
        };
        trace.spans.push(Arc::new(span));
        trace.last_arrival = Instant::now();
        trace.bytes += bytes;
        self.spans += 1;
        self.bytes += bytes;
        self.counts.stored += 1;
    }

    /// Evicts the oldest traces other than `keep` until one more span of `keep` fits. `false` if it cannot.
    fn make_room(&mut self, keep: TraceId, bytes: usize, capacity: &Capacity) -> bool {
        let (kept_spans, kept_bytes) = match self.traces.get(&keep) {
            Some(trace) => (trace.spans.len(), trace.bytes),
            None => (0, 0),
        };
        let fits_alone = capacity.traces > 0
            && kept_spans < capacity.spans
            && kept_bytes.saturating_add(bytes) <= capacity.bytes;
        if !fits_alone {
            return false;
        }
        while self.is_full(keep, bytes, capacity) {
            let Some(oldest) = self.order.iter().position(|id| *id != keep) else {
                break;
            };
            self.evict(oldest);
        }
        true
    }

    fn is_full(&self, keep: TraceId, bytes: usize, capacity: &Capacity) -> bool {
        let new_trace = usize::from(!self.traces.contains_key(&keep));
        self.traces.len() + new_trace > capacity.traces
            || self.spans >= capacity.spans
            || self.bytes.saturating_add(bytes) > capacity.bytes
    }

    fn evict(&mut self, position: usize) {
        let id = self.order.remove(position);
        let Some(trace) = id.and_then(|id| self.traces.remove(&id)) else {
            return;
        };
        self.spans -= trace.spans.len();
        self.bytes -= trace.bytes;
        self.counts.evicted_traces += 1;
        self.counts.evicted_spans += trace.spans.len() as u64;
    }
}

/// The trace id, if the span's ids are what OTLP allows: 16 and 8 bytes, not all zero, the parent's or none.
fn valid_trace(span: &Span) -> Option<TraceId> {
    let id = TraceId::from_bytes(span.trace_id.as_slice().try_into().ok()?);
    let parent_is_valid = matches!(span.parent_span_id.len(), 0 | 8);
    let is_valid = id != TraceId::INVALID
        && parent_is_valid
        && span.span_id.len() == 8
        && span_id(&span.span_id) != SpanId::INVALID;
    is_valid.then_some(id)
}

fn span_id(bytes: &[u8]) -> SpanId {
    bytes.try_into().map_or(SpanId::INVALID, SpanId::from_bytes)
}

/// The resource and the scope count for every span although spans share them: an upper bound is enough.
fn encoded_len(stored: &StoredSpan) -> usize {
    stored.span.encoded_len() + stored.resource.encoded_len() + stored.scope.encoded_len()
}

#[cfg(test)]
mod tests;
