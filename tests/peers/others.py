"""Runs the published clients of models (OpenAI, Anthropic), of agents (A2A) and of subscriptions
(MCP 2026-07-28), direct and through sidecars.

    others.py

Run it with the Python of the `mcp2` environment that `install.sh` made, and the sidecar's binary in
MESHTRACE_BIN. What the clients hand their user has to be the same both ways, and the spans those that
the scripts make. It prints a line a scenario and ends with 1 when anything failed.
"""

import asyncio
import os
import sys
import tempfile

from harness.processes import HERE, PEERS, PATIENCE, Process, environment, free_ports, start_sidecar
from harness.receiver import Receiver

CONTENT = ("the patient is ill", "a few words")


def script(environment_name, name, *words):
    """The command line of a script under the Python of an environment."""
    return [str(PEERS / environment_name / "bin" / "python"), str(HERE / "others" / name), *words]


async def transcript(words):
    """Runs a client to its end and gives what it printed."""
    process = await asyncio.create_subprocess_exec(
        *words, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 3 * PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(err.decode(errors="replace")[-1500:])
    return out.decode().splitlines()


async def both_ways(name, server_words, client_words, binary, receiver, **extra):
    """Runs a client against a server direct and through two sidecars: both transcripts, and the spans."""
    server = await Process.start(server_words)
    sidecars = []
    try:
        port = await server.listening()
        direct = await transcript(client_words(port))
        near, far = free_ports(2)
        sidecars.append(await start_sidecar(binary, f"{name} server", receiver, inbound=[(far, port)], **extra))
        sidecars.append(await start_sidecar(binary, f"{name} client", receiver, outbound=[(near, far)], **extra))
        through = await transcript(client_words(near))
    finally:
        await server.stop()
        codes = [await sidecar.stop() for sidecar in sidecars]
    found = [] if codes == [0, 0] else [f"the sidecars ended with {codes}"]
    if direct != through:
        pairs = zip(direct + [""] * len(through), through + [""] * len(direct))
        found += [f"direct {a[:300]}\n    through {b[:300]}" for a, b in pairs if a != b][:3]
    return found, receiver.of(f"{name} client"), receiver.of(f"{name} server")


def compare(found, calls, served, wanted, names):
    """Holds each call, and what was served for it, against what is wanted of it."""
    if [span.name for span in calls] != [name for name, _ in wanted]:
        return found + [f"spans {[span.name for span in calls]}"]
    for span, (name, attributes) in zip(calls, wanted):
        differing = {key: span.attributes.get(key) for key in attributes if span.attributes.get(key) != attributes[key]}
        if span.kind != "CLIENT" or differing:
            found.append(f"{span.kind} {name}: {differing} is not {attributes}")
        if (span.status == "ERROR") != ("error.type" in attributes):
            found.append(f"{name}: status {span.status}")
        under = [other for other in served if other.parent == span.id and other.trace == span.trace]
        if [(other.kind, other.name) for other in under] != [("SERVER", names(name))]:
            found.append(f"{name}: under it are {[other.brief() for other in under]}")
    if len(served) != len(calls):
        found.append(f"{len(served)} served, {len(calls)} called")
    return found


async def models(binary, receiver):
    """Whole answers, events and errors, in both shapes."""
    found, calls, served = await both_ways(
        "models",
        script("others", "provider.py"),
        lambda port: script("others", "model_client.py", f"http://127.0.0.1:{port}"),
        binary,
        receiver,
    )
    took = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 3}
    openai = {"gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-1"}
    chat = {**openai, "openai.api.type": "chat_completions", "gen_ai.response.finish_reasons": ["stop"], **took}
    responses = {**openai, "openai.api.type": "responses", "gen_ai.response.id": "r-1", **took}
    messages = {"gen_ai.provider.name": "anthropic", "gen_ai.response.finish_reasons": ["end_turn"], **took}
    streamed = {"gen_ai.request.stream": True}
    wanted = [
        ("chat gpt", {**chat, "gen_ai.request.temperature": 0.5, "gen_ai.request.seed": 7}),
        ("chat gpt", {**responses, "gen_ai.usage.reasoning.output_tokens": 1}),
        ("embeddings emb", {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 9}),
        ("chat claude", {**messages, "gen_ai.request.max_tokens": 64, "gen_ai.request.stream": None}),
        ("chat gpt", {**chat, **streamed}),
        ("chat gpt", {**responses, **streamed}),
        ("chat claude", {**messages, **streamed, "gen_ai.usage.cache_read.input_tokens": 4}),
        ("chat gpt-fails", {"error.type": "model_not_found", "http.response.status_code": 404}),
        ("chat claude-fails", {"error.type": "model_not_found", "http.response.status_code": 404}),
    ]
    compare(found, calls, served, wanted, lambda _: "POST")
    told = [text for span in calls + served for text in CONTENT if text in repr(span)]
    return found + [f"on a span: {text}" for text in told]


