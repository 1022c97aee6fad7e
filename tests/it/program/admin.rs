//! The admin port of a running sidecar, and `wait`, which asks it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::process::{Process, free_address, run};
use crate::support::mesh::{Answer, Call, PATIENCE, Server, legacy_call, result};

async fn get(admin: std::net::SocketAddr, path: &str) -> (u16, String) {
    let reply = Call::get(path).send(admin).await;
    (reply.status, String::from_utf8(reply.body.to_vec()).unwrap())
}

#[tokio::test]
async fn live_ready_and_metrics() {
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let (admin, listen, out) = (free_address(), free_address(), free_address());
    let (inbound, outbound) =
        (format!("{listen}={}", server.address), format!("{out}=http://{}", server.address));
    let (admin_text, nobody) = (admin.to_string(), format!("http://{}", free_address()));
    let args = ["proxy", "--inbound", &inbound, "--outbound", &outbound, "--admin", &admin_text];
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str())];
    let process = Process::ready(&args, &env).await;
    assert_eq!(get(admin, "/live").await, (200, "live\n".to_owned()));
    assert_eq!(get(admin, "/ready").await, (200, "ready\n".to_owned()));
    assert_eq!(get(admin, "/nothing").await.0, 404);
    assert_eq!(Call::method("POST", "/ready").send(admin).await.status, 405);
    legacy_call(1, json!({})).send(listen).await;
    legacy_call(2, json!({})).send(out).await;
    let (status, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "meshtrace_connections_total 2",
        "meshtrace_parent_total{method=\"background\"} 1",
        "meshtrace_parent_total{method=\"propagated.meta\"} 0",
        "meshtrace_spans_dropped_total{reason=\"queue_spans\"} 0",
        "# TYPE meshtrace_parent_total counter",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
}

/// The operator's view of a sidecar: where calls got their parents from.
#[tokio::test]
async fn check_says_how_calls_found_their_parents() {
    let server = Server::answering(|asked| Answer::json(&result(&asked.id()))).await;
    let (admin, out) = (free_address().to_string(), free_address());
    let outbound = format!("{out}=http://{}", server.address);
    let args = ["proxy", "--outbound", &outbound, "--admin", &admin];
    let nobody = format!("http://{}", free_address());
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str()), ("OTEL_SERVICE_NAME", "planner")];
    let process = Process::ready(&args, &env).await;
    let said = run(&["check", "--agent", &admin], &[]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("No call"), "{said:?}");
    legacy_call(1, json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}))
        .send(out)
        .await;
    for id in 2..5 {
        legacy_call(id, json!({})).send(out).await;
    }
    let said = run(&["check", "--agent", &admin], &[]).await;
    let to = server.address;
    let expect = format!(
        "planner: 4 calls, 0 requests in flight\n 75.0 % background: calls to {to} (3)\n 25.0 % propagated.meta\n"
    );
    assert!(said.out.starts_with(&expect), "{said:?}");
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
    let said = run(&["check", "--agent", &admin], &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(&format!("http://{admin}/debug/links")), "{said:?}");
}

/// While the last requests are finished nobody is sent here any more, and the process is still alive.
#[tokio::test]
async fn draining_is_not_ready() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let server = Server::start(move |asked| {
        let (notify, wait) = (Arc::clone(&notify), Arc::clone(&wait));
        async move {
            notify.notify_one();
            wait.notified().await;
            Answer::json(&result(&asked.id()))
        }
    });
    let server = server.await;
    let (admin, listen) = (free_address(), free_address());
    let (inbound, admin_text) = (format!("{listen}={}", server.address), admin.to_string());
    let args = ["proxy", "--inbound", &inbound, "--admin", &admin_text];
    let process = Process::ready(&args, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    let call = tokio::spawn(legacy_call(1, json!({})).send(listen));
    timeout(PATIENCE, arrived.notified()).await.unwrap();
    process.signal("TERM");
    process.says("stopping").await;
    // The phase reaches the admin thread a moment after the line is written.
    let turned = async {
        while get(admin, "/ready").await.0 == 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, turned).await.expect("not ready while draining");
    assert!(get(admin, "/ready").await.1.contains("draining"));
    assert_eq!(get(admin, "/live").await.0, 200);
    go.notify_one();
    assert_eq!(call.await.unwrap().status, 200);
    assert_eq!(process.exit().await.code, Some(0));
}

#[tokio::test]
async fn wait_returns_when_the_sidecar_is_ready() {
    let (admin, listen) = (free_address(), free_address());
    let admin_text = admin.to_string();
    // It is asked before there is anybody to ask.
    let waiting = Process::start(&["wait", "--timeout", "60s"], &[("MESHTRACE_ADMIN", &admin_text)]);
    let inbound = format!("{listen}=127.0.0.1:9");
    let args = ["proxy", "--inbound", &inbound, "--admin", &admin_text];
    let process = Process::ready(&args, &[("OTEL_TRACES_EXPORTER", "none")]).await;
    let done = waiting.exit().await;
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""), "{done:?}");
    let done = run(&["wait", "--admin", &admin_text, "--timeout", "10s"], &[]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
}

#[tokio::test]
async fn wait_gives_up_and_says_on_whom() {
    let admin = free_address().to_string();
    let done = run(&["wait", "--admin", &admin, "--timeout", "200ms"], &[]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains(&admin) && done.err.trim_end().lines().count() == 1, "{}", done.err);
}

#[tokio::test]
async fn wait_with_wrong_values_exits_2() {
    for (args, says) in [
        (["wait", "--timeout", "soon"], "--timeout"),
        (["wait", "--admin", "off"], "--admin"),
        (["wait", "--admin", "nowhere"], "--admin"),
    ] {
        let done = run(&args, &[]).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{done:?}");
        assert!(done.err.contains(says), "{}", done.err);
    }
}

/// What the kubelet is told in place of a TCP probe of its own.
#[tokio::test]
async fn app_probes_say_what_the_port_says() {
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let (admin, listen) = (free_address(), free_address());
    let (inbound, admin_text) = (format!("{listen}=127.0.0.1:{port}"), admin.to_string());
    let probes =
        format!(r#"{{"agent/readinessProbe": {{"port": {port}, "host": "", "timeoutSeconds": 5}}}}"#);
    let args = ["proxy", "--inbound", &inbound, "--admin", &admin_text];
    let env = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("MESHTRACE_APP_PROBES", probes.as_str()),
        ("POD_IP", "127.0.0.1"),
    ];
    let process = Process::ready(&args, &env).await;
    assert_eq!(get(admin, "/app-probe/agent/readinessProbe").await.0, 200);
    assert_eq!(get(admin, "/app-probe/agent/livenessProbe").await.0, 404);
    drop(app);
    let (status, text) = get(admin, "/app-probe/agent/readinessProbe").await;
    assert!(status == 503 && text.contains("refused"), "{status} {text}");
    process.signal("TERM");
    assert_eq!(process.exit().await.code, Some(0));
}
