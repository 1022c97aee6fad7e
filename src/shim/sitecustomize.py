"""meshtrace shim for Python: hands the trace names on from the request that is
being handled to the calls that are made for it.

The sidecar in front of this process writes `traceparent`, `tracestate` and
`baggage` into each request; the sidecar behind it reads them from each call.
This file does nothing but copy them from one to the other. It makes no spans,
sends nothing, starts nothing and stops nothing. A context that the program
sets by itself is left alone. Python imports this file at start because its
directory is on PYTHONPATH; libraries are patched when they are imported, and a
hook that fails steps aside for the original.

A copied context says that this file carried it: the sidecar's own member of
`tracestate`, `mt=<span id>`, leaves as `mt=<span id>;s`. The sidecar takes the
mark off again.

MESHTRACE_SHIM=off switches it off, MESHTRACE_SHIM=debug says on stderr what
was patched and what failed. Standard library only; Python 3.8 and later.
"""

import os
import sys
import time
from contextvars import ContextVar

MODE = os.environ.get("MESHTRACE_SHIM", "").strip().lower()
MEMBER = "mt="
MARK = ";s"
NAMES = {b"traceparent": 0, b"tracestate": 1, b"baggage": 2}
# What still names a request so long after its answer belongs to a worker that
# the request happened to start, not to the request.
LATE_SECONDS = 60.0


def say(*words):
    """Tells somebody who asked for it."""
    if MODE == "debug":
        print("meshtrace shim:", *words, file=sys.stderr)


class Trace:
    """What one request carried."""

    __slots__ = ("parent", "state", "baggage", "member", "ended", "_own")

    def __init__(self, parent, state, baggage):
        self.parent, self.state, self.baggage = parent, state, baggage
        self.member, self.ended, self._own = None, None, None

    def own(self):
        """The three names and values for a call that has none of them."""
        if self._own is None:
            names = [("traceparent", self.parent)]
            if self.state:
                members = [part.strip() for part in self.state.split(",")]
                for place, part in enumerate(members):
                    if part.startswith(MEMBER):
                        self.member = part.split(";")[0]
                        members[place] = self.member + MARK
                names.append(("tracestate", ",".join(members)))
            if self.baggage:
                names.append(("baggage", self.baggage))
            self._own = names
        return self._own

    def confirm(self, state):
        """The program's own `tracestate` with our mark, if it names this request."""
        self.own()
        if not state or not self.member:
            return None
        members = [part.strip() for part in state.split(",")]
        if self.member not in members:
            return None
        return ",".join(part + MARK if part == self.member else part for part in members)


current = ContextVar("meshtrace", default=None)


def live():
    """The request that this code runs for, or None."""
    trace = current.get()
    if trace is not None and trace.ended and time.monotonic() - trace.ended > LATE_SECONDS:
        return None
    return trace


def of_pairs(pairs):
    """What header pairs of bytes carry; names in lower case, as ASGI has them."""
    found = [None, None, None]
    for name, value in pairs:
        place = NAMES.get(name)
        if place is not None:
            text = value.decode("latin-1")
            found[place] = text if found[place] is None else found[place] + "," + text
    return Trace(*found) if found[0] else None


def of_mapping(read):
    """What `read(name)` finds."""
    parent = read("traceparent")
    if not isinstance(parent, str):
        return None
    return Trace(parent, read("tracestate"), read("baggage"))


def end(trace):
    """Says that the request was answered."""
    if trace is not None:
        trace.ended = time.monotonic()


def additions(parent, state, baggage):
    """What to set on a call that holds these: a list of names and values."""
    trace = live()
    if trace is None:
        return ()
    if parent is None:
        own = trace.own()
        return own if baggage is None else [pair for pair in own if pair[0] != "baggage"]
    marked = trace.confirm(state)
    return () if marked is None else (("tracestate", marked),)


# --- patching ---------------------------------------------------------------


