//! Row 30: a server behind its standard streams, wrapped by `meshtrace stdio`.
//! The servers are scripts of the shell.

use std::io::Write;

use meshtrace::store::{Limits, Receiver, SpanStore};
use serde_json::{Value, json};

use super::process::{Done, Process};
use crate::support::mesh::{PATIENCE, Scratch, Span, all_spans};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OF_THE_PROCESS: &str = "00-1af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

/// Runs a script as server, writes these lines to it, one by one once it has said the text beside
/// them, then ends its input; and gives what came of it.
async fn run(script: &str, lines: &[(&str, &str)], env: &[(&str, &str)]) -> (Done, Vec<Span>) {
    let collector = Receiver::start(Limits::default()).await.unwrap();
    let endpoint = collector.endpoint();
    let mut all = vec![
        ("PATH", "/usr/bin:/bin"),
        ("OTEL_SERVICE_NAME", "server"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    all.extend_from_slice(env);
    let (process, mut stdin) = Process::start_piped(&["stdio", "--", "sh", "-c", script], &all);
    for (after, line) in lines {
        process.prints(after).await;
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }
    drop(stdin);
    let done = process.exit().await;
    (done, spans(collector.store()))
}

fn spans(store: &SpanStore) -> Vec<Span> {
    all_spans(store)
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} among {spans:#?}"))
}

fn call(id: Value, tool: &str, meta: Value) -> String {
    let message =
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "_meta": meta}});
    format!("{message}\n")
}

/// Prints what it reads, as comments that are no messages, and answers calls 1 and "1".
const ECHO: &str = r#"
while IFS= read -r line; do
  printf 'got %s\n' "$line"
  case "$line" in
    *'"id":1,'*) printf '{"jsonrpc":"2.0","id":1,"result":{"content":[]}}\n' ;;
    *'"id":"1",'*) printf '{"jsonrpc":"2.0","id":"1","result":{"content":[],"isError":true}}\r\n' ;;
  esac
done
echo "its own words" >&2
exit 7
"#;

#[tokio::test]
async fn row_30_a_server_behind_its_pipes() {
    let odd = " {\"jsonrpc\" : \"2.0\",\"method\":\"notifications/x\",\"n\":1.50}\r\n";
    let lines = [
        ("", &*call(1.into(), "first", json!({"traceparent": CALLER}))),
        ("\"result\"", &*call("1".into(), "second", json!({}))),
        ("isError", odd),
        ("1.50", "no json\n"),
        ("no json", "unended"),
    ];
    let (done, spans) = run(ECHO, &lines, &[("TRACEPARENT", OF_THE_PROCESS)]).await;
    assert_eq!((done.code, done.err.as_str()), (Some(7), "its own words\n"), "{done:?}");
    let first = named(&spans, "tools/call first");
    let second = named(&spans, "tools/call second");
    assert_eq!(
        (first.kind, &first.trace[..], &first.parent[..]),
        ("SERVER", &CALLER[3..35], &CALLER[36..52])
    );
    assert_eq!((&second.trace[..], &second.parent[..]), (&OF_THE_PROCESS[3..35], &OF_THE_PROCESS[36..52]));
    assert_eq!((first.error_type().as_str(), second.error_type().as_str()), ("", "tool_error"));
    assert_eq!(
        first.all_attributes(),
        json!({
            "mcp.method.name": "tools/call", "gen_ai.tool.name": "first", "gen_ai.operation.name": "execute_tool",
            "jsonrpc.request.id": "1", "network.transport": "pipe",
        })
    );
    // Every byte is there but for the context, and nothing of ours is on stdout.
    let mut expected = String::new();
    let result = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n";
    let failure = "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{\"content\":[],\"isError\":true}}\r\n";
    let got: Vec<&str> = done.out.lines().filter(|line| line.starts_with("got {")).collect();
    for (line, span) in got.iter().zip([first, second]) {
        let message: Value = serde_json::from_str(line.strip_prefix("got ").unwrap()).unwrap();
        let carried = message["params"]["_meta"]["traceparent"].as_str().unwrap();
        assert_eq!(&carried[36..52], span.id);
    }
    for part in [got[0], "\n", result, got[1], "\n", failure, "got ", odd, "got no json\n"] {
        expected.push_str(part);
    }
    assert_eq!(done.out, expected);
}

/// A script that asks its client while it works, and closes when it is answered.
const ASKS: &str = r#"
IFS= read -r line
printf '{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"maxTokens":1}}\n'
IFS= read -r line
printf '{"jsonrpc":"2.0","id":1,"result":{}}\n'
"#;

