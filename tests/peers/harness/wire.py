"""What two taps saw, compared: nothing but trace context may differ.

The tap at the client holds what was meant, the tap at the server what
arrived, and the other way round for responses. Each connection of the client
must have exactly one onward connection that carried the same exchanges in
the same order.
"""

import json
import re
from collections import Counter

MEMBER = rb'"(?:traceparent|tracestate|baggage)"\s*:\s*"(?:[^"\\]|\\.)*"'
LEFTOVERS = [
    re.compile(rb"," + MEMBER),
    re.compile(MEMBER + rb",?"),
    re.compile(rb',"_meta":\{\}|"_meta":\{\},?'),
    re.compile(rb',"params":\{\}|"params":\{\},?'),
]


def without_context(body):
    """The body without trace members of `_meta`, every other byte as it was."""
    return untraced(body) if body.startswith((b"{", b"[")) else body


def is_stream(response):
    """Whether a response is an SSE stream, which its client may leave at any time."""
    return response is not None and "event-stream" in (response.get("content-type") or "")


def shape(exchange):
    """An exchange as far as it must be the same at both taps."""
    response = exchange.response
    if response is None:
        answer = None
    elif is_stream(response):
        answer = response.head()
    else:
        whole = "whole" if response.complete else "cut off"
        answer = [*response.head(), whole, response.body, *response.trailers]
    return (*exchange.request.head(), without_context(exchange.request.body), repr(answer))


def differences(near, far):
    """What differs between the connections of the two taps, in words."""
    ours, theirs = by_shape(near), by_shape(far)
    ours_only, theirs_only = ours - theirs, theirs - ours
    if not ours_only and not theirs_only:
        return streams(near, far)
    count = f"{ours_only.total()} of {len(near)} connections arrived changed"
    return [count, *first_difference([*ours_only], [*theirs_only])]


def by_shape(connections):
    """How often each connection occurs, as the shapes of its exchanges."""
    return Counter(tuple(map(shape, connection)) for connection in connections)


def streams(near, far):
    """Complaints about SSE streams: what a client got must begin what the server sent.

    A client may close once it has its answer, so the far end may hold more.
    """
    sent = {}
    for exchange in (e for connection in far for e in connection):
        if is_stream(exchange.response):
            sent.setdefault(shape(exchange), []).append(exchange.response)
    found = []
    for exchange in (e for connection in near for e in connection):
        if not is_stream(exchange.response):
            continue
        got = exchange.response
        body = untraced(got.body)
        origins = [r for r in sent.get(shape(exchange), []) if untraced(r.body).startswith(body)]
        if not origins:
            found.append(f"a stream was changed: {clip(got.body)}")
        elif got.complete and not any(r.complete for r in origins):
            found.append(f"a stream that was cut off ends cleanly: {clip(got.body)}")
    return found


def untraced(stream):
    """A stream without the context that a sidecar may write into the questions of
    its server, every other byte as it was."""
    for leftover in LEFTOVERS:
        stream = leftover.sub(b"", stream)
    return stream


def first_difference(ours, theirs):
    """The first pair of exchanges that should have been equal, and how they differ."""
    for one in ours:
        for other in theirs:
            if one[0][0] != other[0][0] or len(one) != len(other):
                continue
            for exchange, arrived in zip(one, other, strict=True):
                if exchange != arrived and exchange[0] == arrived[0]:
                    return unlike(exchange, arrived)
    return [f"sent    {clip(ours[:1])}", f"arrived {clip(theirs[:1])}"]


def unlike(exchange, arrived):
    """The parts of two exchanges that are not the same."""
    ours = [part for part in exchange if part not in arrived]
    theirs = [part for part in arrived if part not in exchange]
    if not ours and not theirs:
        ours, theirs = exchange, arrived  # only the order differs
    return [f"sent    {clip(ours)}", f"arrived {clip(theirs)}"]


def clip(value):
    """A value short enough to print."""
    text = repr(value)
    return text if len(text) < 1500 else f"{text[:900]} … {text[-500:]}"


def messages(message):
    """The JSON-RPC messages of a body, whether JSON or an SSE stream."""
    kind = message.get("content-type") or ""
    if "event-stream" in kind:
        events = re.split(rb"\r\n\r\n|\n\n|\r\r", message.body)
        datas = (b"\n".join(data_lines(event)) for event in events)
        return [json.loads(data) for data in datas if data]
    if "json" not in kind or not message.body:
        return []
    value = json.loads(message.body)
    return value if isinstance(value, list) else [value]


def data_lines(event):
    """The data lines of one SSE event."""
    for line in event.splitlines():
        if line.startswith(b"data:"):
            yield line[5:].removeprefix(b" ")
