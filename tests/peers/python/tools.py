"""The fixed set of tools that every scripted Python server offers.

The three Python SDKs register tools with the same decorators and hand a
context of the same shape to a tool, so one set of functions serves all of
them. The servers of the other languages offer the same names.
"""

import asyncio
import json

from pydantic import BaseModel


class Choice(BaseModel):
    """What `ask` asks for."""

    colour: str


def traced(meta, headers):
    """What a server saw of trace context: in `params._meta` and in the headers."""
    if hasattr(meta, "model_dump"):
        meta = meta.model_dump(by_alias=True)
    meta = dict(meta or {})
    keys = ("traceparent", "tracestate", "baggage")
    return {
        "meta": {key: meta[key] for key in keys if meta.get(key) is not None},
        "header": {key: headers[key] for key in keys if key in headers},
    }


def register(server, context_type, mode):
    """Gives `server` its tools, its resource and its prompt."""
    if mode == "sse":
        register_ask(server, context_type)

    @server.tool()
    async def echo(text: str) -> str:
        """Answers with its argument."""
        return text

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Adds two whole numbers."""
        return a + b

    @server.tool()
    async def fail() -> str:
        """Always fails, as a tool does."""
        raise ValueError("told to fail")

    @server.tool()
    async def slow(ms: int) -> str:
        """Answers after so many milliseconds."""
        await asyncio.sleep(ms / 1000)
        return f"waited {ms}"

    @server.tool()
    async def stream(n: int, ctx: context_type) -> str:
        """Reports progress `n` times, then answers."""
        for step in range(1, n + 1):
            await ctx.report_progress(step, n, f"step {step}")
            await asyncio.sleep(0.01)
        return f"{n} steps"

    @server.tool()
    async def measure(text: str) -> int:
        """Answers with the length of its argument, however large that is."""
        return len(text)

    @server.tool()
    async def blob(n: int) -> str:
        """Answers with `n` characters."""
        return ("0123456789abcdef" * (n // 16 + 1))[:n]

    @server.tool()
    async def seen(text: str, ctx: context_type) -> str:
        """Answers with the trace context that arrived with this very call."""
        request = ctx.request_context
        return json.dumps({"text": text, **traced(request.meta, request.request.headers)})

    @server.resource("note://today", mime_type="text/plain")
    def note() -> str:
        """A short text."""
        return "nothing to report"

    @server.prompt()
    def greet(name: str) -> str:
        """Asks for a greeting."""
        return f"Please greet {name}."


def register_ask(server, context_type):
    """Adds the tool that asks its caller, for which JSON mode has no way back."""

    @server.tool()
    async def ask(ctx: context_type) -> str:
        """Asks the caller for a colour before it answers."""
        answer = await ctx.elicit("Which colour?", Choice)
        return f"{answer.action} {answer.data.colour}"
