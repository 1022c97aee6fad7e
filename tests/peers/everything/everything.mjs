// Runs npm server-everything in each of its modes, direct and through sidecars, with the SDK's own
// client, and compares: what the client is told is the same, and the spans are the trees that the
// script makes. MESHTRACE_BIN names the sidecar. Prints a line a mode; ends with 1 if any fails.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";
import { CLIENT, Judge, SERVER, binary, collector, env, judge, overHttp, pause } from "./harness.mjs";

const everything = createRequire(import.meta.url).resolve("@modelcontextprotocol/server-everything/dist/index.js");
const conformance = createRequire(import.meta.url).resolve("@modelcontextprotocol/conformance/dist/index.js");

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
  const { direct, through } = await overHttp([everything, "streamableHttp"], "/mcp", verdicts);
  if (direct.length < 20) return [`the suite did not run: ${direct}`];
  return direct.filter((verdict, index) => verdict !== through[index]).map((verdict) => `only direct: ${verdict}`);
}

/** What is wrong with the spans: each call is one on each side, and each question hangs under it. */
function complaints({ direct, through, spans, both }) {
  const judge = new Judge(spans);
  judge.same(direct, through);
  // What a server asks is its own client's span, and the other side's under that.
  const asked = (name) => (both ? judge.pair(name, "server", "client")[0] : judge.one("server", CLIENT, name));
  const served = (name) => (both ? judge.pair(name)[1] : judge.one("server", SERVER, name));
  served("tools/call echo");
  for (const [tool, asks] of [
    ["trigger-sampling-request", "sampling/createMessage"],
    ["trigger-elicitation-request", "elicitation/create"],
  ]) {
    judge.under(asked(asks), served(`tools/call ${tool}`), asks);
  }
  // The roots are asked for outside of any call, as soon as the client is there.
  judge.fine(asked("roots/list"), "roots/list");
  const long = "tools/call trigger-long-running-operation";
  for (const [service, kind] of both ? [["server", SERVER], ["client", CLIENT]] : [["server", SERVER]]) {
    const calls = judge.find(service, kind, long).sort((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)));
    judge.is(`${service}: which long calls were cancelled`, calls.map((span) => judge.has(span, "meshtrace.cancelled") ?? false), [false, true]);
    if (calls.length === 2) judge.is(`${service}: progress`, Number(judge.has(calls[0], "meshtrace.progress.count")), 4);
    calls.forEach((span) => judge.fine(span, "a long call"));
    const notice = judge.one(service, kind, "notifications/cancelled");
    judge.is(`${service}: what is cancelled`, notice.links?.map((link) => link.spanId), [calls[1]?.spanId]);
  }
  served("initialize");
  return judge.wrong;
}

const scripted = (Transport) => (url) => script(new Transport(url));
await judge("everything", [
  ["stdio", async () => complaints(await overPipes())],
  ["streamableHttp", async () =>
    complaints(await overHttp([everything, "streamableHttp"], "/mcp", scripted(StreamableHTTPClientTransport)))],
  ["sse", async () => complaints(await overHttp([everything, "sse"], "/sse", scripted(SSEClientTransport)))],
  ["conformance", conforms],
]);
