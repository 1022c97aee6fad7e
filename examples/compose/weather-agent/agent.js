// An MCP server with one tool, in the shape of the SDK's own session example. It knows nothing of tracing.
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { isInitializeRequest } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

const FORECASTS = { paris: "rain, 11 degrees", lisbon: "sun, 24 degrees", oslo: "rain, 3 degrees" };

function newServer() {
  const server = new McpServer({ name: "weather-agent", version: "1.0.0" });
  server.registerTool(
    "get_forecast",
    { description: "Tomorrow's weather in a city", inputSchema: { city: z.string() } },
    async ({ city }) => {
      const forecast = FORECASTS[city.toLowerCase()];
      return forecast
        ? { content: [{ type: "text", text: forecast }] }
        : { isError: true, content: [{ type: "text", text: `unknown city ${city}` }] };
    },
  );
  return server;
}

const sessions = new Map();

async function transportFor(req) {
  const known = sessions.get(req.headers["mcp-session-id"]);
  if (known || !isInitializeRequest(req.body)) return known;
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => sessions.set(id, transport),
  });
  transport.onclose = () => sessions.delete(transport.sessionId);
  await newServer().connect(transport);
  return transport;
}

const app = createMcpExpressApp({ host: "0.0.0.0" });
app.all("/mcp", async (req, res) => {
  const transport = await transportFor(req);
  if (transport) return transport.handleRequest(req, res, req.body);
  const error = { code: -32000, message: "Bad Request: no valid session" };
  return res.status(400).json({ jsonrpc: "2.0", id: null, error });
});

const listener = app.listen(8080, "0.0.0.0", () => console.log("weather-agent listens on 8080"));
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    listener.close();
    listener.closeAllConnections();
  });
}
