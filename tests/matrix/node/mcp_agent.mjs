/** The agent itself; the two versions of the SDK differ in where its classes come from. */
import { PORT, SINK, make, orders } from './calls.mjs';

export function serve({ Client, ClientTransport, McpServer, ServerTransport, express, randomUUID, z }) {
  const { STATELESS, SSE } = process.env;

  async function connect() {
    const client = new Client({ name: 'agent', version: '1' });
    await client.connect(new ClientTransport(new URL(`${SINK}/mcp`)));
    return client;
  }

  let opened;
  const call = (client, kind, n) => client.callTool({ name: 'call', arguments: { kind, n, order: orders.get(n) } });
  /** One client, which the first request opens and all later ones use. */
  const shared = async (kind, n) => call(await (opened ??= connect()), kind, n);
  /** A client for this call alone; for every tenth request, as opening one is work. */
  const own = async (kind, n) => {
    if (n % 10 !== 0) return;
    const client = await connect();
    await call(client, kind, n);
    await client.close();
  };
  const more = {
    'mcp-shared': shared,
    'mcp-own': own,
    'mcp-gather': (kind, n) => Promise.all([1, 2, 3].map(() => shared(kind, n))),
  };

  function build() {
    const server = new McpServer({ name: 'agent', version: '1' });
    const shape = { n: z.number(), order: z.string() };
    const inputSchema = process.env.SDK2 ? z.object(shape) : shape;
    server.registerTool('work', { description: 'Makes the calls.', inputSchema }, async ({ n, order }) => {
      orders.set(n, order);
      await make(n, more);
      return { content: [{ type: 'text', text: String(n) }] };
    });
    return server;
  }

  const sessions = new Map();

  async function transportOf(request) {
    const id = request.headers['mcp-session-id'];
    if (id !== undefined && !STATELESS) return sessions.get(id);
    const transport = new ServerTransport({
      enableJsonResponse: !SSE,
      sessionIdGenerator: STATELESS ? undefined : () => randomUUID(),
      onsessioninitialized: session => void sessions.set(session, transport),
    });
    await build().connect(transport);
    return transport;
  }

  const app = express();
  app.use(express.json());
  app.all('/mcp', async (request, response) => {
    const transport = await transportOf(request);
    await transport.handleRequest(request, response, request.body);
  });
  app.listen(PORT, '127.0.0.1', 512);
}
