//! Requests and answers as the providers write them, and mutations of them.

use super::api::Api;
use super::{Call, Candidate, Reply, fuzz_genai};

const CHAT: &str = r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"{\"model\":\"not this\"}"}],"temperature":0.2,"top_p":1,"max_completion_tokens":64,"n":2,"seed":7,"stop":["\n","END"],"stream":true,"stream_options":{"include_usage":true},"frequency_penalty":-0.5,"presence_penalty":1.5,"service_tier":"auto"}"#;
const ANTHROPIC: &str = r#"{"max_tokens":1024,"messages":[{"role":"user","content":"Hello"}],"model":"claude-sonnet-4-5","system":"model","stop_sequences":["x"],"temperature":1.0,"top_k":40}"#;
const RESPONSES: &str = r#"{"model":"gpt-5","input":"Hi","max_output_tokens":32}"#;
const EMBEDDINGS: &str = r#"{"input":["a","b"],"model":"text-embedding-3-small","dimensions":256}"#;

const REPLIES: &[&str] = &[
    r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-5-mini-2025","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":"stop"},{"index":1,"message":{},"finish_reason":"length"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":8}},"service_tier":"default","system_fingerprint":"fp_1"}"#,
    r#"{"id":"resp_1","object":"response","status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"},"model":"gpt-5","output":[{"id":"msg_1","type":"message","status":"completed"}],"usage":{"input_tokens":30,"input_tokens_details":{"cached_tokens":10},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":35}}"#,
    r#"{"model":"claude-sonnet-4-5-1","id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":5,"output_tokens":6}}"#,
    r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-2e-3]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":2,"total_tokens":2}}"#,
    r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
    r#"{"type":"message_start","message":{"id":"msg_2","model":"claude-sonnet-4-5","stop_reason":null,"usage":{"input_tokens":25,"output_tokens":1}}}"#,
    r#"{"type":"response.completed","sequence_number":9,"response":{"id":"resp_2","status":"completed","error":null,"model":"gpt-5","usage":{"input_tokens":3,"output_tokens":4}}}"#,
];

fn call(host: &str, path: &str, body: &str) -> Option<(Api, &'static str, Option<String>)> {
    let candidate = Candidate { host, path, body: Some(body.as_bytes()), is_versioned: false };
    let call = Call::of(candidate)?;
    Some((call.api, call.provider, call.model.map(|model| model.into_owned())))
}

fn read(api: Api, pieces: &[&str]) -> Reply {
    let mut reply = Reply::new(api);
    pieces.iter().for_each(|piece| reply.read(piece.as_bytes()));
    reply
}

fn reasons(reply: &Reply) -> Vec<&str> {
    reply.finish_reasons.iter().map(|reason| &**reason).collect()
}

