"""Calls the research agent once, as any MCP client would, and prints the answer."""

import asyncio
import os
import sys

from mcp.client import Client


async def main() -> int:
    async with Client(os.environ["MCP_RESEARCH_URL"]) as research:
        answer = await research.call_tool("plan_trip", {"city": sys.argv[1]})
    print(answer.content[0].text)
    return 1 if answer.is_error else 0


sys.exit(asyncio.run(main()))
