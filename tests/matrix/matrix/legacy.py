"""The transport of 2024 at both ends: a stream of events that answers what is posted elsewhere."""

import asyncio
import itertools
import json

from .web import Connection, answer, read_head

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
)
MESSAGES = "/messages/?session_id="


class Streams:
    """The sink's end: the streams that are open, by the session in the address to post to."""

    def __init__(self):
        self.open = {}
        self.numbers = itertools.count(1)

    async def serve(self, reader, writer):
        """Holds a stream open until the client leaves."""
        session = str(next(self.numbers))
        self.open[session] = writer
        writer.write(STREAM + f"event: endpoint\ndata: {MESSAGES}{session}\n\n".encode())
        try:
            await reader.read()
        finally:
            self.open.pop(session, None)

    def post(self, path, reply):
        """Sends the reply, if there is one, on the stream of the session that is posted to."""
        writer = self.open.get(path.rpartition("=")[2])
        if writer is None:
            return answer("404 Not Found")
        if reply is not None:
            writer.write(f"event: message\ndata: {json.dumps(reply)}\n\n".encode())
        return answer("202 Accepted")


class Session:
    """The caller's end: one stream, and what is waited for on it."""

    def __init__(self, port):
        self.port = port
        self.waiting = {}
        self.path = None

    async def open(self):
        """Opens the stream; returns when it has said where to post."""
        reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"GET /sse HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept: text/event-stream"]
        self.writer.write("\r\n".join([*head, "", ""]).encode())
        start, fields = await read_head(reader)
        if " 200 " not in start:
            raise RuntimeError(f"no stream: {start}")
        self.ready = asyncio.get_running_loop().create_future()
        chunked = "chunked" in fields.get("transfer-encoding", "")
        self.task = asyncio.create_task(self._read(reader, chunked))
        await self.ready

    async def ask(self, connection, message, fields):
        """Posts a message; returns the answer that comes on the stream, for one with an id."""
        sent = [("Content-Type", "application/json"), *fields]
        done = None
        if "id" in message:
            done = self.waiting[message["id"]] = asyncio.get_running_loop().create_future()
        status, _, body = await connection.ask("POST", self.path, sent, json.dumps(message).encode())
        if status != 202:
            raise RuntimeError(f"{status} {body[:200]!r}")
        return await done if done else None

    def close(self):
        """Ends it."""
        self.task.cancel()
        self.writer.close()

    async def _read(self, reader, chunked):
        lines, event = b"", ""
        try:
            while True:
                if chunked:
                    size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                    part = (await reader.readexactly(size + 2))[:size]
                else:
                    part = await reader.read(65536)
                if not part:
                    raise ConnectionError("the stream has ended")
                *whole, lines = (lines + part).replace(b"\r\n", b"\n").split(b"\n")
                for line in whole:
                    name, _, value = line.decode().partition(": ")
                    if name == "event":
                        event = value
                    elif name == "data":
                        self._take(event, value)
        except (OSError, asyncio.IncompleteReadError) as error:
            for future in (self.ready, *self.waiting.values()):
                if not future.done():
                    future.set_exception(ConnectionError(str(error)))

    def _take(self, event, data):
        if event == "endpoint":
            self.path = data
            self.ready.set_result(None)
        elif event == "message":
            message = json.loads(data)
            waiting = self.waiting.pop(message.get("id"), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