#[test]
fn calls_are_known_by_their_path_and_their_members() {
    let model = |name: &str| Some(name.to_owned());
    for (path, body, wanted) in [
        ("/v1/chat/completions", CHAT, (Api::ChatCompletions, "openai", model("gpt-5-mini"))),
        ("/gateway/openai/v1/chat/completions/", CHAT, (Api::ChatCompletions, "openai", model("gpt-5-mini"))),
        ("/v1/messages", ANTHROPIC, (Api::Messages, "anthropic", model("claude-sonnet-4-5"))),
        ("/v1/responses", RESPONSES, (Api::Responses, "openai", model("gpt-5"))),
        ("/v1/embeddings", EMBEDDINGS, (Api::Embeddings, "openai", model("text-embedding-3-small"))),
        ("/v1/completions", r#"{"model":"m","prompt":"Once"}"#, (Api::Completions, "openai", model("m"))),
        (
            "/openai/deployments/mine/chat/completions",
            r#"{"messages":[]}"#,
            (Api::ChatCompletions, "azure.ai.openai", model("mine")),
        ),
    ] {
        assert_eq!(call("llm", path, body), Some(wanted), "{path}");
    }
}

#[test]
fn what_only_looks_like_a_call() {
    for (path, body) in [
        ("/v1/chat/completions", r#"{"messages":[]}"#),
        ("/v1/chat/completions", r#"{"model":"m"}"#),
        ("/v1/chat/completions", r#"{"model":1,"messages":[]}"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":null}"#),
        ("/v1/chat/completions", r#"{"model":"m","model":"m","messages":[]}"#),
        ("/v1/chat/completions", r#"[{"model":"m","messages":[]}]"#),
        ("/v1/chat/completions", r#"{"model":"m","messages":[]"#),
        ("/v1/chat/completion", CHAT),
        ("/v1/models", CHAT),
        ("/messages/5", ANTHROPIC),
        ("/messages", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
        ("", CHAT),
    ] {
        assert_eq!(call("llm", path, body), None, "{path} {body}");
    }
}

/// Only where nothing else can have the path.
#[test]
fn a_body_that_cannot_be_read_leaves_the_path() {
    let known = |path, is_versioned| {
        let candidate = Candidate { host: "llm", path, body: None, is_versioned };
        Call::of(candidate).map(|call| (call.api, call.model.is_some(), call.request.is_some()))
    };
    assert_eq!(known("/v1/chat/completions", false), Some((Api::ChatCompletions, false, false)));
    assert_eq!(known("/v1/messages", true), Some((Api::Messages, false, false)));
    assert_eq!(known("/openai/deployments/mine/embeddings", false), Some((Api::Embeddings, true, false)));
    assert_eq!(known("/v1/messages", false), None);
    assert_eq!(known("/messages", true), None);
    assert_eq!(known("/survey/responses", false), None);
}

#[test]
fn hosts_name_the_provider() {
    for (host, provider) in [
        ("api.openai.com", "openai"),
        ("API.Anthropic.com", "anthropic"),
        ("mine.openai.azure.com.", "azure.ai.openai"),
        ("europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock"),
        ("api.mistral.ai", "mistral_ai"),
        (".openai.azure.com", "openai"),
        ("notapi.x.ai", "openai"),
    ] {
        assert_eq!(call(host, "/v1/chat/completions", CHAT).map(|call| call.1), Some(provider), "{host}");
    }
}

#[test]
fn parameters_of_a_request() {
    let candidate = Candidate {
        host: "h",
        path: "/v1/chat/completions",
        body: Some(CHAT.as_bytes()),
        is_versioned: false,
    };
    let request = Call::of(candidate).and_then(|call| call.request).unwrap();
    assert!(request.stream);
    assert_eq!((request.max_tokens, request.choices, request.seed), (Some(64), Some(2), Some(7)));
    assert_eq!((request.temperature, request.top_p), (Some(0.2), Some(1.0)));
    assert_eq!((request.frequency_penalty, request.presence_penalty), (Some(-0.5), Some(1.5)));
    let stops: Vec<_> = request.stops.iter().map(|stop| stop.decode()).collect();
    assert_eq!(stops, ["\n", "END"]);
}

#[test]
fn whole_answers() {
    let chat = read(Api::ChatCompletions, &REPLIES[..1]);
    assert_eq!((chat.id.as_deref(), chat.model.as_deref()), (Some("chatcmpl-1"), Some("gpt-5-mini-2025")));
    assert_eq!(reasons(&chat), ["stop", "length"]);
    assert_eq!((chat.usage.input(), chat.usage.output), (Some(9), Some(12)));
    assert_eq!((chat.usage.cache_read, chat.usage.reasoning), (Some(4), Some(8)));
    assert_eq!((chat.service_tier.as_deref(), chat.error.as_deref()), (Some("default"), None));
    let responses = read(Api::Responses, &REPLIES[1..2]);
    assert_eq!(reasons(&responses), ["max_output_tokens"]);
    assert_eq!((responses.usage.input(), responses.usage.reasoning), (Some(30), Some(2)));
    let messages = read(Api::Messages, &REPLIES[2..3]);
    assert_eq!(reasons(&messages), ["end_turn"]);
    assert_eq!(messages.usage.input(), Some(18), "those of the cache are told apart");
    assert_eq!((messages.usage.cache_read, messages.usage.cache_write), (Some(5), Some(3)));
    let embeddings = read(Api::Embeddings, &REPLIES[3..4]);
    assert_eq!((embeddings.usage.input(), embeddings.usage.output), (Some(2), None));
}

#[test]
fn answers_in_events() {
    let chat = read(
        Api::ChatCompletions,
        &[
            r#"{"id":"","model":"","choices":[],"prompt_filter_results":[]}"#,
            r#"{"id":"c-1","model":"m-1","choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}],"usage":null}"#,
            r#"{"id":"c-1","model":"m-1","choices":[{"index":1,"delta":{},"finish_reason":"length"}]}"#,
            r#"{"id":"c-1","model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"id":"c-1","model":"m-1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            "[DONE]",
        ],
    );
    assert_eq!((chat.id.as_deref(), chat.model.as_deref()), (Some("c-1"), Some("m-1")));
    assert_eq!(reasons(&chat), ["stop", "length"]);
    assert_eq!((chat.usage.input(), chat.usage.output), (Some(1), Some(2)));
    let messages = read(
        Api::Messages,
        &[
            REPLIES[6],
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":15}}"#,
            r#"{"type":"message_stop"}"#,
        ],
    );
    assert_eq!((messages.id.as_deref(), reasons(&messages)), (Some("msg_2"), vec!["tool_use"]));
    assert_eq!((messages.usage.input(), messages.usage.output), (Some(25), Some(15)));
    let responses = read(
        Api::Responses,
        &[
            r#"{"type":"response.created","response":{"id":"resp_2","status":"in_progress","model":"gpt-5"}}"#,
            r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
            REPLIES[7],
        ],
    );
    assert_eq!((responses.id.as_deref(), reasons(&responses)), (Some("resp_2"), vec!["completed"]));
    assert_eq!((responses.usage.input(), responses.usage.output), (Some(3), Some(4)));
}

#[test]
fn errors_are_named_by_their_kind_and_never_by_their_text() {
    for (body, kind) in [
        (REPLIES[4], "rate_limit_exceeded"),
        (REPLIES[5], "overloaded_error"),
        (r#"{"error":{"message":"m","type":"invalid_request_error","code":null}}"#, "invalid_request_error"),
        (r#"{"error":{"code":429,"message":"m"}}"#, "_OTHER"),
        (r#"{"error":"model 'x' not found"}"#, "_OTHER"),
        (r#"{"error":{"code":"what you wrote was wrong"}}"#, "_OTHER"),
        (r#"{"type":"error","code":"server_error","message":"m","sequence_number":1}"#, "server_error"),
        (r#"{"type":"response.failed","response":{"error":{"code":"server_error"}}}"#, "server_error"),
    ] {
        assert_eq!(read(Api::Responses, &[body]).error.as_deref(), Some(kind), "{body}");
    }
}

/// What a hostile provider writes stays within its bounds.
#[test]
fn what_is_kept_is_bounded() {
    let long = "x".repeat(300);
    let many: Vec<_> = (0..40).map(|n| format!(r#"{{"index":{n},"finish_reason":"r"}}"#)).collect();
    let body = format!(
        r#"{{"id":"{long}","model":"m","choices":[{}],"error":{{"code":"{long}"}}}}"#,
        many.join(",")
    );
    let reply = read(Api::ChatCompletions, &[&body]);
    assert_eq!((reply.id, reply.model.as_deref()), (None, Some("m")));
    assert_eq!((reply.finish_reasons.len(), reply.error.as_deref()), (16, Some("_OTHER")));
    let stops = vec!["\"s\""; 40].join(",");
    let body = format!(r#"{{"model":"m","messages":[],"stop":[{stops}]}}"#);
    let candidate = Candidate {
        host: "h",
        path: "/v1/chat/completions",
        body: Some(body.as_bytes()),
        is_versioned: false,
    };
    assert_eq!(Call::of(candidate).unwrap().request.unwrap().stops.len(), 16);
}

#[test]
fn mutations_are_read_as_an_independent_parser_reads_them() {
    let seeds: Vec<&str> = [&[CHAT, ANTHROPIC, RESPONSES, EMBEDDINGS], REPLIES].concat();
    let mut state = 0x5eed_0011_u64;
    let mut roll = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % sides.max(1)
    };
    const TOKENS: [&str; 14] =
        ["{", "}", "[", "]", ",", ":", "\"", "\\", "null", "1e400", "-1", "\"error\":", "\"usage\":{", "[]"];
    for _ in 0..10_000 {
        let mut bytes = seeds[roll(seeds.len())].as_bytes().to_vec();
        for _ in 0..=roll(4) {
            let at = roll(bytes.len() + 1);
            let end = (at + roll(12)).min(bytes.len());
            match roll(4) {
                0 => drop(bytes.splice(at..end, TOKENS[roll(TOKENS.len())].bytes())),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    let to = roll(bytes.len() + 1);
                    drop(bytes.splice(to..to, copy));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = roll(256) as u8;
                    }
                }
            }
        }
        bytes.insert(0, roll(256) as u8);
        fuzz_genai(&bytes);
    }
}
