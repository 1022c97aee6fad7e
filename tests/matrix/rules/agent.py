"""An agent and the server that it calls, in one process: says as JSON what its calls held
and what it finds installed. Standard library only, as every Python has to run it.
"""

import atexit
import http.client
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("traceparent", "tracestate", "baggage")
ARRIVES = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "mt=b7ad6b7169203331,a=1",
    "baggage": "b=2",
}
OWN = {
    "traceparent": "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203332-01",
    "tracestate": "c=3",
    "baggage": "d=4",
}


def fail(*_):
    raise RuntimeError("broken on purpose")


def installed():
    """What a library could have left behind."""
    handlers = {int(number): str(signal.getsignal(number)) for number in signal.valid_signals()}
    hooks = [sys.excepthook is sys.__excepthook__, sys.gettrace() is None, sys.getprofile() is None]
    return [handlers, hooks, atexit._ncallbacks(), threading.active_count()]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Called(Handler):
    def do_GET(self):
        self.reply([self.headers.get_all(name) for name in NAMES])


class Agent(Handler):
    def do_GET(self):
        held = {"/own": OWN, "/own-baggage": {"baggage": OWN["baggage"]}}.get(self.path, {})
        self.reply(ask(CALLED, "/", held))


def ask(port, path, headers):
    """One request; the answer's JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    said = json.loads(answer.read())
    connection.close()
    return said


def serve(handler):
    """A server in a thread; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


found = {"installed": installed()}
CALLED = serve(Called)
port = serve(Agent)
for path in ("plain", "own", "own-baggage"):
    found[path] = ask(port, f"/{path}", ARRIVES)
shim = sys.modules.get("sitecustomize")
if hasattr(shim, "additions"):
    shim.additions = fail
found["broken-call"] = ask(port, "/plain", ARRIVES)
if hasattr(shim, "of_mapping"):
    shim.of_mapping = fail
found["broken-request"] = ask(port, "/plain", ARRIVES)
print(json.dumps(found))
