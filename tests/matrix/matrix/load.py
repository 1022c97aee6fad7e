"""The caller: a hundred requests at once, each in a trace of its own.

Everything random comes from the seed of the run, so a run can be repeated.
"""

import asyncio
import itertools
import json
from dataclasses import dataclass

from .legacy import Session
from .web import Connection

AT_ONCE = 100
SESSIONS = 4
PATIENCE = 400
VERSION = "2025-06-18"


@dataclass(frozen=True)
class Request:
    """One request of the caller, with what only it carries."""

    n: int
    trace: str
    span: str

    @property
    def traceparent(self):
        """The context as it leaves the caller."""
        return f"00-{self.trace}-{self.span}-01"

    @property
    def context(self):
        """All three names. The `mt` member is what a sidecar would write."""
        return {
            "traceparent": self.traceparent,
            "tracestate": f"mt={self.span},caller=request{self.n}",
            "baggage": f"request=number{self.n}",
        }

    @property
    def order(self):
        """A value among the arguments that no other request has."""
        return f"order-{self.n:08}-{self.span}"


def requests(count, random):
    """The requests of a cell."""
    hexes = lambda size: f"{random.getrandbits(size * 4) | 1:0{size}x}"
    return [Request(n, hexes(32), hexes(16)) for n in range(count)]


async def drive(cell, port, made, settled):
    """Sends them all; returns what went wrong, one line each.

    The caller stays until `settled` says that the last call was made: some
    servers end what a request still does soon after its client has left.
    """
    sender = SENDERS[cell.entry](cell, port)
    await sender.open()
    todo, failed = iter(made), []
    connections = [Connection(port) for _ in range(AT_ONCE)]

    async def worker(number, connection):
        for request in todo:
            try:
                await asyncio.wait_for(sender.send(connection, number, request), PATIENCE)
            except Exception as error:
                failed.append(f"request {request.n}: {type(error).__name__}: {error}")
                connection.close()
                if len(failed) > 5:
                    break

    await asyncio.gather(*(worker(number, connection) for number, connection in enumerate(connections)))
    await settled(5 if failed else 20)
    for connection in connections:
        connection.close()
    sender.close()
    return failed


HELLO = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "matrix", "version": "1"}}


def work(cell, request):
    """The parameters of a call of the agent's tool."""
    arguments = {"n": request.n, **({"order": request.order} if cell.ordered else {})}
    return {"name": cell.path, "arguments": arguments, "_meta": request.context}


class Web:
    """Plain requests to a web agent."""

    def __init__(self, cell, port):
        self.cell, self.port = cell, port

    async def open(self):
        """Nothing precedes a request."""

    def close(self):
        """Nothing follows the last one."""

    async def send(self, connection, _, request):
        """One request to its end."""
        path = f"/{self.cell.path}/{request.n}"
        status, _, body = await connection.ask("GET", path, request.context.items())
        if status != 200:
            raise RuntimeError(f"{status} {body[:200]!r}")


class Mcp:
    """Tool calls, in a few sessions that all callers share, or without any."""

    def __init__(self, cell, port):
        self.cell, self.port = cell, port
        self.sessions = [None]
        self.ids = itertools.count(1)

    async def open(self):
        """Shakes hands for each session."""
        if self.cell.stateless:
            return
        self.sessions = []
        for _ in range(SESSIONS):
            connection = Connection(self.port)
            _, fields, _ = await self._post(connection, "initialize", HELLO, None)
            self.sessions.append(fields.get("mcp-session-id"))
            await self._post(connection, "notifications/initialized", None, self.sessions[-1], note=True)
            connection.close()

    async def send(self, connection, number, request):
        """One call of a tool to its end."""
        session = self.sessions[number % len(self.sessions)]
        status, _, body = await self._post(
            connection, "tools/call", work(self.cell, request), session, request.context.items()
        )
        if status != 200 or f'"text":"{request.n}"'.encode() not in body.replace(b'": "', b'":"'):
            raise RuntimeError(f"{status} {body[:300]!r}")

    def close(self):
        """Sessions are left as they are."""

    async def _post(self, connection, method, params, session, fields=(), note=False):
        message = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        if not note:
            message["id"] = next(self.ids)
        sent = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", VERSION),
            *fields,
        ]
        if session:
            sent.append(("Mcp-Session-Id", session))
        return await connection.ask("POST", "/mcp", sent, json.dumps(message).encode())


class Legacy:
    """Tool calls in a few sessions of the transport of 2024."""

    def __init__(self, cell, port):
        self.cell, self.port = cell, port
        self.sessions = []
        self.ids = itertools.count(1)

    async def open(self):
        """Shakes hands for each session."""
        for _ in range(SESSIONS):
            session = Session(self.port)
            await session.open()
            connection = Connection(self.port)
            hello = {"jsonrpc": "2.0", "id": next(self.ids), "method": "initialize", "params": HELLO}
            await session.ask(connection, hello, ())
            await session.ask(connection, {"jsonrpc": "2.0", "method": "notifications/initialized"}, ())
            connection.close()
            self.sessions.append(session)

    def close(self):
        """Ends the streams."""
        for session in self.sessions:
            session.close()

    async def send(self, connection, number, request):
        """One call of a tool to its end."""
        message = {"jsonrpc": "2.0", "id": next(self.ids), "method": "tools/call"}
        message["params"] = work(self.cell, request)
        session = self.sessions[number % len(self.sessions)]
        reply = await session.ask(connection, message, request.context.items())
        if str(request.n) != reply.get("result", {}).get("content", [{}])[0].get("text"):
            raise RuntimeError(str(reply)[:300])


SENDERS = {"web": Web, "mcp": Mcp, "sse": Legacy}
