//! OTLP over gRPC: calls, and statuses in trailers and headers.

use meshtrace::export::config::{Compression, Protocol};

use super::{Pipeline, config, names};
use crate::support::collector::{Collector, Reply};

const GRPC: Protocol = Protocol::Grpc;

#[tokio::test]
async fn spans_arrive_as_calls_over_one_connection() {
    for compression in [Compression::None, Compression::Gzip] {
        let collector = Collector::start_grpc(&[]);
        let pipeline = Pipeline::start(&config(collector.addr, GRPC, |otlp| {
            otlp.compression = compression;
            otlp.headers = vec![("x-tenant".parse().unwrap(), "blue".parse().unwrap())];
        }));
        for round in 0..3 {
            pipeline.record(round * 10..round * 10 + 10);
            pipeline.flush().await;
        }
        assert_eq!((collector.names(), pipeline.fates()), (names(0..30), [30, 0, 0, 0, 0]));
        assert_eq!(collector.connections(), 1);
        let call = &collector.received()[0];
        assert_eq!(call.path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        assert_eq!((call.header("te"), call.header("content-type")), ("trailers", "application/grpc"));
        assert_eq!((call.header("grpc-timeout"), call.header("x-tenant")), ("10000m", "blue"));
        assert_eq!(call.compressed, compression == Compression::Gzip);
        assert_eq!(call.header("grpc-encoding"), if call.compressed { "gzip" } else { "" });
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_until_it_is_there() {
    let faults = [
        Reply::Trailers(14, vec![]),
        Reply::Headers(14, vec![("grpc-message", "away".to_owned())]),
        Reply::Headers(8, vec![("grpc-status-details-bin", retry_info())]),
        Reply::Status(503, vec![], vec![]),
        Reply::Reset,
        Reply::ResetInAnswer,
    ];
    for fault in faults {
        let collector = Collector::start_grpc(&[fault.clone(), fault.clone()]);
        let pipeline = Pipeline::start(&config(collector.addr, GRPC, |_| {}));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!((collector.names(), pipeline.fates()), (names(0..10), [10, 0, 0, 0, 0]), "{fault:?}");
        assert_eq!(collector.received().len(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_refused_is_counted_and_never_tried_again() {
    for fault in [
        Reply::Trailers(3, vec![]),
        Reply::Headers(16, vec![]),
        Reply::Trailers(8, vec![]),
        Reply::Headers(12, vec![]),
        Reply::Status(200, vec![], b"no status".to_vec()),
    ] {
        let collector = Collector::start_grpc(std::slice::from_ref(&fault));
        let pipeline = Pipeline::start(&config(collector.addr, GRPC, |_| {}));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!((pipeline.fates(), collector.received().len()), ([0, 0, 10, 0, 0], 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_without_gzip_gets_plain_calls_from_then_on() {
    let collector = Collector::start_grpc(&[Reply::Headers(12, vec![])]);
    let pipeline =
        Pipeline::start(&config(collector.addr, GRPC, |otlp| otlp.compression = Compression::Gzip));
    for number in 0..2 {
        pipeline.record(number..number + 1);
        pipeline.flush().await;
    }
    assert_eq!((collector.names(), pipeline.fates()), (names(0..2), [2, 0, 0, 0, 0]));
    let compressed: Vec<_> = collector.received().iter().map(|request| request.compressed).collect();
    assert_eq!(compressed, [true, false, false]);
}

#[tokio::test]
async fn partial_success_is_counted() {
    let message = b"\0\0\0\0\x0c\x0a\x0a\x08\x03\x12\x06quota!".to_vec();
    let collector = Collector::start_grpc(&[Reply::AcceptWith("", message)]);
    let pipeline = Pipeline::start(&config(collector.addr, GRPC, |_| {}));
    pipeline.record(0..10);
    pipeline.flush().await;
    assert_eq!(pipeline.fates(), [7, 3, 0, 0, 0]);
}

/// `google.rpc.Status` with a `RetryInfo` of zero seconds, as a throttling server sends it.
fn retry_info() -> String {
    "CAgaLgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxICCgA=".to_owned()
}
