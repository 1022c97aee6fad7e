//! The entry point for fuzzing: it takes arbitrary bytes and panics when a promise of this module is
//! broken. The seeded test calls it too.

use serde_json::Value;

use super::api::Api;
use super::{Call, Candidate, Reply, Request};

const APIS: [(Api, &str); 5] = [
    (Api::ChatCompletions, "/v1/chat/completions"),
    (Api::Completions, "/v1/completions"),
    (Api::Responses, "/v1/responses"),
    (Api::Embeddings, "/v1/embeddings"),
    (Api::Messages, "/v1/messages"),
];

/// Reads `data` as a request and as an answer of the API that its first byte chooses, and compares
/// with what an independent parser sees.
///
/// # Panics
///
/// When they differ, or when more is kept than the bounds say.
pub fn fuzz_genai(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let (api, path) = APIS[usize::from(*choice) % APIS.len()];
    let tree = serde_json::from_slice::<Value>(body).ok();
    if let (Some(request), Some(tree)) = (Request::read(body), &tree) {
        compare_request(&request, tree);
    }
    let candidate = Candidate { host: "localhost", path, body: Some(body), is_versioned: true };
    if let Some(call) = Call::of(candidate) {
        assert_eq!(call.api, api);
        assert!(call.model.is_some());
    }
    let mut reply = Reply::new(api);
    if let (Ok(()), Some(tree)) = (reply.try_read(body), &tree) {
        compare_reply(api, &reply, tree);
    }
    assert!(reply.finish_reasons.len() <= 16);
    let texts = [&reply.id, &reply.model, &reply.service_tier, &reply.system_fingerprint, &reply.error];
    for text in texts.into_iter().flatten().chain(&reply.finish_reasons) {
        // A raw byte that is an escape of six bytes becomes three at most.
        assert!(text.len() <= 256);
    }
    // What was cut off at any place is no reason to fail.
    reply.read(body.get(..body.len() / 2).unwrap_or_default());
}

fn compare_request(request: &Request<'_>, tree: &Value) {
    assert_eq!(request.model.map(|model| model.decode()).as_deref(), tree["model"].as_str());
    assert_eq!(request.stream, tree["stream"] == Value::Bool(true));
    assert_eq!(request.seed, whole(&tree["seed"]));
    assert_eq!(request.choices, whole(&tree["n"]));
    assert_eq!(request.temperature, number(&tree["temperature"]));
    let has = |name: &str| !matches!(tree[name], Value::Null | Value::Bool(_) | Value::Number(_));
    let inputs = ["messages", "input", "prompt", "previous_response_id"];
    assert_eq!(request.has_input, inputs.into_iter().any(has));
    assert!(request.stops.len() <= 17);
}

fn compare_reply(api: Api, reply: &Reply, tree: &Value) {
    let wraps = |name: &str| tree[name].is_object();
    if ["response", "message", "delta"].into_iter().any(wraps) {
        return;
    }
    let short = |value: &Value| value.as_str().is_some_and(|text| (1..40).contains(&text.len()));
    for (kept, told) in [(&reply.id, &tree["id"]), (&reply.model, &tree["model"])] {
        if short(told) {
            assert_eq!(kept.as_deref(), told.as_str());
        }
    }
    let usage = &tree["usage"];
    if usage["completion_tokens"].is_null() {
        assert_eq!(reply.usage.output, whole(&usage["output_tokens"]));
    }
    if usage["prompt_tokens"].is_null() && api != Api::Messages {
        assert_eq!(reply.usage.input(), whole(&usage["input_tokens"]));
    }
    assert_eq!(reply.error.is_some(), !tree["error"].is_null() || tree["type"] == "error");
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}