def patch(owner, name, make):
    """Replaces `owner.name` by `make(original)`, where there is one."""
    original = getattr(owner, name, None)
    if original is None or getattr(original, "meshtrace", False):
        return
    made = make(original)
    for copied in ("__module__", "__name__", "__qualname__", "__doc__"):
        try:
            setattr(made, copied, getattr(original, copied))
        except AttributeError:
            pass
    made.__wrapped__ = original
    made.meshtrace = True
    setattr(owner, name, made)
    say("patched", getattr(owner, "__name__", owner), name)


def safely(find, *arguments):
    """The answer of `find`, or None when it fails."""
    try:
        return find(*arguments)
    except Exception as error:
        say("stepped aside:", find.__name__, repr(error))
        return None


def handling(find):
    """Makes a function whose body runs for the request that `find` sees in its arguments."""

    def make(original):
        def handle(*args, **kwargs):
            trace = safely(find, *args)
            token = current.set(trace)
            try:
                return original(*args, **kwargs)
            finally:
                end(trace)
                current.reset(token)

        return handle

    return make


def handling_async(find):
    """The same for a coroutine function, in the task that it runs in."""

    def make(original):
        async def handle(*args, **kwargs):
            trace = safely(find, *args)
            token = current.set(trace)
            try:
                return await original(*args, **kwargs)
            finally:
                end(trace)
                try:
                    current.reset(token)
                except ValueError:  # closed from another context
                    pass

        return handle

    return make


def calling(carry):
    """Makes a function that first lets `carry` add to its arguments."""

    def make(original):
        def call(*args, **kwargs):
            if current.get() is not None:
                safely(carry, *args)
            return original(*args, **kwargs)

        return call

    return make


def nothing(*_):
    """For tasks that outlive every request: they run for none."""
    return None


# --- servers ----------------------------------------------------------------


def uvicorn_http(module):
    find = lambda cycle, *_: of_pairs(cycle.scope["headers"])
    patch(module.RequestResponseCycle, "run_asgi", handling_async(find))


def hypercorn(module):
    find = lambda _, scope, *__: of_pairs(scope["headers"]) if scope["type"] == "http" else None
    patch(module.ASGIWrapper, "__call__", handling_async(find))
    patch(module.WSGIWrapper, "__call__", handling_async(find))


def aiohttp_server(module):
    find = lambda _, request, *__: of_mapping(request.headers.get)
    patch(module.RequestHandler, "_handle_request", handling_async(find))


def gunicorn(request_at):
    def find(*args):
        pairs = args[request_at].headers
        return of_pairs((name.lower().encode(), value.encode("latin-1")) for name, value in pairs)

    def hook(module):
        for name in ("SyncWorker", "ThreadWorker", "AsyncWorker"):
            if hasattr(module, name):
                patch(getattr(module, name), "handle_request", handling(find))

    return hook


def gunicorn_asgi(module):
    find = lambda _, request, *__: of_pairs(
        (name.lower().encode(), value.encode("latin-1")) for name, value in request.headers
    )
    patch(module.ASGIProtocol, "_handle_http_request", handling_async(find))


def http_server(module):
    """The standard library's servers, and werkzeug's, which is built on them."""

    def parse(original):
        def parse_request(self):
            done = original(self)
            end(current.get())
            current.set(safely(of_mapping, self.headers.get) if done else None)
            return done

        return parse_request

    patch(module.BaseHTTPRequestHandler, "parse_request", parse)


def socketserver(module):
    """One connection: whatever its requests set ends with it."""

    def make(original):
        def finish_request(*args, **kwargs):
            token = current.set(None)
            try:
                return original(*args, **kwargs)
            finally:
                end(current.get())
                current.reset(token)

        return finish_request

    patch(module.BaseServer, "finish_request", make)


# --- clients ----------------------------------------------------------------


def httpcore(module):
    def carry(_, request, *__):
        held = {}
        for place, (name, value) in enumerate(request.headers):
            known = NAMES.get(name.lower())
            if known is not None:
                held[known] = (place, value.decode("latin-1"))
        parent, state, baggage = (held[n][1] if n in held else None for n in (0, 1, 2))
        added = additions(parent, state, baggage)
        if added:
            headers = list(request.headers)
            for name, value in added:
                pair = (name.encode(), value.encode("latin-1"))
                if name == "tracestate" and state is not None:
                    headers[held[1][0]] = pair
                else:
                    headers.append(pair)
            request.headers = headers

    patch(module.AsyncConnectionPool, "handle_async_request", calling(carry))
    patch(module.ConnectionPool, "handle_request", calling(carry))


