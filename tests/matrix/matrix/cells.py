"""The cells of the matrix: an agent, how it is reached, and what it calls."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expect:
    """What a kind of call must come to."""

    shim: bool = True  # every call exact with the shim
    bare: bool = False  # every call exact without it
    listed: bool = False  # a loss that no context mechanism of the runtime survives
    flagged: float = 0.0  # the share of its mixed up calls that must be said to be doubtful


FOLLOWED = Expect()
NATIVE = Expect(bare=True)
# A hand-over through a queue of the program's own: nothing follows it.
LOST = Expect(shim=False)
# The agent's own SDK starts traces of its own, whose word is not ours to correct.
OWN = Expect(shim=False)
# The known loss of AsyncLocalStorage, counted apart.
LISTED = Expect(shim=False, listed=True)
# The same where an argument tells whose the call is.
TOLD = Expect(shim=False, listed=True, flagged=0.9)


@dataclass
class Cell:
    """One agent and the kinds of call that each of its requests makes."""

    name: str
    runtime: str  # the environment that `install.sh` made
    words: list  # the script and its arguments
    kinds: dict
    entry: str = "web"
    path: str = "work"
    stateless: bool = False
    short: bool = False
    main: bool = False  # makes as many calls as the figures to reach ask for
    ordered: bool = False  # requests and calls hold a value that only they have
    settings: dict = field(default_factory=dict)

    def calls(self, requests):
        """How many calls so many requests make."""
        return sum(made(kind, requests) for kind in self.kinds)

    def exports(self):
        """Whether the agent sends spans of its own."""
        return self.settings.get("OTEL_TRACES_EXPORTER") == "otlp"


def made(kind, requests):
    """How many calls of a kind so many requests make: the agents' own rule."""
    if kind == "mcp-own":
        return (requests + 9) // 10
    return requests * (3 if kind.endswith("gather") else 1)


def kinds(expect, *names):
    """The same expectation for several kinds."""
    return dict.fromkeys(names, expect)


TASKS = kinds(FOLLOWED, "gather", "task", "after-reply", "to-thread", "executor")
THREADS = kinds(FOLLOWED, "requests", "urllib3", "urllib", "http.client", "httpx-sync", "thread", "pool")
ASGI = {
    **kinds(FOLLOWED, "httpx", "aiohttp", "background", "requests", "http.client", "thread", "pool"),
    **TASKS,
    "queue": LOST,
}
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def web(python, server, kinds, short=False, main=False, path="work", **settings):
    """A web agent on one Python."""
    words = " ".join(str(value) for value in settings.values())
    name = " ".join(part for part in (f"python {python}", server, words, path if path != "work" else "") if part)
    settings = {"SERVER": server, **settings}
    return Cell(name, f"web{python}", ["web.py"], kinds, path=path, short=short, main=main, settings=settings)


def python_web():
    """Every server, on every Python."""
    for python in PYTHONS:
        first = python == "3.11"
        queued = {**THREADS, "queue": LOST}
        yield web(python, "uvicorn", ASGI, first, first, LOOP="asyncio", HTTP="h11")
        yield web(python, "uvicorn", ASGI, first, LOOP="uvloop", HTTP="httptools")
        yield web(python, "uvicorn", THREADS, path="sync", LOOP="asyncio", HTTP="httptools")
        yield web(python, "hypercorn", ASGI, first)
        yield web(python, "aiohttp", {**kinds(FOLLOWED, "aiohttp", "httpx"), **TASKS, "queue": LOST}, first)
        yield web(python, "werkzeug", queued, first, first)
        yield web(python, "http.server", THREADS)
        yield web(python, "gunicorn", THREADS, WORKER="sync")
        yield web(python, "gunicorn", queued, first, first, WORKER="gthread")
        yield web(python, "gunicorn", queued, WORKER="gevent")
        yield web(python, "gunicorn", ASGI, WORKER="uvicorn_worker.UvicornWorker")
        if python != "3.9":
            # The last gunicorn for 3.9 has no worker of its own for ASGI.
            yield web(python, "gunicorn", ASGI, WORKER="asgi")


SHAPES = {
    "stateful": {},
    "stateless": {"STATELESS": "1"},
    "stateful sse": {"SSE": "1"},
    "HTTP+SSE": {"LEGACY_SSE": "1"},
}


def mcp(runtime, sdk, shape, expect, *extra, short=False, main=False, **settings):
    """An MCP agent in one shape: its sessions and its answers."""
    options = SHAPES[shape]
    names = kinds(expect, "mcp-shared", "mcp-own", "mcp-gather")
    names.update(kinds(FOLLOWED, "task", "to-thread", "executor", *extra))
    return Cell(
        f"{runtime} {shape}",
        runtime,
        ["mcp_agent.py", sdk],
        names,
        entry="sse" if "LEGACY_SSE" in options else "mcp",
        stateless="STATELESS" in options,
        short=short,
        main=main,
        settings={**options, **settings},
    )


