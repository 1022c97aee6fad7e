//! Answers that are compressed: they pass byte for byte, and what they say is on the span.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::{Stage, watch, watch_with};
use crate::support::mesh::{
    Answer, Asked, Call, Era, PATIENCE, SIDES, Server, Side, event, is_error, legacy_call, modern_call,
    request, result,
};

fn packed(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "raw" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        other => panic!("{other}"),
    }
}

fn answer(media: &str, coding: &str, plain: &str) -> Answer {
    let named = if coding == "raw" { "deflate" } else { coding };
    Answer::status(200, "")
        .with_body(packed(coding, plain.as_bytes()))
        .header("content-type", media)
        .header("content-encoding", named)
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

fn chat(stream: bool) -> Call {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream});
    Call::post(body.to_string()).at("/v1/chat/completions").header("accept-encoding", "gzip, deflate")
}

const CHAT_ANSWER: &str = r#"{"id":"c-1","model":"m-1","choices":[{"index":0,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12}}"#;
const CHAT_EVENTS: [&str; 3] = [
    "data: {\"id\":\"c-1\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"he\"}}]}\n\n",
    "data: {\"id\":\"c-1\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12}}\n\n",
    "data: [DONE]\n\n",
];

#[tokio::test]
async fn row_32_an_answer_that_is_compressed() {
    for coding in ["gzip", "deflate", "raw"] {
        for stream in [false, true] {
            let plain = if stream { CHAT_EVENTS.concat() } else { CHAT_ANSWER.to_owned() };
            let media = if stream { EVENTS } else { JSON };
            let sent = packed(coding, plain.as_bytes());
            let watched =
                watch(move |_| answer(media, coding, &plain), vec![(Side::Client, chat(stream))]).await;
            assert_eq!(watched.replies[0].body, sent, "{coding}: it passes as it is");
            let span = &watched.spans[0];
            for (key, value) in [
                ("gen_ai.response.id", json!("c-1")),
                ("gen_ai.response.model", json!("m-1")),
                ("gen_ai.response.finish_reasons", json!(["stop"])),
                ("gen_ai.usage.input_tokens", json!(9)),
                ("gen_ai.usage.output_tokens", json!(12)),
                ("meshtrace.response", Value::Null),
            ] {
                assert_eq!(span.attribute(key), value, "{coding} {key}");
            }
            assert_eq!(span.attribute("gen_ai.response.time_to_first_chunk").is_f64(), stream);
        }
    }
}

