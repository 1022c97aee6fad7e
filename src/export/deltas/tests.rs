//! What is told of counters and histograms, and what all that was told adds up to.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::*;
use crate::export::points::{self, Times};
use crate::metrics::operations::{MAX_SERIES, Operation, Operations, Outcome, Side, Target};

const TEXT: &str = r##"# TYPE calls counter
calls_total{tool="a"} 3
calls_total{tool="b"} 0
# TYPE open gauge
open -2
# TYPE took histogram
took_bucket{le="0.5"} 2
took_bucket{le="+Inf"} 5 # {trace_id="0af7651916cd43dd8448eb211c80319c",span_id="b7ad6b7169203331"} 0.7 0.002
took_sum 1.5
took_count 5
# EOF
"##;

/// What is told of this text at that time, and what is known then.
fn told(deltas: &Deltas, text: &str, now: u64) -> (Vec<Metric>, Next) {
    let mut request = points::read(text, &Resource::default(), Times { start: 1, now }, true);
    let next = deltas.of(&mut request, now);
    (request.resource_metrics[0].scope_metrics[0].metrics.clone(), next)
}

fn names(metrics: &[Metric]) -> Vec<&str> {
    metrics.iter().map(|metric| metric.name.as_str()).collect()
}

fn sums(metrics: &[Metric]) -> Vec<NumberDataPoint> {
    let of = |metric: &Metric| match &metric.data {
        Some(Data::Sum(sum)) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Delta as i32);
            sum.data_points.clone()
        }
        _ => Vec::new(),
    };
    metrics.iter().flat_map(of).collect()
}

fn histograms(metrics: &[Metric]) -> Vec<HistogramDataPoint> {
    let of = |metric: &Metric| match &metric.data {
        Some(Data::Histogram(histogram)) => {
            assert_eq!(histogram.aggregation_temporality, AggregationTemporality::Delta as i32);
            histogram.data_points.clone()
        }
        _ => Vec::new(),
    };
    metrics.iter().flat_map(of).collect()
}

