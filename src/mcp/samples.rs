//! Messages as clients and servers of both eras write them: the ground that the tests and mutations
//! start from.

/// Calls and notifications.
pub(super) const CALLS: &[&str] = &[
    // MCP 2026-07-28, as a Python client writes it.
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"Zürich","days":3,"units":["c","mm"]},"_meta":{"progressToken":3,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp","version":"2.3.0"},"io.modelcontextprotocol/clientCapabilities":{},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}}"#,
    r#"{"jsonrpc":"2.0","id":"a7c1","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{"form":{}}}}}}"#,
    r#"{"method":"tools/call","params":{"_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03","tracestate":"ot=th:8;rv:0123456789abcd,a=1","baggage":"tenant=7,user=x%20y;p=1"},"name":"search","arguments":{"q":"a \"quoted\" word\n\\ and 😀"}},"jsonrpc":"2.0","id":"1"}"#,
    r#"{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"name":"book","arguments":{},"inputResponses":{"k1":{"action":"accept","content":{"ok":true}}},"requestState":"b64:AAAA==","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    r#"{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"taskIds":["t-1"]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    r#"{"jsonrpc":"2.0","id":8,"method":"resources/read","params":{"uri":"file:///srv/data/report.txt","_meta":{}}}"#,
    r#"{"jsonrpc":"2.0","id":9,"method":"prompts/get","params":{"name":"review","arguments":{"code":"fn main() {}"}}}"#,
    r#"{"jsonrpc":"2.0","id":10,"method":"tasks/get","params":{"taskId":"t-786512e2"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7},"notifications":{}}}"#,
    // Up to MCP 2025-11-25.
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"desktop-client","title":"A client","version":"0.1.0"}}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#,
    r#"{"method":"ping","jsonrpc":"2.0","id":123}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"123","reason":"User said \u0022stop\u0022"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"abc","progress":0.5,"total":1e2,"message":"half"}}"#,
    r#"{"jsonrpc":"2.0","id":2,"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}],"maxTokens":100,"_meta":{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"}}}"#,
    r#"{"jsonrpc":"2.0","id":5,"method":"elicitation/create","params":{"message":"Sure?","requestedSchema":{"type":"object","properties":{"ok":{"type":"boolean"}}}}}"#,
    r#"{"jsonrpc":"2.0","id":44,"method":"tools/call","params":{"name":"long","arguments":null,"task":{"ttl":60000}}}"#,
    // Not usual, all legal.
    "\r\n{ \"jsonrpc\" : \"2.0\" ,\n\t\"id\" : -1 ,\n\t\"method\" : \"tools/call\" ,\n\t\"params\" : { \"_meta\" : { \"baggage\" : \"a=1\" , \"x\" : [ { } , [ ] ] , \"tracestate\" : 7 } , \"name\" : \"t\" } }\n",
    r#"{"jsonrpc":"2.0","\u0069d":1.5,"\u006dethod":"t\u006fols/call","p\u0061rams":{"\u005fmeta":{"trac\u0065parent":"x"},"nam\u0065":"esc\u0061ped"}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"custom/thing","params":[1,2]}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"custom/thing","params":{"_meta":null}}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"baggage":["no","text"],"traceparent":null,"tracestate":{"a":{}}}}}"#,
];

/// Answers.
pub(super) const ANSWERS: &[&str] = &[
    r#"{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"{\n  \"temperature\": 21.5,\n  \"sky\": \"clear\"\n}"}],"structuredContent":{"temperature":21.5},"isError":false,"resultType":"complete"}}"#,
    r#"{"result":{"content":[{"type":"text","text":"Unknown tool: x"}],"isError":true},"jsonrpc":"2.0","id":1}"#,
    r#"{"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"demo","version":"1"}},"jsonrpc":"2.0","id":0}"#,
    r#"{"jsonrpc":"2.0","id":12,"result":{"resultType":"input_required","inputRequests":{"k1":{"method":"elicitation/create","params":{"message":"ok?"}}},"requestState":"b64:AAAA=="}}"#,
    r#"{"jsonrpc":"2.0","id":13,"result":{"resultType":"task","taskId":"t-786512e2","status":"working","ttlMs":60000,"pollIntervalMs":500}}"#,
    r#"{"jsonrpc":"2.0","id":13,"result":{"task":{"taskId":"t-786512e2","status":"working","createdAt":"2025-11-25T10:30:00Z","ttl":60000}}}"#,
    r#"{"jsonrpc":"2.0","id":14,"error":{"code":-32602,"message":"Invalid params: \"name\" is required","data":{"path":["params","name"]}}}"#,
    r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#,
    r#"{"jsonrpc":"2.0","error":{"code":-32020,"message":"HeaderMismatch"}}"#,
    r#"{"jsonrpc":"2.0","id":"x","result":{}}"#,
    r#"{"id":4,"jsonrpc":"2.0","error":null,"result":{"tools":[{"name":"get_weather","description":"Weather","inputSchema":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}],"ttlMs":1000}}"#,
];

/// Batches, as MCP 2025-03-26 has them.
pub(super) const BATCHES: &[&str] = &[
    r#"[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","method":"notifications/initialized"}]"#,
    r#" [ {"result":{"content":["]","{"]},"jsonrpc":"2.0","id":1} ,
 {"jsonrpc":"2.0","id":"1","error":{"code":-1,"message":"\"}}]"#,
];

/// Streams, to be read as they are and with other line ends.
pub(super) const STREAMS: &[&str] = &[
    "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
    "id: 1_0\ndata: \n\nevent: message\nid: 1_1\ndata: {\"result\":{},\"jsonrpc\":\"2.0\",\"id\":1}\n\n",
    ": ping\n\n: ping - 2025-11-25 10:30:00\n\ndata: one\ndata: two\ndata\ndata:  three\n\n",
    "event: endpoint\ndata: /messages/?session_id=0123456789abcdef\n\n",
    "\u{feff}retry: 1500\nid\nevent: x\nevent:\ndata:a:b\nunknown: field\n\ndata: unfinished\n",
    "event: message\nid: 4\ndata: {\"method\":\"roots/list\",\"jsonrpc\":\"2.0\",\"id\":1}\n\ndata: {\"id\":2,\"params\":{\"a\":\"}\\\"\"},\"method\":\"notifications/progress\"}\n\n",
    "\n\n\nevent: only a type\n\ndata: after\n\n",
];

/// A small deterministic generator (xorshift), so that a failure can be repeated.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides.max(1)
    }

    pub(super) fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.roll(of.len())]
    }
}
