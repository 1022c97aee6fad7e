"""Costs that repeat to the last digit or nearly: user instructions, allocations, system calls."""

import time

from . import callgrind, machine
from .cost import CONNECTIONS, usable
from .report import Figure

SYSTEM_CALL = "raw_syscalls:sys_enter"


def figures(bench, scenarios, requests, judged, say):
    """One line for each scenario: the estimate of all instructions, and what it is made of."""
    scenarios, silent = usable(bench, scenarios)
    found, calls = profiles(bench, scenarios, requests, say), system_calls(bench, scenarios, say)
    lines = [line(s, found, calls, judged) for s in scenarios]
    return lines, silent


def profiles(bench, scenarios, requests, say):
    """A callgrind profile for each pair of proxy and traffic, with its number of requests."""
    found = {}
    for name in proxies(scenarios):
        say(f"callgrind: {name}")
        out = bench.scratch / f"callgrind.{name.replace(' ', '-').replace('%', 'pct')}"
        with bench.proxy(name, callgrind.wrap(out), callgrind.ENVIRONMENT, patience=60) as proxy:
            for scenario in (s for s in scenarios if name in (s.subject, s.reference)):
                if scenario.key(name) not in found:
                    count = max(100, requests * scenario.requests // 600)
                    found[scenario.key(name)] = profile(bench, proxy, scenario, count, out), count
    return found


def profile(bench, proxy, scenario, count, out):
    """One connection, so that every run wakes, reads and writes in the same order."""
    options = {"connections": 1, "requests": count, "warmup": max(20, count // 5)}
    with bench.load("closed", proxy.port, **options, **scenario.load) as load:
        callgrind.zero(proxy.pid)
        done = load.ask()
        # What the last answer leaves to be done belongs to it.
        time.sleep(0.3)
        if done["errors"]:
            raise RuntimeError(f"{proxy.name}, {scenario.name}: {done['errors']} requests failed")
        return callgrind.dump(proxy.pid, out)


def system_calls(bench, scenarios, say):
    """System calls a request, for each pair of proxy and traffic; empty if they are not counted."""
    calls = {}
    if not machine.perf_supports(SYSTEM_CALL):
        return calls
    for name in proxies(scenarios):
        say(f"system calls: {name}")
        with bench.proxy(name) as proxy:
            for scenario in (s for s in scenarios if name in (s.subject, s.reference)):
                if scenario.key(name) not in calls:
                    calls[scenario.key(name)] = count_calls(bench, proxy, scenario)
    return calls


def count_calls(bench, proxy, scenario):
    count = scenario.requests * 4
    with bench.load("closed", proxy.port, requests=count, connections=CONNECTIONS, **scenario.load) as load:
        with machine.PerfStat(proxy.pid, [SYSTEM_CALL]) as perf:
            load.ask()
    return perf.counts.get(SYSTEM_CALL, 0) / count


def proxies(scenarios):
    """The names of all proxies, each once."""
    return list(dict.fromkeys(name for s in scenarios for name in (s.reference, s.subject)))


def line(scenario, found, calls, judged):
    (ours, n), (theirs, m) = (found[scenario.key(p)] for p in (scenario.subject, scenario.reference))
    user = ours.instructions / n / 1000, theirs.instructions / m / 1000
    note = (
        f"user {user[0]:.1f} to {user[1]:.1f} k ({user[0] / user[1]:.2f}); allocations "
        f"{ours.allocations / n:.1f} to {theirs.allocations / m:.1f}"
    )
    more_calls = 1.0
    counted = [calls.get(scenario.key(p)) for p in (scenario.subject, scenario.reference)]
    if all(counted):
        note += f"; system calls {counted[0]:.1f} to {counted[1]:.1f}"
        more_calls = counted[0] / counted[1] if scenario.by_calls else 1.0
    estimate = (user[0] + scenario.kernel * more_calls) / (user[1] + scenario.kernel)
    return Figure(f"estimated instructions: {scenario.name}", scenario.must, scenario.then, estimate, "x",
                  note=note, judged=judged)