def python_mcp():
    """The MCP libraries."""
    for shape in ("stateful", "stateless", "stateful sse"):
        stateful = shape == "stateful"
        yield mcp("mcp1.28", "mcp1", shape, FOLLOWED, "httpx", short=shape != "stateful sse", main=shape != "stateful sse")
        yield mcp("mcp1.30", "mcp1", shape, FOLLOWED, "httpx")
        yield mcp("mcp2.3", "mcp2", shape, NATIVE, "httpx2", short=stateful, main=stateful)
        yield mcp("fastmcp2", "fastmcp", shape, FOLLOWED, "httpx")
        yield mcp("fastmcp3", "fastmcp", shape, NATIVE, "httpx")
        yield mcp("fastmcp4", "fastmcp", shape, NATIVE, "httpx2", main=stateful)
    for runtime in ("mcp1.28", "mcp1.30"):
        yield mcp(runtime, "mcp1", "HTTP+SSE", FOLLOWED, "httpx")


NODE = {
    **kinds(FOLLOWED, "fetch", "http", "http-named", "http-list", "undici", "axios", "gather"),
    **kinds(FOLLOWED, "promise-pool", "after-reply"),
    "queue": LOST,
}


def node():
    """Node: its servers, and both generations of the MCP SDK."""
    for version in ("18", "20", "22", "24"):
        first = version == "20"
        runtime = f"node{version}"
        for server in ("express", "http"):
            known = {**NODE, "callback-pool": LISTED} if server == "express" else NODE
            settings = {"SERVER": server}
            yield Cell(
                f"node {version} {server}", runtime, ["web.mjs"], known, short=first, main=first, settings=settings
            )
        if version == "18":
            # The SDK's server stands on a package that asks for Node 20, and answers nothing here.
            continue
        for sdk, words in (("sdk 1.32", ["mcp.mjs"]), ("sdk 2.4", ["mcp2.mjs"])):
            settings = {} if sdk == "sdk 1.32" else {"SDK2": "1"}
            for shape in ("stateful", "stateless", "stateful sse"):
                options = SHAPES[shape]
                yield Cell(
                    f"node {version} {sdk} {shape}",
                    runtime,
                    words,
                    {**kinds(FOLLOWED, "mcp-shared", "mcp-own", "mcp-gather", "fetch", "http"), "callback-pool": TOLD},
                    entry="mcp",
                    stateless="STATELESS" in options,
                    short=first and shape == "stateful",
                    main=first and shape == "stateful" and sdk == "sdk 1.32",
                    ordered=True,
                    settings={**settings, **options},
                )


# OpenTelemetry's launcher, which patches the same libraries as the shim.
LAUNCHER = {"BEFORE": "{bin}/opentelemetry-instrument", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
DISABLED = {**LAUNCHER, "OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
EXPORTING = {
    **LAUNCHER,
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "OTEL_BSP_MAX_QUEUE_SIZE": "200000",
}


def opentelemetry():
    """Agents under OpenTelemetry's auto-instrumentation, without and with an SDK that exports."""
    names = kinds(FOLLOWED, "mcp-shared", "mcp-own", "mcp-gather", "task", "httpx")
    for shape, options in (("stateful", {}), ("stateless", {"STATELESS": "1"})):
        yield Cell(
            f"otel mcp1.28 {shape}",
            "otel",
            ["mcp_agent.py", "mcp1"],
            names,
            entry="mcp",
            stateless=shape == "stateless",
            short=shape == "stateful",
            main=shape == "stateful",
            settings={**DISABLED, **options},
        )
    yield Cell(
        "otel sdk mcp1.28 stateful",
        "otel",
        ["mcp_agent.py", "mcp1"],
        kinds(OWN, *names),
        entry="mcp",
        settings=EXPORTING,
    )
    yield Cell(
        "otel sdk fastapi",
        "otel",
        ["web.py"],
        kinds(NATIVE, "httpx", "gather", "task", "requests"),
        short=True,
        settings={**EXPORTING, "SERVER": "uvicorn"},
    )


def every():
    """All cells."""
    yield from opentelemetry()
    yield from node()
    yield from python_mcp()
    yield from python_web()


def in_order():
    """All cells: the main ones first, and those on further versions of Python and Node last."""
    usual = ("web3.11", "node20")
    further = lambda cell: cell.runtime.startswith(("web", "node")) and cell.runtime not in usual
    return sorted(every(), key=lambda cell: (not cell.main, further(cell)))
