"""What a request costs: CPU time, or instructions where the machine counts them, in paired slices.

A slice is some tens of milliseconds of closed-loop load. Slices through the subject and through
its reference alternate, so that whatever else happens on the machine falls on both alike.
"""

import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from . import machine
from .report import Figure, Pairs

RAW, NOPOOL, FLOOR = "hyper-raw", "hyper-nopool", "hyper, names kept"
MESH, ONE, KEEP, TWO = "meshtrace", "meshtrace 1 %", "meshtrace 1 %, keep", "meshtrace, 2 workers"
NEIGHBOUR, OUT = "meshtrace 1 %, keep, notices", "meshtrace outbound"
CONNECTIONS = 64
SLICES = 20


@dataclass(frozen=True)
class Scenario:
    """One kind of traffic through a subject and a reference, and the goals of their ratio."""

    name: str
    subject: str = MESH
    must: float | None = None
    then: float | None = None
    kind: str = "small"
    reference: str = RAW
    # Requests of one slice.
    requests: int = 600
    options: dict = field(default_factory=dict, hash=False)
    # Thousands of instructions that the kernel spends on a request of the reference, and whether
    # they grow with the number of system calls (README.md, "Exact figures").
    kernel: float = 31
    by_calls: bool = True

    @property
    def load(self):
        return {"kind": self.kind, **self.options}

    def key(self, proxy):
        """Names what was measured: other scenarios may share it."""
        return proxy, self.kind, tuple(self.options.items())


def large(name, must, then, kind):
    return Scenario(name, MESH, must, then, kind, requests=150, kernel=78, by_calls=False)


UNSAMPLED = {"parent": "unsampled"}
SCENARIOS = [
    Scenario("small `tools/call`, 1 span", MESH, 1.25, 1.10),
    Scenario("small, sampled parent", MESH, 1.25, 1.10, options={"parent": "sampled"}),
    Scenario("small, capitals in names", MESH, options={"capitals": True}),
    Scenario("small, `isError`", MESH, 1.25, 1.10, "error"),
    Scenario("small, outbound", OUT),
    Scenario("1 % sampling", ONE, 1.12, 1.00),
    Scenario("unsampled parent", MESH, 1.12, 1.00, options=UNSAMPLED),
    Scenario("1 % sampling, `keep` on", KEEP, 1.20, 1.06),
    Scenario("unsampled parent, `keep` on", KEEP, 1.20, 1.06, options=UNSAMPLED),
    Scenario("unsampled, of a sidecar, `keep` on", NEIGHBOUR, options={"parent": "sidecar"}),
    large("64 KiB request, one string", 1.4, 1.25, "request-string"),
    large("64 KiB request, many fields", 1.4, 1.25, "request-fields"),
    large("64 KiB request, objects in objects", 1.4, 1.25, "request-nested"),
    large("64 KiB result, one string", 1.1, 1.0, "result-string"),
    large("64 KiB result, many fields", 1.1, 1.0, "result-fields"),
    large("64 KiB result, one string, no `isError`", None, None, "result-string-plain"),
    large("64 KiB result, many fields, no `isError`", None, None, "result-fields-plain"),
    Scenario("SSE, burst of 20 events", MESH, 0.8, 0.65, "sse-burst", requests=150, kernel=310),
    Scenario("SSE, one event alone", MESH, 1.2, 1.1, "sse-single", requests=500, kernel=45),
    Scenario("new connection a request, against hyper without a pool", MESH, 1.15, 1.06, reference=NOPOOL,
             requests=200, options={"reconnect": True}, kernel=156, by_calls=False),
    Scenario("2 workers, against 1", TWO, 1.05, 1.0, reference=MESH),
]
# What hyper alone costs with one upstream connection for each downstream connection and the names
# of header fields as they came: no figure can be lower without breaking one of these promises.
SCENARIOS += [
    replace(scenario, name=f"floor: {scenario.name}", subject=FLOOR, must=None, then=None)
    for scenario in SCENARIOS
    if scenario.subject == MESH
]


def usable(bench, scenarios):
    """The scenarios whose subject starts at all, and what the others' subjects said."""
    silent = {}
    for name in {scenario.subject for scenario in scenarios}:
        try:
            bench.proxy(name).stop()
        except RuntimeError as error:
            silent[name] = str(error).strip().splitlines()[-1].replace(f"{bench.scratch}/", "")
    return [s for s in scenarios if s.subject not in silent], silent