/// A server that compresses a stream flushes after each event, and the client reads it then.
#[tokio::test]
async fn row_32_compressed_events_pass_as_they_come() {
    let (pieces, answer) = Answer::pieces(EVENTS);
    let answer = std::sync::Mutex::new(Some(answer.header("content-encoding", "gzip")));
    let server = Server::answering(move |_| answer.lock().unwrap().take().unwrap()).await;
    let stage = Stage::with("", server).await;
    let mut open = chat(true).open(stage.sidecar.outbound()).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for event in CHAT_EVENTS {
        encoder.write_all(event.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let flushed = std::mem::take(encoder.get_mut());
        for byte in flushed {
            pieces.send(Ok(vec![byte].into())).await.unwrap();
            assert_eq!(open.piece().await.as_deref(), Some(&[byte][..]));
        }
    }
    drop(pieces);
    assert_eq!(open.piece().await, None);
    let span = stage.mesh.only_span().await;
    assert_eq!(span.attribute("gen_ai.usage.output_tokens"), json!(12));
}

#[tokio::test]
async fn row_4_is_error_in_an_answer_that_is_compressed() {
    for side in SIDES {
        let reply = |asked: &Asked| {
            let message = is_error(&asked.id());
            if asked.header("mcp-session-id").is_some() {
                answer(JSON, "gzip", &message.to_string())
            } else {
                answer(EVENTS, "gzip", &event(&message))
            }
        };
        let calls = vec![(side, legacy_call(1, json!({}))), (side, modern_call(2, json!({})))];
        for span in watch(reply, calls).await.spans {
            assert_eq!((span.name.as_str(), span.error_type()), ("tools/call add", "tool_error".to_owned()));
            assert_eq!(span.attribute("meshtrace.response"), Value::Null);
        }
    }
}

/// A server's question gets its span; context cannot be written into what is compressed.
#[tokio::test]
async fn row_11_a_question_in_a_stream_that_is_compressed() {
    let reply = |asked: &Asked| match asked.json()["method"].as_str() {
        Some("initialize") => {
            let granted = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
            Answer::json(&json!({"jsonrpc": "2.0", "id": asked.id(), "result": granted}))
                .header("mcp-session-id", "s-1")
        }
        Some(_) => {
            let question =
                json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list", "params": {"_meta": {}}});
            answer(EVENTS, "gzip", &[event(&question), event(&result(&asked.id()))].concat())
        }
        None => Answer::status(202, ""),
    };
    let begin = Call::post(
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}})
            .to_string(),
    );
    let answered = Call::post(json!({"jsonrpc": "2.0", "id": "q", "result": {"roots": []}}).to_string())
        .header("mcp-protocol-version", "2025-06-18")
        .header("mcp-session-id", "s-1");
    let calls =
        vec![(Side::Server, begin), (Side::Server, legacy_call(1, json!({}))), (Side::Server, answered)];
    let watched = watch(reply, calls).await;
    let mut names: Vec<_> = watched.spans.iter().map(|span| (span.name.as_str(), span.kind)).collect();
    names.sort_unstable();
    assert_eq!(names, [("initialize", "SERVER"), ("roots/list", "CLIENT"), ("tools/call add", "SERVER")]);
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_said_and_passes() {
    let bomb = format!("{}{}", CHAT_ANSWER.trim_end_matches('}'), " ".repeat(32 << 20));
    let bomb = packed("gzip", bomb.as_bytes());
    for (coding, body, said) in [
        ("br", CHAT_ANSWER.as_bytes().to_vec(), "encoded"),
        ("zstd", CHAT_ANSWER.as_bytes().to_vec(), "encoded"),
        ("gzip, gzip", packed("gzip", CHAT_ANSWER.as_bytes()), "encoded"),
        ("gzip", CHAT_ANSWER.as_bytes().to_vec(), "encoded"),
        ("gzip", bomb, "too_large"),
    ] {
        let sent = body.clone();
        let reply = move |_: &Asked| {
            let answer = Answer::status(200, "").with_body(body.clone());
            answer.header("content-type", JSON).header("content-encoding", coding)
        };
        let watched = watch(reply, vec![(Side::Client, chat(false))]).await;
        assert_eq!(watched.replies[0].body, sent, "{coding}");
        assert_eq!(watched.spans[0].attribute("meshtrace.response"), json!(said), "{coding}");
        assert_eq!(watched.spans[0].error, None);
    }
}

/// `body_bytes` is of what is unpacked, and what unpacks has a share of `held_bytes`.
#[tokio::test]
async fn the_limits_hold_for_what_is_unpacked() {
    for (yaml, said) in
        [("limits: { body_bytes: 100KiB }", "too_large"), ("limits: { held_bytes: 255KiB }", "no_room")]
    {
        let reply = |asked: &Asked| {
            let text: String = (0..40_000).map(|i: u32| i.to_string()).collect();
            answer(JSON, "gzip", &json!({"jsonrpc": "2.0", "id": asked.id(), "result": text}).to_string())
        };
        let call = request(Era::Modern, json!(1), "tools/list", json!({}));
        let watched = watch_with(yaml, reply, vec![(Side::Client, call)]).await;
        assert_eq!(watched.spans[0].attribute("meshtrace.response"), json!(said), "{yaml}");
    }
}

/// A call whose client left, and that waits on for its answer, gives its share of `held_bytes` back.
#[tokio::test]
async fn a_stream_that_was_left_is_unpacked_no_more() {
    let (pieces, left) = Answer::pieces(EVENTS);
    let left = std::sync::Mutex::new(Some(left.header("content-encoding", "gzip")));
    let server = Server::answering(move |asked| {
        let other = || answer(JSON, "gzip", &is_error(&asked.id()).to_string());
        left.lock().unwrap().take().unwrap_or_else(other)
    });
    let stage = Stage::with("limits: { held_bytes: 400KiB, drain_timeout: 0s }", server.await).await;
    let mut open = legacy_call(1, json!({})).open(stage.sidecar.inbound()).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"id: 7\ndata:\n\n").unwrap();
    encoder.flush().unwrap();
    pieces.send(Ok(std::mem::take(encoder.get_mut()).into())).await.unwrap();
    open.piece().await.expect("the first event");
    drop(open);
    tokio::time::timeout(PATIENCE, pieces.closed()).await.expect("the disconnect upstream");
    legacy_call(2, json!({})).send(stage.sidecar.inbound()).await;
    let span = stage.mesh.wait_for(1).await.remove(0);
    assert_eq!(
        (span.attribute("jsonrpc.request.id"), span.error_type().as_str()),
        (json!("2"), "tool_error")
    );
}
