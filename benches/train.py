#!/usr/bin/env python3
"""Traffic for a profile-guided build: what a sidecar does all day, through the given binary.

    benches/train.py --meshtrace BINARY     all kinds of traffic, about a minute
                     --requests N           of each small kind; 10000 unless given
                     --programs DIR         the programs of load/, built already

Every answer is checked. What nothing here asks for counts as cold for the compiler, which then
makes it small rather than fast, so HTTP/2 and both directions are part of it. `h2load` and `nghttpd`
of nghttp2 speak HTTP/2. `deploy/build.sh` is who calls this.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import cost, machine, parties

# Of the small kinds, and of those that are many times as large.
SMALL, LARGE = 10_000, 1_000
LARGE_KINDS = [
    "request-string",
    "request-fields",
    "request-nested",
    "result-string",
    "result-fields",
    "result-string-plain",
    "result-fields-plain",
    "sse-burst",
]
KINDS = [
    ({}, SMALL),
    ({"parent": "sampled"}, SMALL),
    ({"parent": "unsampled"}, SMALL),
    ({"parent": "sidecar"}, SMALL),
    ({"capitals": True}, SMALL),
    ({"kind": "error"}, SMALL),
    ({"kind": "sse-single"}, SMALL),
    ({"reconnect": True}, SMALL // 5),
    *(({"kind": kind}, LARGE) for kind in LARGE_KINDS),
]
# With an id that never changes, as `h2load` sends one body over and over.
QUESTION = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"weather_forecast",'
    '"arguments":{"location":"Enschede, Netherlands","units":"C","days":3}}}'
)
ANSWER = (
    '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"Enschede: Tuesday 12 C, light rain in '
    'the morning, wind SW 4"}],"structuredContent":{"days":[{"t":12,"rain":true,"wind":4}]},"isError":false}}'
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshtrace", type=Path, required=True)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--requests", type=int, default=SMALL)
    options = parser.parse_args()
    missing = [program for program in ("h2load", "nghttpd") if not shutil.which(program)]
    if missing:
        sys.exit(f"not found: {', '.join(missing)}; Debian has them in nghttp2")
    machine.max_files()
    programs = options.programs or parties.build()
    share = options.requests / SMALL
    with tempfile.TemporaryDirectory(prefix="meshtrace-train-") as scratch:
        bench = parties.Bench(programs, options.meshtrace, Path(scratch))
        with bench.parties():
            for setting in parties.SETTINGS:
                http1(bench, setting, share)
            for setting in (cost.MESH, cost.OUT):
                http2(bench, setting, round(options.requests))


def http1(bench, setting, share):
    """Each kind of traffic through one proxy, on connections that stay, but for one kind."""
    with bench.proxy(setting) as proxy:
        for kind, requests in KINDS:
            load = {"requests": max(64, round(requests * share)), "connections": 32, **kind}
            with bench.load("closed", proxy.port, **load) as going:
                done = going.ask()
            if done["errors"]:
                sys.exit(f"{setting}, {kind}: {done['errors']} requests failed")
            print(f"{setting}, {kind or 'small'}: {done['requests']}", flush=True)


def http2(bench, setting, requests):
    """Small calls over HTTP/2 with prior knowledge, which the proxy speaks on both sides."""
    files = bench.scratch / "http2"
    files.mkdir(exist_ok=True)
    (files / "mcp.json").write_text(ANSWER)
    (files / "types").write_text("application/json json\n")
    (files / "question").write_text(QUESTION)
    port, first = machine.free_port(), bench.upstream_port
    server = ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", files, f"--mime-types-file={files / 'types'}", str(port)]
    with machine.Process(server, machine.OTHER_CPU, port=port, log=bench.scratch / "nghttpd.log"):
        bench.upstream_port = port
        try:
            with bench.proxy(setting) as proxy:
                said = h2load(proxy.port, files / "question", requests)
        finally:
            bench.upstream_port = first
    right = re.search(r"status codes: (\d+) 2xx", said)
    if not right or int(right.group(1)) != requests:
        sys.exit(f"{setting}, HTTP/2: not every request succeeded\n{said}")
    print(f"{setting}, HTTP/2: {requests}", flush=True)


def h2load(port, body, requests):
    command = ["h2load", "-n", str(requests), "-c", "8", "-m", "4", "-d", str(body)]
    command += ["-H", "content-type: application/json", "-H", "mcp-protocol-version: 2025-06-18"]
    command += ["-H", "accept: application/json, text/event-stream", f"http://127.0.0.1:{port}/mcp.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