async def agents(binary, receiver, name, client, version, states):
    """Messages, a stream, polls and a cancellation, in one version of the names."""
    found, calls, served = await both_ways(name, script("others", "agent.py"), client, binary, receiver)
    done, cancelled = states
    said = {"a2a.protocol.version": version}
    wanted = [
        ("SendMessage", {**said, "a2a.message.id": "m-1", "a2a.task.state": done}),
        ("GetTask", {**said, "a2a.task.state": done}),
        ("SendStreamingMessage", {**said, "a2a.message.id": "m-2", "a2a.task.state": done}),
        ("SendStreamingMessage", {**said, "a2a.message.id": "m-3", "a2a.task.state": cancelled}),
        ("CancelTask", {**said, "a2a.task.state": cancelled}),
        ("GetTask", {**said, "a2a.task.id": "unknown", "error.type": "-32001"}),
    ]
    compare(found, calls, served, wanted, lambda name: name)
    tasks = {calls[at].attributes.get("a2a.task.id") for at in (3, 4)} if len(calls) == 6 else {None}
    return found + ([] if len(tasks) == 1 and None not in tasks else [f"tasks {tasks}"])


async def subscriptions(binary, receiver):
    """`subscriptions/listen`: its span ends when it is acknowledged, and what is heard hangs under it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write("spans: { notifications: true }")
        config.flush()
        found, near, far = await both_ways(
            "subscriptions",
            script("mcp2", "listen.py", "serve"),
            lambda port: script("mcp2", "listen.py", f"http://127.0.0.1:{port}/mcp"),
            binary,
            receiver,
            MESHTRACE_CONFIG=config.name,
        )

    def one(spans, kind, name):
        hits = [span for span in spans if (span.kind, span.name) == (kind, name)]
        if len(hits) != 1:
            raise RuntimeError(f"{len(hits)} spans {kind} {name} among {[span.brief() for span in spans]}")
        return hits[0]

    listening = one(near, "CLIENT", "subscriptions/listen")
    granted = one(far, "SERVER", "subscriptions/listen")
    touched = one(near, "CLIENT", "tools/call touch")
    if (granted.parent, granted.trace) != (listening.id, listening.trace):
        found.append("what was granted does not hang under what was asked")
    if listening.end > touched.start:
        found.append("the subscription did not end when it was acknowledged")
    for name in ["notifications/resources/updated", "notifications/tools/list_changed"]:
        sent, heard = one(far, "CLIENT", name), one(near, "SERVER", name)
        if (sent.parent, heard.parent) != (granted.id, listening.id):
            found.append(f"{name}: under {sent.parent} and {heard.parent}")
    uri = one(near, "SERVER", "notifications/resources/updated").attributes.get("mcp.resource.uri")
    failed = [span.brief() for span in near + far if span.status == "ERROR"]
    return found + ([] if uri == "file:///srv/report.txt" else [f"uri {uri}"]) + failed


async def main():
    """Runs every scenario; returns the exit code."""
    binary = os.environ.get("MESHTRACE_BIN")
    if not binary or not os.access(binary, os.X_OK):
        print("MESHTRACE_BIN names no program", file=sys.stderr)
        return 2
    receiver, failed = Receiver(), 0
    await receiver.start()
    new, old = ("TASK_STATE_COMPLETED", "TASK_STATE_CANCELED"), ("completed", "canceled")

    def client(version):
        return lambda port: script("others", "agent_client.py", f"http://127.0.0.1:{port}/", version)

    def old_client(port):
        return script("a2a03", "old_agent_client.py", f"http://127.0.0.1:{port}/")

    for name, work in [
        ("subscriptions, mcp 2.x", subscriptions(binary, receiver)),
        ("models", models(binary, receiver)),
        ("agents, a2a-sdk 1.x", agents(binary, receiver, "agents 1", client("1.0"), "1.0", new)),
        ("agents, a2a-sdk 1.x as 0.3", agents(binary, receiver, "agents 1 as 0.3", client("0.3"), "0.3", old)),
        ("agents, a2a-sdk 0.3", agents(binary, receiver, "agents 0.3", old_client, "0.3", old)),
    ]:
        try:
            found = await work
        except Exception as error:  # one broken scenario must not hide the others
            found = [f"{type(error).__name__}: {error}"]
        print(f"{'FAILED' if found else 'passed'}  {name}", *found[:12], sep="\n    ", flush=True)
        failed += bool(found)
    receiver.stop()
    failed += bool(receiver.refused)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
