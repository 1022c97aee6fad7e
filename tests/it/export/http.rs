//! OTLP over HTTP/1.1: what a request looks like, and every way in which a collector can fail.

use std::time::Duration;

use meshtrace::export::config::{Compression, Protocol};
use meshtrace::export::endpoint::Endpoint;

use super::{Pipeline, config, names};
use crate::support::collector::{Collector, Place, Reply};
use crate::support::logs::Logs;

const HTTP: Protocol = Protocol::HttpProtobuf;

fn status(status: u16) -> Reply {
    Reply::Status(status, vec![], vec![])
}

#[tokio::test]
async fn spans_arrive_over_one_connection() {
    let collector = Collector::start(&[]);
    let pipeline = Pipeline::start(&config(collector.addr, HTTP, |otlp| {
        otlp.headers = vec![("x-tenant".parse().unwrap(), "blue".parse().unwrap())];
        otlp.endpoint = Endpoint::http_base(&format!("http://me:word@{}/otlp", collector.addr)).unwrap();
    }));
    for round in 0..5 {
        pipeline.record(round * 10..round * 10 + 10);
        pipeline.flush().await;
    }
    assert_eq!(collector.names(), names(0..50));
    assert_eq!((collector.connections(), pipeline.fates()), (1, [50, 0, 0, 0, 0]));
    let first = &collector.received()[0];
    assert_eq!(first.path, "/otlp/v1/traces");
    assert_eq!(first.header("host"), collector.addr.to_string());
    assert_eq!(first.header("content-type"), "application/x-protobuf");
    assert_eq!(first.header("x-tenant"), "blue");
    assert_eq!(first.header("authorization"), "Basic bWU6d29yZA==");
    assert!(first.header("user-agent").starts_with("meshtrace/"));
    assert!(first.headers.contains_key("content-length") && !first.compressed);
}

