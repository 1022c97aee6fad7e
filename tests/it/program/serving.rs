//! The sidecar as a process: what it says, what it prints, how it stops.

use std::net::SocketAddr;
use std::sync::Arc;

use meshtrace::store::{Limits, Receiver};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::process::{Process, free_address, run};
use crate::support::mesh::{Answer, Asked, Call, PATIENCE, Scratch, Server, legacy_call, result};

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// The flags for an inbound listener at this address.
fn inbound(listen: SocketAddr, app: SocketAddr) -> [String; 5] {
    ["proxy".into(), "--inbound".into(), format!("{listen}={app}"), "--admin".into(), "off".into()]
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// A server that holds every request until it is let go.
async fn held() -> (Server, Arc<Notify>, Arc<Notify>) {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let server = Server::start(move |asked| {
        let (notify, wait) = (Arc::clone(&notify), Arc::clone(&wait));
        async move {
            notify.notify_one();
            wait.notified().await;
            ok(&asked)
        }
    });
    (server.await, arrived, go)
}

/// What is in flight is finished, and the last spans are sent although their batch is not due.
#[tokio::test]
async fn sigterm_drains_and_flushes() {
    for signal in ["TERM", "INT"] {
        let collector = Receiver::start(Limits::default()).await.unwrap();
        let (server, arrived, go) = held().await;
        let listen = free_address();
        let env = [
            ("OTEL_SERVICE_NAME", "agent"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
            ("MESHTRACE_WORKERS", "2"),
        ];
        let process = Process::ready(&strs(&inbound(listen, server.address)), &env).await;
        let call = tokio::spawn(legacy_call(1, json!({})).send(listen));
        timeout(PATIENCE, arrived.notified()).await.unwrap();
        process.signal(signal);
        process.says("stopping").await;
        go.notify_one();
        assert_eq!(call.await.unwrap().status, 200, "what was in flight is finished");
        let done = process.exit().await;
        assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{}", done.err);
        assert_eq!(collector.store().counts().stored, 1, "{}", done.err);
        let trace = collector.store().traces().remove(0);
        assert_eq!(trace.spans[0].service(), "agent");
    }
}

/// Whoever waits for the sidecar starts with the files in place.
#[tokio::test]
async fn the_shim_is_there_when_it_is_ready() {
    let (listen, app) = (free_address(), free_address());
    let place = Scratch::new("");
    std::fs::remove_file(&place.0).unwrap();
    let process = Process::ready(
        &[&strs(&inbound(listen, app))[..], &["--install-shim", place.0.to_str().unwrap()]].concat(),
        &[],
    )
    .await;
    for file in ["sitecustomize.py", "meshtrace.cjs"] {
        assert!(place.0.join(file).is_file(), "{file}");
    }
    process.says("writes the shim's files to").await;
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
    std::fs::remove_dir_all(&place.0).unwrap();

    let file = Scratch::new("somebody's");
    let env = [("MESHTRACE_INSTALL_SHIM", file.0.to_str().unwrap())];
    let done = run(&strs(&inbound(listen, app)), &env).await;
    assert_eq!(done.code, Some(1), "an agent must not start without them: {}", done.err);
    assert!(done.err.contains(file.0.to_str().unwrap()), "{}", done.err);
}

/// A request that never ends is cut off after the drain timeout, and has its span.
#[tokio::test]
async fn a_drain_has_an_end() {
    let collector = Receiver::start(Limits::default()).await.unwrap();
    let (server, arrived, _go) = held().await;
    let listen = free_address();
    let file = crate::support::mesh::Scratch::new("limits: { drain_timeout: 200ms }");
    let endpoint = collector.endpoint();
    let env =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("MESHTRACE_CONFIG", file.0.to_str().unwrap())];
    let process = Process::ready(&strs(&inbound(listen, server.address)), &env).await;
    let call = tokio::spawn(legacy_call(1, json!({})).try_open(listen));
    timeout(PATIENCE, arrived.notified()).await.unwrap();
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(call.await.unwrap().is_err());
    assert_eq!(collector.store().counts().stored, 1, "{}", done.err);
}

#[tokio::test]
async fn console_prints_a_tree_and_nothing_else() {
    let server = Server::answering(ok).await;
    let listen = free_address();
    let env = [("OTEL_SERVICE_NAME", "agent"), ("OTEL_TRACES_EXPORTER", "console")];
    let process = Process::ready(&strs(&inbound(listen, server.address)), &env).await;
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    legacy_call(1, json!({"traceparent": context})).send(listen).await;
    process.prints("tools/call add").await;
    // While it still runs, the whole tree is there.
    assert!(process.out().contains("trace 0af7651916cd43dd8448eb211c80319c  1 span"), "{}", process.out());
    Call::get("/").send(listen).await;
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0));
    for line in ["tools/call add", "GET"] {
        let line =
            done.out.lines().find(|l| l.contains(line)).unwrap_or_else(|| panic!("{line} in\n{}", done.out));
        for word in ["SERVER", "agent", "ms"] {
            assert!(line.contains(word), "{word} in {line}");
        }
    }
    assert_eq!(done.out.lines().filter(|line| line.starts_with("trace ")).count(), 2, "{}", done.out);
}

