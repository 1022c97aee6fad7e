/**
 * The calls that the Node agents of the matrix make, one function a kind. Each
 * goes to `SINK/call/<kind>/<n>`: that is how the matrix knows for which request
 * it is made. Nothing here passes any trace context on.
 */
import http, { get as namedGet } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import axios from 'axios';
import { request as undiciRequest } from 'undici';

export const SINK = process.env.SINK;
export const KINDS = process.env.KINDS.split(',');
export const PORT = Number(process.env.PORT);

/** What only one request was given, by its number; its calls say it again. */
export const orders = new Map();

const url = (kind, n) => `${SINK}/call/${kind}/${n}${orders.has(n) ? `?order=${orders.get(n)}` : ''}`;
const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });

/** Reads an answer to its end. */
const drained = (response, resolve) => response.resume().on('end', resolve);

const viaFetch = async (kind, n) => void (await (await fetch(url(kind, n))).text());

const viaHttp = (kind, n) =>
  new Promise((resolve, reject) => {
    http.get(url(kind, n), { agent }, response => drained(response, resolve)).on('error', reject);
  });

const viaNamed = (kind, n) =>
  new Promise((resolve, reject) => {
    namedGet(url(kind, n), { agent }, response => drained(response, resolve)).on('error', reject);
  });

const viaList = (kind, n) =>
  new Promise((resolve, reject) => {
    const { hostname, port, pathname, search } = new URL(url(kind, n));
    const headers = ['Host', `${hostname}:${port}`, 'X-Listed', '1'];
    http.request({ hostname, port, path: pathname + search, headers, agent }, response => drained(response, resolve))
      .on('error', reject)
      .end();
  });

const viaUndici = async (kind, n) => void (await (await undiciRequest(url(kind, n))).body.text());

const viaAxios = async (kind, n) => void (await axios.get(url(kind, n)));

/** Lets `limit` callers in at a time; a waiter's own promise wakes it. */
class PromisePool {
  constructor(limit) {
    this.free = limit;
    this.waiting = [];
  }

  async run(work) {
    if (this.free > 0) this.free -= 1;
    else await new Promise(resolve => this.waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.free += 1;
    }
  }
}

/** The same with callbacks: who releases calls the waiter, in the releaser's own context. */
class CallbackPool {
  constructor(limit) {
    this.free = limit;
    this.waiting = [];
  }

  acquire(work) {
    if (this.free > 0) {
      this.free -= 1;
      work();
    } else this.waiting.push(work);
  }

  release() {
    const next = this.waiting.shift();
    if (next) next();
    else this.free += 1;
  }
}

const promisePool = new PromisePool(10);
const callbackPool = new CallbackPool(2);

const viaCallbackPool = (kind, n) =>
  new Promise((resolve, reject) => {
    callbackPool.acquire(() => {
      http
        .get(url(kind, n), { agent }, response =>
          drained(response, () => {
            setTimeout(() => callbackPool.release(), 2);
            resolve();
          }),
        )
        .on('error', reject);
    });
  });

const items = [];
let wake = () => {};
(async () => {
  for (;;) {
    while (items.length === 0) await new Promise(resolve => (wake = resolve));
    const { kind, n, done } = items.shift();
    await viaFetch(kind, n);
    done();
  }
})();

const viaQueue = (kind, n) =>
  new Promise(done => {
    items.push({ kind, n, done });
    wake();
  });

const afterReply = (kind, n) => void setTimeout(() => void viaFetch(kind, n), 50);

export const known = {
  fetch: viaFetch,
  http: viaHttp,
  'http-named': viaNamed,
  'http-list': viaList,
  undici: viaUndici,
  axios: viaAxios,
  gather: (kind, n) => Promise.all([1, 2, 3].map(() => viaFetch(kind, n))),
  'promise-pool': (kind, n) => promisePool.run(() => viaFetch(kind, n)),
  'callback-pool': viaCallbackPool,
  queue: viaQueue,
  'after-reply': afterReply,
};

/** All calls of one request, with pauses of differing length between them. */
export async function make(n, more = {}) {
  for (const [turn, kind] of KINDS.entries()) {
    await sleep(2 * (((n + turn) * 7) % 5));
    await (known[kind] ?? more[kind])(kind, n);
  }
}
