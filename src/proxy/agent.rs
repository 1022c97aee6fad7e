//! What a span says of a message to an agent (A2A) and of its answer: the
//! attributes of the conventions for A2A. Nothing of its content is among them.

use crate::a2a::{Call, Reply};
use crate::trace::semconv as key;
use crate::trace::span::Span;

/// Name and attributes of a message.
pub(crate) fn of_call(span: &mut Span, call: &Call<'_>) {
    span.set_name_static(call.method.operation);
    span.set_static(key::A2A_METHOD_NAME, call.method.operation);
    if let Some(version) = &call.version {
        span.set_str(key::A2A_PROTOCOL_VERSION, version);
    }
    let request = &call.request;
    for (key, value) in [
        (key::A2A_MESSAGE_ID, request.message_id),
        (key::A2A_TASK_ID, request.task(call.method)),
        (key::A2A_TENANT, request.tenant),
        (key::GEN_AI_CONVERSATION_ID, request.conversation()),
    ] {
        if let Some(value) = value {
            span.set_str(key, &value.decode());
        }
    }
    if !request.references.is_empty() {
        let tasks: Vec<_> = request.references.iter().map(|task| task.decode()).collect();
        let tasks: Vec<_> = tasks.iter().map(|task| &**task).collect();
        span.set_strings(key::A2A_MESSAGE_REFERENCE_TASK_IDS, &tasks);
    }
}

/// What the answer said of the task.
pub(crate) fn of_reply(span: &mut Span, reply: &Reply) {
    for (key, value) in [
        (key::A2A_TASK_ID, &reply.task_id),
        (key::A2A_TASK_STATE, &reply.state),
        (key::GEN_AI_CONVERSATION_ID, &reply.context_id),
    ] {
        if let Some(value) = value {
            span.set_str(key, value);
        }
    }
}
