//! Row 7: bodies that are not read, or not to be touched. Their bytes leave as
//! they came, the context goes by header alone, and since 2026-07-28 the
//! headers still say what the request is.

use serde_json::{Value, json};

use super::{Stage, watch, watch_with};
use crate::support::mesh::{
    Answer, Asked, Call, Mesh, Reply, SIDES, Server, Side, Span, expected, merge, network, result,
};

const VALID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}"#;

fn answer(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

fn modern(body: impl Into<bytes::Bytes>) -> Call {
    let call = Call::post(body).header("mcp-protocol-version", "2026-07-28");
    call.header("mcp-method", "tools/call").header("mcp-name", "add")
}

fn legacy(body: impl Into<bytes::Bytes>) -> Call {
    Call::post(body).header("mcp-protocol-version", "2025-06-18").header("mcp-session-id", "s-1")
}

/// What the headers of a modern call say, and why the body does not.
fn by_headers(note: &str) -> Value {
    json!({
        "mcp.method.name": "tools/call", "gen_ai.tool.name": "add", "gen_ai.operation.name": "execute_tool",
        "mcp.protocol.version": "2026-07-28", "meshtrace.body": note,
    })
}

/// What a plain HTTP span of a `POST` to `/mcp` says.
fn by_http(
    side: Side,
    reply: &Reply,
    server: std::net::SocketAddr,
    host: std::net::SocketAddr,
    note: &str,
) -> Value {
    let mut all = network(side, reply, server);
    merge(
        &mut all,
        json!({"http.request.method": "POST", "http.response.status_code": reply.status, "meshtrace.body": note}),
    );
    match side {
        Side::Server => merge(
            &mut all,
            json!({
                "url.path": "/mcp", "url.scheme": "http",
                "server.address": host.ip().to_string(), "server.port": host.port(),
            }),
        ),
        Side::Client => merge(&mut all, json!({"url.full": format!("http://{server}/mcp")})),
    }
    all
}

/// The header names the span, and nothing else of the request changed.
fn assert_header_only(asked: &Asked, span: &Span, body: &[u8]) {
    assert_eq!(asked.body, body, "the body changed");
    let (trace, id, flags) = Asked::context(asked.header("traceparent").expect("a traceparent"));
    assert_eq!((trace, id, flags), (span.trace.as_str(), span.id.as_str(), "03"));
    assert_eq!(asked.header("tracestate"), Some(span.tracestate.as_str()));
}

/// Sends such a body as a modern and as a legacy call on both sides.
async fn row_7(yaml: &str, body: &[u8], note: &str, fields: &[(&'static str, &'static str)]) {
    for side in SIDES {
        let Stage { mesh, server, sidecar } = Stage::set(yaml, answer).await;
        let calls = [modern(body.to_vec()), legacy(body.to_vec())];
        let mut replies = Vec::new();
        for call in calls {
            let call = fields.iter().fold(call, |call, (name, value)| call.header(name, value));
            replies.push(call.send(sidecar.at(side)).await);
        }
        let (spans, asked) = (mesh.stop().await, server.asked());
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].name.as_str(), spans[0].kind), ("tools/call add", side.kind()));
        assert_eq!(spans[0].all_attributes(), expected(side, &replies[0], server.address, by_headers(note)));
        assert_eq!((spans[1].name.as_str(), spans[1].kind), ("POST", side.kind()));
        let plain = by_http(side, &replies[1], server.address, sidecar.at(side), note);
        assert_eq!(spans[1].all_attributes(), plain);
        for (span, asked) in spans.iter().zip(&asked) {
            assert_eq!(span.error, None);
            assert_header_only(asked, span, body);
        }
    }
}

#[tokio::test]
async fn row_7_an_encoded_body() {
    row_7("", b"\x1f\x8b not really gzip", "encoded", &[("content-encoding", "gzip")]).await;
}

