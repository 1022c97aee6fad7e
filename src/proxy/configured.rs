//! Attributes that the configuration asks for.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::value::Value;

use super::settings::Attributes;
use super::subject::Call;
use crate::mcp::method::Target;
use crate::trace::semconv as key;
use crate::trace::span::Span;
use crate::w3c::baggage::Baggage;

/// The most bytes of one value; the rest is cut and counted.
pub(super) const MAX_VALUE_BYTES: usize = 4096;

/// Where values can come from.
pub(super) struct Sources<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) baggage: Option<&'a Baggage>,
    pub(super) call: Option<&'a Call<'a>>,
    /// `params.arguments` as it came.
    pub(super) arguments: Option<&'a [u8]>,
}

/// Sets what is asked for and there. Answers how many values were cut.
pub(super) fn set(span: &mut Span, wanted: &Attributes, from: &Sources<'_>) -> u64 {
    let mut cut = 0;
    let mut put = |name: &str, value: &str| {
        let short = shortened(value);
        cut += u64::from(short.len() < value.len());
        span.set_named(name, short);
    };
    for (header, name) in &wanted.from_header {
        if let Some(value) = from.headers.get(header) {
            put(name, &String::from_utf8_lossy(value.as_bytes()));
        }
    }
    for (entry, name) in &wanted.from_baggage {
        if let Some(value) = from.baggage.and_then(|baggage| baggage.get(entry)) {
            put(name, &value);
        }
    }
    let tool = from.call.and_then(|call| {
        call.known.filter(|known| matches!(known.target, Target::ToolName))?;
        call.target.as_deref()
    });
    let (Some(tool), Some(arguments)) = (tool, from.arguments) else { return cut };
    if wanted.from_argument.iter().any(|(argument, _)| argument.tool.matches(tool)) {
        let members: Value = serde_json::from_slice(arguments).unwrap_or_default();
        for (argument, name) in wanted.from_argument.iter().filter(|(a, _)| a.tool.matches(tool)) {
            if let Some(value) = members.get(&argument.name).and_then(plain) {
                put(name, &value);
            }
        }
    }
    if wanted.capture_arguments {
        put(key::GEN_AI_TOOL_CALL_ARGUMENTS, &String::from_utf8_lossy(arguments));
    }
    cut
}

fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(truth) => Some(if *truth { "true" } else { "false" }.into()),
        _ => None,
    }
}

fn shortened(value: &str) -> &str {
    let mut end = value.len().min(MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}
