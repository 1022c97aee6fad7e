//! Metrics and the access log over OTLP, as a receiver decodes them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, metric::Data, number_data_point};
use prost::Message;
use serde_json::{Value, json};

use crate::support::mesh::{
    Answer, Asked, Call, Mesh, PATIENCE, SIDES, Server, event, is_error, legacy_call, modern_call, result,
};

/// A collector of metrics and logs that takes everything.
async fn collector() -> Server {
    Server::answering(|_| Answer::status(200, "").header("content-type", "application/x-protobuf")).await
}

async fn until<T>(what: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = what() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("in time")
}

fn said(attributes: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |a: &KeyValue| match a.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text.into(),
        any_value::Value::IntValue(number) => number.into(),
        any_value::Value::DoubleValue(number) => number.into(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|a| (a.key.clone(), value(a))).collect()
}

fn metrics(request: &ExportMetricsServiceRequest) -> Vec<Metric> {
    let [resource] = &request.resource_metrics[..] else { panic!("{request:?}") };
    assert_eq!(said(&resource.resource.as_ref().unwrap().attributes)["service.name"], "agent");
    resource.scope_metrics[0].metrics.clone()
}

fn histogram(metrics: &[Metric], name: &str) -> Vec<HistogramDataPoint> {
    let Some(metric) = metrics.iter().find(|metric| metric.name == name) else { return Vec::new() };
    let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!((histogram.aggregation_temporality, metric.unit.as_str()), (2, "s"));
    histogram.data_points.clone()
}

fn counter(metrics: &[Metric], name: &str, label: (&str, &str)) -> i64 {
    let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let points = sum.data_points.iter().filter(|point| said(&point.attributes)[label.0] == label.1);
    let value = |value| match value {
        Some(number_data_point::Value::AsInt(value)) => value,
        other => panic!("{other:?}"),
    };
    points.map(|point| value(point.value)).sum()
}

fn decode_protobuf(asked: &Asked) -> ExportMetricsServiceRequest {
    assert_eq!(asked.header("content-type"), Some("application/x-protobuf"));
    ExportMetricsServiceRequest::decode(asked.body.clone()).unwrap()
}

fn decode_json(asked: &Asked) -> ExportMetricsServiceRequest {
    assert_eq!(asked.header("content-type"), Some("application/json"));
    serde_json::from_slice(&asked.body).unwrap()
}

#[tokio::test]
async fn metrics_are_those_of_the_admin_port() {
    type Decode = fn(&Asked) -> ExportMetricsServiceRequest;
    for (protocol, decode) in [("http/protobuf", decode_protobuf as Decode), ("http/json", decode_json)] {
        let (mesh, collector) = (Mesh::start().await, collector().await);
        let server = Server::answering(|asked| match asked.id() == 1 {
            true => Answer::json(&is_error(&asked.id())),
            false => Answer::json(&result(&asked.id())),
        });
        let server = server.await;
        let sidecar = mesh
            .sidecar()
            .around(server.address)
            .env("OTEL_METRICS_EXPORTER", "otlp")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "30")
            .env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "key=secret")
            .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{}/v1/metrics", collector.address))
            .start();
        for id in [1, 2, 3] {
            modern_call(id, json!({})).send(sidecar.inbound()).await;
        }
        modern_call(4, json!({})).send(sidecar.outbound()).await;
        let enough = |asked: &Asked| {
            let metrics = metrics(&decode(asked));
            let points = histogram(&metrics, "mcp.server.operation.duration");
            (points.iter().map(|point| point.count).sum::<u64>() == 3
                && histogram(&metrics, "mcp.client.operation.duration").len() == 1)
                .then_some(metrics)
        };
        let all = until(|| collector.asked().iter().find_map(enough)).await;
        let points = histogram(&all, "mcp.server.operation.duration");
        let failed = points.iter().find(|p| said(&p.attributes).contains_key("error.type")).unwrap();
        let expect = json!({
            "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add",
            "mcp.protocol.version": "2026-07-28", "error.type": "tool_error", "network.transport": "tcp",
            "network.protocol.name": "http", "network.protocol.version": "1.1",
        });
        assert_eq!(serde_json::to_value(said(&failed.attributes)).unwrap(), expect);
        assert_eq!(failed.bucket_counts.len(), failed.explicit_bounds.len() + 1);
        assert_eq!(failed.bucket_counts.iter().sum::<u64>(), failed.count);
        assert!(failed.start_time_unix_nano > 0 && failed.start_time_unix_nano < failed.time_unix_nano);
        let client = &histogram(&all, "mcp.client.operation.duration")[0];
        assert_eq!(said(&client.attributes)["server.port"], server.address.port());
        assert_eq!(counter(&all, "mcp_mesh_requests", ("status", "success")), 2);
        assert_eq!(histogram(&all, "mcp_mesh_request_duration_seconds").len(), 1);
        let spans = mesh.wait_for(4).await;
        for point in &points {
            let [exemplar, ..] = &point.exemplars[..] else { panic!("{point:?}") };
            let id = format!("{:032x}", u128::from_be_bytes(exemplar.trace_id[..].try_into().unwrap()));
            assert!(spans.iter().any(|span| span.trace == id));
        }
        let before = collector.asked().len();
        let counted = mesh.metrics().otlp_metrics;
        mesh.stop().await;
        let asked = collector.asked();
        assert!(asked.len() > before, "the last ones go out at the end");
        assert!(asked.iter().all(|a| a.path == "/v1/metrics" && a.header("key") == Some("secret")));
        let first = metrics(&decode(&asked[0]));
        let starts = |all: &[Metric]| {
            let Some(Data::Sum(sum)) = all.iter().find_map(|m| m.data.clone()) else { panic!("{all:?}") };
            sum.data_points[0].start_time_unix_nano
        };
        assert_eq!(starts(&first), starts(&all), "cumulative since one moment");
        assert_eq!(usize::try_from(counted.exported.get()).unwrap(), asked.len());
    }
}