def http_client(module):
    """The standard library, and with it urllib, urllib3, requests and boto."""

    def carry(connection, *_):
        lines = connection._buffer
        held = {}
        for place in range(1, len(lines)):
            name, _, value = lines[place].partition(b":")
            known = NAMES.get(name.lower())
            if known is not None:
                held[known] = (place, value.strip().decode("latin-1"))
        parent, state, baggage = (held[n][1] if n in held else None for n in (0, 1, 2))
        for name, value in additions(parent, state, baggage):
            line = name.encode() + b": " + value.encode("latin-1")
            if name == "tracestate" and state is not None:
                lines[held[1][0]] = line
            else:
                lines.append(line)

    patch(module.HTTPConnection, "endheaders", calling(carry))


def aiohttp_client(module):
    def carry(request, *_):
        if request.method != "CONNECT":
            read = request.headers.get
            for name, value in additions(read("traceparent"), read("tracestate"), read("baggage")):
                request.headers[name] = value

    for name in ("send", "_send"):
        patch(module.ClientRequest, name, calling(carry))


# --- threads ----------------------------------------------------------------


def threading_(module):
    def make(original):
        def start(self):
            trace = live()
            # A pool's own threads serve many requests; their items are handed over one by one.
            target = getattr(self, "_target", None)
            if trace is not None and getattr(target, "__module__", "") not in POOLS:
                run = self.run

                def run_for_request():
                    current.set(trace)
                    run()

                self.run = run_for_request
            return original(self)

        return start

    patch(module.Thread, "start", make)


POOLS = ("concurrent.futures.thread", "multiprocessing.pool", "anyio._backends._asyncio")


def futures(module):
    def make(original):
        def submit(self, fn, *args, **kwargs):
            trace = live()
            if trace is None:
                return original(self, fn, *args, **kwargs)

            def run_for_request(*args, **kwargs):
                token = current.set(trace)
                try:
                    return fn(*args, **kwargs)
                finally:
                    current.reset(token)

            return original(self, run_for_request, *args, **kwargs)

        return submit

    patch(module.ThreadPoolExecutor, "submit", make)


# --- the `mcp` package before 2, whose tasks inherit the context of their session ---


def mcp_server(module):
    def find(_, message, *__):
        meta = getattr(message, "request_meta", None)
        trace = of_mapping(lambda name: getattr(meta, name, None)) if meta else None
        if trace is None:
            metadata = getattr(message, "message_metadata", None)
            request = getattr(metadata, "request_context", None)
            trace = of_mapping(request.headers.get) if request is not None else None
        return trace

    patch(module.Server, "_handle_message", handling_async(find))


def mcp_message(module):
    """A message remembers for which request it was made."""

    def make(original):
        def __init__(self, *args, **kwargs):
            original(self, *args, **kwargs)
            self.meshtrace = live()

        return __init__

    patch(module.SessionMessage, "__init__", make)


class WithMeta:
    """A request that is written with the trace names in `params._meta`."""

    def __init__(self, request, trace):
        self._request, self._trace = request, trace

    def __getattr__(self, name):
        return getattr(self._request, name)

    @property
    def __class__(self):
        return type(self._request)

    def model_dump(self, **how):
        data = self._request.model_dump(**how)
        params = data.get("params")
        if isinstance(params, dict):
            meta = params.setdefault("_meta", {})
            if isinstance(meta, dict) and "traceparent" not in meta:
                for name, value in self._trace.own():
                    meta.setdefault(name, value)
        return data


def mcp_session(module):
    def make(original):
        def send_request(self, request, *args, **kwargs):
            trace = live()
            if trace is not None and hasattr(request, "model_dump"):
                request = WithMeta(request, trace)
            return original(self, request, *args, **kwargs)

        return send_request

    patch(module.ClientSession, "send_request", make)


