// Starts servers, sidecars and a collector, and looks at the spans that arrived; for the scripts beside it.

import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { createServer as createTcp } from "node:net";

export const binary = process.env.MESHTRACE_BIN;
export const [SERVER, CLIENT] = [2, 3];
const running = [];

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export function freePort() {
  return new Promise((done) => {
    const server = createTcp().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** A collector of OTLP in JSON. */
export function collector() {
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

export function start(command, args, env = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "pipe"] });
  child.log = "";
  child.stderr.on("data", (data) => (child.log += data));
  running.push(child);
  return child;
}

export async function listening(port) {
  for (let turn = 0; turn < 600; turn++) {
    const up = await fetch(`http://127.0.0.1:${port}/nothing`).then(() => true, () => false);
    if (up) return;
    await pause(100);
  }
  throw new Error(`nobody listens on ${port}`);
}

export function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((done) => {
    child.once("exit", done);
    child.kill("SIGTERM");
  });
}

export const env = (service, port) => ({
  OTEL_SERVICE_NAME: service,
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
  OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  OTEL_BSP_SCHEDULE_DELAY: "100",
});

/** Does something with a server over HTTP, direct and through two sidecars. */
export async function overHttp(script, path, act, more = {}) {
  const app = await freePort();
  const server = start(process.execPath, script, { PORT: String(app) });
  await listening(app);
  const direct = await act(new URL(`http://127.0.0.1:${app}${path}`));
  const collected = await collector();
  const [inbound, outbound] = [await freePort(), await freePort()];
  const near = start(
    binary,
    ["proxy", "--outbound", `127.0.0.1:${outbound}=http://127.0.0.1:${inbound}`, "--admin", "off"],
    { ...env("client", collected.port), ...more },
  );
  const far = start(
    binary,
    ["proxy", "--inbound", `127.0.0.1:${inbound}=127.0.0.1:${app}`, "--admin", "off"],
    { ...env("server", collected.port), ...more },
  );
  await Promise.all([listening(outbound), listening(inbound)]);
  const through = await act(new URL(`http://127.0.0.1:${outbound}${path}`));
  await Promise.all([stop(near), stop(far)]);
  collected.close();
  await stop(server);
  return { direct, through, spans: collected.spans, both: true };
}

/** Ends what is left, with the script itself. */
export function finish(failed) {
  running.forEach((child) => child.kill("SIGKILL"));
  process.exit(failed ? 1 : 0);
}

/** Asks things of spans, and collects what is wrong with them. */
export class Judge {
  constructor(spans) {
    this.spans = spans;
    this.wrong = [];
  }

  find(service, kind, name) {
    return this.spans.filter((span) => span.service === service && span.kind === kind && span.name === name);
  }

  one(service, kind, name) {
    const found = this.find(service, kind, name);
    if (found.length !== 1) this.wrong.push(`${found.length} spans ${service} ${kind} ${name}`);
    return found[0] ?? { attributes: [] };
  }

  /** One on each side: the second under the first. */
  pair(name, from = "client", to = "server") {
    const [called, served] = [this.one(from, CLIENT, name), this.one(to, SERVER, name)];
    this.under(served, called, name);
    [called, served].forEach((span) => this.fine(span, name));
    return [called, served];
  }

  has(span, key) {
    return Object.values(span.attributes.find((a) => a.key === key)?.value ?? {})[0];
  }

  under(child, parent, what) {
    if (!child.traceId || child.parentSpanId !== parent.spanId || child.traceId !== parent.traceId) {
      this.wrong.push(`${what}: not under its parent`);
    }
  }

  fine(span, what) {
    if (span.status?.code === 2) this.wrong.push(`${what}: ${JSON.stringify(span.attributes)}`);
  }

  is(what, got, wanted) {
    if (JSON.stringify(got) !== JSON.stringify(wanted)) {
      this.wrong.push(`${what}: ${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
    }
  }

  same(direct, through) {
    const at = direct.findIndex((said, index) => JSON.stringify(said) !== JSON.stringify(through[index]));
    if (at >= 0 || direct.length !== through.length) {
      this.wrong.push(`transcripts differ at ${at}: ${JSON.stringify(direct[at])} is ${JSON.stringify(through[at])}`);
    }
  }
}

/** Runs each, prints a line for it, and ends with 1 if any fails. */
export async function judge(name, scenarios) {
  let failed = 0;
  for (const [mode, run] of scenarios) {
    let wrong;
    try {
      wrong = await run();
    } catch (error) {
      wrong = [String(error.stack)];
    }
    console.log(wrong.length ? `FAILED  ${name} ${mode}\n    ${wrong.join("\n    ")}` : `passed  ${name} ${mode}`);
    failed += wrong.length > 0;
  }
  finish(failed);
}
