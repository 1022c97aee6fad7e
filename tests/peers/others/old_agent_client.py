"""The same with the SDK of A2A 0.3, which says its version nowhere.

    old_agent_client.py URL
"""

import asyncio
import sys

import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.types import AgentCapabilities, AgentCard, Message, Part, Role, TaskIdParams, TaskQueryParams, TextPart

CARD = AgentCard(
    name="worker",
    description="works",
    version="1",
    url=sys.argv[1],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
    skills=[],
)


def ask(text, number):
    """A message to the agent."""
    return Message(message_id=f"m-{number}", role=Role.user, parts=[Part(root=TextPart(text=text))])


def brief(event):
    """What an answer says, without what differs from run to run."""
    task, update = event
    return task.status.state.value, type(update).__name__


async def main():
    """A message, a stream, a poll, a task that is given up, and one that nobody knows."""
    http = httpx.AsyncClient(timeout=20)
    whole = ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(CARD)
    async for event in whole.send_message(ask("work", 1)):
        print("message", brief(event), flush=True)
        task = event[0].id
    print("poll", (await whole.get_task(TaskQueryParams(id=task))).status.state.value, flush=True)
    stream = ClientFactory(ClientConfig(streaming=True, httpx_client=http)).create(CARD)
    async for event in stream.send_message(ask("work", 2)):
        print("stream", brief(event), flush=True)
    waiting = stream.send_message(ask("wait", 3))
    begun = await anext(waiting)
    given_up = await whole.cancel_task(TaskIdParams(id=begun[0].id))
    print("cancelled", given_up.status.state.value, flush=True)
    async for event in waiting:
        last = brief(event)
    print("its stream", last, flush=True)
    try:
        await whole.get_task(TaskQueryParams(id="unknown"))
    except Exception as error:  # whatever the SDK makes of it is part of the transcript
        print("unknown", type(error).__name__, flush=True)
    await http.aclose()


asyncio.run(main())
