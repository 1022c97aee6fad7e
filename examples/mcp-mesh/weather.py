"""An agent on MCP Mesh that offers one capability."""

import mesh
from fastmcp import FastMCP

app = FastMCP("weather")


@app.tool()
@mesh.tool(capability="forecast", description="Tells the weather of a city")
async def forecast(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@mesh.agent(name="weather-agent", version="1.0.0", http_port=9002, enable_http=True, auto_run=True)
class Agent:
    """The mesh runs it."""
