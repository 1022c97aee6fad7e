//! Entry points for fuzzing: each takes arbitrary bytes and panics when a promise of this module is
//! broken. The seeded tests call them too.

mod outline;
mod rows;
mod stream;

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::batch;
use super::ends;
use super::mesh::mesh_arguments;
use super::message::{Doubt, Id, Kind, Message, Text, parse, parse_answer};
use super::meta::{Carrier, splice};
use super::rows::LARGE;

use outline::outline;
pub use rows::fuzz_rows;
pub use stream::{fuzz_rewrite, fuzz_sse};

/// Reads `data` as a message and compares what is seen with what an independent parser sees, and
/// with what the reader of answers sees.
///
/// # Panics
///
/// When they differ.
pub fn fuzz_message(data: &[u8]) {
    let tree = serde_json::from_slice::<Value>(data);
    // Not all brackets of a large one are counted, and to what is no JSON that may make a difference.
    let is_counted = data.len() < LARGE || tree.is_ok();
    match (parse(data), tree) {
        (Ok(message), Ok(tree)) => compare(&message, &tree),
        (Ok(message), Err(_)) if is_counted => {
            if let Err(error) = serde_json::from_slice::<Value>(&outline(data)) {
                assert!(is_leniency(data, &error.to_string()), "read what is no JSON: {error}: {message:?}");
            }
        }
        (Err(doubt), Ok(tree)) => match doubt {
            Doubt::Batch => compare_batch(data, &tree),
            Doubt::NotObject => assert!(!tree.is_array() && !tree.is_object()),
            Doubt::Duplicate => assert!(tree.is_object()),
            Doubt::BadShape => assert!(is_bad_shape(data), "refused a message: {tree}"),
            Doubt::NotJson | Doubt::NotUtf8 | Doubt::Depth => {
                panic!("refused JSON as {doubt:?}: {tree}")
            }
        },
        (Ok(message), Err(_)) => {
            assert!(!is_followed(data), "read beyond its end: {message:?}");
        }
        (Err(_), Err(_)) => {}
    }
    if is_counted {
        compare_readers(data);
        compare_looks(data);
    }
    compare_ends(data);
}

/// Reads `data` as the arguments of a call of MCP Mesh and compares with an independent parser.
///
/// # Panics
///
/// When they differ.
pub fn fuzz_mesh(data: &[u8]) {
    let found = mesh_arguments(data);
    let Ok(tree) = serde_json::from_slice::<Value>(data) else { return };
    let headers = &tree["_mesh_headers"];
    let pairs = [
        (found.trace_id, &tree["_trace_id"]),
        (found.parent_span, &tree["_parent_span"]),
        (found.traceparent, &headers["traceparent"]),
        (found.tracestate, &headers["tracestate"]),
    ];
    // Where a member occurs twice, nothing is read at all.
    let nothing = pairs.iter().all(|(found, _)| found.is_none());
    for (found, wanted) in pairs {
        assert!(nothing || found.map(|text| text.decode()).as_deref() == wanted.as_str(), "{tree}");
    }
}

/// Whether a body is text is found out before it is read or while it is, to the same outcome.
fn compare_looks(data: &[u8]) {
    let (mut before, mut meanwhile) = (Message::default(), Message::default());
    let verdict = before.read_checked(data);
    assert_eq!(meanwhile.read_unchecked(data), verdict);
    if verdict.is_ok() {
        assert_eq!(format!("{before:?}"), format!("{meanwhile:?}"));
    }
}

