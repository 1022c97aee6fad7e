"""Events on streams that stay open: CPU time, user instructions, and what many streams change."""

import statistics
import time
from contextlib import ExitStack

from . import callgrind, machine
from .cost import MESH, RAW
from .report import Figure, Pairs

NAME, MUST, THEN = "SSE, one event on an open stream", 1.2, 1.1
# Thousands of instructions that the kernel spends on an event of the reference: half of a small request's, which reads
# and writes twice. With one in ten of that the goal would be reached as well.
KERNEL = 15.5


def hold_limit():
    """How many connection pairs fit into the limit of open files, at most 10,000."""
    return min(10_000, (machine.max_files() - 200) // 2)


def events(bench, estimated, say, turns=20):
    """CPU time of one event on an open stream: against the reference, and with many streams.

    Each proxy has an upstream of its own here, and all are there at once and take turns. The first is
    told, but not judged, where instructions are `estimated`."""
    many, cost = hold_limit(), {}
    with ExitStack() as stack:
        say("events")
        stack.enter_context(bench.awake())
        held = {}
        for name in (MESH, RAW):
            for streams in (100, many):
                held[name, streams] = stack.enter_context(Streams(bench, name, streams))
                cost[name, streams] = []
        for turn in range(turns):
            for key in list(held)[turn % 4:] + list(held)[:turn % 4]:
                cost[key].append(held[key].slice())
        for streams in held.values():
            streams.finish()
    alone, ours, theirs = Pairs(), Pairs(), Pairs()
    for turn in range(turns):
        alone.add(cost[MESH, 100][turn], cost[RAW, 100][turn])
        ours.add(cost[MESH, many][turn], cost[MESH, 100][turn])
        theirs.add(cost[RAW, many][turn], cost[RAW, 100][turn])
    medians = [statistics.median(costs) for costs in (alone.subject, alone.reference)]
    return [
        Figure(f"CPU time: {NAME}", MUST, THEN, alone.median, "x", judged=not estimated,
               note=f"{medians[0]:.1f} to {medians[1]:.1f} us; half of the slices {alone.middle()}"),
        Figure(f"an event at {many:,} streams as at 100, over hyper-raw's growth", 1.1, 1.0,
               ours.median / theirs.median, "x", note=f"growth {ours.median:.2f}, hyper-raw {theirs.median:.2f}"),
    ]


class Streams:
    """A proxy with open SSE streams through it, from an upstream of its own."""

    def __init__(self, bench, name, count, **how):
        self.bench, self.name, self.count, self.how, self.sent = bench, name, count, how, 0

    def __enter__(self):
        with ExitStack() as stack:
            self.upstream = stack.enter_context(self.bench.another_upstream())
            self.proxy = stack.enter_context(self.bench.proxy(self.name, **self.how))
            options = {"kind": "open", "connections": self.count}
            self.load = stack.enter_context(self.bench.load("hold", self.proxy.port, **options))
            self.slice()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def slice(self, count=400, rate=2000):
        """Microseconds of CPU for each of `count` events, each on another stream."""
        before = machine.cpu_ns(self.proxy.pid)
        self.send(count, rate)
        return (machine.cpu_ns(self.proxy.pid) - before) / 1000 / count

    def send(self, count, rate):
        """Sends so many events at so many a second; returns when all have arrived."""
        self.bench.ask_upstream(f"emit/{count}/{rate}", self.upstream)
        self.sent += count
        await_count(self.name, self.load, "events", self.sent)

    def finish(self):
        """Ends all streams, and insists that each client sees it."""
        self.bench.ask_upstream("finish", self.upstream)
        await_count(self.name, self.load, "ended", self.count)


def exactly(bench, say, streams=100, count=2000):
    """The estimate of all instructions of an event, from user instructions under callgrind."""
    user, allocations = {}, {}
    for name in (RAW, MESH):
        say(f"callgrind: {name}, open streams")
        out = bench.scratch / f"callgrind.open.{name}"
        how = {"wrap": callgrind.wrap(out), "further": callgrind.ENVIRONMENT, "patience": 60}
        with Streams(bench, name, streams, **how) as held:
            callgrind.zero(held.proxy.pid)
            held.send(count, 1000)
            time.sleep(0.1)
            found = callgrind.dump(held.proxy.pid, out)
            held.finish()
        user[name], allocations[name] = found.instructions / count / 1000, found.allocations / count
    note = (
        f"user {user[MESH]:.1f} to {user[RAW]:.1f} k ({user[MESH] / user[RAW]:.2f}); allocations "
        f"{allocations[MESH]:.1f} to {allocations[RAW]:.1f}"
    )
    estimate = (user[MESH] + KERNEL) / (user[RAW] + KERNEL)
    return Figure(f"estimated instructions: {NAME}", MUST, THEN, estimate, "x", note=note)


def await_count(name, load, what, expected, patience=20):
    """Waits until held connections have received this much, and insists that it is not more."""
    deadline = time.monotonic() + patience
    while (count := load.ask()[what]) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    if count != expected:
        raise RuntimeError(f"{name}: {what} {count}, not {expected}")
