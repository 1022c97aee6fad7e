"""Runs one cell: starts the agent, its sidecar and the sink, and drives them."""

import asyncio
import json
import os
import pathlib
import random
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass, field

from harness.processes import Process, free_ports, start_sidecar
from harness.receiver import Receiver

from . import judge, load
from .sink import Sink

HERE = pathlib.Path(__file__).resolve().parent.parent
INSTALLED = pathlib.Path(
    os.environ.get("MESHTRACE_MATRIX_DIR") or HERE.parent.parent / "target" / "matrix"
).resolve()


def missing(cell):
    """Why a cell cannot run here, or None."""
    runtime = INSTALLED / cell.runtime
    if not runtime.exists():
        return f"not installed: {cell.runtime}"
    return None


@dataclass
class Outcome:
    """What a cell came to."""

    found: dict
    complaints: list
    conflicts: Counter = field(default_factory=Counter)


class Run:
    """One run of the matrix."""

    def __init__(self, binary, direct, seed):
        self.binary, self.direct, self.seed = binary, direct, seed
        self.shim = INSTALLED / "shim"
        subprocess.run([binary, "shim", "install", self.shim], check=True, stderr=subprocess.DEVNULL)
        words = [binary, "shim", "env", self.shim, "--format", "json"]
        clean = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "NODE_OPTIONS")}
        self.variables = json.loads(subprocess.run(words, check=True, capture_output=True, env=clean).stdout)

    async def cell(self, cell, shim, count):
        """Runs a cell with so many requests, with or without the shim."""
        made = load.requests(count, random.Random(f"{self.seed} {cell.name}"))
        sink = Sink()
        await sink.start()
        service = f"{cell.name} {shim}"
        receiver = Receiver()
        await receiver.start()
        into, agent_port, out = free_ports(3)
        agent = sidecar = None
        try:
            if not self.direct:
                sidecar = await start_sidecar(
                    self.binary, service, receiver, inbound=[(into, agent_port)], outbound=[(out, sink.port)]
                )
            agent = await self._start(cell, shim, agent_port, sink.port if self.direct else out, receiver)
            settled = lambda patience: sink.settled(cell.calls(len(made)), patience)
            failed = await load.drive(cell, agent_port if self.direct else into, made, settled)
            if cell.exports():
                # An agent that ends on SIGTERM does not send what its SDK still holds.
                await asyncio.sleep(3)
        except Exception as error:
            failed = [f"{type(error).__name__}: {error}"]
        finally:
            code = await agent.stop() if agent else None
            if sidecar:
                await sidecar.stop()
            sink.stop()
            receiver.stop()
        said = [agent.said()[-800:]] if failed and agent else []
        if code not in (None, 0, -signal.SIGTERM):
            failed.append(f"the agent ended with {code} on SIGTERM")
        if self.direct:
            found, conflicts = judge.by_headers(made, sink.calls, shim), Counter()
        else:
            found, conflicts = judge.by_spans(made, sink.calls, receiver.spans, service)
            if cell.exports():
                failed += judge.orphans(made, receiver.spans)
        complaints = judge.complaints(cell, found, conflicts, made, shim, self.direct)
        return Outcome(found, failed[:4] + said + complaints, conflicts)

    async def _start(self, cell, shim, port, sink, receiver):
        """The agent, once it accepts."""
        runtime = INSTALLED / cell.runtime
        script, *arguments = cell.words
        if script.endswith(".py"):
            words = [str(runtime / "bin" / "python"), str(HERE / "python" / script), *arguments]
        else:
            words = [str(runtime / "bin" / "node"), str(runtime / script), *arguments]
        settings = {
            "PORT": str(port),
            "SINK": f"http://127.0.0.1:{sink}",
            "KINDS": ",".join(cell.kinds),
            **cell.settings,
            **(self.variables if shim else {}),
        }
        before = settings.pop("BEFORE", "").replace("{bin}", str(runtime / "bin"))
        words = [*before.split(), *words]
        if cell.exports():
            settings |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "agent"}
        agent = await Process.start(words, **settings)
        await agent.accepting(port)
        agent.reading.append(asyncio.create_task(Process._read(agent.child.stdout, agent.errors)))
        return agent
