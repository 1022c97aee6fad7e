//! Rows 5 and 6, and what the proxy answers itself: requests that failed.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Stage, watch};
use crate::support::mesh::{
    Answer, Asked, Mesh, SIDES, Server, Side, error, expected, legacy_call, merge, modern_call, result,
};

/// The codes that are the caller's fault, and so no error of the server.
const CALLERS_FAULT: [i64; 5] = [-32700, -32600, -32601, -32602, -32002];

fn attributes(extra: Value) -> Value {
    let mut all = json!({
        "mcp.method.name": "tools/call", "gen_ai.tool.name": "add", "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "1", "mcp.protocol.version": "2026-07-28",
    });
    merge(&mut all, extra);
    all
}

#[tokio::test]
async fn row_5_json_rpc_errors() {
    let codes = [
        -32700, -32600, -32601, -32602, -32002, -32603, -32000, -32020, -32021, -32022, -32042, -32800, 0, 42,
    ];
    let code = |asked: &Asked| asked.header("x-code").unwrap().parse::<i64>().unwrap();
    let scripts: [fn(&Asked, i64) -> Answer; 2] = [
        |asked, code| Answer::json(&error(&asked.id(), code, "not so")),
        |asked, code| Answer::events(&[error(&asked.id(), code, "not so")]),
    ];
    for side in SIDES {
        for script in scripts {
            let calls =
                codes.iter().map(|code| (side, modern_call(1, json!({})).header("x-code", code.to_string())));
            let watched = watch(move |asked| script(asked, code(asked)), calls.collect()).await;
            assert_eq!(watched.spans.len(), codes.len());
            for (index, code) in codes.iter().enumerate() {
                let span = &watched.spans[index];
                let exempt = side == Side::Server && CALLERS_FAULT.contains(code);
                let mut message = attributes(json!({"rpc.response.status_code": code.to_string()}));
                if !exempt {
                    message["error.type"] = code.to_string().into();
                }
                assert_eq!(
                    span.all_attributes(),
                    expected(side, &watched.replies[index], watched.server, message)
                );
                assert_eq!(span.error.as_deref(), (!exempt).then_some("not so"), "{side:?} {code}");
            }
        }
    }
}

/// Since 2026-07-28 some errors come with 400 or 404; the code still says what happened.
#[tokio::test]
async fn row_5_json_rpc_errors_with_an_http_status() {
    let cases = [(400, -32602, json!(null)), (404, -32601, json!(1)), (400, -32020, json!(null))];
    for side in SIDES {
        for (status, code, id) in cases.clone() {
            let script = move |_: &Asked| Answer::json(&error(&id, code, "no")).with_status(status);
            let watched = watch(script, vec![(side, modern_call(1, json!({})))]).await;
            let span = &watched.spans[0];
            assert_eq!(watched.replies[0].status, status);
            assert_eq!(span.attribute("rpc.response.status_code"), json!(code.to_string()));
            let exempt = side == Side::Server && CALLERS_FAULT.contains(&code);
            assert_eq!(span.error.is_some(), !exempt, "{span:#?}");
            assert_eq!(span.error_type(), if exempt { String::new() } else { code.to_string() });
        }
    }
}

#[tokio::test]
async fn row_5_an_error_without_a_code_is_an_error() {
    let script =
        |asked: &Asked| Answer::json(&json!({"jsonrpc": "2.0", "id": asked.id(), "error": {"message": "m"}}));
    for side in SIDES {
        let watched = watch(script, vec![(side, modern_call(1, json!({})))]).await;
        assert_eq!(
            (watched.spans[0].error.as_deref(), watched.spans[0].error_type().as_str()),
            (Some("m"), "_OTHER")
        );
        assert_eq!(watched.spans[0].attribute("rpc.response.status_code"), Value::Null);
    }
}

