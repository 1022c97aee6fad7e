//! Our own diagnostics as log records: everything that is on stderr, but for what is about the records themselves.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use serde_json::{Value, json};

use super::process::{Process, free_address};
use crate::support::mesh::{Answer, Asked, PATIENCE, Server, modern_call};

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn records(asked: &Asked) -> Vec<LogRecord> {
    if asked.path != "/v1/logs" {
        return Vec::new();
    }
    let request = ExportLogsServiceRequest::decode(asked.body.clone()).unwrap();
    let [resource] = &request.resource_logs[..] else { panic!("{request:?}") };
    let service = &resource.resource.as_ref().unwrap().attributes;
    let service = service.iter().find(|attribute| attribute.key == "service.name").unwrap();
    assert_eq!(text(service.value.as_ref()), "weather");
    resource.scope_logs[0].log_records.clone()
}

/// Those of our own diagnostics, by what they say.
fn diagnostics(collector: &Server) -> Vec<(String, LogRecord)> {
    let all = collector.asked().iter().flat_map(records).collect::<Vec<_>>();
    all.into_iter()
        .map(|record| (text(record.body.as_ref()), record))
        .filter(|(body, _)| body != "request")
        .collect()
}

async fn record(collector: &Server, what: impl Fn(&str, &LogRecord) -> bool) -> LogRecord {
    let found = async {
        loop {
            if let Some((_, record)) = diagnostics(collector).into_iter().find(|(b, r)| what(b, r)) {
                return record;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a record in time")
}

/// A collector that refuses the batch that holds the records of one call: nothing that is said of that is in what it
/// gets, so that no failure leads to the next one.
#[tokio::test]
async fn what_is_on_stderr_goes_out_as_records() {
    const REFUSED: &str = "0af7651916cd43dd8448eb211c80319c";
    const TAKEN: &str = "1af7651916cd43dd8448eb211c80319c";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let collector = Server::answering(move |asked| {
        let refuse = records(asked).iter().any(|record| hex(&record.trace_id) == REFUSED);
        Answer::status(if refuse { 400 } else { 200 }, "").header("content-type", "application/x-protobuf")
    });
    let collector = collector.await;
    let (listen, nobody) = (free_address(), free_address());
    let inbound = format!("{listen}={nobody}");
    let endpoint = format!("http://{}", collector.address);
    let args = ["proxy", "--inbound", &inbound, "--admin", "off", "--log-format", "json"];
    let env = [
        ("OTEL_SERVICE_NAME", "weather"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_LOG_LEVEL", "debug"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "20"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
    ];
    let process = Process::ready(&args, &env).await;
    // It was said before there was a way to the collector.
    let early = record(&collector, |body, _| body.contains("OTEL_BSP_MAX_QUEUE_SIZE")).await;
    assert_eq!((early.severity_number, early.severity_text.as_str()), (13, "WARN"));
    assert!(early.time_unix_nano > 0 && early.observed_time_unix_nano >= early.time_unix_nano);
    assert!(early.trace_id.is_empty() && early.span_id.is_empty() && early.flags == 0);
    let ready = record(&collector, |body, _| body == "ready").await;
    assert_eq!((ready.severity_number, ready.severity_text.as_str()), (9, "INFO"));
    let attributes: BTreeMap<_, _> =
        ready.attributes.iter().map(|a| (a.key.as_str(), text(a.value.as_ref()))).collect();
    assert_eq!(attributes["inbound"], format!("[{listen}]"));

    for trace in [REFUSED, TAKEN] {
        let context = format!("00-{trace}-b7ad6b7169203331-01");
        let reply = modern_call(1, json!({"traceparent": context})).send(listen).await;
        assert_eq!(reply.status, 503);
        if trace == REFUSED {
            process.says("the collector refuses our log records").await;
        }
    }
    let failed = record(&collector, |body, r| body == "request failed" && hex(&r.trace_id) == TAKEN).await;
    assert_eq!((failed.severity_number, failed.severity_text.as_str()), (5, "DEBUG"));
    assert_eq!(failed.flags & 1, 1);
    assert_eq!(failed.attributes.iter().map(|a| a.key.as_str()).collect::<Vec<_>>(), ["error"]);
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0));

    let lines: Vec<Value> = done.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["trace_id"] == TAKEN).unwrap();
    assert_eq!(line["span_id"], hex(&failed.span_id));
    assert_eq!(line["trace_flags"], format!("{:02x}", failed.flags & 0xff));
    let mut said: Vec<_> = lines.iter().filter(|line| line["signal"] != "logs").collect();
    said.sort_by_key(|line| line["message"].to_string());
    let said: Vec<_> = said.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let mut got: Vec<_> = diagnostics(&collector).into_iter().map(|(body, _)| body).collect();
    got.sort();
    assert_eq!(got, said);
}

/// A wrapped server has its standard error for itself, but for warnings; these are records too.
#[tokio::test]
async fn warnings_beside_a_wrapped_server_are_records() {
    let collector = Server::answering(|_| Answer::status(200, "")).await;
    let endpoint = format!("http://{}", collector.address);
    let env = [
        ("PATH", "/usr/bin:/bin"),
        ("OTEL_SERVICE_NAME", "weather"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
    ];
    let (process, stdin) = Process::start_piped(&["stdio", "--", "cat"], &env);
    drop(stdin);
    assert_eq!(process.exit().await.code, Some(0));
    let all = diagnostics(&collector);
    let [(body, record)] = &all[..] else { panic!("{all:?}") };
    assert!(body.contains("OTEL_BSP_MAX_QUEUE_SIZE"), "{body}");
    assert_eq!(record.severity_number, 13);
}