fn int(point: &NumberDataPoint) -> i64 {
    match point.value {
        Some(number_data_point::Value::AsInt(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_counted_since_is_told_and_nothing_else() {
    let mut deltas = Deltas::since(10);
    let (first, next) = told(&deltas, TEXT, 20);
    assert_eq!(names(&first), ["calls", "open", "took"]);
    let [a] = &sums(&first)[..] else { panic!("{first:?}") };
    assert_eq!((int(a), a.start_time_unix_nano, a.time_unix_nano), (3, 10, 20));
    let [took] = &histograms(&first)[..] else { panic!("{first:?}") };
    assert_eq!((took.count, took.sum, &took.bucket_counts[..]), (5, Some(1.5), &[2, 3][..]));
    assert_eq!(took.exemplars.len(), 1);
    deltas.taken(next);
    let (second, next) = told(&deltas, TEXT, 2_000_000);
    assert_eq!(names(&second), ["open"], "a gauge is what it is");
    deltas.taken(next);
    let more = TEXT.replace("\"b\"} 0", "\"b\"} 7").replace("+Inf\"} 5", "+Inf\"} 6");
    let more = more.replace("sum 1.5", "sum 3.5").replace("count 5", "count 6");
    let (third, _) = told(&deltas, &more, 3_000_000);
    let [b] = &sums(&third)[..] else { panic!("{third:?}") };
    assert_eq!((int(b), b.start_time_unix_nano, b.time_unix_nano), (7, 2_000_000, 3_000_000));
    let [took] = &histograms(&third)[..] else { panic!("{third:?}") };
    assert_eq!((took.count, took.sum, &took.bucket_counts[..]), (1, Some(2.0), &[0, 1][..]));
    assert_eq!(took.exemplars.len(), 1, "the clock of the text has steps");
    let (late, _) = told(&Deltas { since: 4_000_000, told: Told::new() }, &more, 5_000_000);
    assert!(histograms(&late)[0].exemplars.is_empty(), "it shows what was counted before");
}

#[test]
fn what_was_not_taken_is_told_with_the_next() {
    let mut deltas = Deltas::since(10);
    let _lost = told(&deltas, TEXT, 20);
    let (again, next) = told(&deltas, &TEXT.replace("\"a\"} 3", "\"a\"} 4"), 30);
    assert_eq!(sums(&again).iter().map(int).collect::<Vec<_>>(), [4]);
    assert_eq!(sums(&again)[0].start_time_unix_nano, 10);
    deltas.taken(next);
    assert_eq!(names(&told(&deltas, &TEXT.replace("\"a\"} 3", "\"a\"} 4"), 40).0), ["open"]);
}

/// Random numbers that are the same each time.
fn rolls(mut state: u32) -> impl FnMut(usize) -> usize {
    move |sides| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % sides
    }
}

/// Many more names than there is room for, of which the unused make room for others while exports fail at random: all
/// that was taken adds up to all that was counted, in each bucket, and nothing is ever negative.
#[test]
fn all_that_is_taken_adds_up_though_series_go() {
    let mut roll = rolls(0x5eed);
    let operations = Operations::default();
    let lane = operations.lane();
    let mut deltas = Deltas::since(1);
    let mut all = [(0, 0.0, vec![0; 15]), (0, 0.0, vec![0; 15])];
    let (mut counted, mut mesh, mut went) = (0, 0, false);
    for round in 0..60_u32 {
        for _ in 0..200 {
            // A window that moves: names are used, then not, and some of them again.
            let name = format!("tool-{}", round as usize / 3 * 40 + roll(300));
            let server = roll(3) > 0;
            let operation = Operation {
                side: if server { Side::Server } else { Side::Client },
                method: "tools/call",
                target: Target::Tool(&name),
                revision: Some("2026-07-28"),
                network: ("tcp", "1.1"),
                server: (!server).then_some(("host", 80)),
            };
            let took = Duration::from_millis(1 << roll(12));
            lane.observe(lane.series(&operation), Outcome::default(), took, None);
            counted += 1;
        }
        operations.tick((round + 1) * 100);
        let mut text = String::new();
        operations.encode("agent", &mut text);
        let (metrics, next) = told(&deltas, &text, u64::from(round) + 2);
        if round < 59 && roll(3) == 0 {
            continue;
        }
        deltas.taken(next);
        for metric in &metrics {
            let into = match metric.name.as_str() {
                "mcp.server.operation.duration" => &mut all[0],
                "mcp.client.operation.duration" => &mut all[1],
                _ => continue,
            };
            for point in histograms(std::slice::from_ref(metric)) {
                assert!(point.count > 0 && point.sum.unwrap() >= 0.0);
                into.0 += point.count;
                into.1 += point.sum.unwrap();
                into.2.iter_mut().zip(&point.bucket_counts).for_each(|(into, count)| *into += count);
            }
        }
        mesh += sums(&metrics).iter().map(int).sum::<i64>();
        went |= text.contains("gen_ai_tool_name=\"other\"") && round > 10;
        assert!(deltas.told.values().all(|family| family.series.len() <= 2 * MAX_SERIES));
        assert!(deltas.told.values().all(|family| family.owed.is_empty()), "{round}");
    }
    assert!(went, "no series has gone");
    assert_eq!(all[0].0 + all[1].0, counted);
    let mut text = String::new();
    operations.encode("agent", &mut text);
    let (last, _) = told(&Deltas::since(1), &text, 99);
    for (name, (count, sum, buckets)) in
        ["mcp.server.operation.duration", "mcp.client.operation.duration"].iter().zip(&all)
    {
        let metric: Vec<_> = last.iter().filter(|metric| metric.name == *name).cloned().collect();
        let mut whole = (0, 0.0, vec![0; 15]);
        for point in histograms(&metric) {
            whole.0 += point.count;
            whole.1 += point.sum.unwrap();
            whole.2.iter_mut().zip(&point.bucket_counts).for_each(|(into, count)| *into += count);
        }
        assert_eq!((whole.0, &whole.2), (*count, buckets), "{name}");
        assert!((whole.1 - sum).abs() < 1e-6, "{name}: {} {sum}", whole.1);
    }
    assert_eq!(mesh, i64::try_from(all[0].0).unwrap());
}

/// A series that goes in the middle of a scrape may be seen twice or not at all; the next export settles that.
#[test]
fn what_cannot_be_settled_at_once_is_owed() {
    let text = |a: Option<u32>, other: u32| {
        let a = a.map(|a| format!("calls_total{{tool=\"a\"}} {a}\n")).unwrap_or_default();
        format!("# TYPE calls counter\n{a}calls_total{{tool=\"other\"}} {other}\n# EOF\n")
    };
    let mut deltas = Deltas::since(1);
    let mut total = 0;
    for (a, other) in [(Some(12), 5), (None, 5), (None, 19), (Some(3), 19), (Some(1), 23), (Some(1), 24)] {
        let (metrics, next) = told(&deltas, &text(a, other), 2);
        total += sums(&metrics).iter().map(int).sum::<i64>();
        deltas.taken(next);
    }
    assert_eq!(total, 25);
}

#[test]
fn what_is_owed_is_bounded() {
    let names: String = (0..2_000).map(|at| format!("calls_total{{tool=\"{at}\"}} 1\n")).collect();
    let mut deltas = Deltas::since(1);
    let (_, next) = told(&deltas, &format!("# TYPE calls counter\n{names}# EOF\n"), 2);
    deltas.taken(next);
    let (_, next) = told(&deltas, "# TYPE calls counter\ncalls_total 0\n# EOF\n", 3);
    deltas.taken(next);
    let family = &deltas.told["calls"];
    assert_eq!(family.owed.len(), MAX_DEBTS);
    assert_eq!(family.owed.iter().flat_map(|(_, owed)| &owed.buckets).sum::<u64>(), 2_000);
    let (metrics, _) = told(&deltas, "# TYPE calls counter\ncalls_total{tool=\"other\"} 2010\n# EOF\n", 4);
    assert_eq!(sums(&metrics).iter().map(int).collect::<Vec<_>>(), [10]);
}