/// A collector that refuses every other export: what it took adds up to what was counted, and each point begins where the
/// last export ended that it took.
#[tokio::test]
async fn what_a_collector_took_of_deltas_adds_up() {
    let mesh = Mesh::start().await;
    let number = std::sync::atomic::AtomicUsize::new(0);
    let collector = Server::answering(move |_| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::status(if number.is_multiple_of(2) { 400 } else { 200 }, "")
    });
    let collector = collector.await;
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let sidecar = mesh
        .sidecar()
        .inbound(server.address)
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "10")
        .env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "DELTA")
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{}/v1/metrics", collector.address))
        .start();
    let taken = || {
        let (mut count, mut requests, mut buckets) = (0, 0, 0);
        let mut ended = 0;
        for asked in collector.asked().iter().skip(1).step_by(2) {
            let mut end = ended;
            for metric in metrics(&decode_protobuf(asked)) {
                match metric.data.unwrap() {
                    Data::Histogram(histogram) => {
                        assert_eq!(histogram.aggregation_temporality, 1, "{}", metric.name);
                        for point in histogram.data_points {
                            assert!(point.count > 0 && point.start_time_unix_nano < point.time_unix_nano);
                            assert!(ended == 0 || point.start_time_unix_nano == ended);
                            end = point.time_unix_nano;
                            if metric.name == "mcp.server.operation.duration" {
                                count += point.count;
                                buckets += point.bucket_counts.iter().sum::<u64>();
                            }
                        }
                    }
                    Data::Sum(sum) => {
                        assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (1, true));
                        for point in sum.data_points {
                            assert!(ended == 0 || point.start_time_unix_nano == ended);
                            end = point.time_unix_nano;
                            if let ("mcp_mesh_requests", Some(number_data_point::Value::AsInt(value))) =
                                (metric.name.as_str(), point.value)
                            {
                                requests += value;
                            }
                        }
                    }
                    Data::Gauge(gauge) => {
                        let at = gauge.data_points.first().map(|point| point.time_unix_nano);
                        end = at.unwrap_or(end);
                    }
                    other => panic!("{other:?}"),
                }
            }
            ended = end;
        }
        (count, requests, buckets)
    };
    for id in 0..30 {
        modern_call(id, json!({})).send(sidecar.inbound()).await;
    }
    until(|| (taken().0 == 30).then_some(())).await;
    let before = collector.asked().len();
    until(|| (collector.asked().len() > before + 3).then_some(())).await;
    assert_eq!(taken(), (30, 30, 30), "and nothing twice");
    mesh.stop().await;
}

