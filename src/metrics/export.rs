//! The metrics of the export queue and its sender.
//!
//! Every span that was recorded ends in exactly one of: exported, rejected, failed, dropped.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of finished spans. Cloning shares the counters.
#[derive(Clone, Debug, Default)]
pub struct ExportMetrics {
    /// Spans that the collector accepted.
    pub spans_exported: Counter,
    /// Spans that the collector refused inside a request that it otherwise accepted (OTLP partial success).
    pub spans_rejected: Counter,
    /// Spans of batches that the collector refused with an error that a retry cannot mend.
    pub spans_failed_refused: Counter,
    /// Spans of batches that were still not accepted when their retry time was over.
    pub spans_failed_expired: Counter,
    /// Spans dropped because the queue held as many spans as it may.
    pub spans_dropped_queue_spans: Counter,
    /// Spans dropped because the queue held as many bytes as it may.
    pub spans_dropped_queue_bytes: Counter,
    /// Spans that were recorded or still waiting when the process stopped.
    pub spans_dropped_shutdown: Counter,
    /// Spans whose text reached the limit of one span and was cut.
    pub spans_cut: Counter,
    /// Export requests that were accepted.
    pub requests_ok: Counter,
    /// Export requests that were accepted except for some spans.
    pub requests_partial: Counter,
    /// Export requests that were answered with an error worth a retry.
    pub requests_retryable: Counter,
    /// Export requests that were answered with a final error.
    pub requests_refused: Counter,
    /// Export requests that broke before an answer: no connection, TLS failure, reset.
    pub requests_network: Counter,
    /// Export requests that were not answered in time.
    pub requests_timeout: Counter,
    /// Spans that wait for the collector: recorded, queued or in flight.
    pub queue_spans: Gauge,
    /// Encoded bytes of these spans.
    pub queue_bytes: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: &'static str,
}

impl ExportMetrics {
    /// Creates the metrics at zero and registers them under their public names.
    pub fn register(registry: &mut Registry) -> Self {
        let failed = Family::<Reason, Counter>::default();
        let dropped = Family::<Reason, Counter>::default();
        let requests = Family::<Outcome, Counter>::default();
        let failed_for = |reason| failed.get_or_create_owned(&Reason { reason });
        let dropped_for = |reason| dropped.get_or_create_owned(&Reason { reason });
        let requests_with = |result| requests.get_or_create_owned(&Outcome { result });
        let metrics = Self {
            spans_exported: Counter::default(),
            spans_rejected: Counter::default(),
            spans_failed_refused: failed_for("refused"),
            spans_failed_expired: failed_for("expired"),
            spans_dropped_queue_spans: dropped_for("queue_spans"),
            spans_dropped_queue_bytes: dropped_for("queue_bytes"),
            spans_dropped_shutdown: dropped_for("shutdown"),
            spans_cut: Counter::default(),
            requests_ok: requests_with("ok"),
            requests_partial: requests_with("partial"),
            requests_retryable: requests_with("retryable"),
            requests_refused: requests_with("refused"),
            requests_network: requests_with("network"),
            requests_timeout: requests_with("timeout"),
            queue_spans: Gauge::default(),
            queue_bytes: Gauge::default(),
        };
        registry.register(
            "meshtrace_export_spans",
            "Spans accepted by the collector",
            metrics.spans_exported.clone(),
        );
        registry.register(
            "meshtrace_export_spans_rejected",
            "Spans rejected by partial success",
            metrics.spans_rejected.clone(),
        );
        registry.register("meshtrace_export_spans_failed", "Spans of batches that were given up", failed);
        registry.register("meshtrace_spans_dropped", "Spans dropped before they were sent", dropped);
        registry.register(
            "meshtrace_spans_cut",
            "Spans whose text was cut at the limit of a span",
            metrics.spans_cut.clone(),
        );
        registry.register("meshtrace_export_requests", "Export requests by result", requests);
        registry.register(
            "meshtrace_export_queue_spans",
            "Spans waiting for the collector",
            metrics.queue_spans.clone(),
        );
        registry.register(
            "meshtrace_export_queue_bytes",
            "Encoded bytes waiting for the collector",
            metrics.queue_bytes.clone(),
        );
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_before_the_first_span() {
        let mut registry = Registry::default();
        let metrics = ExportMetrics::register(&mut registry);
        metrics.spans_dropped_queue_bytes.inc_by(3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "meshtrace_export_spans_total 0",
            "meshtrace_export_spans_rejected_total 0",
            "meshtrace_export_spans_failed_total{reason=\"expired\"} 0",
            "meshtrace_spans_dropped_total{reason=\"queue_bytes\"} 3",
            "meshtrace_spans_dropped_total{reason=\"shutdown\"} 0",
            "meshtrace_export_requests_total{result=\"partial\"} 0",
            "meshtrace_export_queue_spans 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
