"""Just enough HTTP/1.1 over asyncio for the two ends of the matrix."""

import asyncio


class Connection:
    """A keep-alive connection to one port of this machine."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def ask(self, method, path, fields, body=b""):
        """Sends one request; returns status, fields and body of the answer."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        head += [f"{name}: {value}" for name, value in fields]
        if body:
            head.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*head, "", ""]).encode() + body)
        start, answered = await read_head(self.reader)
        content = await read_body(self.reader, answered)
        if answered.get("connection", "").lower() == "close" or start.startswith("HTTP/1.0"):
            self.close()
        return int(start.split(" ")[1]), answered, content

    def close(self):
        """Ends it."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def read_head(reader):
    """The first line and the fields, names in lower case."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return lines[0], fields


async def read_body(reader, fields):
    """The body, by its framing."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    if fields.get("connection", "").lower() == "close":
        return await reader.read()
    return b""


def answer(status, body=b"", *fields):
    """The bytes of an answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body
