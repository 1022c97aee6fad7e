#!/usr/bin/env python3
"""What meshtrace costs, against a plain hyper reverse proxy in the same run.

    benches/overhead.py                      every figure: some ten minutes, and the soak's ten
    benches/overhead.py --check              the same; leaves with 1 when a "must" is missed
    benches/overhead.py --quick --check      one to two minutes: exact figures only
    benches/overhead.py --only cost,latency  some of: cost exact memory events pending latency
                                             direct spans start size soak
    benches/overhead.py --profile            where meshtrace's instructions go, by function

`README.md` beside this file says how each figure is made.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import callgrind, cost, exact, machine, parties, report, state, streams

GROUPS = ["cost", "exact", "memory", "events", "pending", "latency", "direct", "spans", "start", "size", "soak"]
QUICK = ["exact", "start", "size", "spans"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshtrace", type=Path, help="the binary; deploy/build.sh builds it unless given")
    parser.add_argument("--plain", action="store_true", help="builds it with the dist profile alone: quicker, and slower")
    parser.add_argument("--target-dir", help="where the programs of load/ are built")
    parser.add_argument("--programs", type=Path, help="the programs of load/, built already")
    parser.add_argument("--only", default="", help="comma-separated groups")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenarios", default="", help="only scenarios whose name contains this")
    parser.add_argument("--requests", type=int, default=1000, help="small requests under callgrind")
    parser.add_argument("--span-requests", type=int, default=200_000)
    parser.add_argument("--soak", type=float, default=10, metavar="MINUTES")
    parser.add_argument("--nice", type=int, default=0, help="priority of all parties, for a busy machine: -10, say")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="writes the figures there as well")
    return parser.parse_args()


def main():
    options = arguments()
    machine.max_files()
    machine.niceness = options.nice
    meshtrace = options.meshtrace or build_meshtrace(options.plain)
    programs = options.programs or parties.build(options.target_dir)
    with tempfile.TemporaryDirectory(prefix="meshtrace-bench-") as scratch:
        bench = parties.Bench(programs, meshtrace, Path(scratch))
        with bench.parties():
            if options.profile:
                return profile(bench, options)
            figures = measure(bench, options)
    print(report.table(figures))
    if options.json:
        options.json.write_text(json.dumps([vars(figure) for figure in figures], indent=1))
    failed = [figure.name for figure in figures if figure.failed]
    if failed:
        print(f"\nmissed: {', '.join(failed)}")
    return 1 if failed and options.check else 0


def measure(bench, options):
    groups = options.only.split(",") if options.only else QUICK if options.quick else GROUPS
    unknown = set(groups) - set(GROUPS)
    if unknown:
        sys.exit(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    scenarios = [s for s in cost.SCENARIOS if options.scenarios in s.name]
    requests = min(options.requests, 400) if options.quick else options.requests
    span_requests = min(options.span_requests, 50_000) if options.quick else options.span_requests
    figures = []
    # Instructions decide: estimates where the machine does not count them, or time is short, and CPU time only where there
    # are no estimates either.
    judged = options.quick or not machine.perf_supports("instructions")
    estimated = "exact" in groups and callgrind.available()
    steps = {
        "cost": lambda: told(scenarios, cost.paired(bench, scenarios, options.rounds, estimated, say)),
        "exact": lambda: exactly(bench, scenarios, options.scenarios in streams.NAME, requests, judged),
        "memory": lambda: state.memory(bench, say),
        "events": lambda: streams.events(bench, estimated, say),
        "pending": lambda: state.pending(bench, say),
        "latency": lambda: state.latency(bench, options.rounds, say),
        "direct": lambda: state.direct(bench, say),
        "spans": lambda: state.lost_spans(bench, span_requests, say),
        "start": lambda: state.start(bench, say),
        "size": lambda: state.size(bench),
        "soak": lambda: state.soak(bench, options.soak, say),
    }
    for group, step in steps.items():
        if group in groups:
            figures += attempt(group, step)
    return figures


def attempt(group, step):
    """A step that breaks is a figure that is missed, not the end of the run."""
    try:
        return step()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(f"{group}: {error}")
        return [report.Figure(group, must=0, note=str(error).strip().splitlines()[-1])]


def exactly(bench, scenarios, open_streams, requests, judged):
    if not callgrind.available():
        return [report.Figure("estimated instructions", note="valgrind is not installed")]
    figures = told(scenarios, exact.figures(bench, scenarios, requests, judged, say))
    return [*figures, streams.exactly(bench, say)] if open_streams else figures


def told(scenarios, outcome):
    """The figures, and one more for each scenario whose subject did not start."""
    figures, silent = outcome
    return figures + [
        report.Figure(s.name, s.must, s.then, note=silent[s.subject]) for s in scenarios if s.subject in silent
    ]


def profile(bench, options):
    """The functions with the most instructions of their own, for each chosen scenario."""
    scenarios = [s for s in cost.SCENARIOS if options.scenarios in s.name][: None if options.scenarios else 1]
    for key, (found, count) in exact.profiles(bench, scenarios, options.requests, say).items():
        total = found.instructions
        print(f"\n{' '.join(map(str, key[:2]))} {dict(key[2]) or ''}: {total / count:.0f} user instructions, "
              f"{found.allocations / count:.1f} allocations a request")
        for title, costs in [("own", found.functions), ("with callees", found.inclusive)]:
            print(f"-- {title}")
            for function, cost_of_it in costs.most_common(60):
                print(f"{cost_of_it / count:9.0f}  {cost_of_it / total:5.1%}  {function}")
    return 0


def build_meshtrace(plain):
    """Builds what is shipped; with symbols, which profiles need and the size leaves out."""
    root = parties.BENCHES.parent
    symbols = {**os.environ, "CARGO_PROFILE_DIST_STRIP": "none", "CARGO_PROFILE_DIST_DEBUG": "line-tables-only"}
    if not plain:
        output = root / "target/bench/meshtrace"
        say("building as deploy/build.sh does, which takes a quarter of an hour; --plain or --meshtrace spare it")
        if subprocess.run(["deploy/build.sh", output], cwd=root, env=symbols, stdout=sys.stderr).returncode:
            sys.exit("deploy/build.sh failed; --plain builds with the dist profile alone")
        return output
    command = ["cargo", "build", "--locked", "--profile", "dist", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=root, env=symbols, check=True, stdout=subprocess.PIPE, text=True)
    messages = map(json.loads, done.stdout.splitlines())
    return next(Path(m["executable"]) for m in messages if m.get("executable"))


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
