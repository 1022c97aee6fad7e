//! The MCP endpoint of the demo's agents: JSON answers over `POST /mcp`, without sessions.
//!
//! It speaks revision 2026-07-28 as that text says, and is tolerant of the handshake revisions before it, so
//! that any MCP client can be pointed at it. Sources: MCP 2026-07-28 and 2025-11-25, "Transports".

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::{agents::Agent, calls::MODERN};
use crate::store::web::{Server, read_body, response};

/// The path of the endpoint.
pub(super) const PATH: &str = "/mcp";

/// The longest request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// The handshake revisions that are understood, the one that is offered first.
const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;

const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// An agent that listens. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Endpoint {
    server: Server,
}

impl Endpoint {
    /// Serves `agent` on `listener`.
    pub(super) fn start(listener: TcpListener, agent: Agent) -> io::Result<Self> {
        let server = Server::start(listener, move |request| handle(agent, request))?;
        Ok(Self { server })
    }

    /// Where the agent itself listens, without a sidecar.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

async fn handle(agent: Agent, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return response(StatusCode::NOT_FOUND, "text/plain", "the endpoint is /mcp\n");
    }
    if request.method() != Method::POST {
        let text = "POST is the only method\n";
        let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", text);
        let post = HeaderValue::from_static("POST");
        answer.headers_mut().insert(header::ALLOW, post);
        return answer;
    }
    let (head, body) = request.into_parts();
    match read_body(body, MAX_BODY).await {
        Err(error) => response(error.status(), "text/plain", error.to_string()),
        Ok(body) => answer(agent, &head.headers, &body).await,
    }
}

/// Answers one message.
async fn answer(agent: Agent, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
    if !accepts_both(headers) {
        let text = "Accept must name application/json and text/event-stream\n";
        return response(StatusCode::NOT_ACCEPTABLE, "text/plain", text);
    }
    let message = match serde_json::from_slice(body) {
        Ok(Value::Object(message)) => message,
        Ok(_) => {
            return Failure::new(INVALID_REQUEST, "one message a request").answer(&Value::Null);
        }
        Err(_) => return Failure::new(PARSE_ERROR, "not JSON").answer(&Value::Null),
    };
    let Some(id) = message.get("id") else {
        // A notification asks for nothing, so that one we do not know is no error either.
        let mut accepted = Response::new(Full::default());
        *accepted.status_mut() = StatusCode::ACCEPTED;
        return accepted;
    };
    match dispatch(agent, headers, &message).await {
        Err(failure) => failure.answer(id),
        Ok(result) => {
            let message = json!({"jsonrpc": "2.0", "id": id, "result": result});
            response(StatusCode::OK, "application/json", message.to_string())
        }
    }
}

async fn dispatch(agent: Agent, headers: &HeaderMap, message: &Map<String, Value>) -> Result<Value, Failure> {
    let Some(method) = message.get("method").and_then(Value::as_str) else {
        return Err(Failure::new(INVALID_REQUEST, "a request names its method"));
    };
    let params = message.get("params").unwrap_or(&Value::Null);
    if is_modern(headers, params)? {
        check_mirrors(headers, method, params)?;
        let mut result = modern(agent, method, params).await?;
        result["resultType"] = json!("complete");
        return Ok(result);
    }
    // Before 2026 an error of the message is not one of HTTP.
    let result = legacy(agent, method, params).await;
    result.map_err(|failure| failure.with_status(StatusCode::OK))
}

async fn modern(agent: Agent, method: &str, params: &Value) -> Result<Value, Failure> {
    match method {
        "server/discover" => Ok(json!({
            "supportedVersions": [MODERN],
            "capabilities": {"tools": {}},
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {"io.modelcontextprotocol/serverInfo": server_info(agent)},
        })),
        "tools/list" => Ok(json!({
            "tools": [agent.description()],
            "ttlMs": 0,
            "cacheScope": "private",
        })),
        "tools/call" => call_tool(agent, params).await,
        _ => Err(Failure::new(METHOD_NOT_FOUND, "no such method").with_status(StatusCode::NOT_FOUND)),
    }
}

