//! The entry point for fuzzing: it takes arbitrary bytes and panics when a promise of this module is
//! broken. The seeded test calls it too.

use serde_json::Value;

use super::{Call, Reply, Request, lookup};

/// Reads `data` as a message to an agent and as an answer, and compares with what an independent
/// parser sees.
///
/// # Panics
///
/// When they differ, or when more is kept than the bounds say.
pub fn fuzz_a2a(data: &[u8]) {
    let tree = serde_json::from_slice::<Value>(data).ok();
    if let (Some(request), Some(tree)) = (Request::read(data), &tree) {
        compare_request(&request, tree);
        let method = tree["method"].as_str().and_then(lookup);
        if let Some(method) = method {
            assert!(Call::of(method, Some("1.0"), data).is_some());
            let unsaid = Call::of(method, None, data);
            assert!(unsaid.is_none() || tree["params"]["taskId"].is_null() || !method.has_task());
        }
    }
    let mut reply = Reply::default();
    if let (Ok(()), Some(tree)) = (reply.try_read(data), &tree) {
        let error = &tree["error"];
        assert_eq!(reply.error.is_some(), !error.is_null());
        assert_eq!(reply.error.as_ref().and_then(|error| error.code), error["code"].as_i64());
        let result = &tree["result"];
        let wraps =
            ["task", "message", "statusUpdate", "artifactUpdate"].iter().any(|key| result[key].is_object());
        if !wraps {
            let short = |value: &Value| value.as_str().is_some_and(|text| (1..40).contains(&text.len()));
            let state = &result["status"]["state"];
            assert!(!short(state) || reply.state.as_deref() == state.as_str());
            let task = &result["taskId"];
            assert!(!short(task) || reply.task_id.as_deref() == task.as_str());
        }
    }
    for text in [&reply.task_id, &reply.state, &reply.context_id].into_iter().flatten() {
        assert!(text.len() <= 256);
    }
    reply.read(data.get(..data.len() / 2).unwrap_or_default());
}

fn compare_request(request: &Request<'_>, tree: &Value) {
    let params = &tree["params"];
    let message = &params["message"];
    assert_eq!(request.has_message, message.is_object());
    for (read, told) in [
        (request.id, &params["id"]),
        (request.task_id, &params["taskId"]),
        (request.tenant, &params["tenant"]),
        (request.message_id, &message["messageId"]),
    ] {
        assert_eq!(read.map(|text| text.decode()).as_deref(), told.as_str());
    }
    assert!(request.references.len() <= 16);
}
