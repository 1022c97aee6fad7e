"""A scripted MCP server on one of the Python SDKs.

    server.py SDK MODE      SDK: mcp2 | mcp1 | fastmcp      MODE: json | sse

It binds a free loopback port and prints `LISTENING <port>` once it accepts.
On `mcp2`, with PEER_URL set, it is also an agent: its tool `relay` calls a
tool of the server at that URL. Nothing here knows of tracing.
"""

import os
import socket
import sys

import tools


def build_mcp2(mode):
    """The ASGI application on `mcp` 2.x, which speaks both protocol eras."""
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("peer", version="1")
    tools.register(server, Context, mode)
    if os.environ.get("PEER_URL"):
        import relay

        relay.register(server, os.environ["PEER_URL"], os.environ.get("PEER_ERA", "auto"))
    return server.streamable_http_app(json_response=mode == "json")


def build_mcp1(mode):
    """The ASGI application on `mcp` 1.x, which speaks the handshake era only."""
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("peer", json_response=mode == "json", log_level="WARNING")
    tools.register(server, Context, mode)
    return server.streamable_http_app()


def build_fastmcp(mode):
    """The ASGI application on `fastmcp`."""
    from fastmcp import Context, FastMCP

    server = FastMCP("peer", version="1")
    tools.register(server, Context, mode)
    return server.http_app(json_response=mode == "json")


def main():
    """Binds, announces the port, and serves until it is told to stop."""
    import uvicorn

    sdk, mode = sys.argv[1:3]
    app = {"mcp2": build_mcp2, "mcp1": build_mcp1, "fastmcp": build_fastmcp}[sdk](mode)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    print("LISTENING", listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