class Meter:
    """A warm load on one proxy, of which slices are measured."""

    def __init__(self, bench, proxy, scenario, instructions=False):
        self.proxy, self.scenario, self.instructions = proxy, scenario, instructions
        options = {"requests": scenario.requests, "connections": CONNECTIONS, **scenario.load}
        self.load = bench.load("closed", proxy.port, **options)
        self.ticks = machine.cpu_split(proxy.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.load.stop()

    def slice(self):
        """One slice's requests a second and cost a request: microseconds or instructions."""
        with ExitStack() as stack:
            if self.instructions:
                perf = stack.enter_context(machine.PerfStat(self.proxy.pid, ["instructions"]))
            before = machine.cpu_ns(self.proxy.pid)
            done = self.load.ask()
            cpu = machine.cpu_ns(self.proxy.pid) - before
        if done["errors"]:
            raise RuntimeError(f"{self.proxy.name}, {self.scenario.name}: {done['errors']} requests failed")
        done["cpu_us"] = cpu / 1000 / done["requests"]
        done["busy"] = cpu / 1e9 / done["seconds"]
        done["rate"] = done["requests"] / done["seconds"]
        done["cost"] = done["cpu_us"]
        if self.instructions:
            done["cost"] = perf.counts.get("instructions", 0) / 1000 / done["requests"]
        return done

    def kernel_share(self):
        """The kernel's part of the CPU time since this load was ready."""
        user, kernel = (b - a for a, b in zip(self.ticks, machine.cpu_split(self.proxy.pid)))
        return kernel / max(1, user + kernel)


def paired(bench, scenarios, rounds, estimated, say):
    """The cost of a request, subject to reference. Returns figures and what did not start.

    CPU time is told, but not judged, where instructions are `estimated`."""
    scenarios, silent = usable(bench, scenarios)
    counted = machine.perf_supports("instructions")
    results = {scenario.name: Comparison(scenario, counted) for scenario in scenarios}
    with ExitStack() as stack:
        names = sorted({name for s in scenarios for name in (s.subject, s.reference)})
        proxies = {name: stack.enter_context(bench.proxy(name)) for name in names}
        for number in range(rounds):
            for scenario in scenarios:
                pair = [Meter(bench, proxies[n], scenario, counted) for n in (scenario.subject, scenario.reference)]
                with pair[0], pair[1]:
                    results[scenario.name].run(*pair)
            say(f"cost: round {number + 1} of {rounds}")
    figures = [results[scenario.name].figure(estimated) for scenario in scenarios]
    if SCENARIOS[0].name in results:
        figures.append(results[SCENARIOS[0].name].throughput())
    return figures, silent


class Comparison:
    """Everything measured for one scenario."""

    def __init__(self, scenario, counted):
        self.scenario, self.counted = scenario, counted
        self.cost, self.rate, self.busy, self.kernel = Pairs(), Pairs(), [], ([], [])

    def run(self, subject, reference):
        for number in range(SLICES):
            # The one that went second goes first the next time.
            order = [subject, reference] if number % 2 else [reference, subject]
            done = {meter: meter.slice() for meter in order}
            ours, theirs = done[subject], done[reference]
            self.cost.add(ours["cost"], theirs["cost"])
            self.rate.add(ours["rate"], theirs["rate"])
            self.busy.append(ours["busy"])
        for shares, meter in zip(self.kernel, (subject, reference)):
            shares.append(meter.kernel_share())

    def figure(self, estimated):
        s, unit = self.scenario, "k" if self.counted else "us"
        ours, theirs = statistics.median(self.cost.subject), statistics.median(self.cost.reference)
        kernel = [statistics.mean(shares) for shares in self.kernel]
        note = (
            f"{ours:.1f} to {theirs:.1f} {unit}; of sums {self.cost.of_sums:.2f}; half of the slices "
            f"{self.cost.middle()}; kernel {kernel[0]:.0%} to {kernel[1]:.0%}"
        )
        what = "instructions" if self.counted else "CPU time"
        judged = self.counted or not estimated
        return Figure(f"{what}: {s.name}", s.must, s.then, self.cost.median, "x", note=note, judged=judged)

    def throughput(self):
        note = (
            f"half of the slices {self.rate.middle()}; best {max(self.rate.subject):.0f}/s to "
            f"{max(self.rate.reference):.0f}/s; its CPU was {statistics.median(self.busy):.0%} busy"
        )
        return Figure("throughput on one CPU", 0.7, 0.9, self.rate.median, "x", at_least=True, note=note,
                      noisy=statistics.median(self.busy) < 0.8)
