// What a session of before 2026-07-28 can do beside calls, with the npm SDK on both ends, direct and
// through two sidecars: answers that are fetched with Last-Event-ID after the server closed the stream,
// subscriptions to resources, and the end of the session. Run with MESHTRACE_BIN; ends with 1 if it fails.

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";
import { CLIENT, Judge, SERVER, judge, overHttp, pause } from "./harness.mjs";

const URI = "file:///srv/report.txt";

/** Remembers events so that a client can fetch those that it has missed. */
class Events {
  stored = [];

  async storeEvent(streamId, message) {
    const eventId = `${streamId}#${this.stored.length}`;
    this.stored.push({ eventId, streamId, message });
    return eventId;
  }

  async replayEventsAfter(lastEventId, { send }) {
    const streamId = lastEventId.split("#")[0];
    const missed = this.stored.slice(this.stored.findIndex((event) => event.eventId === lastEventId) + 1);
    // The first event of a stream has no message.
    for (const event of missed.filter((one) => one.streamId === streamId && one.message.jsonrpc)) {
      if (Object.keys(event.message).length) await send(event.eventId, event.message);
    }
    return streamId;
  }
}

/** A session's server: a tool that closes its stream while it works, and a resource that changes. */
function session() {
  const server = new Server({ name: "sessions", version: "1" }, { capabilities: { tools: {}, resources: { subscribe: true } } });
  server.setRequestHandler(types.CallToolRequestSchema, async (request, extra) => {
    if (request.params.name === "slow") {
      extra.closeSSEStream();
      await pause(700);
    }
    return { content: [{ type: "text", text: `${request.params.name} is done` }] };
  });
  server.setRequestHandler(types.SubscribeRequestSchema, (request) => {
    setTimeout(() => server.sendResourceUpdated({ uri: request.params.uri }), 200);
    return {};
  });
  server.setRequestHandler(types.UnsubscribeRequestSchema, () => ({}));
  return server;
}

function serve(port) {
  const transports = new Map();
  const http = createServer(async (request, response) => {
    const known = transports.get(request.headers["mcp-session-id"]);
    if (known) return known.handleRequest(request, response);
    if (request.headers["mcp-session-id"]) return response.writeHead(404).end();
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: 100,
      onsessioninitialized: (id) => transports.set(id, transport),
      onsessionclosed: (id) => transports.delete(id),
    });
    await session().connect(transport);
    await transport.handleRequest(request, response);
  });
  http.listen(port, "127.0.0.1");
}

/** The script of calls; everything that the client hands its user, in order. */
async function script(url) {
  const said = [];
  const client = new Client({ name: "sessions", version: "1" }, { capabilities: {} });
  const transport = new StreamableHTTPClientTransport(url);
  const updated = new Promise((done) => {
    client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, (notice) => {
      said.push(["updated", notice.params.uri]);
      done();
    });
  });
  await client.connect(transport);
  // The stream of the session's own is opened after that.
  await pause(300);
  await client.subscribeResource({ uri: URI });
  await updated;
  said.push(["slow", await client.callTool({ name: "slow", arguments: {} })]);
  said.push(["quick", await client.callTool({ name: "quick", arguments: {} })]);
  await client.unsubscribeResource({ uri: URI });
  const ended = new Map([["mcp-session-id", transport.sessionId]]);
  await transport.terminateSession();
  const late = await fetch(url, {
    method: "POST",
    headers: { ...Object.fromEntries(ended), "content-type": "application/json", accept: "application/json, text/event-stream" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 99, method: "tools/list" }),
  });
  said.push(["after the end", late.status]);
  await client.close();
  return said;
}

function complaints({ direct, through, spans }) {
  const judge = new Judge(spans);
  judge.same(direct, through);
  judge.is("what was said", direct.map(([what]) => what), ["updated", "slow", "quick", "after the end"]);
  judge.is("the last status", direct.at(-1)[1], 404);
  const [initialized] = judge.pair("initialize");
  const session = judge.has(initialized, "mcp.session.id");
  const slow = judge.pair("tools/call slow");
  slow.forEach((span) => judge.is("the answer was fetched", judge.has(span, "meshtrace.resumed"), true));
  slow.forEach((span) => judge.is("the slow call took", BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano) > 600_000_000n, true));
  const quick = judge.pair("tools/call quick");
  quick.forEach((span) => judge.is("the answer came at once", judge.has(span, "meshtrace.resumed"), undefined));
  for (const name of ["resources/subscribe", "resources/unsubscribe"]) {
    judge.pair(name).forEach((span) => judge.is(name, judge.has(span, "mcp.resource.uri"), URI));
  }
  // In a stream of its own, with nothing in flight: of no request.
  const notice = "notifications/resources/updated";
  const [sent, got] = [judge.one("server", CLIENT, notice), judge.one("client", SERVER, notice)];
  for (const span of [sent, got]) {
    judge.is(notice, [judge.has(span, "mcp.resource.uri"), judge.has(span, "mcp.session.id")], [URI, session]);
  }
  judge.is("parent of the notification", sent.parentSpanId || "", "");
  // Streams and the end of the session have none, and what came after it is an error of the caller.
  const http = spans.filter((span) => `${judge.has(span, "url.path")} ${judge.has(span, "url.full")}`.includes("/mcp"));
  judge.is("spans of streams", http.map((span) => span.name), []);
  const late = judge.one("client", CLIENT, "tools/list");
  judge.is("after the end", judge.has(late, "error.type"), "404");
  judge.under(judge.one("server", SERVER, "tools/list"), late, "after the end");
  for (const span of spans.filter((span) => span.name.startsWith("tools/call"))) {
    judge.is(`session of ${span.name}`, judge.has(span, "mcp.session.id"), session);
  }
  return judge.wrong;
}

if (process.argv[2] === "serve") {
  serve(Number(process.env.PORT));
} else {
  const file = fileURLToPath(import.meta.url);
  const config = `${process.env.TMPDIR ?? "/tmp"}/meshtrace-sessions-${process.pid}.yaml`;
  const { rmSync, writeFileSync } = await import("node:fs");
  writeFileSync(config, "spans: { notifications: true }\n");
  process.on("exit", () => rmSync(config, { force: true }));
  await judge("sessions", [
    ["streamableHttp", async () => complaints(await overHttp([file, "serve"], "/mcp", script, { MESHTRACE_CONFIG: config }))],
  ]);
}
