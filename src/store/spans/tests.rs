//! What the store keeps, what it lets go, and waiting for it.

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn span(trace: u8, id: u8) -> Span {
    Span { trace_id: vec![trace; 16], span_id: vec![id; 8], ..Span::default() }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn id(trace: u8) -> TraceId {
    TraceId::from_bytes([trace; 16])
}

fn ids(store: &SpanStore) -> Vec<TraceId> {
    store.traces().iter().map(|trace| trace.id).collect()
}

fn store(traces: usize, spans: usize, bytes: usize) -> SpanStore {
    SpanStore::new(Capacity { traces, spans, bytes })
}

#[test]
fn spans_are_kept_by_trace_in_order() {
    let store = SpanStore::new(Capacity::default());
    store.add(request(vec![span(2, 1), span(1, 2)]));
    store.add(request(vec![span(2, 3)]));
    assert_eq!(ids(&store), [id(2), id(1)]);
    let spans = store.trace(id(2)).unwrap().spans;
    assert_eq!(spans.iter().map(|s| s.span.span_id[0]).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(store.counts().stored, 3);
}

#[test]
fn one_trace_too_many_evicts_the_oldest() {
    let store = store(2, 100, 1 << 20);
    store.add(request(vec![span(1, 1), span(1, 2), span(2, 1), span(3, 1)]));
    assert_eq!(ids(&store), [id(2), id(3)]);
    assert_eq!((store.counts().evicted_traces, store.counts().evicted_spans), (1, 2));
}

#[test]
fn one_span_too_many_evicts_the_oldest_trace_but_never_its_own() {
    let store = store(100, 3, 1 << 20);
    store.add(request(vec![span(1, 1), span(2, 1), span(1, 2), span(1, 3)]));
    assert_eq!(ids(&store), [id(1)]);
    assert_eq!(store.add(request(vec![span(1, 4)])), 1, "a trace alone over the limit");
    assert_eq!(store.counts().rejected, 1);
    assert_eq!(store.trace(id(1)).unwrap().spans.len(), 3);
    store.add(request(vec![span(9, 1)]));
    assert_eq!(ids(&store), [id(9)]);
}

#[test]
fn bytes_are_bounded_too() {
    let one = span(1, 1).encoded_len();
    let store = store(100, 100, 2 * one);
    store.add(request(vec![span(1, 1), span(2, 1), span(3, 1)]));
    assert_eq!(ids(&store), [id(2), id(3)]);
    let mut large = span(4, 1);
    large.name = "x".repeat(2 * one);
    assert_eq!(store.add(request(vec![large])), 1);
    assert_eq!(ids(&store), [id(2), id(3)], "a span that can never fit evicts nobody");
}

#[test]
fn a_capacity_of_nothing_stores_nothing() {
    let store = store(0, 0, 0);
    assert_eq!(store.add(request(vec![span(1, 1)])), 1);
    assert_eq!(ids(&store), []);
}

#[test]
fn spans_with_bad_ids_are_refused() {
    let mut bad = [span(0, 1), span(1, 0), span(1, 1), span(1, 1), span(1, 1)];
    bad[2].trace_id.push(1);
    bad[3].span_id.clear();
    bad[4].parent_span_id = vec![1; 7];
    let store = SpanStore::new(Capacity::default());
    assert_eq!(store.add(request(bad.to_vec())), 5);
    assert_eq!(ids(&store), []);
}

#[tokio::test]
async fn waiting_ends_when_the_last_span_arrives() {
    let store = SpanStore::new(Capacity::default());
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 1..=3 {
            tokio::task::yield_now().await;
            writer.add(request(vec![span(7, n), span(8, n)]));
        }
    });
    let trace = store.wait_for(id(7), 3, SOON).await.unwrap();
    assert_eq!(trace.spans.len(), 3);
    writing.await.unwrap();
}

#[tokio::test]
async fn waiting_too_long_returns_what_came() {
    let store = SpanStore::new(Capacity::default());
    store.add(request(vec![span(7, 1)]));
    let missing = store.wait_for(id(7), 2, Duration::from_millis(1)).await.unwrap_err();
    assert_eq!((missing.wanted, missing.arrived.len()), (2, 1));
}
