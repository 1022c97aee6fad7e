"""Processes, pinned to a CPU, and what the kernel says they cost.

The proxy under test has a CPU to itself; everything else in the run shares another one.
"""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

# The first two of those that this process may use; on a single one they are the same.
OTHER_CPU, PROXY_CPU = (sorted(os.sched_getaffinity(0)) * 2)[:2]
# Added to the niceness of every party; below zero it keeps a busy machine's other work away.
niceness = 0


def free_port():
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def max_files():
    """Raises the limit of open files as far as it goes; returns what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """A running program that is stopped when the `with` block ends."""

    def __init__(self, command, cpu, env=None, port=None, patience=10.0, log=None, idle=False, **pipes):
        self.command = command
        self.log = log
        stderr = open(log, "ab") if log else None
        try:
            self.child = subprocess.Popen(
                command,
                env=clean_environment() | (env or {}),
                stderr=stderr,
                stdin=pipes.get("stdin", subprocess.DEVNULL),
                stdout=pipes.get("stdout", subprocess.DEVNULL),
                text=True,
                preexec_fn=lambda: settle_on(cpu, idle),
            )
        finally:
            if stderr:
                stderr.close()
        self.pid = self.child.pid
        if port:
            self.wait_for(port, patience)

    def wait_for(self, port, patience):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        said = Path(self.log).read_text(errors="replace")[-2000:] if self.log else ""
        raise RuntimeError(f"did not start: {' '.join(map(str, self.command))}\n{said}")

    def stop(self, patience=10.0):
        """Asks the program to leave, and insists after `patience` seconds."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def clean_environment():
    """This environment without anything that would configure a proxy behind our back."""
    ours = ("OTEL_", "MESHTRACE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def cpu_ns(pid):
    """CPU time of all threads so far, in nanoseconds."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total


def cpu_split(pid):
    """User and kernel ticks so far. Coarse: only their proportion over a whole run is used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]), int(fields[12])


def rss_kib(pid):
    """Resident memory in KiB, exact (the figure in `status` lags behind)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+) kB", text, re.M).group(1))


def settle_on(cpu, idle=False):
    """Puts the calling process on a CPU, at this run's priority, or behind all others where it is `idle`."""
    os.sched_setaffinity(0, {cpu})
    if idle:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if not niceness:
        return
    nice = 19 if idle else niceness
    os.nice(nice)
    # Where sessions are scheduled as groups, niceness only counts inside a session.
    group = Path("/proc/self/autogroup")
    if group.exists():
        os.setsid()
        group.write_text(str(nice))


class PerfStat:
    """`perf stat` on a running process; `counts` is filled when the block ends."""

    def __init__(self, pid, events):
        self.pid, self.events, self.counts = pid, events, {}

    def __enter__(self):
        command = ["perf", "stat", "-x,", "-e", ",".join(self.events), "-p", str(self.pid)]
        self.child = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: settle_on(OTHER_CPU),
        )
        time.sleep(0.15)
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGINT)
        _, said = self.child.communicate()
        self.counts = parse_perf(said)


def parse_perf(said):
    counts = {}
    for line in said.splitlines():
        fields = line.split(",")
        if len(fields) > 2 and fields[0].isdigit():
            counts[fields[2]] = int(fields[0])
    return counts


def perf_supports(event):
    """Whether `perf stat` counts this event here; virtual machines often have no counters."""
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", event, "true"], capture_output=True, text=True)
    return done.returncode == 0 and event in parse_perf(done.stderr)
