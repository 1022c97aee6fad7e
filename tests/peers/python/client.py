"""A scripted MCP client on one of the Python SDKs.

    client.py SDK ERA URL      SDK: mcp2 | mcp1 | fastmcp      ERA: auto | legacy

Each class below gives one SDK the few methods that the script calls. Answers
are what the SDK hands its user, as JSON with the names of the wire.
"""

import asyncio
import sys

import script


def dump(model):
    """An SDK's model as plain JSON values."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def watcher(steps):
    """A callback that keeps the progress it is told in `steps`."""

    async def progress(done, total, message):
        steps.append([done, total, message])

    return progress if steps is not None else None


class Mcp2:
    """`mcp` 2.x: one client for both eras."""

    def __init__(self, client, era):
        self.client, self.era = client, era

    @classmethod
    def connect(cls, url, era):
        """The SDK's client; `auto` discovers and falls back to the handshake."""
        from mcp.client import Client
        from mcp_types import ElicitResult

        async def answer(context, params):
            return ElicitResult(action="accept", content={"colour": "green"})

        return Client(url, mode=era, elicitation_callback=answer)

    def about(self):
        """What the connection settled on."""
        info = self.client.server_info
        return {"version": self.client.protocol_version, "server": info and dump(info)}

    def legacy(self):
        """Whether the connection began with the handshake."""
        return self.client.protocol_version < "2026"

    def error(self, error):
        """An SDK's error as JSON."""
        if hasattr(error, "error"):
            return dump(error.error)
        return {"class": type(error).__name__, "message": str(error)}

    async def list_tools(self):
        return dump(await self.client.list_tools())

    async def call(self, name, arguments, steps=None, within=None):
        watch = watcher(steps)
        answer = self.client.call_tool(name, arguments, within, progress_callback=watch)
        return dump(await answer)

    async def raw(self, method):
        from mcp_types import EmptyResult, Request

        class Unknown(Request[None, str]):
            method: str
            params: None = None

        return dump(await self.client.session.send_request(Unknown(method=method), EmptyResult))

    async def list_prompts(self):
        return dump(await self.client.list_prompts())

    async def get_prompt(self, name, arguments):
        return dump(await self.client.get_prompt(name, arguments))

    async def list_resources(self):
        return dump(await self.client.list_resources())

    async def read_resource(self, uri):
        return dump(await self.client.read_resource(uri))

    async def ping(self):
        return dump(await self.client.send_ping())


class FastMcp(Mcp2):
    """`fastmcp`: a client of its own around the session of `mcp` 2.x."""

    @classmethod
    def connect(cls, url, era):
        """The client of the package, with the same two modes."""
        from fastmcp import Client

        async def answer(message, response_type, params, context):
            return {"colour": "green"}

        return Client(url, mode=era, elicitation_handler=answer)

    def about(self):
        session = self.client.session
        info = session.server_info
        return {"version": session.protocol_version, "server": info and dump(info)}

    def legacy(self):
        return self.client.session.protocol_version < "2026"

    async def list_tools(self):
        return dump(await self.client.list_tools_mcp())

    async def call(self, name, arguments, steps=None, within=None):
        watch = watcher(steps)
        answer = self.client.call_tool_mcp(
            name, arguments, progress_handler=watch, timeout=within
        )
        return dump(await answer)

    async def list_prompts(self):
        return dump(await self.client.list_prompts_mcp())

    async def get_prompt(self, name, arguments):
        return dump(await self.client.get_prompt_mcp(name, arguments))

    async def list_resources(self):
        return dump(await self.client.list_resources_mcp())

    async def read_resource(self, uri):
        return dump(await self.client.read_resource_mcp(uri))

    async def ping(self):
        return await self.client.ping()


class Mcp1(Mcp2):
    """`mcp` 1.x: transport and session are opened by hand, handshake era only."""

    @classmethod
    def connect(cls, url, era):
        """A session on the streamable HTTP transport."""
        from contextlib import asynccontextmanager

        from mcp import ClientSession
        from mcp.client.streamable_http import streamable_http_client
        from mcp.types import ElicitResult

        async def answer(context, params):
            return ElicitResult(action="accept", content={"colour": "green"})

        @asynccontextmanager
        async def session():
            async with streamable_http_client(url) as (read, write, _):
                async with ClientSession(read, write, elicitation_callback=answer) as session:
                    session.answer = await session.initialize()
                    yield session

        return session()

    def about(self):
        answer = self.client.answer
        return {"version": str(answer.protocolVersion), "server": dump(answer.serverInfo)}

    def legacy(self):
        return True

    async def raw(self, method):
        from mcp.types import EmptyResult, Request

        unknown = Request[None, str](method=method, params=None)
        return dump(await self.client.send_request(unknown, EmptyResult))

    async def ping(self):
        return dump(await self.client.send_ping())


async def main():
    """Connects, runs the script, closes."""
    sdk, era, url = sys.argv[1:4]
    kind = {"mcp2": Mcp2, "mcp1": Mcp1, "fastmcp": FastMcp}[sdk]
    async with kind.connect(url, era) as client:
        await script.run(kind(client, era))
    script.say("closed")


if __name__ == "__main__":
    asyncio.run(main())
