"""An MCP agent that answers by asking a second agent. It knows nothing of tracing."""

import os

from mcp.client import Client
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

WEATHER_URL = os.environ["MCP_WEATHER_URL"]

agent = MCPServer("research-agent")


@agent.tool()
async def plan_trip(city: str) -> str:
    """Say what to pack for a city, after asking the weather agent."""
    # The weather agent speaks the handshake revisions, so the probe for the newer one is spared.
    async with Client(WEATHER_URL, mode="legacy") as weather:
        forecast = await weather.call_tool("get_forecast", {"city": city})
    text = forecast.content[0].text
    if forecast.is_error:
        raise ToolError(f"no forecast: {text}")
    advice = "an umbrella" if "rain" in text else "sunglasses"
    return f"{city}: {text}. Pack {advice}."


if __name__ == "__main__":
    # Stateless, with JSON answers, so that one curl without a handshake is a whole call.
    agent.run("streamable-http", host="0.0.0.0", port=8080, stateless_http=True, json_response=True)
