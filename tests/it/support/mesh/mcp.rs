//! Messages of MCP in both eras, as clients and servers write them.

use serde_json::{Value, json};

use super::client::Call;

/// The two families of revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2025-06-18, in the session `s-1`.
    Legacy,
    /// 2026-07-28.
    Modern,
}

impl Era {
    /// The revision.
    pub fn version(self) -> &'static str {
        match self {
            Era::Legacy => "2025-06-18",
            Era::Modern => "2026-07-28",
        }
    }
}

/// A request of the era. The modern one mirrors method and name in headers.
pub fn request(era: Era, id: Value, method: &str, mut params: Value) -> Call {
    let name = ["name", "uri"].iter().find_map(|key| params[key].as_str()).map(str::to_owned);
    if era == Era::Modern {
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = era.version().into();
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let call = Call::post(message.to_string()).header("mcp-protocol-version", era.version());
    match (era, name) {
        (Era::Legacy, _) => call.header("mcp-session-id", "s-1"),
        (Era::Modern, Some(name)) => call.header("mcp-method", method).header("mcp-name", name),
        (Era::Modern, None) => call.header("mcp-method", method),
    }
}

/// A call of the tool `add` with these members of `_meta`.
pub fn legacy_call(id: impl Into<Value>, meta: Value) -> Call {
    request(
        Era::Legacy,
        id.into(),
        "tools/call",
        json!({"name": "add", "arguments": {"a": 1}, "_meta": meta}),
    )
}

/// The same since 2026-07-28.
pub fn modern_call(id: impl Into<Value>, meta: Value) -> Call {
    request(
        Era::Modern,
        id.into(),
        "tools/call",
        json!({"name": "add", "arguments": {"a": 1}, "_meta": meta}),
    )
}

/// A notification of a legacy session.
pub fn notification(method: &str, params: Value) -> Call {
    let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
    let call = Call::post(message.to_string());
    call.header("mcp-protocol-version", Era::Legacy.version()).header("mcp-session-id", "s-1")
}

/// The answer that all is well.
pub fn result(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "3"}]}})
}

/// The answer of a tool that failed.
pub fn is_error(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [], "isError": true}})
}

/// A JSON-RPC error.
pub fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}
