//! Metrics and logs, which go out only where they are asked for.

use std::time::Duration;

use super::{ConfigError, OtlpConfig, otlp};
use crate::export::env::{Env, shown};
use crate::export::signal::Signal;

/// How metrics are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// The collector.
    pub otlp: OtlpConfig,
    /// From one export to the next. `OTEL_METRIC_EXPORT_INTERVAL`
    pub interval: Duration,
    /// Whether a point says which sampled spans it shows. `OTEL_METRICS_EXEMPLAR_FILTER`
    pub exemplars: bool,
    /// Of counters and histograms. `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`
    pub temporality: Temporality,
}

/// From when on the points of a metric count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Temporality {
    /// From the start of the process.
    #[default]
    Cumulative,
    /// From the last export that was taken.
    Delta,
}

/// How log records are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct LogsConfig {
    /// The collector.
    pub otlp: OtlpConfig,
    /// How long a record waits at most. `OTEL_BLRP_SCHEDULE_DELAY`
    pub delay: Duration,
    /// Records that wait at most; one more is dropped. `OTEL_BLRP_MAX_QUEUE_SIZE`
    pub max_queue: usize,
    /// Records of one request. `OTEL_BLRP_MAX_EXPORT_BATCH_SIZE`
    pub max_batch: usize,
}

/// The shortest time between two exports.
const SHORTEST: Duration = Duration::from_millis(10);

/// Queues beyond this would hold more memory than a sidecar may.
const MOST_QUEUED: usize = 1_000_000;

pub(super) fn metrics(env: &mut Env<'_>, disabled: bool) -> Result<Option<MetricsConfig>, ConfigError> {
    if !is_asked_for(env, "OTEL_METRICS_EXPORTER") || disabled {
        return Ok(None);
    }
    let mut otlp = otlp(env, Signal::Metrics)?;
    otlp.retry.max_total = env.timeout("OTEL_METRIC_EXPORT_TIMEOUT").unwrap_or(Duration::from_secs(30));
    let interval = env.number::<u64>("OTEL_METRIC_EXPORT_INTERVAL", 1);
    let interval = interval.map_or(Duration::from_secs(60), Duration::from_millis).max(SHORTEST);
    let exemplars = [("trace_based", true), ("always_off", false)];
    let exemplars = env.word("OTEL_METRICS_EXEMPLAR_FILTER", &exemplars).unwrap_or(true);
    // The two that are not cumulative differ in instruments that there are none of: counters that are asked for their value.
    let temporalities = [
        ("cumulative", Temporality::Cumulative),
        ("delta", Temporality::Delta),
        ("lowmemory", Temporality::Delta),
    ];
    let temporality = env.word("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", &temporalities);
    let temporality = temporality.unwrap_or_default();
    // What else the specification offers of these is not there.
    let histograms = [("explicit_bucket_histogram", ())];
    let _ = env.word("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", &histograms);
    Ok(Some(MetricsConfig { otlp, interval, exemplars, temporality }))
}

pub(super) fn logs(env: &mut Env<'_>, disabled: bool) -> Result<Option<LogsConfig>, ConfigError> {
    if !is_asked_for(env, "OTEL_LOGS_EXPORTER") || disabled {
        return Ok(None);
    }
    let mut otlp = otlp(env, Signal::Logs)?;
    otlp.retry.max_total = env.timeout("OTEL_BLRP_EXPORT_TIMEOUT").unwrap_or(Duration::from_secs(30));
    let delay = env.number::<u64>("OTEL_BLRP_SCHEDULE_DELAY", 0);
    let max_queue = env.number("OTEL_BLRP_MAX_QUEUE_SIZE", 1).unwrap_or(2_048).min(MOST_QUEUED);
    let max_batch = env.number("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 1).unwrap_or(512).min(max_queue);
    let delay = delay.map_or(Duration::from_secs(1), Duration::from_millis).max(SHORTEST);
    Ok(Some(LogsConfig { otlp, delay, max_queue, max_batch }))
}

/// Whether a list of exporters names the only one there is.
fn is_asked_for(env: &mut Env<'_>, name: &str) -> bool {
    let list = env.text(name).unwrap_or_default();
    let mut asked = false;
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "otlp" => asked = true,
            "none" => {}
            other => env.warn(name, format!("`{}` is not one of otlp, none; ignored", shown(other))),
        }
    }
    asked
}
