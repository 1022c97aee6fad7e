//! The names of attributes and their fixed values: OpenTelemetry's semantic
//! conventions for MCP, JSON-RPC, HTTP and networks, and our own under
//! `meshtrace.`.

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(#[doc = concat!("`", $text, "`")] pub const $name: &str = $text;)*
    };
}

names! {
    MCP_METHOD_NAME = "mcp.method.name";
    MCP_PROTOCOL_VERSION = "mcp.protocol.version";
    MCP_SESSION_ID = "mcp.session.id";
    MCP_RESOURCE_URI = "mcp.resource.uri";
    GEN_AI_OPERATION_NAME = "gen_ai.operation.name";
    AGENT_ID = "agent.id";
    AGENT_NAME = "agent.name";
    AGENT_TARGET = "agent.target";
    GEN_AI_TOOL_NAME = "gen_ai.tool.name";
    GEN_AI_PROMPT_NAME = "gen_ai.prompt.name";
    GEN_AI_TOOL_CALL_ARGUMENTS = "gen_ai.tool.call.arguments";
    EXECUTE_TOOL = "execute_tool";
    JSONRPC_REQUEST_ID = "jsonrpc.request.id";
    JSONRPC_PROTOCOL_VERSION = "jsonrpc.protocol.version";
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code";
    ERROR_TYPE = "error.type";
    TOOL_ERROR = "tool_error";
    NETWORK_TRANSPORT = "network.transport";
    NETWORK_PROTOCOL_NAME = "network.protocol.name";
    NETWORK_PROTOCOL_VERSION = "network.protocol.version";
    NETWORK_PEER_ADDRESS = "network.peer.address";
    NETWORK_PEER_PORT = "network.peer.port";
    CLIENT_ADDRESS = "client.address";
    CLIENT_PORT = "client.port";
    SERVER_ADDRESS = "server.address";
    SERVER_PORT = "server.port";
    HTTP_REQUEST_METHOD = "http.request.method";
    HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original";
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    URL_PATH = "url.path";
    URL_QUERY = "url.query";
    URL_SCHEME = "url.scheme";
    URL_FULL = "url.full";
    USER_AGENT_ORIGINAL = "user_agent.original";
    MESHTRACE_PARENT_METHOD = "meshtrace.parent.method";
    MESHTRACE_PARENT_EXACT = "meshtrace.parent.exact";
    MESHTRACE_PARENT_CANDIDATES = "meshtrace.parent.candidates";
    MESHTRACE_PARENT_LATE = "meshtrace.parent.late";
    MESHTRACE_PARENT_CONFLICT = "meshtrace.parent.conflict";
    MESHTRACE_LINK_REASON = "meshtrace.link.reason";
    MESHTRACE_SAMPLING_REASON = "meshtrace.sampling.reason";
    MESHTRACE_BODY = "meshtrace.body";
    MESHTRACE_RESPONSE = "meshtrace.response";
    MESHTRACE_CANCELLED = "meshtrace.cancelled";
    MESHTRACE_DISCONNECTED = "meshtrace.disconnected";
    MESHTRACE_RESULT_TYPE = "meshtrace.result.type";
    MESHTRACE_TASK_ID = "meshtrace.task.id";
    MESHTRACE_TASK_STATUS = "meshtrace.task.status";
    MESHTRACE_RESUMED = "meshtrace.resumed";
    MESHTRACE_PROGRESS_COUNT = "meshtrace.progress.count";
    MESHTRACE_TUNNEL_SENT = "meshtrace.tunnel.sent_bytes";
    MESHTRACE_TUNNEL_RECEIVED = "meshtrace.tunnel.received_bytes";
}

/// Whether a JSON-RPC error code is, on the server's side, no error of the
/// server: the caller asked for something wrong (conventions for MCP spans).
pub fn is_callers_fault(code: i64) -> bool {
    matches!(code, -32700 | -32600 | -32601 | -32602 | -32002)
}
