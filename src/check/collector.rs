//! One span to the collector, sent as the sidecar would send its own, and what
//! the collector said.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanKind, TraceFlags, TraceId};

use crate::export::{self, ExportConfig, Resource};
use crate::metrics::ExportMetrics;
use crate::net::tls::TlsError;
use crate::trace::ids::Ids;
use crate::trace::span::Span;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long the collector may take.
    pub timeout: Duration,
    /// Where traces are looked at, such as `http://localhost:16686`.
    pub store: Option<String>,
}

/// Sends a test span and writes what became of it. Answers whether the
/// collector took it, or nothing was to be sent.
///
/// # Errors
/// When a TLS file cannot be used, or nobody takes what is written.
pub async fn send(
    config: &ExportConfig,
    resource: &Resource,
    options: &Options,
    out: &mut impl Write,
) -> Result<bool, CheckError> {
    let metrics = ExportMetrics::default();
    let (exporter, task) = export::build(config, resource, &metrics)?;
    writeln!(out, "exports to {}", config.describe())?;
    let Some(task) = task else {
        writeln!(out, "nothing was sent: no exporter is on (OTEL_TRACES_EXPORTER, OTEL_SDK_DISABLED)")?;
        return Ok(true);
    };
    let running = tokio::spawn(task.run());
    let span = test_span();
    exporter.worker().end(&span);
    let began = Instant::now();
    exporter.flush(options.timeout).await;
    let took = began.elapsed();
    let taken = metrics.spans_exported.get() > 0 || config.otlp.is_none();
    writeln!(out, "{}", verdict(&metrics, taken, took, options.timeout))?;
    if taken {
        writeln!(out, "find it: trace {}, service {}", span.trace_id, resource.service_name())?;
        if let Some(store) = &options.store {
            writeln!(out, "{}", link(store, span.trace_id))?;
        }
    }
    exporter.shutdown(Duration::ZERO).await;
    running.abort();
    Ok(taken)
}

/// What kept a check from being carried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A TLS file of the exporter cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What was found could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

fn test_span() -> Box<Span> {
    let ids = Ids::new();
    let mut span = Box::new(Span::new(Default::default()));
    span.trace_id = ids.trace_id();
    span.span_id = ids.span_id();
    span.flags = TraceFlags::SAMPLED;
    span.kind = SpanKind::Internal;
    span.set_name_static("meshtrace check");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    span.start_unix_nanos = u64::try_from(now).unwrap_or(u64::MAX);
    span.end_unix_nanos = span.start_unix_nanos.saturating_add(1_000_000);
    span.set_bool("meshtrace.check", true);
    span
}

fn verdict(metrics: &ExportMetrics, taken: bool, took: Duration, timeout: Duration) -> String {
    if taken {
        return format!("the test span was taken within {} ms", took.as_millis());
    }
    let said = [
        (metrics.spans_rejected.get(), "it took the request and rejected the span"),
        (metrics.requests_refused.get(), "it refused the request"),
        (metrics.requests_timeout.get(), "it did not answer in time"),
        (metrics.requests_network.get(), "it could not be reached, or the connection broke"),
        (metrics.requests_retryable.get(), "it asked to come back later"),
    ];
    let why = said.iter().find(|(count, _)| *count > 0).map_or("it said nothing", |(_, why)| why);
    format!("the test span was not taken within {timeout:?}: {why}")
}

/// Where a trace is shown: the paths of Jaeger, which other stores follow.
fn link(store: &str, trace: TraceId) -> String {
    format!("{}/trace/{trace}", store.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_one_slash() {
        let trace = TraceId::from_bytes([0xab; 16]);
        let expect = format!("http://jaeger:16686/trace/{trace}");
        assert_eq!(link("http://jaeger:16686", trace), expect);
        assert_eq!(link("http://jaeger:16686/", trace), expect);
    }

    #[tokio::test]
    async fn no_exporter_is_no_failure() {
        let config = ExportConfig { otlp: None, ..ExportConfig::default() };
        let (resource, _) = crate::export::resource::from_env(&|_| None, 1);
        let options = Options { timeout: Duration::from_secs(1), store: None };
        let mut out = Vec::new();
        assert!(send(&config, &resource, &options, &mut out).await.unwrap());
        assert!(String::from_utf8(out).unwrap().contains("nothing was sent"));
    }
}