#[tokio::test]
async fn row_7_identity_is_no_encoding() {
    let call = modern(VALID).header("content-encoding", "identity");
    let watched = watch(answer, vec![(Side::Server, call)]).await;
    assert_eq!(watched.spans[0].attribute("jsonrpc.request.id"), json!("1"));
    assert_ne!(watched.asked[0].body, VALID, "the context belongs into _meta");
}

#[tokio::test]
async fn row_7_an_oversized_body() {
    let body = format!("{VALID}{}", " ".repeat(512 - VALID.len() + 1));
    row_7("limits: { body_bytes: 512 }", body.as_bytes(), "too_large", &[]).await;
}

#[tokio::test]
async fn row_7_the_limit_itself_is_not_over_it() {
    let body = format!("{VALID}{}", " ".repeat(512 - VALID.len()));
    let watched = watch_with("limits: { body_bytes: 512 }", answer, vec![(Side::Server, modern(body))]).await;
    assert_eq!(watched.spans[0].attribute("meshtrace.body"), Value::Null);
}

#[tokio::test]
async fn row_7_bodies_that_are_not_understood() {
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","name":"sub"}}"#;
    let two_metas = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{},"_meta":{}}}"#;
    let escaped_twin = r#"{"jsonrpc":"2.0","id":1,"id":2,"\u006dethod":"tools/call","params":{}}"#;
    let bodies: [&[u8]; 7] = [
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"",
        b"not json at all",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"x\":\"\xff\"}",
        twice.as_bytes(),
        two_metas.as_bytes(),
        escaped_twin.as_bytes(),
        b"\xef\xbb\xbf{}",
    ];
    for body in bodies {
        row_7("", body, "not_understood", &[]).await;
    }
}

