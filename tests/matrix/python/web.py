"""A web agent: each `GET /work/<n>` makes the calls that KINDS names.

    web.py APP     APP: asgi | asgi-sync | aiohttp | flask, served by SERVER on PORT

SERVER is uvicorn (with LOOP and HTTP for its parts), hypercorn, aiohttp,
werkzeug, http.server or gunicorn (with WORKER).
"""

import asyncio
import os
import sys

if os.environ.get("WORKER") == "gevent":
    # Before anything makes a lock.
    from gevent import monkey

    monkey.patch_all()

import calls  # noqa: E402

KINDS = os.environ["KINDS"].split(",")
PORT = int(os.environ["PORT"])
SERVER = os.environ["SERVER"]


def asgi():
    """FastAPI with handlers on the loop, background tasks and threaded handlers."""
    from contextlib import asynccontextmanager

    from fastapi import BackgroundTasks, FastAPI

    clients = calls.Clients()

    @asynccontextmanager
    async def lifespan(_):
        await clients.start()
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/work/{n}")
    async def work(n: int, background: BackgroundTasks):
        known = clients.kinds()
        for turn, kind in enumerate(KINDS):
            await calls.slowly(n + turn)
            if kind == "background":
                background.add_task(clients.plain, kind, n)
            elif kind in known:
                await known[kind](kind, n)
            else:
                await asyncio.to_thread(calls.BLOCKING[kind], kind, n)
        return {"n": n}

    @app.get("/sync/{n}")
    def sync(n: int):
        for turn, kind in enumerate(KINDS):
            calls.slowly_blocking(n + turn)
            calls.BLOCKING[kind](kind, n)
        return {"n": n}

    return app


def flask():
    """Flask: a thread a request."""
    from flask import Flask

    app = Flask("agent")
    consumer = calls.Consumer()

    @app.get("/work/<int:n>")
    def work(n):
        for turn, kind in enumerate(KINDS):
            calls.slowly_blocking(n + turn)
            (consumer.get if kind == "queue" else calls.BLOCKING[kind])(kind, n)
        return {"n": n}

    return app


def stdlib():
    """The standard library's own threading server."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            n = int(self.path.rsplit("/", 1)[1])
            for turn, kind in enumerate(KINDS):
                calls.slowly_blocking(n + turn)
                calls.BLOCKING[kind](kind, n)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    Server(("127.0.0.1", PORT), Handler).serve_forever()


async def aiohttp_server():
    """aiohttp's own server."""
    from aiohttp import web

    clients = calls.Clients()
    await clients.start()

    async def work(request):
        n = int(request.match_info["n"])
        known = clients.kinds()
        for turn, kind in enumerate(KINDS):
            await calls.slowly(n + turn)
            await known[kind](kind, n)
        return web.json_response({"n": n})

    app = web.Application()
    app.router.add_get("/work/{n}", work)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT, backlog=512).start()
    await asyncio.Event().wait()


def gunicorn(name, worker):
    """gunicorn with two processes."""
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv = ["gunicorn", f"web:{name}()", "-b", f"127.0.0.1:{PORT}", "-k", worker, "-w", "2"]
    sys.argv += ["--threads", "16"] if worker == "gthread" else []
    sys.argv += ["--log-level", "warning", "--graceful-timeout", "2", "--keep-alive", "30"]
    WSGIApplication("%(prog)s").run()


def main():
    """Serves until it is told to stop."""
    if SERVER == "uvicorn":
        import uvicorn

        loop, http = os.environ.get("LOOP", "asyncio"), os.environ.get("HTTP", "h11")
        options = {"log_level": "warning", "timeout_graceful_shutdown": 1, "backlog": 512}
        uvicorn.run(asgi(), host="127.0.0.1", port=PORT, loop=loop, http=http, **options)
    elif SERVER == "hypercorn":
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config = Config()
        config.bind, config.loglevel, config.backlog = [f"127.0.0.1:{PORT}"], "warning", 512
        asyncio.run(serve(asgi(), config))
    elif SERVER == "aiohttp":
        asyncio.run(aiohttp_server())
    elif SERVER == "werkzeug":
        from werkzeug.serving import WSGIRequestHandler, make_server

        WSGIRequestHandler.log_request = lambda *_: None
        make_server("127.0.0.1", PORT, flask(), threaded=True).serve_forever()
    elif SERVER == "http.server":
        stdlib()
    else:
        worker = os.environ["WORKER"]
        gunicorn("asgi" if worker in ("asgi", "uvicorn_worker.UvicornWorker") else "flask", worker)


if __name__ == "__main__":
    main()
