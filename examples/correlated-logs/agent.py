"""An MCP agent without a tracing library whose log lines name their trace.

The sidecar hands every request the context of its own SERVER span, in
`params._meta.traceparent` and in the header of that name. Putting its ids on
each log line is all it takes: `trace_id` and `span_id` then lead from the line
to the span, and from the span to its lines.
"""

import contextvars
import json
import logging
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The context of the request that is being handled, for each thread or task.
traceparent = contextvars.ContextVar("traceparent", default="")


class JsonLines(logging.Formatter):
    """One JSON object a line, with the ids of the current request."""

    def format(self, record):
        line = {
            "timestamp": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        parts = traceparent.get().split("-")
        if len(parts) == 4:
            line.update(trace_id=parts[1], span_id=parts[2], trace_flags=parts[3])
        return json.dumps(line)


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        meta = message.get("params", {}).get("_meta", {})
        traceparent.set(meta.get("traceparent") or self.headers.get("traceparent", ""))
        logging.info("asked for %s", message.get("method"))
        result = {"content": [{"type": "text", "text": "sunny"}]}
        body = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": result}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Our own lines suffice."""


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent)
    logging.info("serving on port %d", server.server_port)
    server.serve_forever()
