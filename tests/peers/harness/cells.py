"""The matrix: which client speaks to which server how, and what is asked of it.

A cell runs the script of calls twice, direct and through two sidecars:

    client → tap → outbound sidecar → inbound sidecar → tap → server

The client takes the first of them for its server, or, where its SDK heeds
HTTP_PROXY, for its forward proxy. The cell passes when both transcripts are equal byte for byte, when nothing but
trace context differs between the taps, when the right spans arrived, and
when both sidecars ended cleanly after the client's connections were felt to
close at the server.
"""

import asyncio
import difflib
from dataclasses import dataclass

from . import spans, wire
from .processes import Process, command, free_ports, run_client, start_sidecar
from .tap import Tap

# Each client with the eras that it speaks: `auto` discovers, `legacy` shakes hands.
CLIENTS = {
    "mcp2": ("auto", "legacy"),
    "mcp1": ("legacy",),
    "fastmcp": ("auto", "legacy"),
    "node": ("legacy",),
    "rmcp": ("auto", "legacy"),
}
SERVERS = ("mcp2", "mcp1", "fastmcp", "node", "rmcp")
MODES = ("json", "sse")
# Covers every client, server, mode and era at least once, and the fallback of
# a modern client before a server of the handshake era.
QUICK = {
    "mcp2 auto → mcp2 json",
    "mcp2 auto → node sse",
    "mcp2 legacy → fastmcp sse",
    "mcp1 legacy → mcp2 sse",
    "mcp1 legacy → node json",
    "fastmcp auto → fastmcp sse",
    "fastmcp legacy → mcp1 json",
    "node legacy → mcp1 sse",
    "node legacy → rmcp json",
    "rmcp auto → rmcp sse",
    "rmcp auto → fastmcp json",
    "rmcp legacy → rmcp sse",
    "mcp2 auto → mcp2 json by HTTP_PROXY",
    "rmcp legacy → node json by HTTP_PROXY",
}
# Node's own fetch heeds HTTP_PROXY in later releases only.
PROXIED = {
    ("mcp2", "auto", "mcp2", "json"),
    ("mcp2", "legacy", "node", "sse"),
    ("mcp1", "legacy", "mcp1", "sse"),
    ("fastmcp", "auto", "fastmcp", "sse"),
    ("rmcp", "auto", "rmcp", "sse"),
    ("rmcp", "legacy", "node", "json"),
}


@dataclass(frozen=True)
class Cell:
    """One pair of peers."""

    client: str
    era: str
    server: str
    mode: str
    proxied: bool = False

    def __str__(self):
        how = " by HTTP_PROXY" if self.proxied else ""
        return f"{self.client} {self.era} → {self.server} {self.mode}{how}"


def every(quick):
    """The cells of a run, grouped by server so that each is started once."""
    for server in SERVERS:
        for mode in MODES:
            group = [
                Cell(client, era, server, mode)
                for client, eras in CLIENTS.items()
                for era in eras
            ]
            proxied = [pair for pair in sorted(PROXIED) if pair[2:] == (server, mode)]
            group += [Cell(*pair, proxied=True) for pair in proxied]
            chosen = [cell for cell in group if not quick or str(cell) in QUICK]
            if chosen:
                yield server, mode, chosen


async def start_server(sdk, mode, **extra):
    """Starts a scripted server; returns the process and its port."""
    server = await Process.start(command(sdk, "server", mode), **extra)
    try:
        return server, await server.listening()
    except BaseException:
        await server.stop()
        raise


async def run(cell, port, binary, receiver):
    """Runs one cell against the server on `port`; returns its complaints."""
    direct = await run_client(cell.client, cell.era, f"http://127.0.0.1:{port}/mcp")
    if direct[0] != 0 or '"closed"' not in direct[1]:
        return [f"direct: exit {direct[0]}", direct[1][-500:], direct[2][-1500:]]
    if not binary:
        return []
    return await through(cell, port, binary, receiver, direct[1])


async def through(cell, port, binary, receiver, transcript):
    """The second half of a cell: the same script through two sidecars."""
    caller, callee = f"caller of {cell}", f"callee of {cell}"
    inbound, outbound = free_ports(2)
    near, far, sidecars = Tap(), Tap(), []
    try:
        behind = await far.start(port)
        sidecars.append(
            await start_sidecar(binary, callee, receiver, inbound=[(inbound, behind)])
        )
        target = None if cell.proxied else inbound
        sidecars.append(
            await start_sidecar(binary, caller, receiver, outbound=[(outbound, target)])
        )
        before = await near.start(outbound)
        told = await run_client(cell.client, cell.era, *route(cell, before, inbound))
        complaints = compare(transcript, told)
        if not await far.idle(10):
            complaints.append("a connection to the server stayed open after the client had gone")
    finally:
        codes = await asyncio.gather(*(sidecar.stop() for sidecar in sidecars))
        await near.stop()
        await far.stop()
    complaints += endings(sidecars, codes)
    complaints += wire.differences(near.exchanges(), far.exchanges())
    arrived = receiver.of(caller, callee)
    complaints += spans.check(near.exchanges(), far.exchanges(), arrived, caller, callee)
    return complaints + spans.seen(told[2], arrived, callee)


def route(cell, before, inbound):
    """The client's URL and environment, so that it speaks to the tap on port `before`."""
    if cell.proxied:
        return f"http://127.0.0.1:{inbound}/mcp", {"HTTP_PROXY": f"http://127.0.0.1:{before}"}
    return f"http://127.0.0.1:{before}/mcp", {}


def compare(transcript, told):
    """Complaints about the transcript through the sidecars."""
    if told[0] == 0 and told[1] == transcript:
        return []
    lines = difflib.unified_diff(
        transcript.splitlines(), told[1].splitlines(), "direct", "sidecars", lineterm="", n=0
    )
    return [
        f"the transcripts differ; exit {told[0]}",
        *(line[:400] for line in list(lines)[:12]),
        told[2][-1500:],
    ]


def endings(sidecars, codes):
    """Complaints about how the sidecars ended and what they said."""
    found = []
    for sidecar, code in zip(sidecars, codes, strict=True):
        if code != 0:
            found.append(f"a sidecar ended with {code}: {sidecar.said()}")
        elif b"panicked" in sidecar.errors:
            found.append(f"a sidecar panicked: {sidecar.said()}")
    return found
