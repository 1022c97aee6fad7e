//! The three signals of OTLP, and where they differ on the wire.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// What a collector is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

impl Signal {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }

    /// Its part of the names of the variables.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
            Signal::Logs => "LOGS",
        }
    }

    /// Its path below a general endpoint over HTTP.
    pub(super) fn path(self) -> &'static str {
        match self {
            Signal::Traces => "v1/traces",
            Signal::Metrics => "v1/metrics",
            Signal::Logs => "v1/logs",
        }
    }

    /// Its method over gRPC.
    pub(super) fn method(self) -> &'static str {
        match self {
            Signal::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        }
    }

    /// What it consists of, in messages for people.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Metrics => "metrics",
            Signal::Logs => "log records",
        }
    }

    /// A request of ours in OTLP's JSON. Decoding our own bytes cannot fail.
    pub(super) fn json(self, request: &[u8]) -> Vec<u8> {
        fn json<T: Message + Default + serde::Serialize>(request: &[u8]) -> Vec<u8> {
            serde_json::to_vec(&T::decode(request).unwrap_or_default()).unwrap_or_default()
        }
        match self {
            Signal::Traces => json::<ExportTraceServiceRequest>(request),
            Signal::Metrics => json::<ExportMetricsServiceRequest>(request),
            Signal::Logs => json::<ExportLogsServiceRequest>(request),
        }
    }
}