def mcp_streamable_http(module):
    transport = module.StreamableHTTPTransport
    find = lambda _, ctx: ctx.session_message.meshtrace
    patch(transport, "_handle_post_request", borrowing(find))
    patch(transport, "post_writer", handling_async(nothing))
    patch(transport, "handle_get_stream", handling_async(nothing))


def borrowing(find):
    """Like `handling_async`, for a request whose end is seen elsewhere."""

    def make(original):
        async def handle(*args, **kwargs):
            token = current.set(safely(find, *args))
            try:
                return await original(*args, **kwargs)
            finally:
                try:
                    current.reset(token)
                except ValueError:
                    pass

        return handle

    return make


def mcp_sse(module):
    """The tasks of an SSE client start for no request; its messages carry their own."""

    def make(original):
        def sse_client(*args, **kwargs):
            return Detached(original(*args, **kwargs))

        return sse_client

    patch(module, "sse_client", make)


class Detached:
    """An asynchronous context manager that is entered for no request."""

    def __init__(self, manager):
        self._manager = manager

    def __getattr__(self, name):
        return getattr(self._manager, name)

    async def __aenter__(self):
        token = current.set(None)
        try:
            return await self._manager.__aenter__()
        finally:
            current.reset(token)

    async def __aexit__(self, *reason):
        return await self._manager.__aexit__(*reason)


def before_mcp_2(hook):
    """From version 2 on the package hands each message's own context on by itself."""

    def only(module):
        from importlib.util import find_spec

        if find_spec("mcp.shared._context_streams") is None:
            hook(module)

    return only


# --- OpenTelemetry's launcher, which puts its own sitecustomize before this one ---


def launcher(module):
    def make(original):
        def execl(file, *args):
            path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join([HERE] + [p for p in path if p != HERE])
            return original(file, *args)

        return execl

    patch(module, "execl", make)


HERE = os.path.dirname(os.path.abspath(__file__))
HOOKS = {
    "uvicorn.protocols.http.h11_impl": uvicorn_http,
    "uvicorn.protocols.http.httptools_impl": uvicorn_http,
    "uvicorn.protocols.http.zttp_impl": uvicorn_http,
    "uvicorn.protocols.http.zttp_h2_impl": uvicorn_http,
    "hypercorn.app_wrappers": hypercorn,
    "aiohttp.web_protocol": aiohttp_server,
    "gunicorn.workers.sync": gunicorn(2),
    "gunicorn.workers.gthread": gunicorn(1),
    "gunicorn.workers.base_async": gunicorn(2),
    "gunicorn.asgi.protocol": gunicorn_asgi,
    "http.server": http_server,
    "socketserver": socketserver,
    "httpcore": httpcore,
    "httpcore2": httpcore,
    "http.client": http_client,
    "aiohttp.client_reqrep": aiohttp_client,
    "threading": threading_,
    "concurrent.futures.thread": futures,
    "mcp.server.lowlevel.server": before_mcp_2(mcp_server),
    "mcp.shared.message": before_mcp_2(mcp_message),
    "mcp.client.session": before_mcp_2(mcp_session),
    "mcp.client.streamable_http": before_mcp_2(mcp_streamable_http),
    "mcp.client.sse": before_mcp_2(mcp_sse),
    "opentelemetry.instrumentation.auto_instrumentation": launcher,
}


class Finder:
    """Finds nothing itself; sees to it that a module of HOOKS is patched once it has run."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        hook = HOOKS.get(name)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if finder is Finder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                safely(watch, spec.loader, hook)
                return spec
        return None


def watch(loader, hook):
    """Lets `hook` see the module when this loader has run it."""
    run = loader.exec_module

    def exec_module(module):
        run(module)
        safely(hook, module)

    loader.exec_module = exec_module


def install():
    """Patches what is there already and waits for the rest."""
    sys.meta_path.insert(0, Finder)
    for name, hook in HOOKS.items():
        module = sys.modules.get(name)
        if module is not None:
            safely(hook, module)


def chain():
    """Runs the `sitecustomize` that would have run had this one not been found first."""
    from importlib.machinery import PathFinder

    rest = [place for place in sys.path if os.path.abspath(place or ".") != HERE]
    spec = PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if MODE != "off":
    safely(install)
chain()