#[tokio::test]
async fn gzip_and_json_carry_the_same_spans() {
    let mut requests = Vec::new();
    for (protocol, compression) in [
        (HTTP, Compression::None),
        (HTTP, Compression::Gzip),
        (Protocol::HttpJson, Compression::None),
        (Protocol::HttpJson, Compression::Gzip),
    ] {
        let collector = Collector::start(&[]);
        let pipeline =
            Pipeline::start(&config(collector.addr, protocol, |otlp| otlp.compression = compression));
        pipeline.record(0..20);
        pipeline.flush().await;
        let received = collector.received();
        assert_eq!(received[0].compressed, compression == Compression::Gzip);
        assert_eq!(received[0].header("content-type") == "application/json", protocol == Protocol::HttpJson);
        requests.push(received[0].request.clone());
    }
    assert!(requests.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn what_passes_is_tried_again_until_it_is_there() {
    let faults = [
        status(429),
        status(502),
        status(503),
        status(504),
        Reply::Status(429, vec![("retry-after", "0".to_owned())], vec![]),
        Reply::Status(
            503,
            vec![("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned())],
            b"garbage".to_vec(),
        ),
        Reply::Reset,
        Reply::ResetInAnswer,
    ];
    for fault in faults {
        let collector = Collector::start(&[fault.clone(), fault.clone(), fault.clone()]);
        let pipeline = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!(collector.names(), names(0..10), "{fault:?}");
        assert_eq!((pipeline.fates(), collector.received().len()), ([10, 0, 0, 0, 0], 4), "{fault:?}");
        let metrics = &pipeline.metrics;
        let failed = metrics.requests_retryable.get() + metrics.requests_network.get();
        assert_eq!((failed, metrics.requests_ok.get()), (3, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let collector = Collector::start(&[Reply::Silence, Reply::Silence]);
    let pipeline =
        Pipeline::start(&config(collector.addr, HTTP, |otlp| otlp.timeout = Duration::from_millis(200)));
    pipeline.record(0..10);
    pipeline.flush().await;
    // On a slow machine a good answer may come too late as well, and then the spans are there twice.
    assert_eq!(collector.names()[..10], names(0..10));
    assert_eq!(pipeline.fates(), [10, 0, 0, 0, 0]);
    assert!(pipeline.metrics.requests_timeout.get() >= 2);
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_nothing() {
    let (logs, _guard) = Logs::catch();
    let collector = Collector::start(&[]);
    let pipeline = Pipeline::start(&config(collector.addr, HTTP, |otlp| {
        otlp.retry.first_wait = Duration::from_secs(3600)
    }));
    pipeline.record(0..1);
    pipeline.flush().await;
    let place = collector.stop().await;
    let collector = Collector::start_at(place, &[]);
    pipeline.record(1..2);
    pipeline.flush().await;
    assert_eq!(collector.names(), names(1..2));
    assert_eq!(logs.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_refused_is_counted_and_never_tried_again() {
    for code in [301, 400, 401, 403, 404, 413, 415, 500] {
        let collector = Collector::start(&[Reply::Status(code, vec![], vec![0xff; 300_000])]);
        let pipeline = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
        pipeline.record(0..10);
        pipeline.flush().await;
        pipeline.record(10..12);
        pipeline.flush().await;
        assert_eq!(collector.names(), names(10..12), "{code}");
        assert_eq!((pipeline.fates(), collector.received().len()), ([2, 0, 10, 0, 0], 2), "{code}");
    }
}

#[tokio::test]
async fn a_wait_beyond_the_time_of_the_batch_gives_it_up() {
    let later = Reply::Status(429, vec![("retry-after", "3600".to_owned())], vec![]);
    let collector = Collector::start(&[later]);
    let pipeline =
        Pipeline::start(&config(collector.addr, HTTP, |otlp| otlp.retry.max_total = Duration::from_secs(20)));
    pipeline.record(0..10);
    pipeline.flush().await;
    assert_eq!((pipeline.fates(), collector.received().len()), ([0, 0, 0, 10, 0], 1));
}

#[tokio::test]
async fn a_batch_is_given_up_when_its_time_is_over() {
    let place = Place::any();
    let pipeline =
        Pipeline::start(&config(place.addr, HTTP, |otlp| otlp.retry.max_total = Duration::from_millis(50)));
    pipeline.record(0..10);
    pipeline.flush().await;
    assert_eq!(pipeline.fates(), [0, 0, 0, 10, 0]);
    assert!(pipeline.metrics.requests_network.get() > 0);
}

#[tokio::test]
async fn partial_success_is_counted() {
    let protobuf = b"\x0a\x0a\x08\x03\x12\x06quota!".to_vec();
    let json = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"quota!"}}"#.to_vec();
    for (content_type, body) in
        [("application/x-protobuf", protobuf), ("application/json; charset=utf-8", json)]
    {
        let (logs, _guard) = Logs::catch();
        let collector = Collector::start(&[
            Reply::AcceptWith(content_type, body.clone()),
            Reply::AcceptWith(content_type, body),
        ]);
        let pipeline = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
        pipeline.record(0..10);
        pipeline.flush().await;
        pipeline.record(10..12);
        pipeline.flush().await;
        // Of the second batch no more can be rejected than there were.
        assert_eq!((pipeline.fates(), pipeline.metrics.requests_partial.get()), ([7, 5, 0, 0, 0], 2));
        let warnings = logs.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("rejected_spans=3") && warnings[0].contains("quota!"), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_good_status_with_garbage_is_a_success() {
    for body in [b"\xff\xff\xff".to_vec(), b"<html>".to_vec(), vec![b'x'; 1_000_000]] {
        for content_type in ["application/x-protobuf", "application/json", "text/html"] {
            let collector = Collector::start(&[Reply::AcceptWith(content_type, body.clone())]);
            let pipeline = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
            pipeline.record(0..10);
            pipeline.flush().await;
            assert_eq!(pipeline.fates(), [10, 0, 0, 0, 0]);
        }
    }
}

#[tokio::test]
async fn a_collector_without_gzip_gets_plain_requests_from_then_on() {
    let (logs, _guard) = Logs::catch();
    let collector = Collector::start(&[status(415)]);
    let pipeline =
        Pipeline::start(&config(collector.addr, HTTP, |otlp| otlp.compression = Compression::Gzip));
    for number in 0..3 {
        pipeline.record(number..number + 1);
        pipeline.flush().await;
    }
    assert_eq!((collector.names(), pipeline.fates()), (names(0..3), [3, 0, 0, 0, 0]));
    let compressed: Vec<_> = collector.received().iter().map(|request| request.compressed).collect();
    assert_eq!(compressed, [true, false, false, false]);
    assert_eq!(logs.warnings().len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_bad_in_itself_does_not_end_gzip() {
    let collector = Collector::start(&[status(400), status(400)]);
    let pipeline =
        Pipeline::start(&config(collector.addr, HTTP, |otlp| otlp.compression = Compression::Gzip));
    for number in 0..2 {
        pipeline.record(number..number + 1);
        pipeline.flush().await;
    }
    assert_eq!((collector.names(), pipeline.fates()), (names(1..2), [1, 0, 1, 0, 0]));
    let compressed: Vec<_> = collector.received().iter().map(|request| request.compressed).collect();
    assert_eq!(compressed, [true, false, true]);
}

#[tokio::test]
async fn an_outage_is_told_once_from_each_end_and_loses_nothing() {
    let (logs, _guard) = Logs::catch();
    let place = Place::any();
    let pipeline = Pipeline::start(&config(place.addr, HTTP, |otlp| {
        otlp.endpoint =
            Endpoint::http_base(&format!("http://me:hidden1@{}/?key=hidden2", place.addr)).unwrap();
        otlp.headers = vec![("x-key".parse().unwrap(), "hidden3".parse().unwrap())];
    }));
    for number in 0..40 {
        pipeline.record(number..number + 1);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    pipeline.until(|metrics| metrics.requests_network.get() > 5).await;
    let collector = Collector::start_at(place, &[]);
    pipeline.flush().await;
    assert_eq!((collector.names(), pipeline.fates()), (names(0..40), [40, 0, 0, 0, 0]));
    // What waited was put together, and did not go out as it came in.
    assert!(collector.received().len() <= 3, "{}", collector.received().len());
    let warnings = logs.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("is not available") && warnings[1].contains("accepts spans again"),
        "{warnings:?}"
    );
    assert!(!warnings.concat().contains("hidden"), "{warnings:?}");
}

#[tokio::test]
async fn a_collector_that_comes_and_goes_does_not_fill_the_log() {
    let (logs, _guard) = Logs::catch();
    let script: Vec<_> = (0..50).flat_map(|_| [status(503), Reply::Accept, status(401)]).collect();
    let collector = Collector::start(&script);
    let pipeline = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
    for number in 0..100 {
        pipeline.record(number..number + 1);
        pipeline.flush().await;
    }
    assert_eq!(pipeline.fates()[0], 50);
    assert!(logs.warnings().len() <= 30, "{:?}", logs.warnings());
}
