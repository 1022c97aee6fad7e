/**
 * An agent and the server that it calls, in one process: says as JSON what its calls held and
 * what it finds installed. The same as `agent.py` beside it.
 */
'use strict';

// Before anything of ours is loaded.
const events = process.eventNames().map(name => [String(name), process.listenerCount(name)]).sort();
const installed = [events, process.getActiveResourcesInfo()];

const http = require('node:http');

const NAMES = ['traceparent', 'tracestate', 'baggage'];
const ARRIVES = {
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  tracestate: 'mt=b7ad6b7169203331,a=1',
  baggage: 'b=2',
};
const OWN = {
  traceparent: '00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203332-01',
  tracestate: 'c=3',
  baggage: 'd=4',
};

/** One request; the answer's JSON. */
function ask(port, path, headers) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, path, headers, agent: false }, answer => {
      let body = '';
      answer.on('data', data => (body += data));
      answer.on('end', () => (answer.statusCode === 200 ? resolve(JSON.parse(body)) : reject(new Error(body))));
    });
    request.on('error', reject);
    request.end();
  });
}

function listen(handler) {
  const server = http.createServer(handler);
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

/** All the values of each name, as they came. */
function held(request) {
  const values = name => request.rawHeaders.filter((_, index, all) => index % 2 === 1 && all[index - 1].toLowerCase() === name);
  return NAMES.map(name => (values(name).length > 0 ? values(name) : null));
}

/** Takes this list of members apart for nobody from now on. */
function breakFor(members) {
  const { split } = String.prototype;
  String.prototype.split = function (separator) {
    if (separator === ',' && String(this) === members) throw new Error('broken on purpose');
    return split.apply(this, arguments);
  };
}

async function main() {
  const called = await listen((request, response) => response.end(JSON.stringify(held(request))));
  const port = await listen(async (request, response) => {
    const own = { '/own': OWN, '/own-baggage': { baggage: OWN.baggage } }[request.url] ?? {};
    response.end(JSON.stringify(await ask(called, '/', own)));
  });
  const found = { installed };
  for (const path of ['plain', 'own', 'own-baggage']) found[path] = await ask(port, `/${path}`, ARRIVES);
  breakFor(OWN.tracestate);
  found['broken-call'] = await ask(port, '/own', ARRIVES);
  breakFor(ARRIVES.tracestate);
  found['broken-request'] = await ask(port, '/plain', ARRIVES);
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
}

main();
