"""What the shim costs: per request and per call, and at start.

    cost.py [NODE]

Its own code is timed around stand-ins that do nothing, with and without it, the
best of several rounds; starting is that of an empty program, the median of several.
Time is CPU time, which other programs on the machine disturb least. MESHTRACE_BIN names the program that holds the
files. Prints one line a figure.
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
    """Prints what starting costs more with the shim."""
    (before, held), (after, holds) = start(words, {}), start(words, variables)
    print(f"{name}: {after - before:+.1f} ms (of {before:.0f}), {(holds - held) / 1024:+.1f} MiB at start")


def main():
    """Measures and prints."""
    global SHIM
    node = sys.argv[1] if len(sys.argv) > 1 else "node"
    with contextlib.ExitStack() as stack:
        SHIM = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        binary = os.environ["MESHTRACE_BIN"]
        subprocess.run([binary, "shim", "install", SHIM], check=True, stderr=subprocess.DEVNULL)
        printed = subprocess.run([binary, "shim", "env", SHIM, "--format", "json"], check=True, capture_output=True)
        variables = json.loads(printed.stdout)
        version = ".".join(str(part) for part in sys.version_info[:3])
        request, call = python()
        print(f"python {version}: {request:.1f} us a request, {call:.1f} us a call")
        compare(f"python {version}", [sys.executable, "-c", "import urllib.request; print(open('/proc/self/status').read())"], variables)
        script = str(HERE / "node" / "cost.cjs")
        bare = float(subprocess.run([node, script], check=True, capture_output=True).stdout)
        bare_calls = float(subprocess.run([node, script, "4"], check=True, capture_output=True).stdout)
        env = {**os.environ, **variables}
        with_it = float(subprocess.run([node, script], check=True, capture_output=True, env=env).stdout)
        calls = float(subprocess.run([node, script, "4"], check=True, capture_output=True, env=env).stdout)
        version = subprocess.run([node, "-v"], check=True, capture_output=True, text=True).stdout.strip()
        request = with_it - bare
        print(f"node {version}: {request:.1f} us a request, {(calls - bare_calls - request) / 4:.1f} us a call")
        compare(f"node {version}", [node, "-e", "require('node:http'); console.log(require('node:fs').readFileSync('/proc/self/status', 'utf8'))"], variables)


if __name__ == "__main__":
    main()