/// Signed bodies are read and described; only their bytes are out of bounds.
#[tokio::test]
async fn row_7_signed_bodies() {
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    let cases: [&[(&str, &str)]; 5] = [
        &[("content-digest", digest)],
        &[("digest", "SHA-256=x")],
        &[("signature-input", r#"sig=("@method" "content-digest");keyid="k""#)],
        &[("authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=b")],
        &[("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb924")],
    ];
    for side in SIDES {
        let calls = cases.iter().map(|fields| {
            (side, fields.iter().fold(modern(VALID), |call, (name, value)| call.header(name, value)))
        });
        let watched = watch(answer, calls.collect()).await;
        assert_eq!(watched.spans.len(), cases.len());
        for (index, span) in watched.spans.iter().enumerate() {
            assert_header_only(&watched.asked[index], span, VALID.as_bytes());
            assert_eq!(span.attribute("jsonrpc.request.id"), json!("1"));
            assert_eq!(span.attribute("meshtrace.body"), Value::Null);
        }
    }
}

/// A header that is signed itself stays as it came.
#[tokio::test]
async fn row_7_signed_context_is_not_changed() {
    let theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = modern(VALID).header("traceparent", theirs).header(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;traceparent, Signature=b",
    );
    let watched = watch(answer, vec![(Side::Client, call)]).await;
    assert_eq!(watched.asked[0].header("traceparent"), Some(theirs));
    assert_eq!(watched.asked[0].header("tracestate"), None, "a state of ours beside a parent of theirs");
    assert_eq!(watched.asked[0].body, VALID);
}

#[tokio::test]
async fn row_7_a_body_that_streams() {
    for side in SIDES {
        let Stage { mesh, server, sidecar } = Stage::set("", answer).await;
        let (pieces, reply) = modern("").in_pieces(sidecar.at(side));
        let reply = tokio::spawn(reply);
        let (head, tail) = VALID.split_at(20);
        pieces.send(Ok(head.to_owned().into())).await.unwrap();
        // Far longer than the pause after which a body counts as a stream.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        pieces.send(Ok(tail.to_owned().into())).await.unwrap();
        drop(pieces);
        let reply = reply.await.unwrap().read().await;
        let (span, asked) = (mesh.only_span().await, server.last());
        assert_header_only(&asked, &span, VALID.as_bytes());
        assert_eq!(span.all_attributes(), expected(side, &reply, server.address, by_headers("streamed")));
    }
}

/// A body without a length that comes at once is read like any other.
#[tokio::test]
async fn row_7_a_chunked_body_that_comes_at_once() {
    let Stage { mesh, server, sidecar } = Stage::set("limits: { body_gap: 1s }", answer).await;
    let (pieces, reply) = modern("").in_pieces(sidecar.inbound());
    for piece in [&VALID[..20], &VALID[20..]] {
        pieces.send(Ok(piece.to_owned().into())).await.unwrap();
    }
    drop(pieces);
    reply.await.read().await;
    let span = mesh.only_span().await;
    assert_eq!(span.attribute("jsonrpc.request.id"), json!("1"));
    assert_eq!(server.last().meta("traceparent").unwrap(), server.last().header("traceparent").unwrap());
}

#[tokio::test]
async fn row_7_expect_continue_is_traced_by_its_headers() {
    let call = modern(VALID).header("expect", "100-continue");
    let watched = watch(answer, vec![(Side::Server, call)]).await;
    let wanted = expected(Side::Server, &watched.replies[0], watched.server, by_headers("streamed"));
    assert_eq!(watched.spans[0].all_attributes(), wanted);
    assert_header_only(&watched.asked[0], &watched.spans[0], VALID.as_bytes());
}

/// The headers of 2026-07-28 in all their spellings.
#[tokio::test]
async fn row_7_names_from_headers() {
    let cases = [
        (
            "tools/call",
            "=?base64?Y2Fmw6k=?=",
            "tools/call café",
            json!({"gen_ai.tool.name": "café", "gen_ai.operation.name": "execute_tool"}),
        ),
        (
            "tools/call",
            "=?base64?!!?=",
            "tools/call =?base64?!!?=",
            json!({"gen_ai.tool.name": "=?base64?!!?=", "gen_ai.operation.name": "execute_tool"}),
        ),
        ("prompts/get", "p", "prompts/get p", json!({"gen_ai.prompt.name": "p"})),
        ("resources/read", "file:///x", "resources/read", json!({"mcp.resource.uri": "file:///x"})),
        ("tasks/get", "t-1", "tasks/get", json!({})),
        ("acme/custom", "x", "acme/custom", json!({})),
    ];
    for side in SIDES {
        let calls = cases.iter().map(|(method, name, ..)| {
            let call = Call::post("broken").header("mcp-protocol-version", "2026-07-28");
            (side, call.header("mcp-method", method).header("mcp-name", name))
        });
        let watched = watch(answer, calls.collect()).await;
        for (index, (method, _, name, extra)) in cases.iter().enumerate() {
            let mut message = json!({"mcp.method.name": method, "mcp.protocol.version": "2026-07-28", "meshtrace.body": "not_understood"});
            merge(&mut message, extra.clone());
            assert_eq!(watched.spans[index].name, *name);
            let wanted = expected(side, &watched.replies[index], watched.server, message);
            assert_eq!(watched.spans[index].all_attributes(), wanted);
        }
    }
}

/// An answer that cannot be read says so, and is judged by its status.
#[tokio::test]
async fn row_7_answers_that_are_not_read() {
    let mesh = Mesh::start().await;
    let server = Server::answering(|asked: &Asked| match asked.header("x-kind") {
        Some("encoded") => Answer::status(200, "\u{1f}")
            .header("content-type", "application/json")
            .header("content-encoding", "gzip"),
        _ => Answer::json(
            &json!({"jsonrpc": "2.0", "id": 1, "result": {"isError": true, "x": "y".repeat(300)}}),
        ),
    });
    let server = server.await;
    let sidecar = mesh.sidecar().around(server.address).yaml("limits: { body_bytes: 256 }").start();
    for kind in ["encoded", "large"] {
        modern(VALID).header("x-kind", kind).send(sidecar.outbound()).await;
    }
    let spans = mesh.stop().await;
    let notes: Vec<_> = spans.iter().map(|span| span.attribute("meshtrace.response")).collect();
    assert_eq!(notes, [json!("encoded"), json!("too_large")]);
    assert!(spans.iter().all(|span| span.error.is_none()), "{spans:#?}");
}
