//! The bounds of the queue, many workers, flush and shutdown.

use std::time::Duration;

use meshtrace::export::config::Protocol;
use meshtrace::export::{ExportConfig, build, resource};
use meshtrace::metrics::ExportMetrics;

use super::{PATIENCE, Pipeline, config, names, span};
use crate::support::collector::{Collector, Place, Reply};
use crate::support::logs::Logs;

const HTTP: Protocol = Protocol::HttpProtobuf;

#[tokio::test]
async fn the_bound_in_spans_holds_and_the_newest_are_dropped() {
    let (logs, _guard) = Logs::catch();
    let place = Place::any();
    let mut config = config(place.addr, HTTP, |_| {});
    config.queue.max_queue_spans = 10;
    config.queue.max_batch_spans = 4;
    let pipeline = Pipeline::start(&config);
    pipeline.record(0..25);
    assert_eq!(pipeline.exporter.waiting().0, 10);
    pipeline.until(|metrics| metrics.queue_spans.get() == 10).await;
    assert_eq!(pipeline.metrics.spans_dropped_queue_spans.get(), 15);
    pipeline.until(|_| logs.warnings().iter().any(|line| line.contains("dropped_spans=15"))).await;
    let collector = Collector::start_at(place, &[]);
    pipeline.flush().await;
    let mut arrived = collector.names();
    arrived.sort();
    assert_eq!((arrived, pipeline.exporter.waiting()), (names(0..10), (0, 0)));
    assert!(collector.received().iter().all(|request| request.spans().count() <= 4));
    pipeline.record(25..26);
    pipeline.flush().await;
    assert_eq!(pipeline.fates(), [11, 0, 0, 0, 15]);
}

#[tokio::test]
async fn the_bound_in_bytes_holds() {
    let place = Place::any();
    let mut config = config(place.addr, HTTP, |_| {});
    config.queue.max_queue_bytes = 2000;
    let pipeline = Pipeline::start(&config);
    pipeline.record(0..100);
    let (spans, bytes) = pipeline.exporter.waiting();
    assert!(bytes <= 2000 && bytes > 1800 && spans > 10, "{spans} {bytes}");
    assert_eq!(pipeline.metrics.spans_dropped_queue_bytes.get(), 100 - spans as u64);
    let collector = Collector::start_at(place, &[]);
    pipeline.flush().await;
    assert_eq!((collector.names().len(), pipeline.exporter.waiting()), (spans, (0, 0)));
}

#[tokio::test]
async fn a_request_is_bounded_in_bytes() {
    let place = Place::any();
    let mut config = config(place.addr, HTTP, |_| {});
    config.queue.max_batch_bytes = 100_000;
    let pipeline = Pipeline::start(&config);
    let mut large = span(0);
    large.set_str("text", &"x".repeat(30_000));
    (0..20).for_each(|_| pipeline.recorder.end(&large));
    pipeline.until(|metrics| metrics.requests_network.get() > 0).await;
    let collector = Collector::start_at(place, &[]);
    pipeline.flush().await;
    let sizes: Vec<_> = collector.received().iter().map(|request| request.spans().count()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 20);
    assert!(sizes.iter().all(|spans| *spans <= 3), "{sizes:?}");
}

#[tokio::test]
async fn many_workers_lose_nothing_below_the_bound() {
    const WORKERS: u32 = 4;
    const EACH: u32 = 50_000;
    let collector = Collector::start(&[]);
    let mut config = config(collector.addr, HTTP, |_| {});
    config.queue.max_queue_spans = (WORKERS * EACH) as usize;
    config.queue.max_queue_bytes = usize::MAX;
    let pipeline = Pipeline::start(&config);
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let recorder = pipeline.exporter.worker();
            std::thread::spawn(move || {
                (0..EACH).for_each(|number| recorder.end(&span(worker * EACH + number)))
            })
        })
        .collect();
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The workers and their recorders are gone; what they held is not.
    pipeline.flush().await;
    assert_eq!(pipeline.fates(), [u64::from(WORKERS * EACH), 0, 0, 0, 0]);
    let mut ids: Vec<_> = collector
        .received()
        .iter()
        .flat_map(|request| request.spans().map(|span| span.span_id.clone()).collect::<Vec<_>>())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), (WORKERS * EACH) as usize);
    assert!(collector.received().iter().all(|request| request.spans().count() <= 512));
    assert!(collector.connections() <= 4);
}

#[test]
fn many_workers_never_pass_the_bound_and_never_wait() {
    const EACH: u32 = 20_000;
    let mut config = ExportConfig::default();
    config.queue.max_queue_spans = 1000;
    let (resource, _) = resource::from_env(&|_| None, 7);
    let metrics = ExportMetrics::default();
    // The task is never run: nobody takes anything.
    let (exporter, _task) = build(&config, &resource, &metrics).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let recorder = exporter.worker();
            let exporter = &exporter;
            scope.spawn(move || {
                for number in 0..EACH {
                    recorder.end(&span(number));
                    // One more may be seen from each worker that is about to be told that there is no room.
                    assert!(exporter.waiting().0 <= 1000 + 4);
                }
            });
        }
    });
    assert_eq!(exporter.waiting().0, 1000);
    assert_eq!(metrics.spans_dropped_queue_spans.get(), u64::from(4 * EACH - 1000));
}

