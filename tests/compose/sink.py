"""An OTLP/HTTP receiver that keeps what it is sent and tells it again as JSON.

    sink.py PORT

`POST /v1/traces` takes an ExportTraceServiceRequest in protobuf; `GET /spans` answers with every span so far, flattened. What
does not decode is answered 400 and counted at `GET /errors`, so that a test can insist on none.
"""

import gzip
import http.server
import json
import sys
import threading

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

LOCK = threading.Lock()
SPANS = []
ERRORS = []


def value(any_value):
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(v) for v in any_value.array_value.values]
    if kind == "kvlist_value":
        return attributes(any_value.kvlist_value.values)
    return None if kind is None else getattr(any_value, kind)


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def flatten(request):
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield {
                    "resource": resource,
                    "service": resource.get("service.name"),
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent_id": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                    "attributes": attributes(span.attributes),
                    "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links],
                }


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def do_POST(self):
        body = self.body()
        try:
            if self.path != "/v1/traces":
                raise ValueError(f"no such path {self.path}")
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            spans = list(flatten(ExportTraceServiceRequest.FromString(body)))
        except (DecodeError, OSError, ValueError) as error:
            with LOCK:
                ERRORS.append(str(error))
            return self.answer(400, "text/plain", str(error).encode())
        with LOCK:
            SPANS.extend(spans)
        return self.answer(200, "application/x-protobuf", ExportTraceServiceResponse().SerializeToString())

    def do_GET(self):
        told = {"/spans": SPANS, "/errors": ERRORS}.get(self.path)
        if told is None:
            return self.answer(404, "text/plain", b"")
        with LOCK:
            body = json.dumps(told).encode()
        return self.answer(200, "application/json", body)

    def log_message(self, *_):
        """One line for each batch would drown what the test has to say."""


http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Receiver).serve_forever()