async fn legacy(agent: Agent, method: &str, params: &Value) -> Result<Value, Failure> {
    match method {
        "initialize" => {
            let wanted = params["protocolVersion"].as_str();
            let version = LEGACY.into_iter().find(|version| Some(*version) == wanted);
            Ok(json!({
                "protocolVersion": version.unwrap_or(LEGACY[0]),
                "capabilities": {"tools": {}},
                "serverInfo": server_info(agent),
            }))
        }
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": [agent.description()]})),
        "tools/call" => call_tool(agent, params).await,
        _ => Err(Failure::new(METHOD_NOT_FOUND, "no such method")),
    }
}

async fn call_tool(agent: Agent, params: &Value) -> Result<Value, Failure> {
    if params["name"].as_str() != Some(agent.tool()) {
        return Err(Failure::new(INVALID_PARAMS, "no such tool"));
    }
    let none = Map::new();
    let meta = params["_meta"].as_object().unwrap_or(&none);
    let answer = agent.run(&params["arguments"], meta).await;
    Ok(json!({
        "content": [{"type": "text", "text": answer.text}],
        "isError": answer.is_error,
    }))
}

fn server_info(agent: Agent) -> Value {
    json!({"name": agent.name(), "version": env!("CARGO_PKG_VERSION")})
}

/// Whether the request is of the revision without a handshake. The header and the body must say the same.
fn is_modern(headers: &HeaderMap, params: &Value) -> Result<bool, Failure> {
    let header = value(headers, "mcp-protocol-version");
    let meta = &params["_meta"];
    let body = meta[META_VERSION].as_str();
    match (header, body) {
        (None, None) => Ok(false),
        (Some(version), None) if LEGACY.contains(&version) => Ok(false),
        (Some(MODERN), None) => Err(Failure::new(INVALID_PARAMS, "_meta lacks the protocol version")),
        (Some(header), Some(body)) if header != body => Err(mismatch("mcp-protocol-version")),
        (Some(MODERN), Some(_)) if !meta[META_CAPABILITIES].is_object() => {
            Err(Failure::new(INVALID_PARAMS, "_meta lacks the client's capabilities"))
        }
        (Some(MODERN), Some(_)) => Ok(true),
        (None, Some(_)) => Err(mismatch("mcp-protocol-version")),
        (Some(other), _) => {
            let mut failure = Failure::new(UNSUPPORTED_VERSION, "this protocol version is not supported");
            failure.data = Some(json!({"supported": [MODERN], "requested": other}));
            Err(failure)
        }
    }
}

/// `Mcp-Method` and `Mcp-Name` must be there once and say what the body says.
fn check_mirrors(headers: &HeaderMap, method: &str, params: &Value) -> Result<(), Failure> {
    if value(headers, "mcp-method") != Some(method) {
        return Err(mismatch("mcp-method"));
    }
    if method == "tools/call" && value(headers, "mcp-name") != params["name"].as_str() {
        return Err(mismatch("mcp-name"));
    }
    Ok(())
}

fn mismatch(header: &str) -> Failure {
    Failure::new(HEADER_MISMATCH, format!("{header} does not mirror the body"))
}

/// The value of a field that stands there once.
fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn accepts_both(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let accepted: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let names = |kind| accepted.iter().any(|value| value.contains(kind) || value.contains("*/*"));
    names("application/json") && names("text/event-stream")
}

/// A JSON-RPC error and the HTTP status that it travels with.
#[derive(Debug)]
struct Failure {
    code: i64,
    message: String,
    status: StatusCode,
    data: Option<Value>,
}

impl Failure {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: StatusCode::BAD_REQUEST, data: None }
    }

    fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    fn answer(self, id: &Value) -> Response<Full<Bytes>> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = self.data {
            error["data"] = data;
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "error": error});
        response(self.status, "application/json", message.to_string())
    }
}

#[cfg(test)]
mod tests;
