"""What a proxy holds and how it ages: memory, start, pending requests, lost spans, soak."""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack

from . import machine
from .cost import CONNECTIONS, MESH, NOPOOL, RAW, SLICES, Meter, Scenario
from .report import Figure, Pairs
from .streams import await_count, hold_limit

SMALL = Scenario("small")


def memory(bench, say):
    """Resident memory: idle, for a keep-alive pair, for an open SSE stream."""
    many = hold_limit()
    figures, notes = [], {}
    for name in (MESH, RAW, NOPOOL):
        say(f"memory: {name}")
        with bench.proxy(name) as proxy:
            time.sleep(0.3)
            idle = machine.rss_kib(proxy.pid)
        pairs = {n: held(bench, name, "small", n) for n in (1000, many)}
        streams = {n: held(bench, name, "open", n) for n in (2000,)}
        notes[name] = idle, pairs, streams
    idle, pairs, streams = notes[MESH]
    raw_idle, raw_pairs, raw_streams = notes[RAW]
    no_idle, no_pairs, no_streams = notes[NOPOOL]
    figures.append(Figure("idle RSS", 10, 6, idle / 1024, "MiB",
                          note=f"hyper-raw {raw_idle / 1024:.1f}, without a pool {no_idle / 1024:.1f}"))
    for n in pairs:
        note = f"hyper-raw {raw_pairs[n]:.1f}, without a pool {no_pairs[n]:.1f}"
        figures.append(Figure(f"a keep-alive pair, of {n:,}", 35, 20, pairs[n], "KiB", note=note))
    for n in streams:
        note = f"hyper-raw {raw_streams[n]:.1f}, without a pool {no_streams[n]:.1f}"
        figures.append(Figure(f"an open SSE stream, of {n:,}", 40, 25, streams[n], "KiB", note=note))
    return figures


def held(bench, name, kind, count):
    """KiB for each of `count` held connections, and nothing lost in holding them."""
    with bench.proxy(name) as proxy:
        bench.load("closed", proxy.port, requests=200, connections=4).stop()
        time.sleep(0.2)
        before = machine.rss_kib(proxy.pid)
        with bench.load("hold", proxy.port, kind=kind, connections=count) as load:
            time.sleep(0.5)
            after = machine.rss_kib(proxy.pid)
            lost = load.ask()["lost"]
            if lost:
                raise RuntimeError(f"{name}: {lost} of {count} held connections were lost")
            if kind == "open":
                bench.ask_upstream("finish")
                await_count(name, load, "ended", count)
    settle(bench)
    return (after - before) / count


def settle(bench):
    """Waits until the upstream has nothing open any more."""
    for _ in range(100):
        if bench.ask_upstream()["open"] == 0:
            return
        time.sleep(0.1)


def pending(bench, say):
    """CPU time of a small request while 10,000 others wait for their answer."""
    many, growth = hold_limit() - 70, {}
    for name in (RAW, MESH):
        say(f"pending: {name}")
        with bench.proxy(name) as busy, bench.proxy(name) as quiet:
            with bench.load("hold", busy.port, kind="hang", connections=many) as load:
                wait_until_open(bench, many)
                growth[name] = compare(bench, busy, quiet)
                if load.ask()["lost"]:
                    raise RuntimeError(f"{name}: pending requests were lost")
                bench.ask_upstream("finish")
                await_count(name, load, "ended", many)
        settle(bench)
    value = growth[MESH].median / growth[RAW].median
    note = f"growth {growth[MESH].median:.2f} ({growth[MESH].middle()}), hyper-raw {growth[RAW].median:.2f}"
    return [Figure(f"a request with {many:,} pending, over hyper-raw's growth", 1.1, 1.0, value, "x", note=note)]


def compare(bench, subject, reference, what="cpu_us"):
    """Small requests in alternating slices through two proxies, compared by one measure."""
    pairs = Pairs()
    with Meter(bench, subject, SMALL) as ours, Meter(bench, reference, SMALL) as theirs:
        for number in range(2 * SLICES):
            order = [ours, theirs] if number % 2 else [theirs, ours]
            cost = {meter: meter.slice()[what] for meter in order}
            pairs.add(cost[ours], cost[theirs])
    return pairs


def wait_until_open(bench, count):
    for _ in range(100):
        if bench.ask_upstream()["open"] >= count:
            return
        time.sleep(0.1)
    raise RuntimeError("the held requests did not all reach the upstream")


def latency(bench, rounds, say, milliseconds=250):
    """p50 that is added over direct at 1,000 requests a second, less what hyper-raw adds.

    The three take turns every quarter of a second, in each order as often."""
    say("latency")
    added, over = {RAW: [], MESH: []}, []
    with ExitStack() as stack:
        stack.enter_context(bench.awake())
        raw, mesh = (stack.enter_context(bench.proxy(name)) for name in (RAW, MESH))
        ports = {"direct": bench.upstream_port, RAW: raw.port, MESH: mesh.port}
        options = {"rate": 1000, "milliseconds": milliseconds}
        loads = {n: stack.enter_context(bench.load("paced", port, **options)) for n, port in ports.items()}
        # Who comes after whom makes a difference.
        orders = list(itertools.permutations(loads))
        for number in range(rounds * 4 * len(orders)):
            p50 = {name: loads[name].ask()["p50"] for name in orders[number % len(orders)]}
            for name in added:
                added[name].append(p50[name] - p50["direct"])
            over.append(p50[MESH] - p50[RAW])
    medians = {name: statistics.median(values) for name, values in added.items()}
    low, _, high = statistics.quantiles(over, n=4)
    note = f"added {medians[MESH]:.0f}, hyper-raw {medians[RAW]:.0f}; half of the slices {low:.0f} to {high:.0f}"
    return [Figure("added p50 at 1,000/s, over hyper-raw's", 10, 0, statistics.median(over), "us", note=note,
                   noisy=high - low > 40)]


