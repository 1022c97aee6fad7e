//! Lines on stdout, one a request, and diagnostics with the same names.

use serde_json::{Value, json};

use super::process::{Process, free_address};
use crate::support::mesh::{Answer, Call, Server, is_error, modern_call, result};

#[tokio::test]
async fn every_request_is_a_line_recorded_or_not() {
    let server = Server::answering(|asked| match asked.id() {
        Value::Null => Answer::status(404, "gone"),
        id if id == 2 => Answer::json(&is_error(&id)),
        id => Answer::json(&result(&id)),
    });
    let server = server.await;
    let (listen, out) = (free_address(), free_address());
    let (inbound, outbound) =
        (format!("{listen}={}", server.address), format!("{out}=http://{}", server.address));
    let args =
        ["proxy", "--inbound", &inbound, "--outbound", &outbound, "--admin", "off", "--log-format", "json"];
    let env = [
        ("OTEL_SERVICE_NAME", "weather"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("MESHTRACE_ACCESS_LOG", "json"),
    ];
    let process = Process::ready(&args, &env).await;
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let reply = modern_call(1, json!({"traceparent": context})).send(listen).await;
    modern_call(2, json!({})).send(out).await;
    Call::get("/missing?token=x").send(listen).await;
    process.signal("TERM");
    let done = process.exit().await;
    let lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |line: &Value, keys: &[&str]| keys.iter().map(|key| line[*key].clone()).collect::<Vec<_>>();
    let keys = ["direction", "method", "target", "status", "error_type"];
    let expect = [
        json!(["inbound", "tools/call", "add", "success", null]),
        json!(["outbound", "tools/call", "add", "error", "tool_error"]),
        json!(["inbound", "GET", "/missing", "error", null]),
    ];
    let mut got: Vec<Value> = lines.iter().map(|line| said(line, &keys).into()).collect();
    let order = |line: &Value| expect.iter().position(|e| e == line);
    got.sort_by_key(order);
    assert_eq!(got, expect);
    let first = lines.iter().find(|line| line["status"] == "success").unwrap();
    assert_eq!(said(first, &["level", "message", "agent"]), ["INFO", "request", "weather"]);
    assert_eq!(first["bytes"], reply.body.len());
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
    // Nothing goes anywhere, so the caller's own context went on.
    assert_eq!(first.get("trace_id"), None);
    for line in done.err.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["agent"], "weather");
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
    }
}

/// The ids of a line lead to the span.
#[tokio::test]
async fn a_line_names_the_span() {
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let listen = free_address();
    let inbound = format!("{listen}={}", server.address);
    let args = ["proxy", "--inbound", &inbound, "--admin", "off", "--access-log", "json"];
    let nobody = format!("http://{}", free_address());
    let env = [("OTEL_SERVICE_NAME", "weather"), ("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str())];
    let process = Process::ready(&args, &env).await;
    modern_call(1, json!({})).send(listen).await;
    process.prints("\"message\":\"request\"").await;
    let line: Value = serde_json::from_str(process.out().lines().next().unwrap()).unwrap();
    let given = server.last().header("traceparent").unwrap().to_owned();
    let ids = ["trace_id", "span_id", "trace_flags"].map(|key| line[key].as_str().unwrap().to_owned());
    assert_eq!(given, format!("00-{}", ids.join("-")));
}
