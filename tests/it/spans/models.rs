//! Row 32: calls of language models in plain text, in the shapes of OpenAI and of Anthropic, whole
//! and in events; what their spans say, and what they never say.

use std::io;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Stage, watch, watch_with};
use crate::support::mesh::{Answer, Call, Reply, Server, Side, Span, expected};

/// What nobody may read on a span.
const SECRET: &str = "the-patient-is-ill";

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn ask(path: &str, mut body: Value) -> Call {
    let kind = if path.ends_with("responses") || path.ends_with("embeddings") { "input" } else { "messages" };
    body[kind] = json!([{"role": "user", "content": SECRET}]);
    Call::post(body.to_string()).at(path)
}

fn events(pieces: &[&str]) -> Answer {
    Answer::status(200, &pieces.concat()).header("content-type", "text/event-stream")
}

/// Span and reply of one call that the pod makes.
async fn one(
    answer: impl Fn() -> Answer + Send + Sync + 'static,
    call: Call,
) -> (Span, Reply, std::net::SocketAddr) {
    let mut watched = watch(move |_| answer(), vec![(Side::Client, call)]).await;
    assert_eq!(watched.spans.len(), 1, "{:#?}", watched.spans);
    let span = watched.spans.remove(0);
    assert_eq!(span.kind, "CLIENT");
    assert!(!format!("{span:?}").contains(SECRET), "{span:#?}");
    (span, watched.replies.remove(0), watched.server)
}

const CHAT_ANSWER: &str = r#"{"id":"c-1","object":"chat.completion","model":"gpt-5-mini-2025","choices":[{"index":0,"message":{"role":"assistant","content":"the-patient-is-ill"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":8}},"service_tier":"default","system_fingerprint":"fp_1"}"#;

#[tokio::test]
async fn row_32_a_chat_of_openai() {
    let body = json!({"model": "gpt-5-mini", "max_completion_tokens": 64, "temperature": 0.5, "top_p": 0.25, "n": 2,
        "seed": 7, "stop": ["END"], "frequency_penalty": -0.5, "presence_penalty": 1.5, "service_tier": "flex"});
    let answer = || Answer::status(200, CHAT_ANSWER).header("content-type", "application/json");
    let (span, reply, server) = one(answer, ask(CHAT, body)).await;
    assert_eq!(reply.body, CHAT_ANSWER);
    assert_eq!((span.name.as_str(), span.error), ("chat gpt-5-mini", None));
    let said = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.request.frequency_penalty": -0.5,
        "gen_ai.request.presence_penalty": 1.5,
        "openai.api.type": "chat_completions",
        "openai.request.service_tier": "flex",
        "gen_ai.response.id": "c-1",
        "gen_ai.response.model": "gpt-5-mini-2025",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "http.response.status_code": 200,
    });
    let all: Value = span.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(all, expected(Side::Client, &reply, server, said));
}

#[tokio::test]
async fn row_32_messages_of_anthropic() {
    let body =
        json!({"model": "claude-sonnet-4-5", "max_tokens": 1024, "top_k": 40, "stop_sequences": ["x"]});
    let answer = || {
        Answer::json(
            &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-1",
            "content": [{"type": "text", "text": SECRET}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 5, "output_tokens": 6}}),
        )
    };
    let call = ask(MESSAGES, body).header("anthropic-version", "2023-06-01").header("x-api-key", SECRET);
    let (span, reply, server) = one(answer, call).await;
    assert_eq!((span.name.as_str(), span.error), ("chat claude-sonnet-4-5", None));
    let said = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.request.top_k": 40.0,
        "gen_ai.request.stop_sequences": ["x"],
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-sonnet-4-5-1",
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 18,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.cache_write.input_tokens": 3,
        "http.response.status_code": 200,
    });
    let all: Value = span.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(all, expected(Side::Client, &reply, server, said));
}

#[tokio::test]
async fn row_32_responses_and_embeddings_of_openai() {
    let response = json!({"id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
        "model": "gpt-5", "error": null, "usage": {"input_tokens": 3, "output_tokens": 5}});
    let answer = move || Answer::json(&response);
    let (span, ..) =
        one(answer, ask("/v1/responses", json!({"model": "gpt-5", "max_output_tokens": 5}))).await;
    assert_eq!((span.name.as_str(), span.attribute("openai.api.type")), ("chat gpt-5", json!("responses")));
    assert_eq!(span.attribute("gen_ai.response.finish_reasons"), json!(["max_output_tokens"]));
    assert_eq!(span.attribute("gen_ai.usage.output_tokens"), json!(5));
    let vectors = json!({"object": "list", "data": [{"embedding": [0.5]}], "model": "emb-1", "usage": {"prompt_tokens": 2}});
    let answer = move || Answer::json(&vectors);
    let (span, ..) = one(answer, ask("/v1/embeddings", json!({"model": "emb", "dimensions": 256}))).await;
    assert_eq!(span.name, "embeddings emb");
    assert_eq!(span.attribute("gen_ai.operation.name"), json!("embeddings"));
    assert_eq!(span.attribute("gen_ai.embeddings.dimension.count"), json!(256));
    assert_eq!(span.attribute("gen_ai.usage.input_tokens"), json!(2));
}

