"""An MCP agent: its tool `work(n)` makes the calls that KINDS names.

    mcp_agent.py SDK     SDK: mcp1 | mcp2 | fastmcp

It serves streamable HTTP on PORT, in sessions unless STATELESS is set, with
JSON answers unless SSE is set; LEGACY_SSE serves the transport of 2024 instead.
ERA is what the client on `mcp` 2.x speaks. Kinds that begin with `mcp` call the
tool `call` of the server at SINK/mcp.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import calls

SDK = sys.argv[1]
KINDS = os.environ["KINDS"].split(",")
PORT = int(os.environ["PORT"])
JSON = "SSE" not in os.environ
STATELESS = "STATELESS" in os.environ


@asynccontextmanager
async def mcp1_session():
    """A client session of `mcp` 1.x."""
    from mcp import ClientSession

    if os.environ.get("LEGACY_SSE"):
        from mcp.client.sse import sse_client as connect

        address = f"{calls.SINK}/sse"
    else:
        from mcp.client.streamable_http import streamablehttp_client as connect

        address = f"{calls.SINK}/mcp"
    async with connect(address) as streams:
        async with ClientSession(streams[0], streams[1]) as session:
            await session.initialize()
            yield session


def client():
    """A client of this SDK, as an asynchronous context manager."""
    if SDK == "mcp1":
        return mcp1_session()
    if SDK == "mcp2":
        from mcp.client import Client

        return Client(f"{calls.SINK}/mcp", mode=os.environ.get("ERA", "legacy"))
    from fastmcp import Client

    return Client(f"{calls.SINK}/mcp")


class Mcp:
    """The kinds that call another MCP server."""

    def __init__(self):
        self.lock = asyncio.Lock()
        self.ready = None

    async def _hold(self, ready):
        async with AsyncExitStack() as stack:
            try:
                ready.set_result(await stack.enter_async_context(client()))
            except BaseException as error:
                ready.set_exception(error)
                raise
            await asyncio.Event().wait()

    async def shared(self, kind, n):
        """One client, which the first request opens and all later ones use."""
        async with self.lock:
            if self.ready is None:
                self.ready = asyncio.get_running_loop().create_future()
                self.owner = asyncio.create_task(self._hold(self.ready))
        await (await self.ready).call_tool("call", {"kind": kind, "n": n})

    async def own(self, kind, n):
        """A client for this call alone; for every tenth request, as opening one is work."""
        if n % 10 == 0:
            async with client() as one:
                await one.call_tool("call", {"kind": kind, "n": n})

    async def gather(self, kind, n):
        """Three calls at once on the shared client."""
        await asyncio.gather(*(self.shared(kind, n) for _ in range(3)))


mcp = Mcp()
clients = calls.Clients()


async def make(n):
    """All calls of one request."""
    known = clients.kinds()
    known.update({"mcp-shared": mcp.shared, "mcp-own": mcp.own, "mcp-gather": mcp.gather})
    for turn, kind in enumerate(KINDS):
        if kind.startswith("tool-"):
            continue
        await calls.slowly(n + turn)
        if kind in known:
            await known[kind](kind, n)
        else:
            await asyncio.to_thread(calls.BLOCKING[kind], kind, n)


def register(server):
    """The tools: `work` on the loop, `work_sync` where the SDK runs plain functions."""

    @server.tool()
    async def work(n: int) -> str:
        """Makes the calls."""
        await make(n)
        return str(n)

    @server.tool()
    def work_sync(n: int) -> str:
        """Makes one blocking call."""
        calls.urllib_get("tool-sync", n)
        return str(n)


def build():
    """The ASGI application."""
    if SDK == "mcp1":
        from mcp.server.fastmcp import FastMCP

        server = FastMCP("agent", json_response=JSON, stateless_http=STATELESS, log_level="WARNING")
        register(server)
        return server.sse_app() if os.environ.get("LEGACY_SSE") else server.streamable_http_app()
    if SDK == "mcp2":
        from mcp.server.mcpserver import MCPServer

        server = MCPServer("agent", version="1")
        register(server)
        return server.streamable_http_app(json_response=JSON, stateless_http=STATELESS)
    from fastmcp import FastMCP

    server = FastMCP("agent")
    register(server)
    return server.http_app(json_response=JSON, stateless_http=STATELESS)


async def main():
    """Serves until it is told to stop."""
    import uvicorn

    await clients.start()
    config = uvicorn.Config(
        build(), host="127.0.0.1", port=PORT, log_level="warning", timeout_graceful_shutdown=1, backlog=512
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main())