/// What both ends of an answer say is what the whole of it says, however little of it they are.
fn compare_ends(data: &[u8]) {
    let Ok(whole) = parse_answer(data) else { return };
    let Ok(Value::Object(tree)) = serde_json::from_slice::<Value>(data) else { return };
    for window in [16, 24, 32, 48, 64, 128, 256] {
        let mut message = Message::default();
        if !ends::read(data, window, &mut message) {
            continue;
        }
        // JSON-RPC knows no others in an answer.
        let is_known = |name: &String| matches!(name.as_str(), "jsonrpc" | "id" | "result" | "error");
        if !tree.keys().all(is_known) || whole.error.is_some() {
            continue;
        }
        let told = |message: &Message<'_>| {
            let Message { kind, id, id_is_null, jsonrpc, has_result, is_error, .. } = message;
            format!("{kind:?} {id:?} {id_is_null} {jsonrpc:?} {has_result} {is_error}")
        };
        assert_eq!(told(&message), told(&whole));
        assert!(
            message.result_type.is_none() || whole.result_type.is_some_and(|kind| kind.eq_str("complete"))
        );
        assert!(!message.spliceable());
    }
}

/// Whatever one reader takes for a message, the quicker one reads to the same outcome.
fn compare_readers(data: &[u8]) {
    let quick = parse_answer(data);
    assert!(quick.as_ref().is_ok_and(|quick| !quick.spliceable()) || quick.is_err());
    match (parse(data), quick) {
        (Ok(mut message), Ok(mut quick)) => {
            if message.kind() == Kind::Response {
                message.points = Default::default();
                quick.points = Default::default();
                forget_params(&mut message);
                assert_eq!(format!("{message:?}"), format!("{quick:?}"));
                return;
            }
            let head = |message: &Message<'_>| {
                format!("{:?} {:?} {:?} {:?}", message.kind, message.method, message.id, message.jsonrpc)
            };
            assert_eq!(head(&message), head(&quick));
        }
        (Ok(message), Err(doubt)) => panic!("refused as {doubt:?}: {message:?}"),
        (Err(doubt @ (Doubt::Batch | Doubt::NotObject)), quick) => {
            assert_eq!(quick.map(|_| ()), Err(doubt));
        }
        (Err(_), _) => {}
    }
}

/// An answer has no `params`, and where one has, they mean nothing.
fn forget_params(message: &mut Message<'_>) {
    message.name = None;
    message.uri = None;
    message.task_id = None;
    message.arguments = None;
    message.request_id = None;
    message.progress_token = None;
    message.request_state = None;
    message.params_protocol_version = None;
    message.params_client_name = None;
    message.meta = Default::default();
}

/// Compares the elements of a batch with those of the tree.
fn compare_batch(data: &[u8], tree: &Value) {
    let Value::Array(tree) = tree else { panic!("no array was taken for a batch") };
    let Ok(elements) = batch::elements(data, usize::MAX) else {
        return;
    };
    assert_eq!(elements.len(), tree.len());
    for (element, value) in elements.into_iter().zip(tree) {
        assert_eq!(serde_json::from_slice::<Value>(&data[element]).ok().as_ref(), Some(value));
    }
}

/// Splices trace context, chosen by the first byte of `data`, into the message that the rest of it
/// is, and checks the outcome.
///
/// # Panics
///
/// When the outcome does not carry exactly that context, or differs in anything else.
pub fn fuzz_splice(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let pick = |bit: u8, value: &'static str| match choice >> bit & 3 {
        0 => None,
        1 => Some(""),
        _ => Some(value),
    };
    let context = Carrier {
        traceparent: pick(0, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: pick(2, "ot=th:8,vendor=a\u{1}b"),
        baggage: pick(4, "k=\"v\\\u{e9};p=1\",\n"),
    };
    let Ok(message) = parse(body) else {
        return;
    };
    let mut out = b"before".to_vec();
    if !splice(body, &message, &context, &mut out) {
        assert!(!message.spliceable());
        assert_eq!(out, b"before");
        return;
    }
    assert!(message.kind() != Kind::Response);
    let out = out.strip_prefix(b"before").unwrap_or_default();
    if body.len() < LARGE || serde_json::from_slice::<Value>(body).is_ok() {
        check_splice(body, &message, &context, out);
    }
}

