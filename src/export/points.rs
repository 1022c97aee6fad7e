//! What `/metrics` says, as metrics of OTLP: `opentelemetry/proto/metrics/v1/metrics.proto`.
//!
//! The text is the one place where all metrics of the process come together, so it is read again instead of a second
//! list of them. It is our own text; what peers chose in it is escaped. Everything is cumulative since the start.

use std::str::Chars;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exemplar, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::export::otlp::{SCHEMA_URL, SCOPE_NAME};

/// Names that the conventions have a spelling of their own for.
const FAMILIES: [(&str, &str); 4] = [
    ("mcp_server_operation_duration_seconds", "mcp.server.operation.duration"),
    ("mcp_client_operation_duration_seconds", "mcp.client.operation.duration"),
    ("mcp_server_session_duration_seconds", "mcp.server.session.duration"),
    ("mcp_client_session_duration_seconds", "mcp.client.session.duration"),
];

/// The same of labels, in these families.
const LABELS: [(&str, &str); 12] = [
    ("mcp_method_name", "mcp.method.name"),
    ("mcp_protocol_version", "mcp.protocol.version"),
    ("gen_ai_operation_name", "gen_ai.operation.name"),
    ("gen_ai_tool_name", "gen_ai.tool.name"),
    ("gen_ai_prompt_name", "gen_ai.prompt.name"),
    ("error_type", "error.type"),
    ("rpc_response_status_code", "rpc.response.status_code"),
    ("network_transport", "network.transport"),
    ("network_protocol_name", "network.protocol.name"),
    ("network_protocol_version", "network.protocol.version"),
    ("server_address", "server.address"),
    ("server_port", SERVER_PORT),
];

/// The one attribute that is a number.
const SERVER_PORT: &str = "server.port";

/// When the points were counted, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From when on.
    pub start: u64,
    /// Until when.
    pub now: u64,
}

/// Reads OpenMetrics text of ours into a request about this resource. What is not of that form is left out.
pub fn read(text: &str, resource: &Resource, times: Times, exemplars: bool) -> ExportMetricsServiceRequest {
    let mut metrics = Vec::new();
    let mut family = Family::default();
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            if let Some(sample) = Sample::parse(line) {
                family.add(sample, exemplars);
            }
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (what, name, rest) = (words.next(), words.next(), words.next());
        if name != Some(family.name) || what == Some("EOF") {
            let begun = Family { name: name.unwrap_or_default(), ..Family::default() };
            metrics.extend(std::mem::replace(&mut family, begun).finish(times));
        }
        match what {
            Some("HELP") => family.help = rest.unwrap_or_default(),
            Some("TYPE") => family.kind = rest.unwrap_or_default(),
            Some("UNIT") => family.unit = rest.unwrap_or_default(),
            _ => {}
        }
    }
    metrics.extend(family.finish(times));
    let scope = InstrumentationScope {
        name: SCOPE_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let schema_url = SCHEMA_URL.to_owned();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: schema_url.clone() }];
    let all = ResourceMetrics { resource: Some(resource.clone()), scope_metrics, schema_url };
    ExportMetricsServiceRequest { resource_metrics: vec![all] }
}

/// All samples of one metric.
#[derive(Default)]
struct Family<'t> {
    name: &'t str,
    help: &'t str,
    kind: &'t str,
    unit: &'t str,
    numbers: Vec<(Labels<'t>, f64)>,
    histograms: Vec<(Labels<'t>, Counted)>,
}

#[derive(Default)]
struct Counted {
    /// Upper bounds, and how many were not above each.
    buckets: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
    exemplars: Vec<Exemplar>,
}

type Labels<'t> = Vec<(&'t str, String)>;

struct Sample<'t> {
    name: &'t str,
    labels: Labels<'t>,
    value: f64,
    exemplar: Option<Exemplar>,
}

impl<'t> Family<'t> {
    fn add(&mut self, sample: Sample<'t>, exemplars: bool) {
        let Sample { name, mut labels, value, exemplar } = sample;
        let Some(suffix) = name.strip_prefix(self.name) else { return };
        if self.kind != "histogram" {
            self.numbers.push((labels, value));
            return;
        }
        // Whoever wrote it put it first or last.
        let bound = labels.iter().position(|(name, _)| *name == "le").map(|at| labels.remove(at));
        if self.histograms.last().is_none_or(|(last, _)| *last != labels) {
            self.histograms.push((labels, Counted::default()));
        }
        let Some((_, counted)) = self.histograms.last_mut() else { return };
        match (suffix, bound) {
            ("_bucket", Some((_, bound))) => {
                let bound = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
                counted.buckets.extend(bound.map(|bound| (bound, value as u64)));
                counted.exemplars.extend(exemplar.filter(|_| exemplars));
            }
            ("_sum", None) => counted.sum = value,
            ("_count", None) => counted.count = value as u64,
            _ => {}
        }
    }

