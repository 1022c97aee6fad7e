/**
 * A scripted MCP server on the npm SDK.
 *
 *     server.mjs MODE      MODE: json | sse
 *
 * It binds a free loopback port and prints `LISTENING <port>` once it accepts.
 * One McpServer a session, as the SDK's own examples do. Nothing here knows of
 * tracing; `seen` only tells what arrived.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { z } from 'zod';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const json = process.argv[2] === 'json';
const text = value => ({ content: [{ type: 'text', text: String(value) }] });

/** What of trace context arrived: in `params._meta` and in the headers. */
function traced(extra) {
  const pick = from =>
    Object.fromEntries(
      ['traceparent', 'tracestate', 'baggage'].filter(key => from?.[key]).map(key => [key, from[key]]),
    );
  return { meta: pick(extra._meta), header: pick(extra.requestInfo?.headers) };
}

/** A server with the tools, the resource and the prompt that every peer has. */
function build() {
  const server = new McpServer({ name: 'peer', version: '1' });
  const tool = (name, description, inputSchema, run) =>
    server.registerTool(name, { description, inputSchema }, run);
  tool('echo', 'Answers with its argument.', { text: z.string() }, async a => text(a.text));
  tool('add', 'Adds two whole numbers.', { a: z.number().int(), b: z.number().int() }, async a => ({
    ...text(a.a + a.b),
    structuredContent: { result: a.a + a.b },
  }));
  tool('fail', 'Always fails, as a tool does.', {}, async () => {
    throw new Error('told to fail');
  });
  tool('slow', 'Answers after so many milliseconds.', { ms: z.number() }, async a => {
    await sleep(a.ms);
    return text(`waited ${a.ms}`);
  });
  tool('stream', 'Reports progress `n` times, then answers.', { n: z.number() }, async (a, extra) => {
    const progressToken = extra._meta?.progressToken;
    for (let step = 1; step <= a.n && progressToken !== undefined; step += 1) {
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress: step, total: a.n, message: `step ${step}` },
      });
      await sleep(10);
    }
    return text(`${a.n} steps`);
  });
  if (!json) {
    tool('ask', 'Asks the caller for a colour before it answers.', {}, async (a, extra) => {
      const requestedSchema = { type: 'object', properties: { colour: { type: 'string' } } };
      const question = { mode: 'form', message: 'Which colour?', requestedSchema };
      const { action, content } = await server.server.elicitInput(question, { relatedRequestId: extra.requestId });
      return text(`${action} ${content?.colour}`);
    });
  }
  tool('measure', 'Answers with the length of its argument.', { text: z.string() }, async a => text(a.text.length));
  tool('blob', 'Answers with `n` characters.', { n: z.number() }, async a =>
    text('0123456789abcdef'.repeat(a.n / 16 + 1).slice(0, a.n)));
  tool('seen', 'Answers with the trace context of this call.', { text: z.string() }, async (a, extra) =>
    text(JSON.stringify({ text: a.text, ...traced(extra) })));
  server.registerResource('note', 'note://today', { mimeType: 'text/plain' }, async uri => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'nothing to report' }],
  }));
  server.registerPrompt(
    'greet',
    { description: 'Asks for a greeting.', argsSchema: { name: z.string() } },
    ({ name }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Please greet ${name}.` } }] }),
  );
  return server;
}

const sessions = new Map();

/** The transport of a request's session; a request without one opens a new one. */
async function transportOf(request) {
  const id = request.headers['mcp-session-id'];
  if (id !== undefined) return sessions.get(id);
  const transport = new StreamableHTTPServerTransport({
    enableJsonResponse: json,
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: session => void sessions.set(session, transport),
    onsessionclosed: session => void sessions.delete(session),
  });
  await build().connect(transport);
  return transport;
}

const app = express();
app.all('/mcp', async (request, response) => {
  const transport = await transportOf(request);
  if (transport === undefined) response.status(404).json({ error: 'no such session' });
  else await transport.handleRequest(request, response);
});
const listener = app.listen(0, '127.0.0.1', () => console.log('LISTENING', listener.address().port));
process.on('SIGTERM', () => process.exit(0));
