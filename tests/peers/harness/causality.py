"""An agent that calls a second agent, a hundred times at once.

    caller → sidecar of A → agent A → sidecar of A → sidecar of B → agent B

A is an agent on `mcp` 2.x with no OpenTelemetry SDK. Each call brings a trace
of its own, so every span says by its trace id which call caused it. What is
asked:

- every CLIENT span of A's sidecar is a child of exactly the SERVER span of
  the call that caused it, and says that this is proved,
- B's SERVER span is a child of that CLIENT span,
- B's application saw its own SERVER span, and the baggage and the
  `tracestate` of the very caller, although A drops baggage.
"""

import asyncio
import json
import secrets
from collections import Counter
from dataclasses import dataclass

from . import http1, wire
from .cells import endings, start_server
from .processes import free_ports, start_sidecar

AT_ONCE = 100


@dataclass(frozen=True)
class Case:
    """How A's tool keeps its client, and how A speaks to B."""

    tool: str
    era: str
    mode: str

    def __str__(self):
        return f"{AT_ONCE} at once: {self.tool} {self.era} {self.mode}"


def cases(quick):
    """The cases of a run."""
    yield Case("relay_shared", "auto", "json")
    yield Case("relay", "auto", "sse")
    if not quick:
        yield Case("relay_shared", "legacy", "sse")
        yield Case("relay", "legacy", "json")