#[tokio::test]
async fn row_30_a_server_that_asks() {
    let answer = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"role\":\"assistant\"}}\n";
    let (done, spans) =
        run(ASKS, &[("", &call(1.into(), "think", json!({}))), ("sampling", answer)], &[]).await;
    let (call, asked) = (named(&spans, "tools/call think"), named(&spans, "sampling/createMessage"));
    assert_eq!((call.kind, asked.kind, spans.len()), ("SERVER", "CLIENT", 2));
    assert_eq!((asked.parent.as_str(), asked.error.as_ref()), (call.id.as_str(), None));
    assert_eq!(asked.attribute("network.transport"), json!("pipe"));
    let line = done.out.lines().next().unwrap();
    let message: Value = serde_json::from_str(line).unwrap();
    assert_eq!(&message["params"]["_meta"]["traceparent"].as_str().unwrap()[36..52], asked.id);
    assert_eq!(done.out.lines().nth(1), Some("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"));
}

/// The session's own messages carry nothing of ours, batches are taken apart, and what is never
/// answered ends with the process.
#[tokio::test]
async fn row_30_sessions_batches_and_what_is_left_over() {
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}});
    let one = call(5.into(), "a", json!({}));
    let two = call(6.into(), "b", json!({}));
    let batch = format!("[{},{}]\n", one.trim_end(), two.trim_end());
    let script = r#"
IFS= read -r line; printf 'got %s\n' "$line"
printf '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-03-26"}}\n'
IFS= read -r line; printf 'got %s\n' "$line"
printf '[{"jsonrpc":"2.0","id":6,"result":{}}]\n'
IFS= read -r line
"#;
    let cancelled =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    let lines = [
        ("", &*format!("{initialize}\n")),
        ("\"id\":0,\"result\"", &*batch),
        ("\"id\":6,\"result\"", &*format!("{cancelled}\n")),
    ];
    let (done, spans) = run(script, &lines, &[]).await;
    assert!(done.out.starts_with(&format!("got {initialize}\n")), "{}", done.out);
    assert_eq!(done.out.matches("traceparent").count(), 2);
    for name in ["tools/call a", "tools/call b"] {
        assert_eq!(named(&spans, name).attribute("mcp.protocol.version"), json!("2025-03-26"));
    }
    assert_eq!(named(&spans, "tools/call a").error_type(), "connection_closed");
    assert_eq!(named(&spans, "tools/call b").error, None);
    assert_eq!(named(&spans, "initialize").error, None);
}

#[tokio::test]
async fn row_21_a_call_over_pipes_that_is_cancelled() {
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let script = "IFS= read -r a; echo one; IFS= read -r b; exit 0";
    let lines = [("", &*call(1.into(), "long", json!({}))), ("one", &*format!("{cancel}\n"))];
    let (_, spans) = run(script, &lines, &[]).await;
    let (call, notice) = (named(&spans, "tools/call long"), named(&spans, "notifications/cancelled"));
    assert_eq!((call.attribute("meshtrace.cancelled"), call.error.as_ref()), (json!(true), None));
    assert_eq!((&notice.trace, &notice.parent), (&call.trace, &call.id));
    assert_eq!((notice.links[0].id.as_str(), notice.links[0].reason.as_str()), (call.id.as_str(), "cancels"));
}

/// What the process was given as parent gets no endless trace: later calls stand beside it.
#[tokio::test]
async fn row_30_a_process_has_no_more_than_its_share_of_a_trace() {
    let config = Scratch::new("limits: { stream_spans: 2 }");
    let first = call(1.into(), "first", json!({"traceparent": CALLER}));
    let more: Vec<_> = (1..=4).map(|n| call(1.into(), &format!("call{n}"), json!({}))).collect();
    let mut lines = vec![("", first.as_str())];
    lines.extend(more.iter().map(|line| ("", line.as_str())));
    let env = [("TRACEPARENT", OF_THE_PROCESS), ("MESHTRACE_CONFIG", config.0.to_str().unwrap())];
    let (_, spans) = run(ECHO, &lines, &env).await;
    assert_eq!(spans.len(), 5, "{spans:#?}");
    assert_eq!(named(&spans, "tools/call first").trace, CALLER[3..35], "who names a parent does not count");
    for n in 1..=4 {
        let span = named(&spans, &format!("tools/call call{n}"));
        let links: Vec<_> = span.links.iter().map(|link| (&*link.trace, &*link.id, &*link.reason)).collect();
        let given = (&OF_THE_PROCESS[3..35], &OF_THE_PROCESS[36..52]);
        if n <= 2 {
            assert_eq!(((&*span.trace, &*span.parent), links), (given, vec![]));
        } else {
            assert_eq!((span.parent.as_str(), links), ("", vec![(given.0, given.1, "full")]));
            assert_ne!(span.trace, given.0);
        }
    }
}

