"""Runs the real peers, direct and through sidecars, and judges the result.

    run.py [--quick] [--direct] [--strict] [--only WORDS] [--jobs N]

Run it with the Python of the `mcp2` environment that `install.sh` made. The
sidecar's binary is named by MESHTRACE_BIN; without one, or with `--direct`,
the scripts run direct only. `--only` picks the cells whose name holds all the
words. It prints a line a cell and a closing line, and ends with 1 when
anything failed.
"""

import argparse
import asyncio
import os
import sys
import time

from harness import causality, cells, processes
from harness.receiver import Receiver


class Tally:
    """Counts and prints the results."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def note(self, name, complaints, began):
        """Prints the line of one cell, and its complaints."""
        took = time.monotonic() - began
        if complaints:
            self.failed += 1
            shown = "\n".join(f"    {line}" for line in complaints[:15] if line)
            more = f"\n    … {len(complaints) - 15} more" if len(complaints) > 15 else ""
            print(f"FAILED  {name} ({took:.1f} s)\n{shown}{more}", flush=True)
        else:
            self.passed += 1
            print(f"passed  {name} ({took:.1f} s)", flush=True)

    def skip(self, name, reason):
        """Prints that something could not run."""
        self.skipped += 1
        print(f"skipped: {reason}: {name}", flush=True)


async def attempt(tally, name, work):
    """Runs one piece of work; what it raises is a failure of its own."""
    began = time.monotonic()
    try:
        complaints = await work
    except Exception as error:  # one broken cell must not hide the others
        complaints = [f"{type(error).__name__}: {error}"]
    tally.note(name, complaints, began)


async def run_cells(options, binary, receiver, tally):
    """All cells, `--jobs` at a time, each server started once."""
    gate = asyncio.Semaphore(options.jobs)

    async def one(cell, port):
        async with gate:
            await attempt(tally, str(cell), cells.run(cell, port, binary, receiver))

    for sdk, mode, group in cells.every(options.quick):
        group = [cell for cell in group if wanted(str(cell), options.only)]
        for cell in [cell for cell in group if processes.missing(cell.client, sdk)]:
            tally.skip(str(cell), f"not installed: {processes.missing(cell.client, sdk)}")
            group.remove(cell)
        if not group:
            continue
        server, port = await cells.start_server(sdk, mode)
        try:
            await asyncio.gather(*(one(cell, port) for cell in group))
        finally:
            await server.stop()


async def run_causality(options, binary, receiver, tally):
    """The cases of an agent that calls a second agent, many at once."""
    for case in causality.cases(options.quick):
        if not wanted(str(case), options.only):
            continue
        if processes.missing("mcp2"):
            tally.skip(str(case), "not installed: mcp2")
        else:
            await attempt(tally, str(case), causality.run(case, binary, receiver))


def wanted(name, words):
    """Whether a name holds all the words asked for."""
    return all(word in name.split() for word in words)


async def main():
    """Runs what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a subset that covers every peer")
    parser.add_argument("--direct", action="store_true", help="without sidecars")
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell's name must hold")
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time")
    parser.add_argument("--strict", action="store_true", help="a skipped cell is a failure")
    options = parser.parse_args()
    binary = None if options.direct else os.environ.get("MESHTRACE_BIN")
    if binary and not os.access(binary, os.X_OK):
        print(f"MESHTRACE_BIN is no program: {binary}", file=sys.stderr)
        return 2
    processes.place_scripts()
    tally, receiver = Tally(), Receiver()
    await receiver.start()
    await run_cells(options, binary, receiver, tally)
    await run_causality(options, binary, receiver, tally)
    receiver.stop()
    if receiver.refused:
        tally.note("exports are well-formed", receiver.refused, time.monotonic())
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed or (options.strict and tally.skipped) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
