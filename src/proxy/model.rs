//! What a span says of a call of a language model and of its answer: the
//! attributes of the conventions for GenAI clients. Nothing of what was asked
//! and answered is among them.

use crate::genai::{Call, Reply, Request};
use crate::trace::semconv as key;
use crate::trace::span::{Span, Status};

/// The kind of an error that does not name it.
const OTHER: &str = "_OTHER";

/// Name and attributes of a call.
pub(crate) fn of_call(span: &mut Span, call: &Call<'_>) {
    let operation = call.api.operation();
    match call.model.as_deref() {
        Some(model) => {
            span.set_name_parts(operation, model);
            span.set_str(key::GEN_AI_REQUEST_MODEL, model);
        }
        None => span.set_name_static(operation),
    }
    span.set_static(key::GEN_AI_OPERATION_NAME, operation);
    span.set_static(key::GEN_AI_PROVIDER_NAME, call.provider);
    if let Some(api) = call.api.openai_type().filter(|_| is_openai(call.provider)) {
        span.set_static(key::OPENAI_API_TYPE, api);
    }
    if let Some(request) = &call.request {
        of_request(span, request, is_openai(call.provider));
    }
}

fn is_openai(provider: &str) -> bool {
    matches!(provider, "openai" | "azure.ai.openai")
}

fn of_request(span: &mut Span, request: &Request<'_>, is_openai: bool) {
    if request.stream {
        span.set_bool(key::GEN_AI_REQUEST_STREAM, true);
    }
    for (key, value) in [
        (key::GEN_AI_REQUEST_MAX_TOKENS, request.max_tokens),
        (key::GEN_AI_REQUEST_SEED, request.seed),
        // One is what there is without asking.
        (key::GEN_AI_REQUEST_CHOICE_COUNT, request.choices.filter(|count| *count != 1)),
        (key::GEN_AI_EMBEDDINGS_DIMENSION_COUNT, request.dimensions),
    ] {
        if let Some(value) = value {
            span.set_int(key, value);
        }
    }
    for (key, value) in [
        (key::GEN_AI_REQUEST_TEMPERATURE, request.temperature),
        (key::GEN_AI_REQUEST_TOP_P, request.top_p),
        (key::GEN_AI_REQUEST_TOP_K, request.top_k),
        (key::GEN_AI_REQUEST_FREQUENCY_PENALTY, request.frequency_penalty),
        (key::GEN_AI_REQUEST_PRESENCE_PENALTY, request.presence_penalty),
    ] {
        if let Some(value) = value {
            span.set_double(key, value);
        }
    }
    if !request.stops.is_empty() {
        let stops: Vec<_> = request.stops.iter().map(|stop| stop.decode()).collect();
        let stops: Vec<_> = stops.iter().map(|stop| &**stop).collect();
        span.set_strings(key::GEN_AI_REQUEST_STOP_SEQUENCES, &stops);
    }
    if let Some(tier) = request.service_tier.filter(|tier| is_openai && !tier.eq_str("auto")) {
        span.set_str(key::OPENAI_REQUEST_SERVICE_TIER, &tier.decode());
    }
}

/// What the answer said of itself.
pub(crate) fn of_reply(span: &mut Span, reply: &Reply) {
    for (key, value) in [
        (key::GEN_AI_RESPONSE_ID, &reply.id),
        (key::GEN_AI_RESPONSE_MODEL, &reply.model),
        (key::OPENAI_RESPONSE_SERVICE_TIER, &reply.service_tier),
        (key::OPENAI_RESPONSE_SYSTEM_FINGERPRINT, &reply.system_fingerprint),
    ] {
        if let Some(value) = value {
            span.set_str(key, value);
        }
    }
    if !reply.finish_reasons.is_empty() {
        let reasons: Vec<_> = reply.finish_reasons.iter().map(|reason| &**reason).collect();
        span.set_strings(key::GEN_AI_RESPONSE_FINISH_REASONS, &reasons);
    }
    for (key, value) in [
        (key::GEN_AI_USAGE_INPUT_TOKENS, reply.usage.input()),
        (key::GEN_AI_USAGE_OUTPUT_TOKENS, reply.usage.output),
        (key::GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, reply.usage.cache_read),
        (key::GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS, reply.usage.cache_write),
        (key::GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, reply.usage.reasoning),
    ] {
        if let Some(value) = value {
            span.set_int(key, value);
        }
    }
    // The provider names its errors better than a status does. Their texts
    // quote what was asked.
    if let Some(error) = reply.error.as_deref().filter(|e| *e != OTHER || span.status() == Status::Unset) {
        span.error(error, "");
    }
}