fn records(body: &[u8]) -> Vec<LogRecord> {
    let request = ExportLogsServiceRequest::decode(body).unwrap();
    let [resource] = &request.resource_logs[..] else { panic!("{request:?}") };
    assert_eq!(said(&resource.resource.as_ref().unwrap().attributes)["service.name"], "agent");
    resource.scope_logs[0].log_records.clone()
}

#[tokio::test]
async fn the_access_log_goes_out_as_records() {
    let (mesh, collector) = (Mesh::start().await, collector().await);
    let server = Server::answering(|asked| match asked.path.as_str() {
        "/mcp" => Answer::json(&is_error(&asked.id())),
        _ => Answer::status(200, "hello"),
    });
    let server = server.await;
    let sidecar = mesh
        .sidecar()
        .around(server.address)
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{}/v1/logs", collector.address))
        .start();
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    modern_call(1, json!({})).send(sidecar.outbound()).await;
    Call::get("/x?token=secret").header("traceparent", unsampled).send(sidecar.inbound()).await;
    let spans = mesh.stop().await;
    let asked = collector.asked();
    assert!(asked.iter().all(|asked| asked.path == "/v1/logs"));
    let mut all: Vec<_> = asked.iter().flat_map(|asked| records(&asked.body)).collect();
    all.sort_by_key(|record| record.time_unix_nano);
    let [call, get] = &all[..] else { panic!("{all:?}") };
    for record in &all {
        assert_eq!((record.severity_number, record.severity_text.as_str()), (9, "INFO"));
        assert!(record.time_unix_nano > 0 && record.observed_time_unix_nano >= record.time_unix_nano);
        assert_eq!(
            record.body.clone().unwrap().value.unwrap(),
            any_value::Value::StringValue("request".into())
        );
    }
    let mut attributes = said(&call.attributes);
    assert!(attributes.remove("duration_ms").is_some_and(|took| took.as_f64().unwrap() > 0.0));
    let expect = json!({
        "direction": "outbound", "method": "tools/call", "target": "add", "status": "error",
        "error.type": "tool_error", "bytes": is_error(&1.into()).to_string().len(),
    });
    assert_eq!(serde_json::to_value(attributes).unwrap(), expect);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&call.trace_id), hex(&call.span_id)), (spans[0].trace.clone(), spans[0].id.clone()));
    assert_eq!(call.flags & 1, 1);
    assert_eq!((hex(&get.trace_id).as_str(), get.flags & 1), (&unsampled[3..35], 0));
    assert_eq!(said(&get.attributes)["target"], "/x");
}

#[tokio::test]
async fn records_go_over_grpc_too() {
    let (mesh, collector) = (Mesh::start().await, collector().await);
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let sidecar = mesh
        .sidecar()
        .inbound(server.address)
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .env("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{}", collector.address))
        .start();
    modern_call(1, json!({})).send(sidecar.inbound()).await;
    let asked = until(|| collector.asked().pop()).await;
    assert_eq!(asked.path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    assert_eq!(records(&asked.body[5..]).len(), 1);
    mesh.stop().await;
}

/// A collector that never answers: requests do not notice, what finds no room is dropped, and all of it is counted.
#[tokio::test]
async fn a_collector_that_is_stuck_costs_records_only() {
    let mesh = Mesh::start().await;
    let stuck = Server::start(|_| std::future::pending()).await;
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let mut plan = mesh.sidecar().inbound(server.address);
    for (name, value) in [
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "5"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{}/v1/metrics", stuck.address)),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{}/v1/logs", stuck.address)),
    ] {
        plan = plan.env(name, value);
    }
    let sidecar = plan.yaml("limits: { flush_timeout: 100ms }").start();
    for id in 0..40 {
        assert_eq!(modern_call(id, json!({})).send(sidecar.inbound()).await.status, 200);
    }
    let metrics = mesh.metrics();
    assert!(metrics.otlp_logs.dropped.get() >= 40 - 10 - 5);
    mesh.stop().await;
    assert_eq!(metrics.otlp_logs.dropped.get(), 40, "those that waited were given up at the end");
    assert_eq!((metrics.otlp_logs.exported.get(), metrics.otlp_metrics.exported.get()), (0, 0));
    assert_eq!(metrics.otlp_metrics.failed.get(), 1);
}