const CHAT_EVENTS: [&str; 5] = [
    "data: {\"id\":\"c-2\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"the-patient-is-ill\"},\"finish_reason\":null}]}\n\n",
    ": keep alive\n\n",
    "data: {\"id\":\"c-2\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"id\":\"c-2\",\"model\":\"m-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
];

#[tokio::test]
async fn row_32_a_chat_of_openai_in_events() {
    let call = || ask(CHAT, json!({"model": "m", "stream": true}));
    let (span, reply, _) = one(|| events(&CHAT_EVENTS), call()).await;
    assert_eq!(reply.body, CHAT_EVENTS.concat());
    for (key, value) in [
        ("gen_ai.request.stream", json!(true)),
        ("gen_ai.response.id", json!("c-2")),
        ("gen_ai.response.model", json!("m-1")),
        ("gen_ai.response.finish_reasons", json!(["tool_calls"])),
        ("gen_ai.usage.input_tokens", json!(1)),
        ("gen_ai.usage.output_tokens", json!(2)),
    ] {
        assert_eq!(span.attribute(key), value, "{key}");
    }
    assert!(span.attribute("gen_ai.response.time_to_first_chunk").as_f64().is_some_and(|took| took > 0.0));
    assert_eq!(span.error, None);
}

#[tokio::test]
async fn row_32_messages_of_anthropic_in_events() {
    const EVENTS: [&str; 5] = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_2\",\"type\":\"message\",\"model\":\"claude-1\",\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"the-patient-is-ill\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":15}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ];
    let (span, reply, _) =
        one(|| events(&EVENTS), ask(MESSAGES, json!({"model": "claude", "stream": true}))).await;
    assert_eq!(reply.body, EVENTS.concat());
    for (key, value) in [
        ("gen_ai.response.id", json!("msg_2")),
        ("gen_ai.response.model", json!("claude-1")),
        ("gen_ai.response.finish_reasons", json!(["max_tokens"])),
        ("gen_ai.usage.input_tokens", json!(30)),
        ("gen_ai.usage.output_tokens", json!(15)),
    ] {
        assert_eq!(span.attribute(key), value, "{key}");
    }
    assert!(span.attribute("gen_ai.response.time_to_first_chunk").is_f64());
}

/// The span is open until the last chunk has passed, and no piece waits for another.
#[tokio::test]
async fn row_32_a_stream_ends_the_span_at_its_last_chunk() {
    let (pieces, answer) = Answer::pieces("text/event-stream");
    let answer = std::sync::Mutex::new(Some(answer));
    let server = Server::answering(move |_| answer.lock().unwrap().take().unwrap()).await;
    let stage = Stage::with("", server).await;
    let mut open = ask(CHAT, json!({"model": "m", "stream": true})).open(stage.sidecar.outbound()).await;
    let text = CHAT_EVENTS.concat();
    for byte in text.bytes() {
        pieces.send(Ok(Bytes::from(vec![byte]))).await.unwrap();
        assert_eq!(open.piece().await.as_deref(), Some(&[byte][..]));
    }
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    drop(pieces);
    assert_eq!(open.piece().await, None);
    let span = stage.mesh.only_span().await;
    assert!(u128::from(span.end) >= before.as_nanos(), "it ended before the end of the stream");
    assert_eq!(span.attribute("gen_ai.usage.output_tokens"), json!(2));
}

#[tokio::test]
async fn row_32_errors_have_the_providers_name() {
    let refused = |status, body: Value| move || Answer::json(&body).with_status(status);
    let message = format!("you wrote {SECRET}");
    let rate = json!({"error": {"message": message, "type": "requests", "code": "rate_limit_exceeded"}});
    let (span, ..) = one(refused(429, rate), ask(CHAT, json!({"model": "m"}))).await;
    assert_eq!((span.error_type(), span.error.as_deref()), ("rate_limit_exceeded".to_owned(), Some("")));
    assert_eq!(span.attribute("http.response.status_code"), json!(429));
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": message}});
    let (span, ..) = one(refused(529, overloaded), ask(MESSAGES, json!({"model": "m"}))).await;
    assert_eq!(span.error_type(), "overloaded_error");
    let (span, ..) =
        one(refused(404, json!({"error": "no such model"})), ask(CHAT, json!({"model": "m"}))).await;
    assert_eq!(span.error_type(), "404");
    let (span, ..) = one(|| Answer::status(503, "later"), ask(CHAT, json!({"model": "m"}))).await;
    assert_eq!((span.name.as_str(), span.error_type()), ("chat m", "503".to_owned()));
    let broken = ["data: {\"error\":{\"code\":\"server_error\",\"message\":\"the-patient-is-ill\"}}\n\n"];
    let (span, ..) = one(move || events(&broken), ask(CHAT, json!({"model": "m", "stream": true}))).await;
    assert_eq!((span.error_type(), span.error.as_deref()), ("server_error".to_owned(), Some("")));
}

