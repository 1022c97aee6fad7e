//! The bounds of the queue of spans, and those of one span.

use std::time::Duration;

use crate::export::env::Env;
use crate::export::queue::QueueConfig;
use crate::trace::span::SpanLimits;

pub(super) fn queue(env: &mut Env<'_>) -> QueueConfig {
    const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
    const SHORTEST_DELAY: Duration = Duration::from_millis(10);
    let mut config = QueueConfig::default();
    config.schedule_delay = env
        .number::<u64>("OTEL_BSP_SCHEDULE_DELAY", 0)
        .map_or(config.schedule_delay, |millis| Duration::from_millis(millis).max(SHORTEST_DELAY));
    config.max_queue_spans = env.number("OTEL_BSP_MAX_QUEUE_SIZE", 1).unwrap_or(config.max_queue_spans);
    config.max_batch_spans = env.number(BATCH, 1).unwrap_or(config.max_batch_spans);
    if config.max_batch_spans > config.max_queue_spans {
        if env.text(BATCH).is_some() {
            env.warn(BATCH, format!("is larger than the queue; {} is used", config.max_queue_spans));
        }
        config.max_batch_spans = config.max_queue_spans;
    }
    config
}

pub(super) fn span_limits(env: &mut Env<'_>) -> SpanLimits {
    let defaults = SpanLimits::default();
    let general_count = env.number("OTEL_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(defaults.attribute_count);
    let general_length = env.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0);
    SpanLimits {
        attribute_count: env.number("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
        attribute_value_length: env.number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", 0).or(general_length),
        link_count: env.number("OTEL_SPAN_LINK_COUNT_LIMIT", 0).unwrap_or(defaults.link_count),
        link_attribute_count: env.number("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
        event_count: env.number("OTEL_SPAN_EVENT_COUNT_LIMIT", 0).unwrap_or(defaults.event_count),
        event_attribute_count: env.number("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", 0).unwrap_or(general_count),
    }
}
