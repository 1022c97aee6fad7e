"""The tool that makes an `mcp` 2.x server an agent: it calls a second server.

Two habits of real agents are covered. `relay` opens a client for every call;
`relay_shared` keeps one client for the life of the process, so calls of
different callers travel on the same session at the same time. Neither passes
any trace context on by its own doing.
"""

import asyncio
from contextlib import AsyncExitStack

from mcp.client import Client


def text_of(result):
    """The text of a tool's first content block."""
    return result.content[0].text


class Shared:
    """One client, opened by the first call and used by all later ones."""

    def __init__(self, url, era):
        self.url, self.era = url, era
        self.lock = asyncio.Lock()
        self.ready = None
        self.owner = None

    async def _hold(self, ready):
        """Keeps the client open in a task of its own, as anyio scopes demand."""
        async with AsyncExitStack() as stack:
            ready.set_result(await stack.enter_async_context(Client(self.url, mode=self.era)))
            await asyncio.Event().wait()

    async def client(self):
        """The client, once it is connected."""
        async with self.lock:
            if self.ready is None:
                self.ready = asyncio.get_running_loop().create_future()
                self.owner = asyncio.create_task(self._hold(self.ready))
        return await self.ready


def register(server, url, era):
    """Adds `relay` and `relay_shared`, both calling the server at `url`."""
    shared = Shared(url, era)

    @server.tool()
    async def relay(tool: str, text: str) -> str:
        """Calls `tool` of the second agent on a connection of its own."""
        async with Client(url, mode=era) as client:
            return text_of(await client.call_tool(tool, {"text": text}))

    @server.tool()
    async def relay_shared(tool: str, text: str) -> str:
        """Calls `tool` of the second agent on the connection that all calls share."""
        client = await shared.client()
        return text_of(await client.call_tool(tool, {"text": text}))
