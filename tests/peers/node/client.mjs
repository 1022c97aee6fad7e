/**
 * A scripted MCP client on the npm SDK: the same calls in the same order as
 * the script of the Python clients, one JSON object a step on stdout.
 *
 *     client.mjs ERA URL      ERA: legacy (the only one this SDK speaks)
 *
 * Long strings become their length and digest, ports and session ids become
 * placeholders. The answer of `seen` goes to stderr.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const TEXT = 'naïve – "quoted" \\ 日本 😀 \u0001 </script>';
const LONG = 1000;

/** `value` with everything volatile or long replaced and with sorted members. */
function normal(value) {
  if (Array.isArray(value)) return value.map(normal);
  if (value !== null && typeof value === 'object') {
    const names = Object.keys(value).filter(name => value[name] !== undefined).sort();
    return Object.fromEntries(names.map(name => [name, normal(value[name])]));
  }
  if (typeof value !== 'string') return value;
  if (value.length > LONG) {
    return { length: value.length, sha256: createHash('sha256').update(value).digest('hex') };
  }
  return value
    .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>')
    .replace(/\b[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\b/g, '<id>');
}

const say = (step, what) => console.log(JSON.stringify(normal({ step, ...what })));

/** Runs one call and prints its answer, or its error as the SDK tells it. */
async function attempt(step, call, progress) {
  const seen = progress === undefined ? {} : { progress };
  try {
    say(step, { result: await call, ...seen });
  } catch (error) {
    const { code, message, data } = error;
    say(step, { error: { class: error.constructor.name, code, message, data }, ...seen });
  }
}

/** Calls of tools, good and bad, small and large, one at a time and at once. */
async function tools(client) {
  const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
  await attempt('tools', client.listTools());
  await attempt('echo', call('echo', { text: TEXT }));
  await attempt('echo long', call('echo', { text: TEXT.repeat(5000) }));
  await attempt('add', call('add', { a: 2, b: 3 }));
  await attempt('add wrong', call('add', { a: 'x' }));
  await attempt('fail', call('fail', {}));
  await attempt('unknown tool', call('no_such_tool', {}));
  await attempt('unknown method', client.request({ method: 'meshtrace/unknown' }, z.object({})));
  await attempt('slow', call('slow', { ms: 60 }));
  const steps = [];
  const onprogress = ({ progress, total, message }) => void steps.push([progress, total, message]);
  await attempt('stream', call('stream', { n: 4 }, { onprogress }), steps);
  await attempt('ask', call('ask', {}));
  await attempt('measure', call('measure', { text: 'm'.repeat(1_400_000) }));
  await attempt('blob', call('blob', { n: 400_000 }));
  const atOnce = [...Array(6).keys()].map(n => call('echo', { text: `at once ${n}` }));
  say('at once', { result: await Promise.all([...atOnce, call('slow', { ms: 40 })]) });
}

const url = new URL(process.argv[3]);
const client = new Client({ name: 'peer-client', version: '1' }, { capabilities: { elicitation: {} } });
client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { colour: 'green' } }));
const transport = new StreamableHTTPClientTransport(url);
await client.connect(transport);
say('connected', { version: transport.protocolVersion, server: client.getServerVersion() });
await tools(client);
await attempt('prompts', client.listPrompts());
await attempt('prompt', client.getPrompt({ name: 'greet', arguments: { name: 'Ada' } }));
await attempt('unknown prompt', client.getPrompt({ name: 'no_such_prompt', arguments: {} }));
await attempt('resources', client.listResources());
await attempt('resource', client.readResource({ uri: 'note://today' }));
await attempt('unknown resource', client.readResource({ uri: 'note://nowhere' }));
await attempt('ping', client.ping());
const answer = await client.callTool({ name: 'seen', arguments: { text: 'who asks' } });
console.error(answer.content[0].text);
await transport.terminateSession();
await client.close();
say('closed', {});
