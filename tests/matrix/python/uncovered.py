"""Agents on what the shim does not follow: each `GET /work/<n>` makes the calls that KINDS names.

SERVER is tornado, whose server and whose client are both its own, or http.server, which
the shim knows, with a client that writes to a socket beside one that the shim knows.
"""

import asyncio
import http.client
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SINK = os.environ["SINK"]
KINDS = os.environ["KINDS"].split(",")
PORT = int(os.environ["PORT"])


def known(kind, n):
    """A client of the standard library."""
    connection = http.client.HTTPConnection(urlsplit(SINK).netloc, timeout=60)
    connection.request("GET", f"/call/{kind}/{n}")
    assert connection.getresponse().read() == b"ok"
    connection.close()


def bare(kind, n):
    """A client of the program's own."""
    host = urlsplit(SINK)
    with socket.create_connection((host.hostname, host.port), timeout=60) as sent:
        sent.sendall(f"GET /call/{kind}/{n} HTTP/1.1\r\nHost: {host.netloc}\r\nConnection: close\r\n\r\n".encode())
        assert sent.makefile("rb").read().endswith(b"ok")


def standard_library():
    """A thread a connection."""
    clients = {"http.client": known, "socket": bare}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            n = int(self.path.rsplit("/", 1)[1])
            for kind in KINDS:
                time.sleep(0.05)
                clients[kind](kind, n)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    Server(("127.0.0.1", PORT), Handler).serve_forever()


async def tornado():
    """A loop with Tornado's server and client."""
    from tornado.httpclient import AsyncHTTPClient
    from tornado.web import Application, RequestHandler

    AsyncHTTPClient.configure(None, max_clients=200)

    class Work(RequestHandler):
        async def get(self, n):
            for kind in KINDS:
                await asyncio.sleep(0.05)
                await AsyncHTTPClient().fetch(f"{SINK}/call/{kind}/{n}")
            self.write("ok")

    Application([(r"/work/(\d+)", Work)]).listen(PORT, "127.0.0.1", backlog=512)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if os.environ["SERVER"] == "tornado":
        asyncio.run(tornado())
    else:
        standard_library()