#[tokio::test]
async fn a_flush_in_time_says_so_and_a_late_one_loses_nothing() {
    let place = Place::any();
    let pipeline = Pipeline::start(&config(place.addr, HTTP, |_| {}));
    assert!(pipeline.exporter.flush(PATIENCE).await, "there was nothing to flush");
    pipeline.record(0..10);
    assert!(!pipeline.exporter.flush(Duration::from_millis(20)).await);
    let collector = Collector::start_at(place, &[]);
    pipeline.flush().await;
    assert_eq!(collector.names(), names(0..10));
}

#[tokio::test]
async fn shutdown_sends_what_waits_and_ends_the_task() {
    let collector = Collector::start(&[]);
    let mut config = config(collector.addr, HTTP, |_| {});
    config.queue.schedule_delay = Duration::from_secs(3600);
    let pipeline = Pipeline::start(&config);
    pipeline.record(0..1000);
    assert_eq!(pipeline.exporter.shutdown(PATIENCE).await, 0);
    assert_eq!((collector.names().len(), pipeline.fates()), (1000, [1000, 0, 0, 0, 0]));
    tokio::time::timeout(PATIENCE, pipeline.task).await.unwrap().unwrap();
    assert_eq!(pipeline.exporter.shutdown(PATIENCE).await, 0);
    assert!(!pipeline.exporter.flush(PATIENCE).await);
    pipeline.recorder.end(&span(0));
    assert_eq!(pipeline.metrics.spans_dropped_shutdown.get(), 1);
    assert_eq!(pipeline.exporter.waiting(), (0, 0));
}

#[tokio::test]
async fn shutdown_does_not_sit_out_a_wait() {
    let collector = Collector::start(&[Reply::Status(503, vec![], vec![])]);
    let pipeline = Pipeline::start(&config(collector.addr, HTTP, |otlp| {
        otlp.retry.first_wait = Duration::from_secs(100);
        otlp.retry.max_total = Duration::from_secs(1000);
    }));
    pipeline.record(0..10);
    pipeline.until(|metrics| metrics.requests_retryable.get() == 1).await;
    assert_eq!(pipeline.exporter.shutdown(PATIENCE).await, 0);
    assert_eq!(collector.names(), names(0..10));
}

#[tokio::test]
async fn shutdown_ends_at_its_deadline_and_counts_what_was_lost() {
    let silent = Collector::start(&[Reply::Silence, Reply::Silence]);
    let pipeline =
        Pipeline::start(&config(silent.addr, HTTP, |otlp| otlp.timeout = Duration::from_secs(3600)));
    pipeline.record(0..600);
    let lost =
        tokio::time::timeout(PATIENCE, pipeline.exporter.shutdown(Duration::from_millis(50))).await.unwrap();
    assert_eq!((lost, pipeline.fates()), (600, [0, 0, 0, 0, 600]));
    assert_eq!((pipeline.exporter.waiting(), pipeline.metrics.queue_spans.get()), ((0, 0), 0));
}

#[tokio::test]
async fn dropping_every_handle_is_a_shutdown() {
    let collector = Collector::start(&[]);
    let Pipeline { exporter, recorder, task, .. } = Pipeline::start(&config(collector.addr, HTTP, |_| {}));
    recorder.end(&span(0));
    drop((exporter, recorder));
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    assert_eq!(collector.names(), names(0..1));
}

#[tokio::test]
async fn no_exporter_is_no_work() {
    let (config, _) =
        ExportConfig::from_env(&|name| (name == "OTEL_TRACES_EXPORTER").then(|| "none".to_owned())).unwrap();
    let (resource, _) = resource::from_env(&|_| None, 7);
    let metrics = ExportMetrics::default();
    let (exporter, task) = build(&config, &resource, &metrics).unwrap();
    assert!(task.is_none() && !exporter.is_enabled());
    let recorder = exporter.worker();
    recorder.end(&span(0));
    assert!(!recorder.is_enabled() && exporter.flush(Duration::ZERO).await);
    assert_eq!((exporter.shutdown(Duration::ZERO).await, exporter.waiting()), (0, (0, 0)));
}

#[tokio::test]
async fn a_slow_collector_is_given_several_requests_at_once() {
    let collector = Collector::start(&[Reply::Silence]);
    let mut config = config(collector.addr, HTTP, |otlp| otlp.timeout = Duration::from_secs(3600));
    config.queue.max_batch_spans = 10;
    let pipeline = Pipeline::start(&config);
    pipeline.record(0..100);
    pipeline.until(|metrics| metrics.spans_exported.get() == 90).await;
    assert_eq!(pipeline.exporter.waiting().0, 10);
    assert!(collector.connections() > 1);
}
