//! What a span says of its request: the attributes of the conventions for
//! MCP and HTTP.

use http::{HeaderName, Method, Version, header, request};

use super::begin::Met;
use super::mesh::RegistryCall;
use super::subject::Call;
use crate::mcp::method::Target;
use crate::trace::redact;
use crate::trace::semconv as key;
use crate::trace::span::{Prepared, Span, Value};
use crate::w3c::traceparent::Traceparent;

/// Name and attributes of an MCP request or notification.
pub(crate) fn of_call(span: &mut Span, call: &Call<'_>) {
    span.set_str(key::MCP_METHOD_NAME, &call.method);
    match (call.known.map(|known| &known.target), call.target.as_deref()) {
        (Some(Target::ToolName), Some(tool)) => {
            span.set_name_parts(&call.method, tool);
            span.set_str(key::GEN_AI_TOOL_NAME, tool);
        }
        (Some(Target::PromptName), Some(prompt)) => {
            span.set_name_parts(&call.method, prompt);
            span.set_str(key::GEN_AI_PROMPT_NAME, prompt);
        }
        (target, name) => {
            span.set_name(&call.method);
            if let (Some(Target::ResourceUri), Some(uri)) = (target, name) {
                span.set_str(key::MCP_RESOURCE_URI, &redact::uri(uri));
            }
        }
    }
    if call.method == "tools/call" {
        span.set_static(key::GEN_AI_OPERATION_NAME, key::EXECUTE_TOOL);
    }
    if let Some(id) = &call.id {
        span.set_str(key::JSONRPC_REQUEST_ID, id.as_str());
    }
    if let Some(version) = &call.version {
        span.set_str(key::MCP_PROTOCOL_VERSION, version);
    }
    if let Some(session) = call.session {
        span.set_str(key::MCP_SESSION_ID, session);
    }
    if let Some(version) = &call.jsonrpc {
        span.set_str(key::JSONRPC_PROTOCOL_VERSION, version);
    }
}

/// What is the same for every call on a connection: the transport, and the
/// client, where it is not the pod itself.
pub(crate) fn of_transport(span: &mut Span, met: &Met<'_>, version: Version) {
    let set = |span: &mut Span| {
        of_protocol(span, version);
        of_client(span, met);
    };
    let (of, prepared) =
        met.downstream.transport.get_or_init(|| (version, Prepared::new(span.limits(), set)));
    match *of == version {
        true => span.set_prepared(prepared),
        false => set(span),
    }
}

/// The transport of MCP over HTTP.
pub(crate) fn of_protocol(span: &mut Span, version: Version) {
    span.set_static(key::NETWORK_TRANSPORT, "tcp");
    span.set_static(key::NETWORK_PROTOCOL_NAME, "http");
    of_version(span, version);
}

/// A link to another span, and why.
pub(crate) fn link(span: &mut Span, to: &Traceparent, reason: &'static str) {
    let attributes = [(key::MESHTRACE_LINK_REASON, Value::Str(reason))];
    span.add_link(to.trace_id, to.span_id, to.flags, true, &attributes);
}

/// Name and attributes of any other HTTP request.
pub(crate) fn of_http(span: &mut Span, head: &request::Parts, met: &Met<'_>) {
    let method = known_method(&head.method);
    // A path is unbounded and so never part of a name.
    span.set_name_static(method.unwrap_or("HTTP"));
    span.set_static(key::HTTP_REQUEST_METHOD, method.unwrap_or("_OTHER"));
    if method.is_none() {
        span.set_str(key::HTTP_REQUEST_METHOD_ORIGINAL, head.method.as_str());
    }
    if head.method == Method::CONNECT {
        return;
    }
    if met.outbound {
        let query = head.uri.query().map(redact::query);
        let separator = if query.is_some() { "?" } else { "" };
        let query = query.unwrap_or_default();
        let path = head.uri.path();
        span.set_str(key::URL_FULL, &format!("{}://{}{path}{separator}{query}", scheme(met), met.target));
    } else {
        span.set_str(key::URL_PATH, head.uri.path());
        span.set_static(key::URL_SCHEME, scheme(met));
        if let Some(query) = head.uri.query() {
            span.set_str(key::URL_QUERY, &redact::query(query));
        }
        if let Some(agent) = text(head, header::USER_AGENT) {
            span.set_str(key::USER_AGENT_ORIGINAL, agent);
        }
        set_host(span, head);
    }
}

fn scheme(met: &Met<'_>) -> &'static str {
    if met.secure { "https" } else { "http" }
}

/// The version of HTTP.
pub(crate) fn of_version(span: &mut Span, version: Version) {
    span.set_static(key::NETWORK_PROTOCOL_VERSION, http_version(version));
}

/// What a request of an agent to the registry of its mesh is for. There are
/// few agents, so theirs may be in the name.
pub(super) fn of_registry(span: &mut Span, call: &RegistryCall<'_>) {
    span.set_name_parts(call.operation.as_str(), &call.agent);
    span.set_str(key::AGENT_NAME, &call.agent);
    span.set_str(key::AGENT_ID, &call.agent_id);
}

/// Who calls the pod.
pub(crate) fn of_client(span: &mut Span, met: &Met<'_>) {
    if !met.outbound {
        span.set_str(key::CLIENT_ADDRESS, &met.downstream.ip);
        span.set_int(key::CLIENT_PORT, i64::from(met.downstream.address.port()));
    }
}

/// Whom the pod calls.
pub(crate) fn of_server(span: &mut Span, met: &Met<'_>) {
    if met.outbound {
        span.set_str(key::SERVER_ADDRESS, &met.target.host);
        span.set_int(key::SERVER_PORT, i64::from(met.target.port));
        if let Some(peer) = met.upstream.filter(|_| met.claimed) {
            // The name is not what the connection was opened by.
            span.set_str(key::NETWORK_PEER_ADDRESS, &peer.ip().to_string());
            span.set_int(key::NETWORK_PEER_PORT, i64::from(peer.port()));
        }
    }
}

/// `network.protocol.version`
pub(super) fn http_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// The server as the client named it.
fn set_host(span: &mut Span, head: &request::Parts) {
    let authority = head.uri.authority().cloned();
    let named = authority.or_else(|| text(head, header::HOST)?.parse().ok());
    if let Some(named) = named {
        span.set_str(key::SERVER_ADDRESS, named.host());
        if let Some(port) = named.port_u16() {
            span.set_int(key::SERVER_PORT, i64::from(port));
        }
    }
}

fn text(head: &request::Parts, name: HeaderName) -> Option<&str> {
    head.headers.get(name)?.to_str().ok()
}

/// The methods of RFC 9110 and `PATCH`; others would make names unbounded.
fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method == known)
}