/// The start says what is in force, on standard error, and no secret.
#[tokio::test]
async fn the_start_says_what_is_in_force() {
    let listen = free_address();
    let env = [
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hush"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hush@127.0.0.1:9"),
    ];
    let process = Process::ready(&strs(&inbound(listen, free_address())), &env).await;
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0));
    for text in
        ["25 % of traces", &listen.to_string(), "OTEL_SERVICE_NAME", "unknown_service:meshtrace", "private"]
    {
        assert!(done.err.contains(text), "{text} is not in:\n{}", done.err);
    }
    assert!(!done.err.contains("hush"), "{}", done.err);
    assert!(!done.err.contains('\u{1b}'), "colours in a file: {}", done.err);
}

/// A flag beats its variable, and the level of the log is the user's.
#[tokio::test]
async fn flags_beat_variables_and_a_quiet_sidecar_is_quiet() {
    let (listen, other) = (free_address(), free_address());
    let server = Server::answering(ok).await;
    let variable = format!("{other}={}", server.address);
    let env = [
        ("MESHTRACE_INBOUND", variable.as_str()),
        ("OTEL_SERVICE_NAME", "agent"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOG_LEVEL", "error"),
    ];
    let process = Process::start(&strs(&inbound(listen, server.address)), &env);
    let deadline = std::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(listen).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(legacy_call(1, json!({})).send(listen).await.status, 200);
    assert!(tokio::net::TcpStream::connect(other).await.is_err(), "the variable was used beside the flag");
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", ""));
}

/// The first command of the documentation: everything in one process.
#[tokio::test]
async fn demo_once_shows_whole_traces() {
    let done = run(&["demo", "--once"], &[]).await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    for text in ["SERVER", "CLIENT", "tools/call", "tool_error"] {
        assert!(done.out.contains(text), "{text} is not in:\n{}", done.out);
    }
}

#[tokio::test]
async fn demo_serves_on_until_it_is_told_to_stop() {
    let process = Process::start(&["demo"], &[]);
    process.prints("traceparent").await;
    process.signal("INT");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0), "{done:#?}");
    assert!(done.out.contains("curl"), "{}", done.out);
}

/// A SIGHUP is one line, whether the file can be used or not.
#[tokio::test]
async fn a_hangup_reloads_and_says_so() {
    let (server, listen) = (Server::answering(ok).await, free_address());
    let file = Scratch::new("sampling: { rules: [{ sample: 0% }] }\n");
    let path = file.0.to_str().unwrap();
    let mut args = inbound(listen, server.address).to_vec();
    args.extend(["--config".into(), path.into()]);
    let env = [("OTEL_SERVICE_NAME", "agent"), ("OTEL_TRACES_EXPORTER", "console")];
    let process = Process::ready(&strs(&args), &env).await;
    process.signal("HUP");
    process.says("has not changed").await;
    file.rewrite("sampling:\n  rules:\n    - sample: lots\n");
    process.signal("HUP");
    process.says("not reloaded, what was in force stays").await;
    file.rewrite("sampling: { rules: [{ sample: 100% }] }\nlimits: { headers: 50 }\n");
    process.signal("HUP");
    process.says("which needs a restart").await;
    legacy_call(1, json!({})).send(listen).await;
    process.prints("tools/call add").await;
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.code, Some(0));
    assert!(done.err.contains(&format!("{path}:3:15: sampling.rules sample")), "{}", done.err);
    assert_eq!(done.err.matches("reloaded").count(), 2, "{}", done.err);
}
