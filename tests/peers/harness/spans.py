"""The spans that arrived, held against what the wire says they must be."""

import json
import re

from . import expect, wire


def check(near, far, spans, caller, callee):
    """All complaints about one cell.

    `near` and `far` are the connections at the two taps, `caller` and `callee`
    the service names of the two sidecars.
    """
    expected, notifications = expect.of_connections(near)
    complaints, used, traces = [], set(), set()
    arrived = contexts(far)
    for wanted in expected:
        pair = []
        for service, kind in ((caller, "CLIENT"), (callee, "SERVER")):
            span = take(spans, used, service, kind, wanted)
            if span is None:
                complaints.append(f"no {kind} span for {wanted.key()}")
                continue
            pair.append(span)
            complaints += judge(span, wanted, kind)
        if len(pair) == 2:
            complaints += tree(*pair, wanted)
            complaints += handed_on(*pair, wanted, arrived)
            if pair[0].trace in traces:
                complaints.append(f"two calls share the trace of {pair[0].brief()}")
            traces.add(pair[0].trace)
    complaints += questions(far, spans, used, caller, callee)
    rest = [span for span in spans if span.id not in used]
    return complaints + inherited(far, spans) + leftovers(rest, notifications)


def questions(far, spans, used, caller, callee):
    """Complaints about what the server asked of its client: a CLIENT span at the
    callee under the call that it was asked for, and a SERVER span at the caller under that."""
    found = []
    responses = [e.response for connection in far for e in connection if e.response is not None]
    for message in (m for response in responses for m in wire.messages(response)):
        if not ("method" in message and "id" in message) or message["method"] in expect.UNTRACED:
            continue
        key = (message["method"], str(message["id"]))
        asked = [
            s
            for s in spans
            if s.id not in used
            and (s.service, s.kind, s.name) == (callee, "CLIENT", key[0])
            and s.attributes.get("jsonrpc.request.id") == key[1]
        ]
        answered = [s for s in spans if s.kind == "SERVER" and asked and s.parent == asked[0].id]
        if not asked or [(s.service, s.name) for s in answered] != [(caller, key[0])]:
            found.append(f"no pair of spans for the question {key}")
            continue
        used |= {asked[0].id, answered[0].id}
        calls = [s for s in spans if s.kind == "SERVER" and s.id == asked[0].parent]
        if [s.service for s in calls] != [callee]:
            found.append(f"{asked[0].brief()}: hangs under no request of its server")
        for span in (asked[0], answered[0]):
            if span.status != "UNSET" or not span.attributes.get("mcp.session.id"):
                found.append(f"{span.brief()}: {span.status} {span.attributes}")
    return found


def take(spans, used, service, kind, wanted):
    """The first unused span that is this request's, marked as used."""
    for span in spans:
        same = span.service == service and span.kind == kind and span.id not in used
        id = span.attributes.get("jsonrpc.request.id")
        if same and span.name == wanted.name and id == wanted.id:
            used.add(span.id)
            return span
    return None


def judge(span, wanted, kind):
    """Complaints about one span by itself."""
    found = []

    def differs(what, got, want):
        if got != want:
            found.append(f"{span.brief()}: {what} is {got!r}, not {want!r}")

    for key, want in wanted.attributes.items():
        differs(key, span.attributes.get(key), want)
    for key in wanted.absent:
        differs(key, span.attributes.get(key), None)
    status, message, error, code = wanted.status[kind]
    differs("status", span.status, status)
    differs("error.type", span.attributes.get("error.type"), error)
    differs("rpc.response.status_code", span.attributes.get("rpc.response.status_code"), code)
    if message is not None:
        differs("description", span.message, message)
    side = "server" if kind == "CLIENT" else "client"
    if kind == "CLIENT" and not span.attributes.get("meshtrace.parent.method"):
        found.append(f"{span.brief()}: does not say how its parent was found")
    if wanted.method != "POST":
        differs(f"{side}.address", span.attributes.get(f"{side}.address"), "127.0.0.1")
    if not 0 < span.start <= span.end:
        found.append(f"{span.brief()}: ends before it starts")
    if len(span.trace) != 32 or not int(span.trace, 16) or not int(span.id, 16):
        found.append(f"{span.brief()}: ids {span.trace} {span.id}")
    if span.links:
        found.append(f"{span.brief()}: links {span.links}")
    if span.resource.get("telemetry.distro.name") != "meshtrace":
        found.append(f"{span.brief()}: telemetry.distro.name is missing")
    return found


