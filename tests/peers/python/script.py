"""The fixed script of calls, and the transcript that it leaves on stdout.

Every scripted client, whatever its language, makes these calls in this order
and prints one JSON object a step. What differs between two runs of the same
pair by its nature is replaced, so that two transcripts can be compared byte
for byte:

- long strings become their length and digest,
- loopback ports and session ids become placeholders.

The answer of `seen`, which holds trace context, goes to stderr as one JSON
line instead: the harness compares it with the spans.
"""

import asyncio
import hashlib
import json
import re
import sys

LONG = 1000
TEXT = 'naïve – "quoted" \\ 日本 😀 \u0001 </script>'
VOLATILE = [
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"\b[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\b"), "<id>"),
]


def normal(value):
    """`value` with everything volatile or long replaced."""
    if isinstance(value, dict):
        return {key: normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, str):
        return value
    if len(value) > LONG:
        return {"length": len(value), "sha256": hashlib.sha256(value.encode()).hexdigest()}
    for pattern, placeholder in VOLATILE:
        value = pattern.sub(placeholder, value)
    return value


def say(step, **what):
    """Prints one step of the transcript."""
    print(json.dumps(normal({"step": step, **what}), sort_keys=True), flush=True)


async def attempt(peer, step, call, progress=None):
    """Runs one call and prints its answer, or its error as the SDK tells it."""
    seen = {} if progress is None else {"progress": progress}
    try:
        answer = await asyncio.wait_for(call, 20)
    except Exception as error:  # every failure of a peer belongs into its transcript
        say(step, error=peer.error(error), **seen)
        return None
    await asyncio.sleep(0.02 if progress is not None else 0)
    say(step, result=answer, **seen)
    return answer


async def tools(peer):
    """Calls of tools, good and bad, small and large, one at a time and at once."""
    await attempt(peer, "tools", peer.list_tools())
    await attempt(peer, "echo", peer.call("echo", {"text": TEXT}))
    await attempt(peer, "echo long", peer.call("echo", {"text": TEXT * 5000}))
    await attempt(peer, "add", peer.call("add", {"a": 2, "b": 3}))
    await attempt(peer, "add wrong", peer.call("add", {"a": "x"}))
    await attempt(peer, "fail", peer.call("fail", {}))
    await attempt(peer, "unknown tool", peer.call("no_such_tool", {}))
    await attempt(peer, "unknown method", peer.raw("meshtrace/unknown"))
    await attempt(peer, "slow", peer.call("slow", {"ms": 60}))
    steps = []
    await attempt(peer, "stream", peer.call("stream", {"n": 4}, steps), steps)
    await attempt(peer, "ask", peer.call("ask", {}))
    if not peer.legacy():
        # Here leaving is how a call is cancelled.
        await attempt(peer, "hurry", peer.call("slow", {"ms": 5000}, within=0.2))
    await attempt(peer, "measure", peer.call("measure", {"text": "m" * 1_400_000}))
    await attempt(peer, "blob", peer.call("blob", {"n": 400_000}))
    at_once = [peer.call("echo", {"text": f"at once {n}"}) for n in range(6)]
    at_once.append(peer.call("slow", {"ms": 40}))
    say("at once", result=await asyncio.wait_for(asyncio.gather(*at_once), 20))


async def run(peer):
    """The whole script on a connected peer."""
    say("connected", **peer.about())
    await tools(peer)
    await attempt(peer, "prompts", peer.list_prompts())
    await attempt(peer, "prompt", peer.get_prompt("greet", {"name": "Ada"}))
    await attempt(peer, "unknown prompt", peer.get_prompt("no_such_prompt", {}))
    await attempt(peer, "resources", peer.list_resources())
    await attempt(peer, "resource", peer.read_resource("note://today"))
    await attempt(peer, "unknown resource", peer.read_resource("note://nowhere"))
    if peer.legacy():
        await attempt(peer, "ping", peer.ping())
    answer = await asyncio.wait_for(peer.call("seen", {"text": "who asks"}), 20)
    print(answer["content"][0]["text"], file=sys.stderr, flush=True)
