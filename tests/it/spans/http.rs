//! Row 33: HTTP that is not MCP.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Stage, watch, watch_with};
use crate::support::mesh::{Answer, Asked, Call, Mesh, PATIENCE, SIDES, Server, Side, merge, network};

fn ok(_: &Asked) -> Answer {
    Answer::status(200, "page").header("content-type", "text/html")
}

#[tokio::test]
async fn row_33_a_page() {
    for side in SIDES {
        let Stage { mesh, server, sidecar } = Stage::set("", ok).await;
        let call = Call::get("/a/b?x=1&session_id=secret&y=%20").header("user-agent", "ua/1");
        let reply = call.send(sidecar.at(side)).await;
        let span = mesh.only_span().await;
        let query = "x=1&session_id=REDACTED&y=%20";
        let mut wanted = network(side, &reply, server.address);
        merge(&mut wanted, json!({"http.request.method": "GET", "http.response.status_code": 200}));
        match side {
            Side::Server => merge(
                &mut wanted,
                json!({
                    "url.path": "/a/b", "url.scheme": "http", "url.query": query, "user_agent.original": "ua/1",
                    "server.address": "127.0.0.1", "server.port": sidecar.inbound().port(),
                }),
            ),
            Side::Client => {
                merge(&mut wanted, json!({"url.full": format!("http://{}/a/b?{query}", server.address)}))
            }
        }
        assert_eq!((span.name.as_str(), span.kind), ("GET", side.kind()));
        assert_eq!(span.all_attributes(), wanted);
        assert_eq!(span.error, None);
        // The secret is for the server alone.
        assert_eq!(server.last().path, "/a/b?x=1&session_id=secret&y=%20");
    }
}

#[tokio::test]
async fn row_33_secrets_in_urls_are_redacted() {
    let names = [
        "sig",
        "Signature",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "X-Goog-Signature",
        "AWSAccessKeyId",
        "sessionId",
        "access_token",
    ];
    for side in SIDES {
        let calls = names.iter().map(|name| (side, Call::get(&format!("/?a=b&{name}=hush"))));
        let watched = watch(ok, calls.collect()).await;
        assert_eq!(watched.spans.len(), names.len());
        let text = format!("{:?}", watched.spans);
        assert!(!text.contains("hush"), "{text}");
        assert_eq!(text.matches("REDACTED").count(), names.len());
    }
}

#[tokio::test]
async fn row_33_statuses() {
    let statuses = [200, 204, 301, 304, 400, 404, 429, 500, 503];
    for side in SIDES {
        let script = |asked: &Asked| Answer::status(asked.path[1..].parse().unwrap(), "");
        let calls = statuses.iter().map(|status| (side, Call::get(&format!("/{status}"))));
        let watched = watch(script, calls.collect()).await;
        assert_eq!(watched.spans.len(), statuses.len());
        for (span, status) in watched.spans.iter().zip(statuses) {
            let failed = status >= 500 || (status >= 400 && side == Side::Client);
            assert_eq!(span.attribute("http.response.status_code"), json!(status));
            assert_eq!(span.error.is_some(), failed, "{side:?} {status}");
            assert_eq!(span.error_type(), if failed { status.to_string() } else { String::new() });
        }
    }
}

#[tokio::test]
async fn row_33_methods() {
    let methods = ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"];
    for side in SIDES {
        let watched = watch(ok, methods.map(|method| (side, Call::method(method, "/"))).into()).await;
        let names: Vec<_> = watched.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(
            names,
            ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "HTTP"],
            "names must not be unbounded"
        );
        let other = &watched.spans[5];
        assert_eq!(other.attribute("http.request.method"), json!("_OTHER"));
        assert_eq!(other.attribute("http.request.method_original"), json!("PURGE"));
        assert_eq!(watched.spans[0].attribute("http.request.method_original"), Value::Null);
    }
}

/// JSON-RPC of another kind is not taken for MCP, and its body stays as it is.
#[tokio::test]
async fn row_33_json_rpc_that_is_not_mcp() {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[1]}"#;
    for side in SIDES {
        let watched = watch(ok, vec![(side, Call::post(body))]).await;
        assert_eq!(watched.spans[0].name, "POST");
        assert_eq!(watched.asked[0].body, body);
        assert!(watched.asked[0].header("traceparent").is_some());
    }
}

