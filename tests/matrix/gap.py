"""Is a gap in what the shim follows seen?

    gap.py

Agents whose server or client the shim does not know, with the shim, a hundred requests
at once. Their calls must not hang anywhere wrong, the metric must count each of them as
what it is, and `meshtrace check --agent` must say how many there are and where they go.
Run it as `run.py`; exit code 1 says that something was silent.
"""

import asyncio
import os
import pathlib
import random
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

from harness.processes import free_ports, start_sidecar  # noqa: E402
from harness.receiver import Receiver  # noqa: E402

from matrix import agents, cells, judge, load  # noqa: E402
from matrix.sink import Sink  # noqa: E402
from matrix.web import Connection  # noqa: E402

REQUESTS = 100
FOUND, LOST = "propagated.shim", "ambiguous"


def agent(server, kinds):
    """An agent as a cell of the matrix."""
    return cells.Cell(server, "uncovered", ["uncovered.py"], kinds, settings={"SERVER": server})


AGENTS = [
    agent("tornado", {"tornado": cells.LOST}),
    agent("http.server", {"http.client": cells.FOLLOWED, "socket": cells.LOST}),
]


async def counted(admin):
    """`meshtrace_parent_total` by method, those that are not zero."""
    _, _, body = await Connection(admin).ask("GET", "/metrics", ())
    found = {}
    for line in body.decode().splitlines():
        if line.startswith("meshtrace_parent_total{") and not line.endswith(" 0"):
            found[line.split('"')[1]] = int(line.rsplit(" ", 1)[1])
    return found


async def look(run, cell):
    """Runs one agent; returns what was silent, and what the operator is told."""
    made = load.requests(REQUESTS, random.Random(f"{run.seed} {cell.name}"))
    sink, receiver = Sink(), Receiver()
    await sink.start()
    await receiver.start()
    into, port, out, admin = free_ports(4)
    sides = {"inbound": [(into, port)], "outbound": [(out, sink.port)]}
    at = f"127.0.0.1:{admin}"
    sidecar = await start_sidecar(run.binary, cell.name, receiver, admin=at, **sides)
    child = None
    try:
        child = await run._start(cell, True, port, out, receiver)
        said = await load.drive(cell, into, made, lambda patience: sink.settled(cell.calls(REQUESTS), patience))
        metric = await counted(admin)
        words = [run.binary, "check", "--agent", at]
        check = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
    finally:
        if child:
            await child.stop()
        await sidecar.stop()
        sink.stop()
        receiver.stop()
    found, conflicts = judge.by_spans(made, sink.calls, receiver.spans, cell.name)
    said += judge.complaints(cell, found, conflicts, made, True)
    lost = sum(REQUESTS for expected in cell.kinds.values() if not expected.shim)
    followed = sum(REQUESTS for expected in cell.kinds.values() if expected.shim)
    # The first and the last may be alone with the agent, which is another method without proof.
    unproved = sum(many for method, many in metric.items() if method != FOUND)
    if (metric.get(FOUND, 0), unproved) != (followed, lost) or metric.get(LOST, 0) < 0.9 * lost:
        said.append(f"{followed} calls carry the mark and {lost} nothing, and the metric says {metric}")
    line = f"{metric.get(LOST, 0) * 100 / (lost + followed):5.1f} % {LOST}: calls to 127.0.0.1:{sink.port} ("
    for wanted in (line, "which the shim does not follow" if followed else "give the agent the shim"):
        if wanted not in check.stdout:
            said.append(f"check --agent does not say {wanted!r}")
    if check.returncode != 0:
        said.append(f"check --agent ends with {check.returncode}: {check.stderr}")
    return said, check.stdout


async def main():
    """Runs all; returns the exit code."""
    binary = os.environ.get("MESHTRACE_BIN", "")
    if not os.access(binary, os.X_OK):
        print(f"MESHTRACE_BIN is no program: {binary!r}", file=sys.stderr)
        return 2
    run = agents.Run(binary, False, 20261126)
    failed = False
    for cell in AGENTS:
        if reason := agents.missing(cell):
            print(f"skipped: {reason}: {cell.name}")
            failed = True
            continue
        said, told = await look(run, cell)
        print(f"{'FAILED' if said else 'passed'}  {cell.name}\n{told}")
        for line in said:
            print(f"    {line}")
        failed |= bool(said)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
