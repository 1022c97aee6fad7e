//! The export pipeline against collectors that are well, broken, slow or away.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod grpc;
mod http;
mod queue;
mod reference;
mod signals;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use meshtrace::export::config::{OtlpConfig, Protocol};
use meshtrace::export::endpoint::Endpoint;
use meshtrace::export::{self, ExportConfig, Exporter, Recorder, resource};
use meshtrace::metrics::ExportMetrics;
use meshtrace::trace::span::{Span, SpanLimits};
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use tokio::task::JoinHandle;

/// Much longer than anything here takes; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline that runs on the test's own runtime.
struct Pipeline {
    exporter: Exporter,
    recorder: Recorder,
    metrics: ExportMetrics,
    task: JoinHandle<()>,
}

impl Pipeline {
    fn start(config: &ExportConfig) -> Self {
        let (resource, _) = resource::from_env(&|_| None, 7);
        let metrics = ExportMetrics::default();
        let (exporter, task) = export::build(config, &resource, &metrics).unwrap();
        let task = tokio::spawn(task.unwrap().run());
        Self { recorder: exporter.worker(), exporter, metrics, task }
    }

    /// Records spans named by their numbers.
    fn record(&self, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| self.recorder.end(&span(number)));
    }

    async fn flush(&self) {
        assert!(self.exporter.flush(PATIENCE).await, "flush hangs");
    }

    /// Waits until `done` says so.
    async fn until(&self, done: impl Fn(&ExportMetrics) -> bool) {
        let waiting = async {
            while !done(&self.metrics) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it never happened");
    }

    /// Exported, rejected, refused, expired, and dropped for any reason.
    fn fates(&self) -> [u64; 5] {
        let metrics = &self.metrics;
        [
            metrics.spans_exported.get(),
            metrics.spans_rejected.get(),
            metrics.spans_failed_refused.get(),
            metrics.spans_failed_expired.get(),
            metrics.spans_dropped_queue_spans.get()
                + metrics.spans_dropped_queue_bytes.get()
                + metrics.spans_dropped_shutdown.get(),
        ]
    }
}

/// Everything quick, so that a test of ten retries takes a moment.
fn config(addr: SocketAddr, protocol: Protocol, change: impl FnOnce(&mut OtlpConfig)) -> ExportConfig {
    let mut config = ExportConfig::default();
    config.queue.schedule_delay = Duration::from_millis(10);
    let otlp = config.otlp.as_mut().unwrap();
    otlp.protocol = protocol;
    otlp.endpoint = Endpoint::http_base(&format!("http://{addr}")).unwrap();
    otlp.retry.first_wait = Duration::from_millis(5);
    otlp.retry.max_wait = Duration::from_millis(10);
    change(otlp);
    config
}

fn span(number: u32) -> Span {
    let mut span = Span::new(SpanLimits::default());
    span.trace_id = TraceId::from_bytes([1; 16]);
    span.span_id = SpanId::from_bytes((u64::from(number) + 1).to_be_bytes());
    span.flags = TraceFlags::SAMPLED;
    span.start_unix_nanos = 1;
    span.end_unix_nanos = 2;
    span.set_name(&number.to_string());
    span.set_static("mcp.method.name", "tools/call");
    span
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}