    fn finish(self, times: Times) -> Option<Metric> {
        let convention = FAMILIES.iter().find(|(name, _)| *name == self.name).map(|(_, name)| *name);
        let attributes = |labels: Labels<'_>| attributes(labels, convention.is_some());
        let cumulative = AggregationTemporality::Cumulative as i32;
        let numbers =
            self.numbers.into_iter().map(|(labels, value)| number(attributes(labels), value, times));
        let data = match self.kind {
            "counter" => Data::Sum(Sum {
                data_points: numbers.collect(),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            "gauge" => Data::Gauge(Gauge { data_points: numbers.collect() }),
            "histogram" => {
                let points = self.histograms.into_iter();
                let data_points = points.map(|(labels, counted)| counted.point(attributes(labels), times));
                Data::Histogram(Histogram {
                    data_points: data_points.collect(),
                    aggregation_temporality: cumulative,
                })
            }
            _ => return None,
        };
        let unit = match self.unit {
            "seconds" => "s",
            "bytes" => "By",
            other => other,
        };
        Some(Metric {
            name: convention.unwrap_or(self.name).to_owned(),
            description: self.help.trim_end_matches('.').to_owned(),
            unit: unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        })
    }
}

impl Counted {
    fn point(self, attributes: Vec<KeyValue>, times: Times) -> HistogramDataPoint {
        let mut before = 0;
        let each = self.buckets.iter().map(|(_, count)| {
            let within = count.saturating_sub(before);
            before = *count;
            within
        });
        HistogramDataPoint {
            attributes,
            start_time_unix_nano: times.start,
            time_unix_nano: times.now,
            count: self.count,
            sum: Some(self.sum),
            bucket_counts: each.collect(),
            explicit_bounds: self.buckets.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect(),
            exemplars: self.exemplars,
            ..HistogramDataPoint::default()
        }
    }
}

fn number(attributes: Vec<KeyValue>, value: f64, times: Times) -> NumberDataPoint {
    // What counts is whole, and stays exact up to 2^53.
    let value = match value.fract() == 0.0 && value.abs() < 9e15 {
        true => number_data_point::Value::AsInt(value as i64),
        false => number_data_point::Value::AsDouble(value),
    };
    NumberDataPoint {
        attributes,
        start_time_unix_nano: times.start,
        time_unix_nano: times.now,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn attributes(labels: Labels<'_>, convention: bool) -> Vec<KeyValue> {
    let one = |(name, value): (&str, String)| {
        let known = LABELS.iter().find(|(label, _)| convention && *label == name).map(|(_, key)| *key);
        let key = known.unwrap_or(name);
        let value = match value.parse() {
            Ok(port) if key == SERVER_PORT => any_value::Value::IntValue(port),
            _ => any_value::Value::StringValue(value),
        };
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    };
    labels.into_iter().map(one).collect()
}

impl<'t> Sample<'t> {
    /// `name{label="value",…} value # {trace_id="…",span_id="…"} value timestamp`, the braces and all after the value being optional.
    fn parse(line: &'t str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at_checked(end)?;
        let (labels, rest) = labels(rest)?;
        let (value, rest) = match rest.trim_start().split_once(' ') {
            Some((value, rest)) => (value, Some(rest)),
            None => (rest.trim_start(), None),
        };
        let exemplar = rest.and_then(|rest| exemplar(rest.strip_prefix("# ")?));
        Some(Sample { name, labels, value: value.parse().ok()?, exemplar })
    }
}

fn exemplar(text: &str) -> Option<Exemplar> {
    let (ids, rest) = labels(text)?;
    let mut numbers = rest.split_ascii_whitespace().map(str::parse::<f64>);
    let (value, at) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let id = |name: &str| {
        let (_, text) = ids.iter().find(|(label, _)| *label == name)?;
        let digits = text.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).ok());
        digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()
    };
    Some(Exemplar {
        // The text has milliseconds.
        time_unix_nano: ((at * 1e3).round() as u64).saturating_mul(1_000_000),
        trace_id: id("trace_id")?,
        span_id: id("span_id")?,
        value: Some(exemplar::Value::AsDouble(value)),
        ..Exemplar::default()
    })
}

/// The labels in braces, if there are any, and what follows them.
fn labels(text: &str) -> Option<(Labels<'_>, &str)> {
    let Some(mut rest) = text.strip_prefix('{') else { return Some((Vec::new(), text)) };
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut chars = after.chars();
        labels.push((name.trim_start_matches(','), unescaped(&mut chars)?));
        rest = chars.as_str();
    }
}

/// The text up to the quote that ends it.
fn unescaped(chars: &mut Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
