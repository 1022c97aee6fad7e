"""Runs the matrix: which parent do the calls of real agents get?

    run.py [--short] [--direct] [--only WORDS] [--requests N] [--calls N] [--seed N] [--table FILE]
           [--results FILE [--finished]]

Run it with the Python of the `mcp2` environment that tests/peers/install.sh
made, after tests/matrix/install.sh. MESHTRACE_BIN names the program. Each cell
runs twice, without and with the shim, and ends with a line for each kind of
call. Exit code 1 says that something is not as it must be: a wrong parent that
claims to be proved, a call that the shim should have followed and did not.

`--results` writes down what each cell came to. A later start with the same file
takes over what it has of the same program, harness, packages, seed and count,
failures too, and runs the rest; with `--finished` it runs nothing and says of the
rest that it did not run.

`--direct` leaves the sidecars out and looks at the headers that arrive, which
is quick and tells what the shim alone does.
"""

import argparse
import asyncio
import math
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

from matrix import agents, cells, finished, table  # noqa: E402


def wanted(cell, options):
    """Whether a cell was asked for."""
    if options.short and not cell.short:
        return False
    return all(word in cell.name.split() for word in options.only)


def requests(cell, shim, options):
    """How many requests a cell gets: so many that it makes the calls asked for
    where it is a main one and something is to be proved.
    """
    count = options.requests or (200 if options.short else 1000)
    calls = options.calls
    if calls is None:
        calls = 0 if options.short or options.requests else 10_000
    proves = cell.main and (shim or any(kind.bare for kind in cell.kinds.values()))
    return max(count, math.ceil(calls * 10 / cell.calls(10))) if proves else count


async def outcome_of(run, known, cell, shim, count, outcome):
    """What one cell comes to, said as it ends, where it is not known yet."""
    began = time.monotonic()
    name = f"{cell.name}, {'with' if shim else 'without'} the shim"
    how = "known" if outcome else ""
    if outcome is None:
        try:
            outcome = await run.cell(cell, shim, count)
        except Exception as error:  # one broken cell must not hide the others
            outcome = agents.Outcome({}, [f"{type(error).__name__}: {error}"])
        how = f"{time.monotonic() - began:.0f} s"
        known.keep(cell, shim, count, outcome)
    print(f"{'FAILED' if outcome.complaints else 'passed'}  {name} ({how})", flush=True)
    for line in outcome.complaints[:12]:
        print(f"    {line}", flush=True)
    return outcome


def keep(path, rows):
    """Writes the table as it is now, where that is asked for."""
    if path:
        pathlib.Path(path).write_text(table.text(rows) + "\n")


async def main():
    """Runs what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a part that covers every library once")
    parser.add_argument("--direct", action="store_true", help="without sidecars")
    parser.add_argument("--only", nargs="*", default=[], help="words that a cell's name must hold")
    parser.add_argument("--requests", type=int, help="requests a cell (default: 1000, short: 200)")
    parser.add_argument("--calls", type=int, help="calls that a main cell makes at least (default: 10000, or none)")
    parser.add_argument("--seed", type=int, default=20261126)
    parser.add_argument("--table", help="write the table to this file")
    parser.add_argument("--results", help="go on from the outcomes in this file, and add to them")
    parser.add_argument("--finished", action="store_true", help="only show what is in the file of --results")
    parser.add_argument("--strict", action="store_true", help="a cell that cannot run is a failure")
    options = parser.parse_args()
    binary = os.environ.get("MESHTRACE_BIN", "")
    if not os.access(binary, os.X_OK):
        print(f"MESHTRACE_BIN is no program: {binary!r}", file=sys.stderr)
        return 2
    run = agents.Run(binary, options.direct, options.seed)
    known = finished.Finished(options.results, run)
    rows = []
    for cell in cells.in_order():
        if not wanted(cell, options):
            continue
        reason, held = agents.missing(cell), []
        if not reason:
            held = [known.take(cell, shim, requests(cell, shim, options)) for shim in (False, True)]
            reason = "not finished" if options.finished and None in held else None
        if reason:
            print(f"skipped: {reason}: {cell.name}", flush=True)
            rows.append(table.skipped(cell, reason))
            continue
        for shim, outcome in zip((False, True), held):
            outcome = await outcome_of(run, known, cell, shim, requests(cell, shim, options), outcome)
            rows.append(table.Row(cell, shim, outcome))
            keep(options.table, rows)
    keep(options.table, rows)
    print(table.text(rows))
    print(table.summary(rows) + (f"; {known.reused} taken over from an earlier start" if known.reused else ""))
    failed = any(row.outcome.complaints for row in rows if isinstance(row, table.Row))
    skipped = any(isinstance(row, table.Skipped) for row in rows)
    return 1 if failed or (options.strict and skipped) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