def direct(bench, say):
    """Requests a second without any proxy, and what is left of them with one. Not judged: the
    ends share a CPU, so direct is bounded by them and not by the network."""
    say("direct")
    bench.upstream.name, bench.upstream.port = "direct", bench.upstream_port
    left = {}
    for name in (RAW, MESH):
        with bench.proxy(name) as proxy:
            left[name] = compare(bench, proxy, bench.upstream, "rate")
    note = f"hyper-raw {left[RAW].median:.2f}; direct {statistics.median(left[MESH].reference):.0f}/s"
    return [Figure("throughput, of direct's", value=left[MESH].median, unit="x", note=note)]


def lost_spans(bench, requests, say):
    """Spans that did not arrive although the export limit was not reached."""
    say(f"lost spans: {requests:,} requests")
    before, connections = bench.spans()["spans"], bench.ask_upstream()["connections"]
    with bench.proxy(MESH) as proxy:
        with bench.load("closed", proxy.port, requests=requests, warmup=0) as load:
            done = load.ask()
        arrived = await_spans(bench, before, requests)
    sink, connections = bench.spans(), bench.ask_upstream()["connections"] - connections
    if connections > 2 * CONNECTIONS:
        raise RuntimeError(f"{connections} upstream connections for {CONNECTIONS} downstream")
    # Leaving flushes what is still queued: it counts as arrived, but it is said.
    final = sink["spans"] - before
    note = f"{arrived:,} arrived of {requests:,} at {done['requests'] / done['seconds']:.0f}/s"
    if final != arrived:
        note += f", {final - arrived:,} more when it left"
    note += f"; {sink['bytes'] / max(1, sink['spans']):.0f} B a span"
    lost = float("inf") if sink["broken"] else abs(requests - final)
    return [Figure("spans lost", 0, 0, float(lost), "spans", note=note)]


def await_spans(bench, before, expected, patience=15):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        arrived = bench.spans()["spans"] - before
        if arrived >= expected:
            break
        time.sleep(0.2)
    return arrived


def start(bench, say, times=15):
    """Milliseconds from starting the program to the first answer through it."""
    say("start to first answer")
    medians = {}
    for name in (RAW, MESH):
        port = machine.free_port()
        command, env = bench.command(name, port)
        load = [bench.programs / "load", "start", "--target", f"127.0.0.1:{port}", "--times", str(times), "--"]
        done = subprocess.run([*load, *command], env=machine.clean_environment() | env, check=True,
                              capture_output=True, text=True,
                              preexec_fn=lambda: machine.settle_on(machine.PROXY_CPU))
        medians[name] = json.loads(done.stdout)
    ours = medians[MESH]
    note = f"lowest {ours['min_ms']:.1f}; hyper-raw {medians[RAW]['median_ms']:.1f}"
    return [Figure("start to first answer", 25, 15, ours["median_ms"], "ms", note=note)]


def size(bench):
    """The stripped binary."""
    copy = bench.scratch / "stripped"
    shutil.copy(bench.meshtrace, copy)
    subprocess.run(["strip", copy], check=False)
    return [Figure("stripped binary", 10, 6, copy.stat().st_size / 1e6, "MB")]


def soak(bench, minutes, say):
    """Memory under minutes of mixed load: the last quarter against the second."""
    kinds = ["small", "sse-burst", "error", "result-fields", "request-string"]
    samples, deadline = [], time.monotonic() + 60 * minutes
    with bench.proxy(MESH) as proxy:
        turn = 0
        while time.monotonic() < deadline:
            kind = kinds[turn % len(kinds)]
            reconnect = {"reconnect": True} if turn % 7 == 6 else {}
            with bench.load("closed", proxy.port, kind=kind, requests=3000, warmup=0, **reconnect) as load:
                done = load.ask()
            if done["errors"]:
                raise RuntimeError(f"soak, {kind}: {done['errors']} requests failed")
            turn += 1
            if turn % len(kinds) == 0:
                samples.append(machine.rss_kib(proxy.pid))
    quarter = max(1, len(samples) // 4)
    early = statistics.median(samples[quarter:2 * quarter] or samples)
    late = statistics.median(samples[-quarter:])
    say(f"soak: {turn * 3000:,} requests")
    note = (
        f"RSS {early / 1024:.1f} MiB in the second quarter, {late / 1024:.1f} in the last, "
        f"top {max(samples) / 1024:.1f}; {turn * 3000:,} requests"
    )
    return [Figure(f"growth of memory in {minutes:g} minutes under load", 1.05, 1.0, late / early, "x", note=note)]
