"""What the spans of an exchange must be, worked out from the wire alone.

For each POST that the client sent, the recording says what was called and
what came of it. From that follow the name, the attributes and the status
that the conventions for MCP ask of the CLIENT span at the caller's sidecar
and of the SERVER span at the other one.
"""

import json
from dataclasses import dataclass, field

from . import wire

MODERN = "2026-07-28"
# A SERVER span does not call these an error: the caller is to blame.
CALLERS_FAULT = {-32700, -32600, -32601, -32602, -32002}
# The largest body that a sidecar reads by default; more streams through unseen.
BODY_LIMIT = 1 << 20
UNTRACED = {"ping"}
SESSION_LONG = {"initialize"}


@dataclass
class Expected:
    """One request on the wire and the pair of spans it must have left."""

    method: str
    id: str | None
    name: str
    attributes: dict
    absent: set
    parent: str | None
    read: bool = True
    status: dict = field(default_factory=dict)  # kind -> (status, description, error.type, code)

    def key(self):
        """What tells it from the other requests of its cell."""
        return (self.method, self.id, self.name)


def of_connections(connections):
    """Everything expected of all requests, and the notifications that may have spans."""
    found, notifications = [], []
    for exchange in (e for connection in connections for e in connection):
        if not exchange.request.start.startswith("POST "):
            continue
        body = json.loads(exchange.request.body)
        if "method" in body and "id" not in body:
            notifications.append(body["method"])
        elif "method" in body and body["method"] not in UNTRACED:
            found.append(of_exchange(exchange, body))
    return found, notifications


def of_exchange(exchange, body):
    """What one request must have left."""
    request, response = exchange.request, exchange.response
    params = body.get("params") or {}
    read = len(request.body) <= BODY_LIMIT
    modern = request.get("mcp-protocol-version") == MODERN
    if not read and not modern:
        return unread(exchange)
    target = target_of(body["method"], params)
    expected = Expected(
        method=body["method"],
        id=str(body["id"]) if read else None,
        name=" ".join(filter(None, (body["method"], target))),
        attributes=common(request, response, body, params),
        absent=set(),
        parent=(params.get("_meta") or {}).get("traceparent") or request.get("traceparent"),
        read=read,
    )
    if not read:
        expected.attributes.pop("jsonrpc.request.id")
    expected.absent = {"mcp.session.id"} - expected.attributes.keys()
    outcome(expected, response, body)
    return expected


def unread(exchange):
    """A handshake-era body over the limit: no more is known of it than of any HTTP request."""
    request, response = exchange.request, exchange.response
    attributes = {
        "http.request.method": "POST",
        "http.response.status_code": response.status(),
    }
    expected = Expected("POST", None, "POST", attributes, {"mcp.method.name"}, None, read=False)
    expected.status = {kind: ("UNSET", "", None, None) for kind in ("CLIENT", "SERVER")}
    return expected


def target_of(method, params):
    """The second word of the span's name; resources have none, their number is unbounded."""
    return params.get("name") if method in ("tools/call", "prompts/get") else None


def common(request, response, body, params):
    """Attributes that both spans must have, with their values."""
    method = body["method"]
    wanted = {
        "mcp.method.name": method,
        "jsonrpc.request.id": str(body["id"]),
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
    }
    if method == "tools/call":
        wanted |= {"gen_ai.tool.name": params["name"], "gen_ai.operation.name": "execute_tool"}
    if method == "prompts/get":
        wanted["gen_ai.prompt.name"] = params["name"]
    if method == "resources/read":
        wanted["mcp.resource.uri"] = params["uri"]
    version = request.get("mcp-protocol-version")
    session = request.get("mcp-session-id")
    if method == "initialize" and response is not None:
        answers = wire.messages(response)
        version = answers[-1].get("result", {}).get("protocolVersion") if answers else None
        session = response.get("mcp-session-id") if response.status() == 200 else None
    if version:
        wanted["mcp.protocol.version"] = version
    if session:
        wanted["mcp.session.id"] = session
    return wanted


def outcome(expected, response, body):
    """Fills in what came of the request, for both kinds of span."""
    answer = answer_to(response, body["id"])
    result, error = answer.get("result"), answer.get("error")
    if error is not None:
        code = str(error["code"])
        failed = ("ERROR", error["message"], code, code)
        blameless = ("UNSET", "", None, code)
        expected.status["CLIENT"] = failed
        expected.status["SERVER"] = blameless if error["code"] in CALLERS_FAULT else failed
    elif result is not None and result.get("isError") is True:
        for kind in ("CLIENT", "SERVER"):
            expected.status[kind] = ("ERROR", None, "tool_error", None)
    elif result is not None:
        for kind in ("CLIENT", "SERVER"):
            expected.status[kind] = ("UNSET", "", None, None)
    elif response is None or not response.complete:
        # The client left. That cancels a modern call, and cancelling is no failure.
        expected.attributes["meshtrace.cancelled"] = True
        for kind in ("CLIENT", "SERVER"):
            expected.status[kind] = ("UNSET", "", None, None)
    else:
        status = str(response.status())
        failed = ("ERROR", None, status, None)
        expected.attributes["http.response.status_code"] = response.status()
        expected.status["CLIENT"] = failed
        expected.status["SERVER"] = failed if status >= "500" else ("UNSET", "", None, None)


def answer_to(response, id):
    """The JSON-RPC answer to a request: by id, or the error that is all there is.

    A server that could not read the request answers with no id, with null,
    or with an id of its own making; the exchange says what it answers.
    """
    answers = wire.messages(response) if response is not None else []
    for message in answers:
        if message.get("id") == id and ("result" in message or "error" in message):
            return message
    if len(answers) == 1 and "code" in (answers[0].get("error") or {}):
        return answers[0]
    return {}
