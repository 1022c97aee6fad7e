"""What the shim costs: per request and per call, and at start.

    cost.py [NODE]

Its own code is timed around stand-ins that do nothing, with and without it, the
best of several rounds; starting is that of an empty program, the median of several.
Time is CPU time, which other programs on the machine disturb least. MESHTRACE_BIN names the program that holds the
files. Prints one line a figure; exit code 1 says that one of them is more than it may be.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS, TURNS = 7, 20_000
# The most that the shim may cost: microseconds a request and a call, and at start milliseconds and MiB.
MOST = {"python": 10, "node": 5}
MOST_AT_START = 100, 5
HEADERS = [(f"x-header-{n}".encode(), b"some value") for n in range(12)] + [
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"mt=b7ad6b7169203331,vendor=1"),
    (b"baggage", b"customer=42"),
]


def python():
    """Microseconds for one request that arrives and for one call in it."""
    spec = importlib.util.spec_from_file_location("shim", SHIM / "sitecustomize.py")
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)

    class Cycle:
        scope = {"headers": HEADERS}

        async def run_asgi(self, app):
            await app()

    class Pool:
        def handle_request(self, request):
            return request

        async def handle_async_request(self, request):
            return request

    request = types.SimpleNamespace(headers=list(HEADERS[:12]))
    sent = list(HEADERS[:12])
    pool = Pool()

    async def serve(calls):
        async def app():
            for _ in range(calls):
                request.headers = sent
                pool.handle_request(request)

        cycle = Cycle()
        began = time.process_time()
        for _ in range(TURNS):
            await cycle.run_asgi(app)
        return (time.process_time() - began) / TURNS * 1e6

    def best(calls):
        return min(asyncio.run(serve(calls)) for _ in range(ROUNDS))

    plain_request, plain_call = best(0), best(4)
    shim.uvicorn_http(types.SimpleNamespace(RequestResponseCycle=Cycle))
    shim.httpcore(types.SimpleNamespace(AsyncConnectionPool=Pool, ConnectionPool=Pool))
    request_cost = best(0) - plain_request
    call_cost = (best(4) - plain_call - request_cost) / 4
    return request_cost, call_cost


def start(words, variables):
    """CPU milliseconds and KiB of resident memory of a program that only starts.

    It prints its own peak at its end, as what the kernel counts for a child
    includes what it was before it became the program.
    """
    times, sizes = [], []
    for _ in range(15):
        child = subprocess.Popen(words, env={**os.environ, **variables}, stdout=subprocess.PIPE)
        said = child.stdout.read()
        _, _, used = os.wait4(child.pid, 0)
        child.returncode = 0
        times.append((used.ru_utime + used.ru_stime) * 1e3)
        sizes.append(int(said.split(b"VmHWM:")[1].split()[0]))
    return statistics.median(times), statistics.median(sizes)


def compare(name, words, variables):
    """Prints what starting costs more with the shim; says whether that is too much."""
    (before, held), (after, holds) = start(words, {}), start(words, variables)
    took, grown = after - before, (holds - held) / 1024
    print(f"{name}: {took:+.1f} ms (of {before:.0f}), {grown:+.1f} MiB at start")
    return took > MOST_AT_START[0] or grown > MOST_AT_START[1]


def tell(name, version, request, call):
    """Prints what a request and a call cost; says whether that is too much."""
    print(f"{name} {version}: {request:.1f} us a request, {call:.1f} us a call")
    return max(request, call) > MOST[name]


def node_costs(node, variables):
    """Microseconds for one request that arrives and for one call in it."""

    def run(calls, env):
        words = [node, str(HERE / "node" / "cost.cjs"), str(calls)]
        return float(subprocess.run(words, check=True, capture_output=True, env={**os.environ, **env}).stdout)

    request = run(0, variables) - run(0, {})
    return request, (run(4, variables) - run(4, {}) - request) / 4


STATUS_OF_PYTHON = "import urllib.request; print(open('/proc/self/status').read())"
STATUS_OF_NODE = "require('node:http'); console.log(require('node:fs').readFileSync('/proc/self/status', 'utf8'))"


def main():
    """Measures and prints; returns the exit code."""
    global SHIM
    node = sys.argv[1] if len(sys.argv) > 1 else "node"
    with contextlib.ExitStack() as stack:
        SHIM = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = os.environ["MESHTRACE_BIN"]
        subprocess.run([binary, "shim", "install", SHIM], check=True, stderr=subprocess.DEVNULL)
        printed = subprocess.run([binary, "shim", "env", SHIM, "--format", "json"], check=True, capture_output=True)
        variables = json.loads(printed.stdout)
        version = ".".join(str(part) for part in sys.version_info[:3])
        too_much = tell("python", version, *python())
        too_much |= compare(f"python {version}", [sys.executable, "-c", STATUS_OF_PYTHON], variables)
        version = subprocess.run([node, "-v"], check=True, capture_output=True, text=True).stdout.strip()
        too_much |= tell("node", version, *node_costs(node, variables))
        too_much |= compare(f"node {version}", [node, "-e", STATUS_OF_NODE], variables)
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
