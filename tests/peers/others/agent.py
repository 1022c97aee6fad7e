"""An agent on the published SDK of A2A 1.0, which speaks the older version too.

    agent.py

It prints `LISTENING port`. A message `wait` begins a task that goes on until it is cancelled; any
other is worked on in two steps.
"""

import asyncio
import socket

import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette


class Agent(AgentExecutor):
    """Works on messages."""

    async def execute(self, context, event_queue):
        """Begins a task, and ends it unless it is to wait."""
        status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
        await event_queue.enqueue_event(Task(id=context.task_id, context_id=context.context_id, status=status))
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        if "wait" in context.get_user_input():
            await asyncio.sleep(60)
        await updater.add_artifact([Part(text="done")], name="result")
        await updater.complete()

    async def cancel(self, context, event_queue):
        """Gives a task up."""
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
card = AgentCard(
    name="worker",
    description="works",
    version="1",
    supported_interfaces=[
        AgentInterface(url=f"http://127.0.0.1:{port}/", protocol_binding="JSONRPC", protocol_version=version)
        for version in ("1.0", "0.3")
    ],
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
)
handler = DefaultRequestHandler(agent_executor=Agent(), task_store=InMemoryTaskStore(), agent_card=card)
routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)]
server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning"))
print(f"LISTENING {port}", flush=True)
asyncio.run(server.serve([listener]))