fn check_splice(body: &[u8], message: &Message<'_>, context: &Carrier<'_>, out: &[u8]) {
    let after = match parse(out) {
        Ok(after) => after,
        Err(doubt) => panic!("{doubt:?}: {}", String::from_utf8_lossy(out)),
    };
    for (value, wanted) in [
        (after.meta.traceparent, context.traceparent),
        (after.meta.tracestate, context.tracestate),
        (after.meta.baggage, context.baggage),
    ] {
        let wanted = wanted.filter(|wanted| !wanted.is_empty());
        assert_eq!(value.map(|value| value.decode().into_owned()).as_deref(), wanted);
    }
    assert_eq!(summary(message), summary(&after));
    let mut again = Vec::new();
    assert!(splice(out, &after, context, &mut again));
    assert_eq!(again, out, "a second splice of the same context changes nothing");
    match (serde_json::from_slice::<Value>(body), serde_json::from_slice::<Value>(out)) {
        (Ok(before), Ok(result)) => {
            assert_eq!(without_context(&before, &before), without_context(&result, &before));
        }
        (Ok(_), Err(error)) => panic!("{error}: {}", String::from_utf8_lossy(out)),
        // What is wrong may have been in what was replaced.
        (Err(error), Ok(_)) => {
            let replaced = message.points.slots.iter().flatten();
            let passed =
                replaced.map(|slot| body.get(slot.value_start)).any(|at| matches!(at, Some(b'[' | b'{')));
            assert!(passed || is_leniency(body, &error.to_string()), "mended: {error}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// What a splice must leave alone.
fn summary(message: &Message<'_>) -> String {
    let mut rest = message.clone();
    rest.points = Default::default();
    rest.meta.present = true;
    rest.meta.traceparent = None;
    rest.meta.tracestate = None;
    rest.meta.baggage = None;
    format!("{rest:?}")
}

/// The message without trace context, and without the objects that were made to hold it.
fn without_context(tree: &Value, original: &Value) -> Value {
    let mut tree = tree.clone();
    let had_meta = original.pointer("/params/_meta").is_some();
    if let Some(meta) = tree.pointer_mut("/params/_meta").and_then(Value::as_object_mut) {
        for key in ["traceparent", "tracestate", "baggage"] {
            meta.remove(key);
        }
        if meta.is_empty() && !had_meta {
            tree["params"].as_object_mut().map(|params| params.remove("_meta"));
        }
    }
    if original.get("params").is_none()
        && tree.get("params").is_some_and(|params| *params == serde_json::json!({}))
    {
        tree.as_object_mut().map(|top| top.remove("params"));
    }
    tree
}

fn compare(message: &Message<'_>, tree: &Value) {
    let params = &tree["params"];
    let meta = &params["_meta"];
    let result = &tree["result"];
    for (text, value) in [
        (message.method, &tree["method"]),
        (message.jsonrpc, &tree["jsonrpc"]),
        (message.name, &params["name"]),
        (message.uri, &params["uri"]),
        (message.task_id, &params["taskId"]),
        (message.request_state, &params["requestState"]),
        (message.params_protocol_version, &params["protocolVersion"]),
        (message.params_client_name, &params["clientInfo"]["name"]),
        (message.meta.traceparent, &meta["traceparent"]),
        (message.meta.tracestate, &meta["tracestate"]),
        (message.meta.baggage, &meta["baggage"]),
        (message.meta.protocol_version, &meta["io.modelcontextprotocol/protocolVersion"]),
        (message.meta.client_name, &meta["io.modelcontextprotocol/clientInfo"]["name"]),
        (message.result_type, &result["resultType"]),
        (message.result_protocol_version, &result["protocolVersion"]),
        (message.result_request_state, &result["requestState"]),
        (message.result_status, &result["status"]),
        (message.error.and_then(|error| error.message), &tree["error"]["message"]),
    ] {
        compare_text(text, value);
    }
    for (id, value) in [
        (message.id, &tree["id"]),
        (message.request_id, &params["requestId"]),
        (message.progress_token, &params["progressToken"]),
        (message.meta.progress_token, &meta["progressToken"]),
        (message.meta.subscription_id, &meta["io.modelcontextprotocol/subscriptionId"]),
    ] {
        match id {
            Some(Id::Number(raw)) => {
                assert_eq!(serde_json::from_str::<Value>(raw).ok().as_ref(), Some(value))
            }
            Some(Id::String(text)) => compare_text(Some(text), value),
            None => assert!(!value.is_string() && !value.is_number(), "{value}"),
        }
    }
    assert_eq!(message.id_is_null, tree.get("id").is_some_and(Value::is_null));
    assert_eq!(message.is_error, result["isError"] == true);
    assert_eq!(message.has_result, tree.get("result").is_some());
    assert_eq!(message.error.is_some(), !tree["error"].is_null());
    let code = &tree["error"]["code"];
    // The tree takes `-0` for a fraction, like `-0.0`, and forgets which of the two it was.
    let zero = code.as_f64() == Some(0.0) && message.error.is_some_and(|error| error.code == Some(0));
    assert!(zero || message.error.and_then(|error| error.code) == code.as_i64(), "{tree}");
    assert_eq!(message.meta.present, params.get("_meta").is_some());
    let arguments = message.arguments.map(|raw| serde_json::from_slice::<Value>(raw).ok());
    assert_eq!(arguments, params.get("arguments").map(|value| Some(value.clone())));
    let objects =
        tree.get("params").is_none_or(Value::is_object) && params.get("_meta").is_none_or(Value::is_object);
    assert_eq!(message.spliceable(), objects && message.kind() != Kind::Response);
}

fn compare_text(text: Option<Text<'_>>, value: &Value) {
    assert_eq!(text.map(|text| text.decode().into_owned()).as_deref(), value.as_str());
    if let (Some(text), Some(value)) = (text, value.as_str()) {
        assert!(text.eq_str(value));
    }
}

/// Whether `data` is no message by its members, or two at once. Members are looked at one by one,
/// because the first of two of a name may be the one that was refused.
fn is_bad_shape(data: &[u8]) -> bool {
    let members = serde_json::from_slice::<Members>(data).map(|members| members.0).unwrap_or_default();
    let has =
        |name: &str| members.iter().any(|(key, value)| key == name && !(name == "error" && value.is_null()));
    let wrong = members.iter().any(|(key, value)| match key.as_str() {
        "method" | "jsonrpc" => !value.is_string(),
        "id" => !(value.is_null() || value.is_string() || value.is_number()),
        _ => false,
    });
    wrong || has("method") == (has("result") || has("error"))
}

/// The members of an object in their order, repeated ones included.
#[derive(Default)]
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

/// Whether a whole value is followed by more, but not as if it had a bracket too many or were a row.
fn is_followed(data: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    if !matches!(values.next(), Some(Ok(_))) {
        return false;
    }
    let rest = data.get(values.byte_offset()..).unwrap_or_default();
    !rest.trim_ascii().is_empty() && !matches!(rest, [b']' | b'}' | b',', ..])
}

/// Whether an independent parser refuses only what this one lets through on purpose.
fn is_leniency(data: &[u8], error: &str) -> bool {
    let on_purpose = [
        "control character",
        "invalid escape",
        "hex escape",
        "surrogate",
        "number out of range",
        "recursion limit",
    ];
    let spelled = |word: &[u8]| memchr::memmem::find(data, word).is_some();
    // An unknown escape too, when its digits would have reached over the end.
    let cut_escape = error.contains("EOF while parsing a string") && spelled(b"\\u");
    on_purpose.iter().any(|reason| error.contains(reason))
        || cut_escape
        || spelled(b"NaN")
        || spelled(b"Infinity")
}
