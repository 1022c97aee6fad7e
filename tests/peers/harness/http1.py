"""HTTP/1.1 as it was on the wire: recorded bytes become exchanges.

Only for reading recordings of well-behaved peers after the fact: a head is
kept line by line as it was sent, a body is kept without its framing. A
message that was cut off is kept as far as it came, and marked.
"""

import re
from dataclasses import dataclass, field

# Fields that belong to one connection, and the three that a sidecar may set.
HOP = {"connection", "keep-alive", "proxy-connection"}
TRACE = {"traceparent", "tracestate", "baggage"}


@dataclass
class Message:
    """One request or response."""

    start: str = ""
    lines: list = field(default_factory=list)  # (name, value) as sent
    body: bytes = b""
    framing: str = "none"  # none | length | chunked | close
    trailers: list = field(default_factory=list)
    complete: bool = True

    def get(self, name):
        """The value of the only field of that name, or None."""
        values = self.all(name)
        return values[0] if values else None

    def all(self, name):
        """All values of a field, in order."""
        return [value for key, value in self.lines if key.lower() == name]

    def status(self):
        """The status code of a response."""
        return int(self.start.split(" ")[1])

    def head(self):
        """The lines that no sidecar may touch, in their order and case."""
        loose = HOP | TRACE | {"content-length"}
        kept = [f"{key}: {value}" for key, value in self.lines if key.lower() not in loose]
        # What a forward proxy is asked in absolute form, it passes on in origin form.
        start = re.sub(r"^([A-Z]+) http://[^/ ]+", r"\1 ", self.start)
        return [start, *kept, f"framing: {self.framing}"]


@dataclass
class Exchange:
    """A request and its final response, which may be missing."""

    request: Message
    response: Message | None


def exchanges(sent, received):
    """The exchanges of one connection, from the bytes of its two directions."""
    requests = []
    while sent:
        request, sent = read(sent, None)
        requests.append(request)
    paired = []
    for request in requests:
        response = None
        while received and response is None:
            response, received = read(received, request.start.split(" ")[0])
            if 100 <= response.status() < 200:
                response = None
        paired.append(Exchange(request, response))
    return paired


def read(data, answers):
    """Takes one message off `data`. `answers` is the request's method, None for a request."""
    head, found, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    message = Message(start=lines[0])
    for line in lines[1:]:
        name, _, value = line.partition(":")
        message.lines.append((name, value.strip(" \t")))
    if not found:
        message.complete = False
        return message, b""
    bodiless = answers == "HEAD" or (
        answers is not None and (message.status() < 200 or message.status() in (204, 304))
    )
    if bodiless:
        return message, rest
    if "chunked" in (message.get("transfer-encoding") or "").lower():
        return chunked(message, rest)
    if message.get("content-length") is not None:
        length = int(message.get("content-length"))
        message.framing, message.body = "length", rest[:length]
        message.complete = len(rest) >= length
        return message, rest[length:]
    if answers is not None:
        message.framing, message.body = "close", rest
        return message, b""
    return message, rest


def chunked(message, rest):
    """Takes a chunked body and its trailers off `rest`."""
    message.framing = "chunked"
    body = []
    while True:
        size, found, after = rest.partition(b"\r\n")
        if not found:
            break
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return trailers(message, body, after)
        body.append(after[:length])
        if len(after) < length + 2:
            break
        rest = after[length + 2 :]
    message.body, message.complete = b"".join(body), False
    return message, b""


def trailers(message, body, rest):
    """Takes what follows the last chunk off `rest`."""
    message.body = b"".join(body)
    while True:
        line, found, rest = rest.partition(b"\r\n")
        if not found or not line:
            message.complete = bool(found)
            return message, rest
        message.trailers.append(line.decode("latin-1"))
