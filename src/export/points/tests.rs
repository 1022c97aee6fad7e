//! The text that is read, and what becomes of it.
#![allow(clippy::unwrap_used)]

use super::*;

const TIMES: Times = Times { start: 1, now: 2 };

const TEXT: &str = r##"# HELP meshtrace_calls Calls.
# TYPE meshtrace_calls counter
meshtrace_calls_total{tool="a\" # {\n\\"} 3
meshtrace_calls_total{tool="b"} 0
# HELP meshtrace_open Open.
# TYPE meshtrace_open gauge
meshtrace_open -2
# HELP mcp_client_operation_duration_seconds Calls of the agent.
# TYPE mcp_client_operation_duration_seconds histogram
# UNIT mcp_client_operation_duration_seconds seconds
mcp_client_operation_duration_seconds_bucket{mcp_method_name="tools/call",server_port="80",le="0.01"} 2 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"} 0.004 1700000000.125
mcp_client_operation_duration_seconds_bucket{le="0.02",mcp_method_name="tools/call",server_port="80"} 2
mcp_client_operation_duration_seconds_bucket{mcp_method_name="tools/call",server_port="80",le="+Inf"} 5
mcp_client_operation_duration_seconds_sum{mcp_method_name="tools/call",server_port="80"} 1.5
mcp_client_operation_duration_seconds_count{mcp_method_name="tools/call",server_port="80"} 5
mcp_client_operation_duration_seconds_bucket{mcp_method_name="ping",le="+Inf"} 1
mcp_client_operation_duration_seconds_count{mcp_method_name="ping"} 1
# EOF
"##;

fn metrics(text: &str, exemplars: bool) -> Vec<Metric> {
    let request = read(text, &Resource::default(), TIMES, exemplars);
    request.resource_metrics[0].scope_metrics[0].metrics.clone()
}

fn said(attributes: &[KeyValue]) -> Vec<(&str, any_value::Value)> {
    attributes.iter().map(|a| (a.key.as_str(), a.value.clone().unwrap().value.unwrap())).collect()
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

#[test]
fn each_kind_of_metric_is_read() {
    let all = metrics(TEXT, true);
    let names: Vec<_> =
        all.iter().map(|m| (m.name.as_str(), m.unit.as_str(), m.description.as_str())).collect();
    assert_eq!(
        names,
        [
            ("meshtrace_calls", "", "Calls"),
            ("meshtrace_open", "", "Open"),
            ("mcp.client.operation.duration", "s", "Calls of the agent"),
        ]
    );
    let Some(Data::Sum(sum)) = &all[0].data else { panic!("{all:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Cumulative as i32);
    assert_eq!(said(&sum.data_points[0].attributes), [("tool", text("a\" # {\n\\"))]);
    let value = |point: &NumberDataPoint| point.value.unwrap();
    assert_eq!(value(&sum.data_points[0]), number_data_point::Value::AsInt(3));
    assert_eq!((sum.data_points[1].start_time_unix_nano, sum.data_points[1].time_unix_nano), (1, 2));
    let Some(Data::Gauge(gauge)) = &all[1].data else { panic!("{all:?}") };
    assert_eq!(value(&gauge.data_points[0]), number_data_point::Value::AsInt(-2));
    let Some(Data::Histogram(histogram)) = &all[2].data else { panic!("{all:?}") };
    let [call, ping] = &histogram.data_points[..] else { panic!("{histogram:?}") };
    let expect = [("mcp.method.name", text("tools/call")), ("server.port", any_value::Value::IntValue(80))];
    assert_eq!(said(&call.attributes), expect);
    assert_eq!((call.count, call.sum, &call.bucket_counts[..]), (5, Some(1.5), &[2, 0, 3][..]));
    assert_eq!(call.explicit_bounds, [0.01, 0.02]);
    assert_eq!((ping.count, &ping.bucket_counts[..]), (1, &[1][..]));
    let [exemplar] = &call.exemplars[..] else { panic!("{call:?}") };
    assert_eq!((exemplar.trace_id.len(), exemplar.span_id[0]), (16, 0xb7));
    assert_eq!(exemplar.time_unix_nano, 1_700_000_000_125_000_000);
    let Some(Data::Histogram(histogram)) = &metrics(TEXT, false)[2].data else { panic!() };
    assert!(histogram.data_points[0].exemplars.is_empty());
}

#[test]
fn mutated_text_is_read_as_far_as_it_goes() {
    let mut state = 0x5eed_u32;
    let mut roll = |sides: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % sides
    };
    for _ in 0..2_000 {
        let mut bytes = TEXT.as_bytes().to_vec();
        for _ in 0..1 + roll(6) {
            let at = roll(bytes.len().max(1));
            match roll(if bytes.is_empty() { 1 } else { 3 }) {
                0 => bytes.insert(at, b"{}\"\\=,# \n\xff"[roll(10)]),
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at + 1),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().count();
        for metric in metrics(&text, true) {
            let points = match metric.data.unwrap() {
                Data::Sum(sum) => sum.data_points.len(),
                Data::Gauge(gauge) => gauge.data_points.len(),
                Data::Histogram(histogram) => histogram.data_points.len(),
                other => panic!("{other:?}"),
            };
            assert!(points <= lines);
        }
    }
}
