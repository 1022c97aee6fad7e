//! MCP requests of revision 2026-07-28 as the demo's callers send them, and the same as a `curl` line.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::{agents::ToolAnswer, endpoint::PATH};
use crate::store::web;

/// The MCP revision that the demo's own callers speak.
pub(super) const MODERN: &str = "2026-07-28";

/// The context of the pasted call. Its trace id is easy to recognise in the tree that follows.
const EXAMPLE_TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Why an MCP call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request cannot be written as HTTP.
    #[error("the request is not valid HTTP: {0}")]
    Request(#[from] http::Error),
    /// No HTTP answer.
    #[error("{0}")]
    Http(Box<dyn std::error::Error + Send + Sync>),
    /// An answer that is not a JSON-RPC result.
    #[error("HTTP {status}: {body}")]
    Answer {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
}

/// A `tools/call` with the argument `city` and no trace context.
pub(super) fn tool_call(tool: &str, city: &str) -> Value {
    request("tools/call", json!({"name": tool, "arguments": {"city": city}}))
}

/// A `tools/list` with no trace context.
pub(super) fn tool_list() -> Value {
    request("tools/list", json!({}))
}

/// A request with the `_meta` members that the revision requires of every request.
fn request(method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "meshtrace-demo", "version": env!("CARGO_PKG_VERSION")},
    });
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// Sends a request to an agent, or to the sidecar in front of it, and returns the JSON-RPC `result`.
pub(super) async fn send(address: SocketAddr, request: &Value) -> Result<Value, CallError> {
    let mut builder = Request::post(PATH);
    for (name, value) in headers(request) {
        builder = builder.header(name, value);
    }
    let body = Full::new(Bytes::from(request.to_string()));
    let answer = web::send(address, builder.body(body)?).await;
    let answer = answer.map_err(|error| CallError::Http(Box::new(error)))?;
    let message = serde_json::from_slice::<Value>(answer.body()).ok();
    match message.and_then(|mut message| Some(message.get_mut("result")?.take())) {
        Some(result) => Ok(result),
        None => Err(CallError::Answer {
            status: answer.status().as_u16(),
            body: String::from_utf8_lossy(answer.body()).chars().take(300).collect(),
        }),
    }
}

/// The header fields that go with a request: the routing ones mirror the body.
fn headers(request: &Value) -> Vec<(&'static str, &str)> {
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", MODERN),
    ];
    if let Some(method) = request["method"].as_str() {
        headers.push(("mcp-method", method));
    }
    if let Some(name) = request["params"]["name"].as_str() {
        headers.push(("mcp-name", name));
    }
    headers
}

/// The answer of a tool in the result of its `tools/call`: its first text.
pub(super) fn tool_answer(result: &Value) -> ToolAnswer {
    ToolAnswer {
        text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
        is_error: result["isError"].as_bool().unwrap_or(false),
    }
}

/// Whether a result is that of a tool that failed.
pub(super) fn is_error(result: &Value) -> bool {
    tool_answer(result).is_error
}

/// The gist of a result in one line: a tool's text, or the names of the tools.
pub(super) fn summary(result: &Value) -> String {
    if let Some(tools) = result["tools"].as_array() {
        let names = tools.iter().filter_map(|tool| tool["name"].as_str());
        return names.collect::<Vec<_>>().join(", ");
    }
    let answer = tool_answer(result);
    let mark = if answer.is_error { " (isError)" } else { "" };
    format!("{}{mark}", answer.text)
}

/// A call of `research` as a line for a POSIX shell, with a trace context in its header.
pub(super) fn curl(address: SocketAddr, city: &str) -> String {
    let request = tool_call("research", city);
    let mut line = format!("curl -sS http://{address}{PATH}");
    let context = ("traceparent", EXAMPLE_TRACEPARENT);
    for (name, value) in headers(&request).into_iter().chain([context]) {
        line.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name}: {value}"))));
    }
    line.push_str(&format!(" \\\n  -d {}", quoted(&request.to_string())));
    line
}

/// One word for a POSIX shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curl_line_is_complete() {
        let line = curl(SocketAddr::from(([127, 0, 0, 1], 8000)), "Lisbon");
        assert!(line.starts_with("curl -sS http://127.0.0.1:8000/mcp \\\n"));
        for header in [
            "content-type: application/json",
            "accept: application/json, text/event-stream",
            "mcp-protocol-version: 2026-07-28",
            "mcp-method: tools/call",
            "mcp-name: research",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(line.contains(&format!(" -H '{header}' \\\n")), "{header}");
        }
        let body = line.rsplit_once("-d '").unwrap().1.strip_suffix('\'').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body, tool_call("research", "Lisbon"));
    }

    #[test]
    fn a_shell_gets_quotes_as_they_were() {
        assert_eq!(quoted("Land's End"), r"'Land'\''s End'");
    }
}
