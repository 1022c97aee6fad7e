/**
 * meshtrace shim for Node: hands the trace names on from the request that is
 * being handled to the calls that are made for it.
 *
 * The sidecar in front of this process writes `traceparent`, `tracestate` and
 * `baggage` into each request; the sidecar behind it reads them from each call.
 * This file does nothing but copy them from one to the other. It makes no
 * spans, sends nothing, starts nothing and stops nothing. A context that the
 * program sets by itself is left alone. A hook that fails steps aside.
 *
 * A copied context says that this file carried it: the sidecar's own member of
 * `tracestate`, `mt=<span id>`, leaves as `mt=<span id>;s`. The sidecar takes
 * the mark off again.
 *
 * MESHTRACE_SHIM=off switches it off, MESHTRACE_SHIM=debug says on stderr what
 * failed. No dependency; Node 18 and later.
 */
'use strict';

const MODE = (process.env.MESHTRACE_SHIM || '').trim().toLowerCase();
const MEMBER = 'mt=';
const MARK = ';s';
// What still names a request so long after its answer belongs to a timer or a
// worker that the request happened to start, not to the request.
const LATE_MS = 60_000;

/** Runs `what`; whatever it throws is told to somebody who asked for it. */
function safely(what) {
  try {
    return what();
  } catch (error) {
    if (MODE === 'debug') process.stderr.write(`meshtrace shim: stepped aside: ${error && error.stack}\n`);
    return undefined;
  }
}

function install() {
  const { AsyncLocalStorage } = require('node:async_hooks');
  const channel = require('node:diagnostics_channel');
  const http = require('node:http');
  const https = require('node:https');
  const { syncBuiltinESMExports } = require('node:module');
  const current = new AsyncLocalStorage();

  /** What one request carried, ready to be written; undefined if that is nothing. */
  function traceOf(headers) {
    const parent = headers.traceparent;
    if (typeof parent !== 'string') return undefined;
    const trace = { member: undefined, own: [['traceparent', parent]], ended: 0 };
    if (headers.tracestate) {
      const members = headers.tracestate.split(',').map(member => member.trim());
      const place = members.findIndex(member => member.startsWith(MEMBER));
      if (place >= 0) {
        trace.member = members[place].split(';')[0];
        members[place] = trace.member + MARK;
      }
      trace.own.push(['tracestate', members.join(',')]);
    }
    if (headers.baggage) trace.own.push(['baggage', headers.baggage]);
    return trace;
  }

  /** The request that this code runs for, or undefined. */
  function live() {
    const trace = current.getStore();
    return trace === undefined || (trace.ended !== 0 && Date.now() - trace.ended > LATE_MS) ? undefined : trace;
  }

  /** The names and values to set on a call that holds what `read` tells. */
  function additions(trace, read) {
    if (read('traceparent') === undefined) {
      return read('baggage') === undefined ? trace.own : trace.own.filter(([name]) => name !== 'baggage');
    }
    // The program's own context, which we only confirm: it names the very request.
    const state = read('tracestate');
    if (typeof state !== 'string' || trace.member === undefined) return [];
    const members = state.split(',').map(member => member.trim());
    const place = members.indexOf(trace.member);
    if (place < 0) return [];
    members[place] += MARK;
    return [['tracestate', members.join(',')]];
  }

  const REQUESTS = new Set(['request', 'checkContinue', 'checkExpectation']);

  /** Requests that arrive: what handles them, and what their events cause, runs for them. */
  function serve(server) {
    const emit = server.prototype.emit;
    server.prototype.emit = function (event, request, response) {
      if (!REQUESTS.has(event)) return emit.apply(this, arguments);
      const trace = safely(() => traceOf(request.headers));
      safely(() => {
        bind(request, trace);
        bind(response, trace);
        if (trace !== undefined) response.once('close', () => (trace.ended = Date.now()));
      });
      return current.run(trace, () => emit.apply(this, arguments));
    };
  }

  /** The parser and the socket tell of bodies and ends outside of any request. */
  function bind(emitter, trace) {
    const emit = emitter.emit;
    emitter.emit = function () {
      return current.run(trace, () => emit.apply(this, arguments));
    };
  }

  /** Requests that leave by the `http` modules. */
  function call(module) {
    const request = module.request;
    module.request = function () {
      const trace = live();
      if (trace === undefined) return request.apply(this, arguments);
      const made = request.apply(this, safely(() => withList(trace, arguments)) || arguments);
      safely(() => {
        // One that has its head already was given a list of headers, which is served above.
        if (made._header) return;
        for (const [key, value] of additions(trace, key => made.getHeader(key))) made.setHeader(key, value);
      });
      return made;
    };
    // The original ends its request, and with that writes the head, before anybody sees it.
    module.get = function () {
      const made = module.request.apply(this, arguments);
      made.end();
      return made;
    };
  }

  /** The arguments with the names added, where their headers are a list; else undefined. */
  function withList(trace, args) {
    const place = typeof args[0] === 'string' || args[0] instanceof URL ? 1 : 0;
    const list = args[place] && args[place].headers;
    if (!Array.isArray(list)) return undefined;
    const pairs = Array.isArray(list[0]) ? list.flat() : list;
    const at = key => pairs.findIndex((name, index) => index % 2 === 0 && String(name).toLowerCase() === key);
    const read = key => (at(key) < 0 ? undefined : pairs[at(key) + 1]);
    const kept = [...pairs];
    for (const [key, value] of additions(trace, read)) {
      if (at(key) < 0) kept.push(key, value);
      else kept[at(key) + 1] = value;
    }
    const changed = [...args];
    changed[place] = { ...args[place], headers: kept };
    return changed;
  }

  /** Requests that leave by fetch or undici, whose older versions hold headers as text. */
  channel.channel('undici:request:create').subscribe(({ request }) => {
    const trace = live();
    if (trace === undefined) return;
    safely(() => {
      const lines = typeof request.headers === 'string' ? request.headers.split('\r\n') : undefined;
      const list = lines === undefined ? request.headers : lines.flatMap(line => split(line));
      const at = key => list.findIndex((name, index) => index % 2 === 0 && String(name).toLowerCase() === key);
      const read = key => (at(key) < 0 ? undefined : String(list[at(key) + 1]));
      for (const [key, value] of additions(trace, read)) {
        if (at(key) < 0) request.addHeader(key, value);
        else if (lines === undefined) list[at(key) + 1] = value;
        else request.headers = lines.map((line, index) => (index === at(key) / 2 ? `${key}: ${value}` : line)).join('\r\n');
      }
    });
  });

  function split(line) {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  }

  serve(http.Server);
  serve(https.Server);
  call(http);
  call(https);
  // For `import { request } from 'node:http'`.
  syncBuiltinESMExports();
}

if (MODE !== 'off') safely(install);
