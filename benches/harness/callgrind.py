"""Exact user-space instructions and allocations, from valgrind's callgrind.

Counters are set to zero when the proxy is warm and dumped when a fixed number of requests is
done, so that start-up is not part of the figure. Instructions of the kernel are not seen.
"""

import re
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

ALLOCATIONS = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign")
# A copy by `rep movsb` is one instruction to the processor and one a byte to callgrind; without it
# glibc copies in a loop, whose count is small in both.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold=1073741824"}
NAME = re.compile(r"\((\d+)\)(?: (.+))?")


@dataclass
class Profile:
    """What one dump holds. All numbers are totals of the dump."""

    instructions: int
    allocations: int
    functions: Counter
    # With everything they call. A function that calls itself is counted too often.
    inclusive: Counter


def available():
    return bool(shutil.which("valgrind") and shutil.which("vgdb"))


def wrap(out):
    """The words that go before a command to run it under callgrind, writing to `out`."""
    return ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-instr=no"]


def zero(pid):
    """Sets the counters of a running process to zero."""
    subprocess.run(["vgdb", f"--pid={pid}", "zero"], check=True, capture_output=True, timeout=60)


def dump(pid, out):
    """Dumps the counters of a running process and reads them."""
    before = set(out.parent.glob(out.name + ".*"))
    subprocess.run(["vgdb", f"--pid={pid}", "dump"], check=True, capture_output=True, timeout=60)
    for _ in range(200):
        new = set(out.parent.glob(out.name + ".*")) - before
        # The line with the totals is the last one that is written.
        if new and "totals:" in (text := min(new).read_text())[-200:]:
            return parse(text)
        time.sleep(0.05)
    raise RuntimeError("callgrind wrote no dump")


def parse(text):
    """Reads callgrind's output format (valgrind manual, "Callgrind Format Specification")."""
    names, functions, inclusive, allocations = {}, Counter(), Counter(), 0
    current = callee = None
    after_call = False
    for line in text.splitlines():
        if line.startswith("fn="):
            current = function(names, line[3:])
        elif line.startswith("cfn="):
            callee = function(names, line[4:])
        elif line.startswith("calls="):
            if callee in ALLOCATIONS:
                allocations += int(line[6:].split()[0])
            after_call = True
        elif line[:1] in "0123456789+-*" and line:
            own = int(line.split()[1])
            # The line after `calls=` is the callee's cost, which its own lines hold as well.
            if after_call:
                inclusive[callee] += own
            else:
                functions[current] += own
            after_call = False
    total = int(re.search(r"^totals: (\d+)", text, re.M).group(1))
    return Profile(total, allocations, functions, inclusive)


def function(names, reference):
    """The name behind a compressed one; a name is written out at its first use only."""
    match = NAME.match(reference)
    if not match:
        return tidy(reference)
    number, name = match.groups()
    if name:
        names[number] = tidy(name)
    return names[number]


def tidy(name):
    return re.sub(r"'\d+$", "", name).removeprefix("__libc_")
