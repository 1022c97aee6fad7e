"""Calls an agent with the SDK of A2A 1.0 and prints what it hands its user, but for ids and times.

    agent_client.py URL VERSION     the version of the interface that its card names
"""

import asyncio
import sys

import httpx
from a2a.client import ClientConfig, create_client
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    TaskState,
)

URL, VERSION = sys.argv[1:3]
INTERFACE = AgentInterface(url=URL, protocol_binding="JSONRPC", protocol_version=VERSION)
CARD = AgentCard(
    name="worker",
    description="works",
    version="1",
    supported_interfaces=[INTERFACE],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
)


def ask(text, number):
    """A message to the agent."""
    message = Message(message_id=f"m-{number}", role=Role.ROLE_USER, parts=[Part(text=text)])
    return SendMessageRequest(message=message)


def brief(event):
    """What an answer says, without what differs from run to run."""
    kind = event.WhichOneof("payload")
    value = getattr(event, kind)
    status = getattr(value, "status", None)
    return kind, TaskState.Name(status.state) if status else None


async def main():
    """A message, a stream, a poll, a task that is given up, and one that nobody knows."""
    http = httpx.AsyncClient(timeout=20)
    whole = await create_client(CARD, ClientConfig(streaming=False, httpx_client=http))
    async for event in whole.send_message(ask("work", 1)):
        print("message", brief(event), flush=True)
        task = event.task.id
    print("poll", TaskState.Name((await whole.get_task(GetTaskRequest(id=task))).status.state), flush=True)
    stream = await create_client(CARD, ClientConfig(streaming=True, httpx_client=http))
    async for event in stream.send_message(ask("work", 2)):
        print("stream", brief(event), flush=True)
    waiting = stream.send_message(ask("wait", 3))
    begun = await anext(waiting)
    given_up = await whole.cancel_task(CancelTaskRequest(id=begun.task.id))
    print("cancelled", TaskState.Name(given_up.status.state), flush=True)
    async for event in waiting:
        last = brief(event)
    print("its stream", last, flush=True)
    try:
        await whole.get_task(GetTaskRequest(id="unknown"))
    except Exception as error:  # whatever the SDK makes of it is part of the transcript
        print("unknown", type(error).__name__, flush=True)
    await http.aclose()


asyncio.run(main())
