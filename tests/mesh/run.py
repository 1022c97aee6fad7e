"""Runs MCP Mesh for real: registry, two agents, a sidecar each, and judges the traces.

    run.py [--calls N]

    caller → sidecar → planner → sidecar → sidecar → weather

The agents are those of examples/mcp-mesh. Run it with the Python of the `mcp2`
environment of tests/peers, after tests/mesh/install.sh; MESHTRACE_BIN names the
program. Callers speak W3C, or the mesh's own headers, or neither; the mesh's own
tracing is off and on; the agents have the shim or not. In every case each call
is one trace, with the right parents.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path[:0] = [str(HERE.parent / "peers"), str(HERE.parent / "matrix")]

from harness.processes import Process, free_ports  # noqa: E402
from harness.receiver import Receiver  # noqa: E402
from matrix.web import Connection  # noqa: E402

INSTALLED = pathlib.Path(os.environ.get("MESHTRACE_MESH_DIR") or PROJECT / "target" / "mesh").resolve()
PATIENCE = 90
STARTS = 4


class Mesh:
    """A registry and two agents, each behind a sidecar of its own."""

    def __init__(self, binary, variables, receiver):
        self.binary, self.variables, self.receiver = binary, variables, receiver
        self.agents, self.sidecars, self.registry = [], [], None
        self.registry_port, self.planner_port = 0, 0

    async def start(self, folder):
        """Starts them all; returns when the planner has found the weather."""
        self.registry_port, planner, weather, out_of_planner, out_of_weather = free_ports(5)
        self.planner_port = planner
        program = INSTALLED / "node_modules/@mcpmesh/cli-linux-x64/bin/mcp-mesh-registry"
        database = str(folder / "registry.db")
        self.registry = await Process.start(
            [str(program)], HOST="127.0.0.1", PORT=str(self.registry_port), DATABASE_URL=database
        )
        self._drain(self.registry)
        await self.registry.accepting(self.registry_port)
        await self._agent("weather", weather, out_of_weather)
        await self._until(self.registry_port, "GET", "/agents", b"", b"weather-agent")
        await self._agent("planner", planner, out_of_planner)
        await self._until(self.registry_port, "GET", "/agents", b"", b"planner-agent")
        # A request before the mesh has mounted its server keeps it from doing so for ever.
        await self._says(self.agents[-1], b"FastMCP mounted")
        await self._until(planner, "POST", "/mcp", body(0), b"sunny")

    def _drain(self, process):
        process.reading.append(asyncio.create_task(Process._read(process.child.stdout, process.errors)))

    async def _agent(self, name, port, out):
        # The agent binds another address of this machine than the one that it announces.
        words = [self.binary, "proxy", "--admin", "off"]
        words += ["--inbound", f"127.0.0.1:{port}=127.0.0.2:{port}", "--outbound", f"127.0.0.1:{out}"]
        sidecar = await Process.start(
            words,
            OTEL_SERVICE_NAME=f"{name}-agent",
            OTEL_EXPORTER_OTLP_ENDPOINT=self.receiver.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="200",
        )
        self._drain(sidecar)
        self.sidecars.append(sidecar)
        await sidecar.accepting(port, out)
        agent = await Process.start(
            [str(INSTALLED / "python/bin/python"), str(PROJECT / f"examples/mcp-mesh/{name}.py")],
            HOST="127.0.0.2",
            MCP_MESH_HTTP_HOST="127.0.0.1",
            MCP_MESH_HTTP_PORT=str(port),
            MCP_MESH_REGISTRY_URL=f"http://127.0.0.1:{self.registry_port}",
            HTTP_PROXY=f"http://127.0.0.1:{out}",
            http_proxy=f"http://127.0.0.1:{out}",
            **self.variables,
        )
        self._drain(agent)
        self.agents.append(agent)

    async def _says(self, process, words):
        """Waits for words in what a process logs."""
        for _ in range(PATIENCE * 2):
            if words in process.errors:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError(f"never said {words!r}: {process.said()[-500:]}")

    async def _until(self, port, method, path, sent, word):
        answer = b""
        for _ in range(PATIENCE * 2):
            try:
                _, _, answer = await ask(port, method, path, sent, [])
                if word in answer:
                    return
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.5)
        said = [process.said()[-500:] for process in (*self.agents, *self.sidecars)]
        raise RuntimeError(f"{path} never answered {word!r} but {answer[:300]!r}: {said}")

    async def stop(self):
        """Ends them; the agents first, which take their leave of the registry."""
        for process in (*self.agents, *self.sidecars, self.registry):
            if process is not None:
                await process.stop()


async def started(binary, variables, receiver, folder):
    """A mesh that serves. An agent that starts slowly now and then never mounts
    its server; that has nothing to do with us, and such a mesh is started anew.
    """
    for attempt in range(STARTS):
        (folder / "registry.db").unlink(missing_ok=True)
        mesh = Mesh(binary, variables, receiver)
        try:
            await mesh.start(folder)
            return mesh
        except RuntimeError as error:
            await mesh.stop()
            if attempt == STARTS - 1:
                raise
            print(f"    started anew: {str(error)[:200]}", flush=True)
    return None


async def ask(port, method, path, sent, fields):
    """One request on a connection of its own."""
    connection = Connection(port)
    try:
        json_fields = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
        return await connection.ask(method, path, [*json_fields, *fields], sent)
    finally:
        connection.close()


def body(number):
    """A call of the planner."""
    params = {"name": "plan", "arguments": {"city": f"city{number}"}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


def callers(chance):
    """What a caller of each kind sends; the trace and the span are its own."""
    hexes = lambda size: f"{chance.getrandbits(size * 4) | 1:0{size}x}"
    trace, span = hexes(32), hexes(16)
    return {
        "W3C": (trace, span, [("traceparent", f"00-{trace}-{span}-01"), ("baggage", "a=b")]),
        "mesh": (trace, span, [("X-Trace-ID", trace), ("X-Parent-Span", span)]),
        "bare": (None, None, []),
    }


async def run(binary, name, variables, count, seed, folder):
    """Runs one setting; returns its complaints."""
    receiver = Receiver()
    await receiver.start()
    mesh = await started(binary, variables, receiver, folder)
    chance, made = random.Random(f"{seed} {name}"), []
    try:
        await asyncio.sleep(1)
        warm = len(receiver.spans)
        for kind in ("W3C", "mesh", "bare"):
            sent = [callers(chance)[kind] for _ in range(count)]
            answers = await asyncio.gather(
                *(ask(mesh.planner_port, "POST", "/mcp", body(n), caller[2]) for n, caller in enumerate(sent))
            )
            for n, (caller, (status, _, answer)) in enumerate(zip(sent, answers)):
                made.append((kind, caller))
                if f"sunny in city{n}".encode() not in answer:
                    return [f"{kind} {n}: {status} {answer[:200]!r}"]
        await asyncio.sleep(6)
    finally:
        await mesh.stop()
        receiver.stop()
    return judge(made, receiver.spans[warm:]) + judge_registry(receiver.spans)


def judge(made, spans):
    """Complaints about the calls: three spans each, in one trace, one under the other."""
    found = []
    calls = [span for span in spans if span.name.startswith("tools/call")]
    by_id = {(span.trace, span.id): span for span in calls}
    tops = [s for s in calls if s.service == "planner-agent" and s.kind == "SERVER"]
    if len(tops) != len(made):
        found.append(f"{len(tops)} calls of the planner are seen, {len(made)} were made")
    traces = {span.trace for span in tops}
    for kind, (trace, span, _) in made:
        if trace is not None and trace not in traces:
            found.append(f"{kind}: the trace of a caller is lost")
        elif trace is not None and span not in [top.parent for top in tops if top.trace == trace]:
            found.append(f"{kind}: the planner's span does not hang under the caller's")
    for leaf in (s for s in calls if s.service == "weather-agent"):
        middle = by_id.get((leaf.trace, leaf.parent))
        top = middle and by_id.get((middle.trace, middle.parent))
        if middle is None or middle.kind != "CLIENT":
            found.append(f"weather's span hangs under nothing: {leaf.trace}")
        elif top is None or top.service != "planner-agent" or top.kind != "SERVER":
            said = {k: v for k, v in middle.attributes.items() if k.startswith("meshtrace.parent")}
            found.append(f"the planner's call does not hang under its request: {said}")
    leaves = sum(1 for s in calls if s.service == "weather-agent")
    if leaves != len(made):
        found.append(f"{leaves} calls of the weather are seen, {len(made)} were made")
    return [f"{line} ({count} times)" for line, count in Counter(found).items()][:12]


def judge_registry(spans):
    """Complaints about the traffic with the registry."""
    found = []
    for agent, target in (("planner-agent", "weather-agent"), ("weather-agent", None)):
        own = [s for s in spans if s.service == agent and s.attributes.get("agent.name") == agent]
        names = {s.name for s in own}
        for name in ("register", "heartbeat", "unregister"):
            if f"mesh/{name} {agent}" not in names:
                found.append(f"no mesh/{name} of {agent}: {names}")
        targets = {s.attributes.get("agent.target") for s in own if s.name.startswith("mesh/register")}
        if target and target not in targets:
            found.append(f"{agent} was not resolved to {target}: {targets}")
    return found


async def main():
    """Runs every setting; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--calls", type=int, default=20, help="calls at once, of each kind of caller")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--only", nargs="*", default=[], help="words that a setting's name must hold")
    options = parser.parse_args()
    binary = os.environ.get("MESHTRACE_BIN", "")
    if not os.access(binary, os.X_OK):
        print(f"MESHTRACE_BIN is no program: {binary!r}", file=sys.stderr)
        return 2
    folder = INSTALLED / "run"
    folder.mkdir(exist_ok=True)
    subprocess.run([binary, "shim", "install", folder], check=True, stderr=subprocess.DEVNULL)
    printed = subprocess.run(
        [binary, "shim", "env", folder, "--format", "json"], check=True, capture_output=True, env={}
    )
    shim = json.loads(printed.stdout)
    headers = {name: text for name, text in shim.items() if name.startswith("MCP_MESH")}
    tracing = {"MCP_MESH_DISTRIBUTED_TRACING_ENABLED": "true"}
    settings = {
        "headers, tracing off": headers,
        "headers, tracing on": {**headers, **tracing},
        "shim, tracing off": shim,
        "shim, tracing on": {**shim, **tracing},
    }
    passed = failed = 0
    for name, variables in settings.items():
        if not all(word in name for word in options.only):
            continue
        began = time.monotonic()
        try:
            complaints = await run(binary, name, variables, options.calls, options.seed, folder)
        except Exception as error:
            complaints = [f"{type(error).__name__}: {error}"]
        passed, failed = passed + (not complaints), failed + bool(complaints)
        print(f"{'FAILED' if complaints else 'passed'}  {name} ({time.monotonic() - began:.0f} s)", flush=True)
        for line in complaints:
            print(f"    {line}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
