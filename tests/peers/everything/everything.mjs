// Runs npm server-everything in each of its modes, direct and through sidecars, with the SDK's own
// client, and compares: what the client is told is the same, and the spans are the trees that the
// script makes. MESHTRACE_BIN names the sidecar. Prints a line a mode; ends with 1 if any fails.

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createServer as createTcp } from "node:net";
import { createRequire } from "node:module";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const binary = process.env.MESHTRACE_BIN;
const everything = createRequire(import.meta.url).resolve("@modelcontextprotocol/server-everything/dist/index.js");
const conformance = createRequire(import.meta.url).resolve("@modelcontextprotocol/conformance/dist/index.js");
const running = [];

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function freePort() {
  return new Promise((done) => {
    const server = createTcp().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A collector of OTLP in JSON. */
function collector() {
  const spans = [];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    for (const resource of JSON.parse(Buffer.concat(parts)).resourceSpans) {
      const service = resource.resource.attributes.find((a) => a.key === "service.name").value.stringValue;
      for (const scope of resource.scopeSpans) for (const span of scope.spans) spans.push({ service, ...span });
    }
    response.setHeader("content-type", "application/json");
    response.end("{}");
  });
  return new Promise((done) => {
    server.listen(0, "127.0.0.1", () => done({ spans, port: server.address().port, close: () => server.close() }));
  });
}

function start(command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
  child.log = "";
  child.stderr.on("data", (data) => (child.log += data));
  running.push(child);
  return child;
}

async function listening(port) {
  for (let turn = 0; turn < 600; turn++) {
    const up = await fetch(`http://127.0.0.1:${port}/nothing`).then(() => true, () => false);
    if (up) return;
    await pause(100);
  }
  throw new Error(`nobody listens on ${port}`);
}

function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((done) => {
    child.once("exit", done);
    child.kill("SIGTERM");
  });
}

/** What the script makes volatile is replaced. */
function still(value) {
  return JSON.parse(
    JSON.stringify(value ?? null, (key, v) =>
      typeof v === "string" ? v.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z|\d+:\d\d:\d\d ?[AP]?M?/g, "TIME") : v,
    ),
  );
}

/** The script of calls; everything that the client hands its user, in order. */
async function script(transport) {
  const said = [];
  const note = (what, value) => said.push([what, still(value)]);
  const client = new Client(
    { name: "everything", version: "1" },
    { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } },
  );
  client.setRequestHandler(types.CreateMessageRequestSchema, (request) => {
    note("sampling", { ...request.params, _meta: undefined });
    return { role: "assistant", model: "none", content: { type: "text", text: "hello" } };
  });
  client.setRequestHandler(types.ElicitRequestSchema, (request) => {
    note("elicitation", request.params.message);
    return { action: "decline" };
  });
  client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [{ uri: "file:///srv", name: "srv" }] }));
  await client.connect(transport);
  // The server asks for the roots soon after it was greeted.
  await pause(1000);
  const call = (name, args = {}, options) =>
    client.callTool({ name, arguments: args }, undefined, options).then(
      (result) => note(name, result),
      (error) => note(name, String(error.message)),
    );
  note("tools", (await client.listTools()).tools.map((tool) => tool.name).sort());
  note("prompts", (await client.listPrompts()).prompts.map((prompt) => prompt.name).sort());
  note("ping", await client.ping());
  await call("echo", { message: "héllo 😀" });
  await call("get-sum", { a: 2, b: 40 });
  await call("get-sum", { a: "no number" });
  await call("nonsense");
  await call("get-tiny-image");
  await call("get-structured-content", { location: "Chicago" });
  const steps = [];
  await call("trigger-long-running-operation", { duration: 0.4, steps: 4 }, { onprogress: (p) => steps.push(p.progress) });
  // Whether the last step is told before the answer is a race in the client itself.
  note("progress", steps.slice(0, 3));
  await call("trigger-sampling-request", { prompt: "say hello", maxTokens: 10 });
  await call("trigger-elicitation-request");
  await call("get-roots-list");
  const giveUp = new AbortController();
  setTimeout(() => giveUp.abort("enough"), 300);
  await call("trigger-long-running-operation", { duration: 5, steps: 5 }, { signal: giveUp.signal });
  // The notice of it is sent by itself.
  await pause(500);
  if (transport.terminateSession) await transport.terminateSession();
  await client.close();
  return said;
}

const env = (service, port) => ({
  OTEL_SERVICE_NAME: service,
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
  OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  OTEL_BSP_SCHEDULE_DELAY: "100",
});

