"""An agent on MCP Mesh that needs another one, wherever the registry finds it."""

import mesh
from fastmcp import FastMCP

app = FastMCP("planner")


@app.tool()
@mesh.tool(capability="plan", description="Plans a day in a city", dependencies=["forecast"])
async def plan(city: str, forecast: mesh.McpMeshTool = None) -> str:
    """A plan for a day."""
    if forecast is None:
        return "nobody knows the weather yet"
    return f"a day in {city}: {await forecast(city=city)}"


@mesh.agent(name="planner-agent", version="1.0.0", http_port=9001, enable_http=True, auto_run=True)
class Agent:
    """The mesh runs it."""
