/**
 * Microseconds of CPU time for one request to a server that does nothing, with as many
 * calls in it as the first argument says; the best of several rounds. Run with
 * and without the shim, the difference is the shim.
 */
'use strict';

const channel = require('node:diagnostics_channel').channel('undici:request:create');
const { EventEmitter } = require('node:events');
const http = require('node:http');

const calls = Number(process.argv[2] ?? 0);
const TURNS = 20_000;
const headers = { host: 'a', 'user-agent': 'b', accept: '*/*' };
const traced = {
  ...headers,
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  tracestate: 'mt=b7ad6b7169203331,vendor=1',
  baggage: 'customer=42',
};
// With nobody listening the channel publishes nothing.
channel.subscribe(() => {});

const server = http.createServer(() => {
  for (let n = 0; n < calls; n += 1) {
    const request = { headers: ['host', 'a', 'accept', '*/*'], addHeader: (key, value) => request.headers.push(key, value) };
    channel.publish({ request });
  }
});

let best = Infinity;
for (let round = 0; round < 9; round += 1) {
  const began = process.cpuUsage();
  for (let turn = 0; turn < TURNS; turn += 1) {
    const request = new EventEmitter();
    request.headers = traced;
    const response = new EventEmitter();
    server.emit('request', request, response);
    response.emit('close');
  }
  best = Math.min(best, process.cpuUsage(began).user / TURNS);
}
console.log(best);