@dataclass
class Call:
    """One call of the caller, with what only it knows."""

    number: int
    trace: str
    span: str
    answer: dict | None = None

    def body(self, tool):
        """The JSON-RPC request; the context is in `_meta`, as the protocol reserves it."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "traceparent": f"00-{self.trace}-{self.span}-03",
            "tracestate": f"vendor=call{self.number}",
            "baggage": f"caller=number{self.number}",
        }
        arguments = {"tool": "seen", "text": f"call {self.number}"}
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": self.number, "method": "tools/call", "params": params}
        return json.dumps(message).encode()

    async def make(self, port, tool):
        """Sends it on a connection of its own and keeps the answer of B's tool."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            body = self.body(tool)
            head = (
                f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                "Content-Type: application/json\r\n"
                "Accept: application/json, text/event-stream\r\n"
                "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
                f"Mcp-Name: {tool}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            response = await asyncio.wait_for(whole_response(reader), 60)
        finally:
            writer.close()
        result = wire.messages(response)[-1]["result"]
        text = result["content"][0]["text"]
        if result.get("isError"):
            raise RuntimeError(f"the agent answered: {text}")
        self.answer = json.loads(text)


async def whole_response(reader):
    """Reads one response to its end, whether or not the connection then ends too."""
    received = b""
    while data := await reader.read(65536):
        received += data
        response, _ = http1.read(received, "POST")
        if response.complete and response.framing != "close":
            return response
    return http1.read(received, "POST")[0]


async def run(case, binary, receiver):
    """Runs one case, without sidecars when there is no binary; returns its complaints."""
    a, b = f"agent A, {case}", f"agent B, {case}"
    into_a, out_of_a, into_b = free_ports(3)
    agents, sidecars, codes = [], [], []
    try:
        server_b, port_b = await start_server("mcp2", case.mode)
        agents.append(server_b)
        url = f"http://127.0.0.1:{out_of_a if binary else port_b}/mcp"
        server_a, port_a = await start_server("mcp2", case.mode, PEER_URL=url, PEER_ERA=case.era)
        agents.append(server_a)
        if binary:
            inbound, outbound = [(into_a, port_a)], [(out_of_a, into_b)]
            sidecars.append(await start_sidecar(binary, b, receiver, inbound=[(into_b, port_b)]))
            sidecars.append(
                await start_sidecar(binary, a, receiver, inbound=inbound, outbound=outbound)
            )
        calls = [Call(n, secrets.token_hex(16), secrets.token_hex(8)) for n in range(AT_ONCE)]
        made = await asyncio.gather(
            *(call.make(into_a if binary else port_a, case.tool) for call in calls),
            return_exceptions=True,
        )
    finally:
        # The agents first: a sidecar waits for their connections.
        for process in agents:
            await process.stop()
        codes = [await sidecar.stop() for sidecar in sidecars]
    failed = [f"call {n}: {error!r}" for n, error in enumerate(made) if error is not None]
    if failed:
        said = [process.said()[-600:] for process in (*agents, *sidecars)]
        return [f"{len(failed)} calls failed", *failed[:3], *said]
    if not binary:
        return judge_direct(calls)
    return endings(sidecars, codes) + judge(calls, receiver.of(a), receiver.of(b))


def judge_direct(calls):
    """Complaints about the agents by themselves: A passes the caller's context on unchanged."""
    found = []
    for call in calls:
        got = call.answer["meta"].get("traceparent")
        if call.answer["text"] != f"call {call.number}":
            found.append(f"call {call.number}: got the answer to {call.answer['text']!r}")
        if got != f"00-{call.trace}-{call.span}-03":
            found.append(f"call {call.number}: B saw {got!r}")
    return found


def judge(calls, at_a, at_b):
    """Complaints about the spans of both sidecars."""
    found = []
    servers_a = {span.trace: span for span in at_a if span.kind == "SERVER"}
    clients_a = [span for span in at_a if span.kind == "CLIENT"]
    servers_b = [span for span in at_b if span.kind == "SERVER"]
    if len(servers_a) != len(calls) or len(at_a) - len(clients_a) != len(calls):
        found.append(f"{len(at_a) - len(clients_a)} SERVER spans at A for {len(calls)} calls")
    for call in calls:
        server = servers_a.get(call.trace)
        if server is None or server.parent != call.span:
            found.append(f"call {call.number}: its SERVER span at A has the wrong parent")
            continue
        found += judge_call(call, server, clients_a, servers_b)
    found += strangers(calls, clients_a, servers_b)
    return found


def judge_call(call, server, clients_a, servers_b):
    """Complaints about what one call left behind A."""
    found = []
    mine = [span for span in clients_a if span.trace == call.trace]
    for client in mine:
        how = client.attributes.get("meshtrace.parent.method")
        exact = client.attributes.get("meshtrace.parent.exact")
        if client.parent != server.id:
            found.append(f"call {call.number}: {client.name!r} has a wrong parent")
        if client.attributes.get("mcp.method.name") and (how, exact) != ("propagated.meta", True):
            found.append(f"call {call.number}: {client.name!r} was parented by {how!r}, {exact!r}")
    seen = [span for span in mine if span.name == "tools/call seen"]
    if len(seen) != 1:
        return [*found, f"call {call.number}: {len(seen)} CLIENT spans of its tool call"]
    children = [span for span in servers_b if span.parent == seen[0].id]
    if len(children) != 1 or children[0].trace != call.trace:
        return [*found, f"call {call.number}: {len(children)} SERVER spans at B"]
    return found + judge_answer(call, children[0])


def judge_answer(call, server_b):
    """Complaints about what B's application saw of one call."""
    found = []
    if call.answer["text"] != f"call {call.number}":
        found.append(f"call {call.number}: got the answer to {call.answer['text']!r}")
    for place in ("meta", "header"):
        got = call.answer[place]
        if got.get("traceparent") != f"00-{call.trace}-{server_b.id}-03":
            found.append(f"call {call.number}: B saw {got.get('traceparent')!r} in its {place}")
        if f"vendor=call{call.number}" not in (got.get("tracestate") or "").split(","):
            found.append(f"call {call.number}: B saw tracestate {got.get('tracestate')!r}")
        if f"caller=number{call.number}" not in (got.get("baggage") or "").split(","):
            found.append(f"call {call.number}: B saw baggage {got.get('baggage')!r}")
    return found


def strangers(calls, clients_a, servers_b):
    """Complaints about MCP spans that belong to no call or hang in the air.

    Notifications are not asked: the SDK gives them no context.
    """
    traces = {call.trace for call in calls}
    ids = {span.id for span in clients_a}
    found = Counter()
    for span in (*clients_a, *servers_b):
        method = span.attributes.get("mcp.method.name") or "notifications/"
        if not method.startswith("notifications/") and span.trace not in traces:
            found[f"a {span.kind} span {span.name!r} is in no caller's trace"] += 1
    for span in servers_b:
        if span.parent not in ids:
            found[f"a SERVER span {span.name!r} at B has no CLIENT span at A"] += 1
    return [f"{text} ({count} times)" for text, count in found.items()]
