"""The other end of every call: an HTTP and MCP server that notes what arrives.

`GET /call/<kind>/<n>` and the tool `call(kind, n)` say in themselves for which
request they are made.
"""

import asyncio
import json
from dataclasses import dataclass

from .legacy import MESSAGES, Streams
from .web import answer, read_body, read_head

NAMES = ("traceparent", "tracestate", "baggage")
PLAIN = "Content-Type: text/plain"
JSON = "Content-Type: application/json"


@dataclass
class Call:
    """One call that arrived."""

    kind: str
    n: int
    header: dict
    meta: dict

    def context(self):
        """The carrier that counts: `_meta` where it has a context."""
        return self.meta if self.meta.get("traceparent") else self.header


class Sink:
    """Listens on a free loopback port."""

    def __init__(self):
        self.calls = []
        self.streams = Streams()
        self.server = None
        self.port = 0

    async def start(self):
        """Begins to accept; sets `port`."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self):
        """Stops accepting."""
        self.server.close()

    async def settled(self, wanted, patience=20):
        """Waits for calls that outlive the request that they are made for, until none has come for so many seconds."""
        idle, seen = 0, -1
        while len(self.calls) < wanted and idle < patience * 20:
            idle, seen = (0 if len(self.calls) > seen else idle + 1), len(self.calls)
            await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        try:
            while True:
                start, fields = await read_head(reader)
                if start.startswith("GET /sse "):
                    await self.streams.serve(reader, writer)
                    return
                body = await read_body(reader, fields) if "post" in start[:4].lower() else b""
                writer.write(self._answer(start.split(" "), fields, body))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, start, fields, body):
        method, path = start[0], start[1]
        if method == "GET" and "/call/" in path:
            kind, n = path.partition("?")[0].split("/")[-2:]
            self._note(kind, n, fields, {})
            return answer("200 OK", b"ok", PLAIN)
        if method == "DELETE":
            return answer("200 OK")
        if method != "POST":
            return answer("405 Method Not Allowed")
        message = json.loads(body)
        reply = self._reply(message, fields)
        if MESSAGES in path:
            return self.streams.post(path, reply)
        if reply is None:
            return answer("202 Accepted")
        session = ["Mcp-Session-Id: sink"] if message.get("method") == "initialize" else []
        return answer("200 OK", json.dumps(reply).encode(), JSON, *session)

    def _note(self, kind, n, header, meta):
        keep = lambda held: {name: held[name] for name in NAMES if name in held}
        self.calls.append(Call(kind, int(n), keep(header), keep(meta)))

    def _reply(self, message, fields):
        """What an MCP server says to a message; None to one without an id."""
        if "id" not in message:
            return None
        method, params = message.get("method"), message.get("params") or {}
        reply = {"jsonrpc": "2.0", "id": message["id"]}
        if method == "initialize":
            server = {"name": "sink", "version": "1"}
            version = params["protocolVersion"]
            return reply | {
                "result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
            }
        if method == "tools/call":
            arguments = params["arguments"]
            self._note(arguments["kind"], arguments["n"], fields, params.get("_meta") or {})
            return reply | {"result": {"content": [{"type": "text", "text": "ok"}], "isError": False}}
        if method == "tools/list":
            schema = {"type": "object", "properties": {"kind": {"type": "string"}, "n": {"type": "integer"}}}
            return reply | {"result": {"tools": [{"name": "call", "inputSchema": schema}]}}
        if method == "ping":
            return reply | {"result": {}}
        return reply | {"error": {"code": -32601, "message": "Method not found"}}