#[tokio::test]
async fn row_6_http_answers_without_a_message() {
    let statuses = [202, 302, 307, 400, 401, 403, 404, 405, 429, 500, 502, 503];
    for side in SIDES {
        let script = |asked: &Asked| {
            let status: u16 = asked.header("x-status").unwrap().parse().unwrap();
            let answer = Answer::status(status, "plain").header("content-type", "text/plain");
            if status == 401 { answer.header("www-authenticate", "Bearer") } else { answer }
        };
        let calls = statuses
            .iter()
            .map(|status| (side, modern_call(1, json!({})).header("x-status", status.to_string())));
        let watched = watch(script, calls.collect()).await;
        assert_eq!(watched.spans.len(), statuses.len());
        for (index, status) in statuses.iter().enumerate() {
            let span = &watched.spans[index];
            assert_eq!(watched.replies[index].status, *status);
            let failed = side == Side::Client || *status >= 500;
            let mut message = attributes(json!({"http.response.status_code": status}));
            if failed {
                message["error.type"] = status.to_string().into();
            }
            assert_eq!(
                span.all_attributes(),
                expected(side, &watched.replies[index], watched.server, message)
            );
            assert_eq!(span.error.is_some(), failed, "{side:?} {status}");
        }
    }
}

#[tokio::test]
async fn row_6_json_that_is_no_message() {
    let script = |_: &Asked| Answer::json(&json!({"detail": "no"})).with_status(403);
    for side in SIDES {
        let watched = watch(script, vec![(side, modern_call(1, json!({})))]).await;
        assert_eq!(watched.spans[0].attribute("http.response.status_code"), json!(403));
        assert_eq!(watched.spans[0].error.is_some(), side == Side::Client);
    }
}

/// The same message after a 401, with the same id: two requests, two spans.
#[tokio::test]
async fn row_6_a_retry_with_the_same_id_is_a_request_of_its_own() {
    let script = |asked: &Asked| match asked.header("authorization") {
        None => Answer::status(401, ""),
        Some(_) => Answer::json(&result(&asked.id())),
    };
    let call = legacy_call(1, json!({}));
    let calls =
        vec![(Side::Client, call.clone()), (Side::Client, call.header("authorization", "Bearer secret"))];
    let watched = watch(script, calls).await;
    let errors: Vec<_> = watched.spans.iter().map(|span| span.error_type()).collect();
    assert_eq!(errors, ["401", ""]);
    assert!(!format!("{:?}", watched.spans).contains("secret"));
}

/// What the proxy itself answers: who failed in the body, what in `error.type`.
async fn proxy_answers(stage: Stage, status: u16, error_type: &str) {
    for side in SIDES {
        let reply = modern_call(1, json!({})).send(stage.sidecar.at(side)).await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert_eq!(reply.status, status, "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
    let spans = stage.mesh.stop().await;
    assert_eq!(spans.len(), 2);
    for (span, side) in spans.iter().zip(SIDES) {
        assert_eq!((span.kind, span.name.as_str()), (side.kind(), "tools/call add"));
        assert_eq!(span.error_type(), error_type);
        assert!(span.error.is_some());
    }
}

#[tokio::test]
async fn row_6_an_upstream_that_refuses() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let mesh = Mesh::start().await;
    let sidecar = mesh.sidecar().around(nobody).start();
    let server = Server::answering(|_| Answer::close()).await;
    proxy_answers(Stage { mesh, server, sidecar }, 503, "connection_refused").await;
}

#[tokio::test]
async fn row_6_an_upstream_that_closes() {
    proxy_answers(Stage::set("", |_| Answer::close()).await, 502, "connection_closed").await;
}

#[tokio::test]
async fn row_6_an_upstream_that_stays_silent() {
    let server = Server::start(|_| std::future::pending()).await;
    proxy_answers(Stage::with("limits: { response_timeout: 100ms }", server).await, 504, "timeout").await;
}

#[tokio::test]
async fn row_6_an_upstream_that_speaks_something_else() {
    let garbage = raw_server(b"SSH-2.0-OpenSSH_9.9\r\n").await;
    let mesh = Mesh::start().await;
    let sidecar = mesh.sidecar().around(garbage).start();
    let server = Server::answering(|_| Answer::close()).await;
    proxy_answers(Stage { mesh, server, sidecar }, 502, "invalid_response").await;
}

#[tokio::test]
async fn row_6_a_call_that_would_come_back_to_us() {
    let mesh = Mesh::start().await;
    let sidecar = mesh.sidecar().forward().start();
    let reply = modern_call(1, json!({})).send(sidecar.outbound()).await;
    assert_eq!(reply.status, 508);
    assert_eq!(mesh.only_span().await.error_type(), "loop");
}

/// Answers every connection with these bytes, once something was asked.
async fn raw_server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let _ = tcp.read(&mut asked).await;
                let _ = tcp.write_all(answer).await;
                // Stays open until the other side has had enough.
                while tcp.read(&mut asked).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    address
}