def tree(client, server, wanted):
    """Complaints about how the two spans of a call hang together."""
    found = []
    trace, parent = (wanted.parent.split("-")[1:3]) if wanted.parent else (client.trace, "")
    if (client.trace, client.parent) != (trace, parent):
        found.append(f"{client.brief()}: parent {client.parent!r}, not {parent!r}")
    if (server.trace, server.parent) != (client.trace, client.id):
        found.append(f"{server.brief()}: is no child of its CLIENT span")
    return found


def contexts(far):
    """What each request carried when it reached the server: method and id to both carriers."""
    carried = {}
    for exchange in (e for connection in far for e in connection):
        request = exchange.request
        if request.start.startswith("POST "):
            body = json.loads(request.body)
            meta = (body.get("params") or {}).get("_meta") or {}
            key = (body.get("method"), str(body.get("id")), target(body))
            carried.setdefault(key, []).append((meta, request))
    return carried


def target(body):
    """The name in the parameters of a request, if it has one."""
    return (body.get("params") or {}).get("name")


def handed_on(client, server, wanted, arrived):
    """Complaints about the context that reached the server with a call."""
    name = wanted.attributes.get("gen_ai.tool.name") or wanted.attributes.get("gen_ai.prompt.name")
    if not wanted.read:
        return []
    rows = arrived.get((wanted.method, wanted.id, name), [])
    # `initialize` may be inherited for a whole session, so it carries the caller's span only.
    owner = client if wanted.method in expect.SESSION_LONG else server
    want = f"00-{owner.trace}-{owner.id}-03"
    found = []
    for meta, request in rows:
        for place, get in (("_meta", meta.get), ("header", request.get)):
            if get("traceparent") != want:
                found.append(
                    f"{server.brief()}: {place} says {get('traceparent')!r}, not {want!r}"
                )
            if not members(get("tracestate")) & {f"mt={owner.id}"}:
                found.append(f"{server.brief()}: {place} has tracestate {get('tracestate')!r}")
            if not any(m.startswith("mcp.mesh.agent=") for m in members(get("baggage"))):
                found.append(f"{server.brief()}: {place} has baggage {get('baggage')!r}")
    return found


def members(text):
    """The members of a list-valued field."""
    return set((text or "").split(","))


def inherited(far, spans):
    """Complaints about context of ours on what an application may keep for a whole session.

    An agent that makes its session's context from `initialize`, a
    notification, the GET stream or DELETE must never get a SERVER span's id.
    """
    servers = {span.id for span in spans if span.kind == "SERVER"}
    found = []
    for request in (e.request for connection in far for e in connection):
        if not session_long(request):
            continue
        body = request.body.decode(errors="replace")
        for text in (*request.all("traceparent"), *re.findall(r'"traceparent":\s*"([^"]*)"', body)):
            if text.split("-")[2:3] and text.split("-")[2] in servers:
                found.append(f"{request.start} {body[:80]}: carries a SERVER span's id")
    return found


def session_long(request):
    """Whether a request is one that a session may inherit context from."""
    if not request.start.startswith("POST "):
        return True
    body = json.loads(request.body)
    return "id" not in body or body.get("method") in expect.SESSION_LONG


def leftovers(rest, notifications):
    """Complaints about spans that no request explains.

    A notification may have a pair of spans of its own, and GET and DELETE may
    have plain HTTP spans; anything else was invented.
    """
    found = []
    for span in rest:
        method = span.attributes.get("mcp.method.name")
        http = method is None and span.name.split(" ")[0] in ("GET", "DELETE")
        if not http and method not in notifications:
            found.append(f"unexpected: {span.brief()} {span.attributes}")
        if span.kind == "SERVER" and not any(other.id == span.parent for other in rest):
            found.append(f"{span.brief()}: its CLIENT span is missing")
    return found


def seen(stderr, spans, callee):
    """Complaints about what the tool `seen` told the client."""
    line = next((line for line in stderr.splitlines()[::-1] if '"who asks"' in line), None)
    if line is None:
        return ["the client did not say what `seen` answered"]
    told = json.loads(line)
    server = [s for s in spans if s.service == callee and s.name == "tools/call seen"]
    want = f"{server[0].trace}-{server[0].id}" if len(server) == 1 else "one SERVER span"
    found = []
    for place in ("meta", "header"):
        got = told[place].get("traceparent") or ""
        if want not in got:
            found.append(f"the application saw {got!r} in its {place}, not {want}")
    return found