#[tokio::test]
async fn row_32_a_stream_that_breaks_off_or_is_left() {
    for leaves in [false, true] {
        let (pieces, answer) = Answer::pieces("text/event-stream");
        let answer = std::sync::Mutex::new(Some(answer));
        let server = Server::answering(move |_| answer.lock().unwrap().take().unwrap()).await;
        let stage = Stage::with("", server).await;
        let mut open = ask(CHAT, json!({"model": "m", "stream": true})).open(stage.sidecar.outbound()).await;
        pieces.send(Ok(CHAT_EVENTS[0].into())).await.unwrap();
        open.read_until("c-2").await;
        if leaves {
            drop(open);
            pieces.closed().await;
        } else {
            pieces.send(Err(io::Error::other("as scripted"))).await.unwrap();
            assert!(open.try_read().await.is_err());
        }
        let span = stage.mesh.only_span().await;
        assert_eq!(span.error_type(), if leaves { "" } else { "connection_closed" });
        assert_eq!(span.attribute("meshtrace.cancelled"), if leaves { json!(true) } else { Value::Null });
        assert_eq!(span.attribute("gen_ai.response.id"), json!("c-2"), "what was said by then is told");
    }
}

/// A model is mostly a third party: it gets context where `propagation.to` says so, in the headers alone.
#[tokio::test]
async fn row_32_context_goes_only_where_it_may() {
    const COPIED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (yaml, allowed) in [("", true), ("propagation: { to: [] }", false)] {
        let call = ask(CHAT, json!({"model": "m", "metadata": {"_meta": {}}}));
        let answer = |_: &_| Answer::status(200, CHAT_ANSWER).header("content-type", "application/json");
        let calls =
            vec![(Side::Client, call.clone()), (Side::Client, call.clone().header("traceparent", COPIED))];
        let watched = watch_with(yaml, answer, calls).await;
        for (asked, span) in watched.asked.iter().zip(&watched.spans) {
            let sent = asked.header("traceparent").map(str::to_owned);
            let ours = format!("00-{}-{}-03", span.trace, span.id);
            // What the agent's own tracer wrote is the agent's to send.
            let wanted = match (allowed, span.parent.is_empty()) {
                (true, true) => Some(ours),
                (true, false) => Some(ours.replace("-03", "-01")),
                (false, true) => None,
                (false, false) => Some(COPIED.to_owned()),
            };
            assert_eq!(sent, wanted, "{yaml}");
            assert_eq!(asked.header("baggage").is_some(), allowed);
            assert_eq!(asked.json(), watched.asked[0].json(), "the body is never touched");
        }
    }
}

/// Who serves a model, serves HTTP: the conventions know a span of the caller only.
#[tokio::test]
async fn row_32_what_is_no_call_of_a_model() {
    let answer = |_: &_| Answer::json(&json!({"id": 1}));
    let calls = vec![
        (Side::Server, ask(CHAT, json!({"model": "m"}))),
        (Side::Client, ask(CHAT, json!({}))),
        (Side::Client, ask("/v1/chat", json!({"model": "m"}))),
        (Side::Client, Call::get(CHAT)),
        // The endpoint of MCP 2024-11-05 often has this path.
        (Side::Client, Call::post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).at("/v1/messages")),
    ];
    let names: Vec<_> = watch(answer, calls).await.spans.into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["POST", "POST", "POST", "GET", "tools/list"]);
}

#[tokio::test]
async fn row_32_what_cannot_be_read_is_told_by_its_path() {
    let call = ask(CHAT, json!({"model": "m"})).header("content-encoding", "zstd");
    let answer = || {
        Answer::status(200, "…").header("content-type", "application/json").header("content-encoding", "br")
    };
    let (span, reply, server) = one(answer, call).await;
    let said = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "openai.api.type": "chat_completions",
        "meshtrace.body": "encoded",
        "meshtrace.response": "encoded",
        "http.response.status_code": 200,
    });
    let all: Value = span.attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!((span.name.as_str(), all), ("chat", expected(Side::Client, &reply, server, said)));
    let large = ask(CHAT, json!({"model": "m", "user": "x".repeat(2 << 20)}));
    let answer = || Answer::status(200, CHAT_ANSWER).header("content-type", "application/json");
    let (span, ..) = one(answer, large).await;
    assert_eq!((span.name.as_str(), span.attribute("meshtrace.body")), ("chat", json!("too_large")));
    assert_eq!(span.attribute("gen_ai.usage.output_tokens"), json!(12));
}

#[tokio::test]
async fn row_32_can_be_ignored_and_is_not_http() {
    let answer = |_: &_| Answer::status(200, CHAT_ANSWER).header("content-type", "application/json");
    let calls = || vec![(Side::Client, ask(CHAT, json!({"model": "m"}))), (Side::Client, Call::get("/"))];
    let names = async |yaml| -> Vec<_> {
        watch_with(yaml, answer, calls()).await.spans.into_iter().map(|span| span.name).collect()
    };
    assert_eq!(names("spans: { http: false }").await, ["chat m"]);
    assert_eq!(names("spans: { ignore: [{ method: chat }] }").await, ["GET"]);
    assert_eq!(names("sampling: { rules: [{ name: none, method: chat, sample: 0% }] }").await, ["GET"]);
}