/// Two sessions of 2025-06-18 over each side of the sidecar, of which the one ends by `DELETE` after the server has asked a
/// question in it, and the other by the 404 that says that it is gone; and what is counted of them.
#[tokio::test]
async fn row_23_sessions_and_what_servers_ask_are_among_the_metrics() {
    let (mesh, collector) = (Mesh::start().await, collector().await);
    let streams = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let server = Server::start(move |asked| {
        let streams = std::sync::Arc::clone(&streams);
        async move {
            let message: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            match (asked.method.as_str(), message["method"].as_str()) {
                ("DELETE", _) => Answer::status(204, ""),
                (_, Some("tools/list")) => Answer::status(404, ""),
                (_, Some("initialize")) => {
                    let result =
                        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}});
                    let answer = json!({"jsonrpc": "2.0", "id": asked.id(), "result": result});
                    Answer::json(&answer).header("mcp-session-id", "s-1")
                }
                (_, Some(_)) => {
                    let (pieces, answer) = Answer::pieces("text/event-stream");
                    let question =
                        json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}});
                    pieces.send(Ok(event(&question).into())).await.unwrap();
                    streams.lock().unwrap().push((asked.id(), pieces));
                    answer
                }
                (_, None) => {
                    let (id, pieces) = streams.lock().unwrap().pop().unwrap();
                    pieces.send(Ok(event(&result(&id)).into())).await.unwrap();
                    Answer::status(202, "")
                }
            }
        }
    });
    let server = server.await;
    let sidecar = mesh
        .sidecar()
        .around(server.address)
        .env("OTEL_TRACES_SAMPLER", "always_off")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &format!("http://{}/v1/metrics", collector.address))
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &format!("http://{}/v1/logs", collector.address))
        .start();
    for side in SIDES {
        let at = sidecar.at(side);
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}});
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let initialize = Call::post(initialize.to_string());
        initialize.clone().send(at).await;
        let mut open = legacy_call(1, json!({})).open(at).await;
        open.read_until("elicitation").await;
        let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}});
        Call::post(answer.to_string()).header("mcp-session-id", "s-1").send(at).await;
        open.read_until("content").await;
        Call::method("DELETE", "/mcp").header("mcp-session-id", "s-1").send(at).await;
        initialize.send(at).await;
        let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
        Call::post(list.to_string()).header("mcp-session-id", "s-1").send(at).await;
    }
    mesh.stop().await;
    let (logs, metrics): (Vec<_>, Vec<_>) =
        collector.asked().into_iter().partition(|asked| asked.path == "/v1/logs");
    let all = self::metrics(&decode_protobuf(metrics.last().unwrap()));
    for (session, question) in [
        ("mcp.server.session.duration", "mcp.client.operation.duration"),
        ("mcp.client.session.duration", "mcp.server.operation.duration"),
    ] {
        let lasted = histogram(&all, session);
        for error in [Value::Null, json!("404")] {
            let says = |p: &&HistogramDataPoint| {
                said(&p.attributes).remove("error.type").unwrap_or_default() == error
            };
            let ended = lasted.iter().find(says);
            let ended = ended.unwrap_or_else(|| panic!("{session} {error} in {all:#?}"));
            let mut expect = json!({"mcp.protocol.version": "2025-06-18", "network.transport": "tcp"});
            if !error.is_null() {
                expect["error.type"] = error;
            }
            assert_eq!((ended.count, serde_json::to_value(said(&ended.attributes)).unwrap()), (1, expect));
            assert_eq!(ended.explicit_bounds.len(), 14);
        }
        assert_eq!(lasted.len(), 2);
        let asked = histogram(&all, question);
        let asked = asked.iter().find(|p| said(&p.attributes)["mcp.method.name"] == "elicitation/create");
        assert_eq!(asked.map(|point| point.count), Some(1), "{question}");
    }
    let directions: Vec<_> = logs
        .iter()
        .flat_map(|asked| records(&asked.body))
        .map(|record| said(&record.attributes))
        .filter(|said| said["method"] == "elicitation/create")
        .map(|said| (said["direction"].clone(), said["status"].clone()))
        .collect();
    assert_eq!(directions, [(json!("outbound"), json!("success")), (json!("inbound"), json!("success"))]);
}