/** Does something with a server over HTTP, direct and through two sidecars. */
async function overHttp(mode, path, act) {
  const app = await freePort();
  const server = start(process.execPath, [everything, mode], { PORT: String(app) });
  await listening(app);
  const direct = await act(new URL(`http://127.0.0.1:${app}${path}`));
  const collected = await collector();
  const [inbound, outbound] = [await freePort(), await freePort()];
  const near = start(
    binary,
    ["proxy", "--outbound", `127.0.0.1:${outbound}=http://127.0.0.1:${inbound}`, "--admin", "off"],
    env("client", collected.port),
  );
  const far = start(
    binary,
    ["proxy", "--inbound", `127.0.0.1:${inbound}=127.0.0.1:${app}`, "--admin", "off"],
    env("server", collected.port),
  );
  await Promise.all([listening(outbound), listening(inbound)]);
  const through = await act(new URL(`http://127.0.0.1:${outbound}${path}`));
  await Promise.all([stop(near), stop(far)]);
  collected.close();
  await stop(server);
  return { direct, through, spans: collected.spans, both: true };
}

async function overPipes() {
  const transport = (command, args, more = {}) =>
    new StdioClientTransport({ command, args, env: { PATH: process.env.PATH, ...more }, stderr: "ignore" });
  const direct = await script(transport(process.execPath, [everything, "stdio"]));
  const collected = await collector();
  const args = ["stdio", "--", process.execPath, everything, "stdio"];
  const through = await script(transport(binary, args, env("server", collected.port)));
  for (let turn = 0; turn < 50 && !collected.spans.some((span) => span.name === "initialize"); turn++) await pause(100);
  collected.close();
  return { direct, through, spans: collected.spans, both: false };
}

/** The verdicts of the conformance suite. Not all are good ones: this is not the server that it was made for. */
function verdicts(url) {
  const child = spawn(process.execPath, [conformance, "server", "--url", String(url)], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (said += data));
  return new Promise((done) => child.once("close", () => done(said.match(/^([✓✗] |Total:).*$/gm) ?? [])));
}

async function conforms() {
  const { direct, through } = await overHttp("streamableHttp", "/mcp", verdicts);
  if (direct.length < 20) return [`the suite did not run: ${direct}`];
  return direct.filter((verdict, index) => verdict !== through[index]).map((verdict) => `only direct: ${verdict}`);
}

/** What is wrong with the spans: each call is one on each side, and each question hangs under it. */
function complaints({ direct, through, spans, both }) {
  const wrong = [];
  if (JSON.stringify(direct) !== JSON.stringify(through)) {
    const at = direct.findIndex((said, index) => JSON.stringify(said) !== JSON.stringify(through[index]));
    wrong.push(`transcripts differ at ${at}: ${JSON.stringify(direct[at])} is ${JSON.stringify(through[at])}`);
  }
  const SERVER = 2, CLIENT = 3;
  const find = (service, kind, name) =>
    spans.filter((span) => span.service === service && span.kind === kind && span.name === name);
  const one = (service, kind, name) => {
    const found = find(service, kind, name);
    if (found.length !== 1) wrong.push(`${found.length} spans ${service} ${kind} ${name}`);
    return found[0] ?? { attributes: [] };
  };
  const has = (span, key) => span.attributes.find((a) => a.key === key)?.value;
  const under = (child, parent, what) => {
    if (child.parentSpanId !== parent.spanId || child.traceId !== parent.traceId) wrong.push(`${what}: not under its parent`);
  };
  const fine = (span, what) => {
    if (span.status?.code === 2) wrong.push(`${what}: ${JSON.stringify(span.attributes)}`);
  };
  for (const [tool, asks] of [
    ["echo"],
    ["trigger-sampling-request", "sampling/createMessage"],
    ["trigger-elicitation-request", "elicitation/create"],
  ]) {
    const served = one("server", SERVER, `tools/call ${tool}`);
    fine(served, tool);
    if (both) under(served, one("client", CLIENT, `tools/call ${tool}`), tool);
    if (!asks) continue;
    const asked = one("server", CLIENT, asks);
    under(asked, served, asks);
    fine(asked, asks);
    if (both) under(one("client", SERVER, asks), asked, `${asks} at the client`);
  }
  const long = find("server", SERVER, "tools/call trigger-long-running-operation");
  if (long.length !== 2 || long.filter((span) => has(span, "meshtrace.cancelled")).length !== 1) {
    wrong.push(`one of two long calls has to be cancelled: ${JSON.stringify(long.map((span) => span.attributes))}`);
  }
  long.forEach((span) => fine(span, "a long call"));
  one("server", SERVER, "initialize");
  return wrong;
}

let failed = 0;
const scripted = (Transport) => (url) => script(new Transport(url));
for (const [mode, run] of [
  ["stdio", async () => complaints(await overPipes())],
  ["streamableHttp", async () =>
    complaints(await overHttp("streamableHttp", "/mcp", scripted(StreamableHTTPClientTransport)))],
  ["sse", async () => complaints(await overHttp("sse", "/sse", scripted(SSEClientTransport)))],
  ["conformance", conforms],
]) {
  let wrong;
  try {
    wrong = await run();
  } catch (error) {
    wrong = [String(error.stack)];
  }
  console.log(wrong.length ? `FAILED  everything ${mode}\n    ${wrong.join("\n    ")}` : `passed  everything ${mode}`);
  failed += wrong.length > 0;
}
running.forEach((child) => child.kill("SIGKILL"));
process.exit(failed ? 1 : 0);
