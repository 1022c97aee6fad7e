"""An OTLP receiver for `http/protobuf` that decodes every span it is sent.

It answers as a collector does and keeps the spans by service. It needs the
packages `opentelemetry-proto` and `protobuf`, so the harness runs with the
Python of an environment that has them.
"""

import asyncio
import gzip
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
)
KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}


@dataclass
class Span:
    """One span as it arrived, ids in lower-case hex."""

    service: str
    resource: dict
    trace: str
    id: str
    parent: str
    state: str
    flags: int
    name: str
    kind: str
    start: int
    end: int
    attributes: dict
    status: str
    message: str
    links: list

    def brief(self):
        """One line that finds it again."""
        return f"{self.service}: {self.kind} {self.name!r} {self.attributes.get('jsonrpc.request.id')}"


def value(any_value):
    """An attribute's value as a Python value."""
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in any_value.array_value.values]
    return getattr(any_value, kind) if kind else None


def attributes(pairs):
    """Attributes as a dict."""
    return {pair.key: value(pair.value) for pair in pairs}


def decode(payload):
    """All spans of one export request."""
    request = ExportTraceServiceRequest.FromString(payload)
    for group in request.resource_spans:
        resource = attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=resource.get("service.name", ""),
                    resource=resource,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    state=span.trace_state,
                    flags=span.flags,
                    name=span.name,
                    kind=KINDS.get(span.kind, str(span.kind)),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=attributes(span.attributes),
                    status=STATUS[span.status.code],
                    message=span.status.message,
                    links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                )


class Receiver:
    """Listens on a free loopback port."""

    def __init__(self):
        self.spans = []
        self.refused = []
        self.server = None
        self.endpoint = ""

    async def start(self):
        """Begins to accept; sets `endpoint` for OTEL_EXPORTER_OTLP_ENDPOINT."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.endpoint = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def stop(self):
        """Stops accepting."""
        self.server.close()

    def of(self, *services):
        """The spans of some services, by start time."""
        chosen = [span for span in self.spans if span.service in services]
        return sorted(chosen, key=lambda span: span.start)

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                if "chunked" in lines.get("transfer-encoding", ""):
                    body = await self._chunks(reader)
                else:
                    body = await reader.readexactly(int(lines["content-length"]))
                self._take(head, lines, body)
                writer.write(ANSWER)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _chunks(self, reader):
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body

    def _take(self, head, lines, body):
        """Keeps the spans of one request, or why it was no proper export."""
        if not head.startswith("post /v1/traces http/1.1"):
            self.refused.append(head.split("\r\n")[0])
        elif lines.get("content-type") != "application/x-protobuf":
            self.refused.append(f"content-type {lines.get('content-type')}")
        else:
            plain = gzip.decompress(body) if lines.get("content-encoding") == "gzip" else body
            self.spans.extend(decode(plain))