#[tokio::test]
async fn row_33_can_be_switched_off() {
    for side in SIDES {
        let call =
            Call::get("/").header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let watched = watch_with("spans: { http: false }", ok, vec![(side, call)]).await;
        assert_eq!(watched.spans, []);
        let passed = watched.asked[0].header("traceparent");
        assert_eq!(passed, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    }
}

#[tokio::test]
async fn row_33_can_be_ignored_by_rules() {
    let yaml = "spans: { ignore: [{ path: /healthz }, { user_agent: 'kube-probe/*' }, { host: '*.test' }] }";
    for side in SIDES {
        let calls = vec![
            (side, Call::get("/healthz?x=1")),
            (side, Call::get("/").header("user-agent", "kube-probe/1.34")),
            (side, Call::get("/").header("host", "a.TEST:80")),
            (side, Call::get("/healthz/x").header("user-agent", "curl").header("host", "a.example")),
        ];
        let watched = watch_with(yaml, ok, calls).await;
        assert_eq!(watched.spans.len(), 1, "{:#?}", watched.spans);
        assert_eq!(watched.asked.len(), 4);
    }
}

#[tokio::test]
async fn row_33_a_forwarded_request_names_its_target() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().forward().start();
    let to = sidecar.outbound();
    // As `HTTP_PROXY` makes clients send it, and routed by Host.
    let absolute = Call::get("/").at(&format!("http://{}/x?token=hush", server.address));
    absolute.header("host", server.address.to_string()).send(to).await;
    Call::get("/y").header("host", server.address.to_string()).send(to).await;
    let spans = mesh.stop().await;
    let urls: Vec<_> = spans.iter().map(|span| span.attribute("url.full")).collect();
    let at = server.address;
    assert_eq!(urls, [json!(format!("http://{at}/x?token=REDACTED")), json!(format!("http://{at}/y"))]);
    for span in &spans {
        assert_eq!(span.attribute("server.port"), json!(at.port()));
    }
}

/// A tunnel is one span: where it went and how much passed. The bytes are not ours.
#[tokio::test]
async fn row_33_a_tunnel() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().forward().start();
    let mut tcp = TcpStream::connect(sidecar.outbound()).await.unwrap();
    let at = server.address;
    tcp.write_all(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = vec![0; 1024];
    let n = timeout(PATIENCE, tcp.read(&mut head)).await.unwrap().unwrap();
    assert!(head[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..n]));
    let inside = format!("GET /inside HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    tcp.write_all(inside.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.ends_with(b"page"));
    drop(tcp);
    let span = mesh.only_span().await;
    assert_eq!((span.name.as_str(), span.kind), ("CONNECT", "CLIENT"));
    assert_eq!(span.error, None);
    assert_eq!(span.attribute("server.address"), json!("127.0.0.1"));
    assert_eq!(span.attribute("server.port"), json!(at.port()));
    assert_eq!(span.attribute("http.request.method"), json!("CONNECT"));
    assert_eq!(span.attribute("meshtrace.tunnel.sent_bytes"), json!(inside.len()));
    assert_eq!(span.attribute("meshtrace.tunnel.received_bytes"), json!(rest.len()));
    let asked = server.last();
    assert_eq!((asked.path.as_str(), asked.header("traceparent")), ("/inside", None));
}

/// A client that leaves is no error of anybody.
#[tokio::test]
async fn row_33_a_client_that_leaves() {
    let (pieces, answer) = Answer::pieces("text/plain");
    let answer = std::sync::Mutex::new(Some(answer));
    let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
    let mut open = Call::get("/slow").open(stage.sidecar.outbound()).await;
    pieces.send(Ok("some".into())).await.unwrap();
    open.read_until("some").await;
    drop(open);
    timeout(PATIENCE, pieces.closed()).await.expect("the disconnect upstream");
    let span = stage.mesh.only_span().await;
    assert_eq!((span.error.as_deref(), span.attribute("http.response.status_code")), (None, json!(200)));
}

/// What the proxy answers itself is a failure with the status that the client saw.
#[tokio::test]
async fn row_33_nobody_there() {
    let nobody = {
        let server = Server::answering(ok).await;
        server.address
    };
    for side in SIDES {
        let mesh = Mesh::start().await;
        let sidecar = mesh.sidecar().around(nobody).start();
        let reply = Call::get("/").send(sidecar.at(side)).await;
        let span = mesh.only_span().await;
        assert_eq!(reply.status, 503);
        assert_eq!(span.attribute("http.response.status_code"), json!(503));
        assert_eq!(span.error_type(), "connection_refused");
    }
}
