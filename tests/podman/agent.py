"""An agent that knows nothing of tracing: it answers each request with what the backend said, and copies no header."""

import http.server
import os
import signal
import sys
import urllib.request


class Agent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with urllib.request.urlopen(os.environ["BACKEND"] + self.path, timeout=10) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


# The first process of a container does not end by itself.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", 8080), Agent).serve_forever()
