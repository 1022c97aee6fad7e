"""Both ends of a subscription of MCP 2026-07-28 on the Python SDK 2.x.

    listen.py serve | listen.py URL

The server prints `LISTENING port`; the client listens, has a resource and the tools change, and
prints what it hears.
"""

import asyncio
import socket
import sys

URI = "file:///srv/report.txt"


def serve():
    """A server with a tool after which things have changed."""
    import uvicorn
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("listen", version="1")

    @server.resource(URI)
    def report() -> str:
        """A resource that changes."""
        return "a report"

    @server.tool()
    async def touch(ctx: Context) -> str:
        """Changes it, and the tools."""
        await ctx.notify_resource_updated(URI)
        await ctx.notify_tools_changed()
        return "touched"

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning", timeout_graceful_shutdown=1)
    print("LISTENING", listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


async def listen(url):
    """Listens until it has heard of both."""
    from mcp import Client

    async with Client(url) as client:
        async with client.listen(tools_list_changed=True, resource_subscriptions=[URI]) as heard:
            print("touch", (await client.call_tool("touch", {})).content[0].text, flush=True)
            for _ in range(2):
                print("heard", await anext(aiter(heard)), flush=True)
        print("read", (await client.read_resource(URI)).contents[0].text, flush=True)


if sys.argv[1] == "serve":
    serve()
else:
    asyncio.run(listen(sys.argv[1]))
