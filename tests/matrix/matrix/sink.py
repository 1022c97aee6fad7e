"""The other end of every call: an HTTP and MCP server that notes what arrives.

`GET /call/<kind>/<n>` and the tool `call(kind, n)` say in themselves for which
request they are made.
"""

import asyncio
import json
from dataclasses import dataclass

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
        """Waits for calls that outlive the request that they are made for."""
        for _ in range(patience * 20):
            if len(self.calls) >= wanted:
                return
            await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        try:
            while True:
                start, fields = await read_head(reader)
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
            kind, n = path.split("/")[-2:]
            self._note(kind, n, fields, {})
            return answer("200 OK", b"ok", PLAIN)
        if method == "DELETE":
            return answer("200 OK")
        if method != "POST":
            return answer("405 Method Not Allowed")
        return self._mcp(json.loads(body), fields)

    def _note(self, kind, n, header, meta):
        keep = lambda held: {name: held[name] for name in NAMES if name in held}
        self.calls.append(Call(kind, int(n), keep(header), keep(meta)))

    def _mcp(self, message, fields):
        if "id" not in message:
            return answer("202 Accepted")
        method, params = message.get("method"), message.get("params") or {}
        if method == "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "sink", "version": "1"},
            }
            return self._result(message, result, "Mcp-Session-Id: sink")
        if method == "tools/call":
            arguments = params["arguments"]
            self._note(arguments["kind"], arguments["n"], fields, params.get("_meta") or {})
            content = [{"type": "text", "text": "ok"}]
            return self._result(message, {"content": content, "isError": False})
        if method == "tools/list":
            schema = {"type": "object", "properties": {"kind": {"type": "string"}, "n": {"type": "integer"}}}
            return self._result(message, {"tools": [{"name": "call", "inputSchema": schema}]})
        if method == "ping":
            return self._result(message, {})
        error = {"code": -32601, "message": "Method not found"}
        reply = {"jsonrpc": "2.0", "id": message["id"], "error": error}
        return answer("200 OK", json.dumps(reply).encode(), JSON)

    @staticmethod
    def _result(message, result, *fields):
        reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        return answer("200 OK", json.dumps(reply).encode(), JSON, *fields)
