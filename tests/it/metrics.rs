//! What is counted of all traffic, whatever of it is recorded.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use meshtrace::metrics::Metrics;
use meshtrace::metrics::operations::MAX_SERIES;
use serde_json::json;

use crate::support::mesh::{
    Answer, Asked, Call, Era, Mesh, PATIENCE, Running, Server, Side, error, is_error, modern_call,
    notification, request, result,
};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

async fn unsampled(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Mesh, Server, Running) {
    let mesh = Mesh::start().await;
    let server = Server::answering(answer).await;
    let plan = mesh.sidecar().env("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let sidecar = plan.around(server.address).start();
    (mesh, server, sidecar)
}

/// The lines of a scrape that begin so, without what is the same for all.
fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
    let mut text = String::new();
    metrics.operations.encode("agent", &mut text);
    text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

/// The value of the one line that begins so and has all these labels.
fn value(metrics: &Metrics, start: &str, labels: &[&str]) -> u64 {
    let all = lines(metrics, start);
    let found: Vec<_> = all.iter().filter(|line| labels.iter().all(|label| line.contains(label))).collect();
    assert_eq!(found.len(), 1, "{labels:?} in {all:#?}");
    found[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn every_outcome_is_counted_on_both_sides_although_nothing_is_recorded() {
    // The answer, `status`, and `error.type` for a server and for a client.
    type Case = (fn(&Asked) -> Answer, &'static str, Option<&'static str>, Option<&'static str>);
    let cases: [Case; 8] = [
        (ok, "success", None, None),
        (|a| Answer::events(&[result(&a.id())]), "success", None, None),
        (|a| Answer::json(&is_error(&a.id())), "error", Some("tool_error"), Some("tool_error")),
        (|a| Answer::json(&error(&a.id(), -32603, "x")), "error", Some("-32603"), Some("-32603")),
        (|a| Answer::events(&[error(&a.id(), -32602, "x")]), "error", None, Some("-32602")),
        (|_| Answer::status(503, ""), "error", Some("503"), Some("503")),
        (|_| Answer::status(404, ""), "error", None, Some("404")),
        (|_| Answer::events(&[]), "error", Some("connection_closed"), Some("connection_closed")),
    ];
    for (answer, status, server_error, client_error) in cases {
        let (mesh, _server, sidecar) = unsampled(answer).await;
        let sides = [(Side::Server, "server", server_error), (Side::Client, "client", client_error)];
        for (side, name, error_type) in sides {
            modern_call(1, json!({})).send(sidecar.at(side)).await;
            let family = format!("mcp_{name}_operation_duration_seconds_count");
            let metrics = mesh.metrics();
            assert_eq!(value(&metrics, &family, &["gen_ai_tool_name=\"add\""]), 1);
            let line = lines(&metrics, &family).remove(0);
            match error_type {
                Some(error) => assert!(line.contains(&format!("error_type=\"{error}\"")), "{line}"),
                None => assert!(!line.contains("error_type"), "{line}"),
            }
        }
        let requests = value(&mesh.metrics(), "mcp_mesh_requests_total", &[&format!("status=\"{status}\"")]);
        assert_eq!(requests, 1, "only what comes in");
        assert_eq!(mesh.stop().await, []);
    }
}

#[tokio::test]
async fn a_client_that_leaves_has_cancelled() {
    let mesh = Mesh::start().await;
    let server = Server::answering(|_| {
        let (pieces, answer) = Answer::pieces("text/event-stream");
        let hold = async move {
            let first = pieces.send(Ok(": first\n\n".into())).await;
            first.unwrap();
            pieces.closed().await;
        };
        tokio::spawn(hold);
        answer
    });
    let server = server.await;
    let sidecar = mesh.sidecar().env("OTEL_TRACES_SAMPLER", "always_off").inbound(server.address).start();
    let mut open = modern_call(1, json!({})).open(sidecar.inbound()).await;
    open.read_until("first").await;
    assert_eq!(mesh.metrics().proxy.open_streams.get(), 1);
    drop(open);
    let gone = async {
        while lines(&mesh.metrics(), "mcp_mesh_requests_total").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("counted");
    assert_eq!(value(&mesh.metrics(), "mcp_mesh_requests_total", &["status=\"cancelled\""]), 1);
    let metrics = mesh.metrics();
    assert_eq!(mesh.stop().await, []);
    assert_eq!(metrics.proxy.open_streams.get(), 0);
}

#[tokio::test]
async fn notifications_and_what_is_ignored_count_and_plain_http_does_not() {
    let (mesh, _server, sidecar) = unsampled(|asked| match asked.id() {
        serde_json::Value::Null => Answer::status(202, ""),
        _ => ok(asked),
    })
    .await;
    notification("notifications/initialized", json!({})).send(sidecar.inbound()).await;
    request(Era::Legacy, 1.into(), "ping", json!({})).send(sidecar.inbound()).await;
    Call::get("/healthz").send(sidecar.inbound()).await;
    let metrics = mesh.metrics();
    for method in ["notifications/initialized", "ping"] {
        let labels = [&*format!("method=\"{method}\""), "status=\"success\""];
        assert_eq!(value(&metrics, "mcp_mesh_requests_total", &labels), 1);
    }
    assert_eq!(lines(&metrics, "mcp_mesh_requests_total").len(), 2);
}

/// An exemplar leads to a span that there is.
#[tokio::test]
async fn exemplars_are_of_sampled_spans() {
    let (mesh, _server, sidecar) = unsampled(ok).await;
    modern_call(1, json!({})).send(sidecar.inbound()).await;
    assert!(lines(&mesh.metrics(), "mcp_").iter().all(|line| !line.contains(" # ")));
    modern_call(2, json!({"traceparent": SAMPLED})).send(sidecar.inbound()).await;
    let metrics = mesh.metrics();
    let span = mesh.only_span().await;
    let exemplar = format!(" # {{trace_id=\"{}\",span_id=\"{}\"}} 0.", span.trace, span.id);
    for family in ["mcp_mesh_request_duration_seconds_bucket", "mcp_server_operation_duration_seconds_bucket"]
    {
        let shown = lines(&metrics, family);
        assert_eq!(shown.iter().filter(|line| line.contains(&exemplar)).count(), 1, "{exemplar} {shown:#?}");
    }
}

/// Random names of tools and methods: what a scrape holds stays bounded.
#[tokio::test]
async fn a_flood_of_names_is_bounded() {
    let (mesh, _server, sidecar) = unsampled(ok).await;
    let calls = (0..2 * MAX_SERIES).map(|n| {
        let (method, name) = if n % 2 == 0 {
            ("tools/call".to_owned(), format!("t\"{n}"))
        } else {
            (format!("x/{n}"), String::new())
        };
        request(Era::Modern, 1.into(), &method, json!({"name": name}))
    });
    Call::send_in_turn(calls.collect(), sidecar.inbound()).await;
    let metrics = mesh.metrics();
    let counted = lines(&metrics, "mcp_server_operation_duration_seconds_count");
    assert_eq!(counted.len(), MAX_SERIES + 1);
    let other = value(&metrics, "mcp_mesh_requests_total", &["method=\"other\""]);
    assert_eq!(other, MAX_SERIES as u64);
}