#[tokio::test]
async fn row_10_a_notification_over_pipes() {
    let script = r#"
IFS= read -r line
printf '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n'
printf '{"jsonrpc":"2.0","id":1,"result":{}}\n'
"#;
    let line = call(1.into(), "long", json!({"progressToken": 1}));
    for (yaml, count) in [("spans: { notifications: true }", 2), ("{}", 1)] {
        let config = Scratch::new(yaml);
        let env = [("MESHTRACE_CONFIG", config.0.to_str().unwrap())];
        let (done, spans) = run(script, &[("", &line)], &env).await;
        assert!(done.out.starts_with(r#"{"jsonrpc":"2.0","method":"notifications/progress","#), "{done:?}");
        assert_eq!(spans.len(), count, "{spans:#?}");
        assert_eq!(named(&spans, "tools/call long").attribute("meshtrace.progress.count"), json!(1));
        if count == 2 {
            let (call, progress) =
                (named(&spans, "tools/call long"), named(&spans, "notifications/progress"));
            assert_eq!((&progress.parent, progress.kind), (&call.id, "CLIENT"));
            assert_eq!(progress.parent_method(), ("progress".to_owned(), false));
        }
    }
}

/// A signal reaches the server, and we end as it ends.
#[tokio::test]
async fn row_30_signals_and_ends_are_passed_on() {
    let env = [("PATH", "/usr/bin:/bin"), ("OTEL_SERVICE_NAME", "server"), ("OTEL_TRACES_EXPORTER", "none")];
    let handled = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let (process, _stdin) = Process::start_piped(&["stdio", "--", "sh", "-c", handled], &env);
    process.prints("ready").await;
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!((done.code, done.out.as_str()), (Some(3), "ready\ncaught\n"));

    let (process, _stdin) =
        Process::start_piped(&["stdio", "--", "sh", "-c", "echo ready; exec sleep 60"], &env);
    process.prints("ready").await;
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!((done.code, done.signal), (None, Some(15)), "{done:?}");

    let done = super::process::run(&["stdio", "--", "/does/not/exist"], &env).await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("meshtrace: /does/not/exist: cannot be started"), "{}", done.err);
    assert_eq!(done.out, "");
}

/// A collector that cannot be reached costs neither the lines nor the exit code.
#[tokio::test]
async fn row_30_without_a_collector() {
    let env = [
        ("PATH", "/usr/bin:/bin"),
        ("OTEL_SERVICE_NAME", "server"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ];
    let (process, mut stdin) = Process::start_piped(&["stdio", "--", "sh", "-c", ECHO], &env);
    stdin.write_all(call(1.into(), "x", json!({})).as_bytes()).unwrap();
    process.prints("\"result\"").await;
    drop(stdin);
    let done = tokio::time::timeout(PATIENCE, process.exit()).await.unwrap();
    assert_eq!(done.code, Some(7));
    assert!(done.err.contains("its own words\n"));
}

/// What the server says has stdout for itself, so the access log is on stderr; metrics and log records go out too.
#[tokio::test]
async fn a_server_behind_its_pipes_is_counted_and_logged() {
    let collector =
        crate::support::mesh::Server::answering(|_| crate::support::mesh::Answer::status(200, ""));
    let collector = collector.await;
    let [metrics, logs] = ["metrics", "logs"].map(|path| format!("http://{}/v1/{path}", collector.address));
    let env = [
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics.as_str()),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", logs.as_str()),
        ("MESHTRACE_ACCESS_LOG", "json"),
    ];
    let lines =
        [("", &*call(1.into(), "first", json!({}))), ("\"result\"", &*call("1".into(), "second", json!({})))];
    let (done, spans) = run(ECHO, &lines, &env).await;
    assert_eq!(spans, []);
    let logged: Vec<Value> = done.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said: Vec<_> =
        logged.iter().map(|line| (&line["target"], &line["status"], &line["direction"])).collect();
    let (first, second, inbound) = (json!("first"), json!("second"), json!("inbound"));
    assert_eq!(said, [(&first, &json!("success"), &inbound), (&second, &json!("error"), &inbound)]);
    assert!(!done.out.contains("timestamp"), "{}", done.out);
    use prost::Message;
    let asked = collector.asked();
    let of = |path: &str| asked.iter().rev().find(|asked| asked.path == path).unwrap().body.clone();
    let sent = opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest::decode(of(
        "/v1/metrics",
    ));
    let sent = format!("{sent:?}");
    for text in ["mcp.server.operation.duration", "\"pipe\"", "\"second\"", "\"tool_error\""] {
        assert!(sent.contains(text), "{text} in {sent}");
    }
    let sent =
        opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest::decode(of("/v1/logs"));
    assert_eq!(sent.unwrap().resource_logs[0].scope_logs[0].log_records.len(), 2);
}
