//! The names of attributes and their fixed values: OpenTelemetry's semantic
//! conventions for MCP, A2A, GenAI, JSON-RPC, HTTP and networks, and our own under
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
    GEN_AI_CONVERSATION_ID = "gen_ai.conversation.id";
    A2A_METHOD_NAME = "a2a.method.name";
    A2A_PROTOCOL_VERSION = "a2a.protocol.version";
    A2A_MESSAGE_ID = "a2a.message.id";
    A2A_MESSAGE_REFERENCE_TASK_IDS = "a2a.message.reference_task_ids";
    A2A_TASK_ID = "a2a.task.id";
    A2A_TASK_STATE = "a2a.task.state";
    A2A_TENANT = "a2a.tenant";
    GEN_AI_PROVIDER_NAME = "gen_ai.provider.name";
    GEN_AI_REQUEST_MODEL = "gen_ai.request.model";
    GEN_AI_REQUEST_STREAM = "gen_ai.request.stream";
    GEN_AI_REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens";
    GEN_AI_REQUEST_SEED = "gen_ai.request.seed";
    GEN_AI_REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count";
    GEN_AI_REQUEST_TEMPERATURE = "gen_ai.request.temperature";
    GEN_AI_REQUEST_TOP_P = "gen_ai.request.top_p";
    GEN_AI_REQUEST_TOP_K = "gen_ai.request.top_k";
    GEN_AI_REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty";
    GEN_AI_REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty";
    GEN_AI_REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences";
    GEN_AI_EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count";
    GEN_AI_RESPONSE_ID = "gen_ai.response.id";
    GEN_AI_RESPONSE_MODEL = "gen_ai.response.model";
    GEN_AI_RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons";
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk";
    GEN_AI_USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens";
    GEN_AI_USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens";
    GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens";
    GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS = "gen_ai.usage.cache_write.input_tokens";
    GEN_AI_USAGE_REASONING_OUTPUT_TOKENS = "gen_ai.usage.reasoning.output_tokens";
    OPENAI_API_TYPE = "openai.api.type";
    OPENAI_REQUEST_SERVICE_TIER = "openai.request.service_tier";
    OPENAI_RESPONSE_SERVICE_TIER = "openai.response.service_tier";
    OPENAI_RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint";
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
