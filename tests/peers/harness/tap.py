"""A recording relay on loopback: what truly crossed the wire, on both sides.

One tap stands between the client and the first sidecar, one between the
second sidecar and the server. A tap copies bytes and half-closes; it opens
one connection onward for each that it accepts, and never looks inside.
"""

import asyncio
from dataclasses import dataclass, field

from . import http1

CHUNK = 65536


@dataclass
class Connection:
    """The bytes of one connection, in both directions."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    open: bool = True


class Tap:
    """Listens on a free loopback port and relays to `target`, another one."""

    def __init__(self):
        self.connections = []
        self.target = None
        self.server = None
        self.tasks = set()

    async def start(self, target):
        """Begins to accept; returns the port."""
        self.target = target
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def stop(self):
        """Stops accepting and drops what is still open."""
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def idle(self, seconds):
        """Whether every connection was closed by its ends within the time given."""
        for _ in range(int(seconds / 0.02)):
            if not any(connection.open for connection in self.connections):
                return True
            await asyncio.sleep(0.02)
        return False

    def exchanges(self):
        """The exchanges of each connection that carried any."""
        each = (http1.exchanges(bytes(c.sent), bytes(c.received)) for c in self.connections)
        return [connection for connection in each if connection]

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        connection = Connection()
        self.connections.append(connection)
        try:
            onward = await asyncio.open_connection("127.0.0.1", self.target)
            await self._relay(connection, (reader, writer), onward)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            connection.open = False
            self.tasks.discard(task)

    async def _relay(self, connection, near, far):
        there = asyncio.create_task(copy(near[0], far[1], connection.sent))
        back = asyncio.create_task(copy(far[0], near[1], connection.received))
        try:
            await asyncio.gather(there, back)
        except OSError:  # a reset on one side is a reset on the other
            near[1].transport.abort()
            far[1].transport.abort()
        finally:
            for task in (there, back):
                task.cancel()
            near[1].close()
            far[1].close()


async def copy(reader, writer, record):
    """Copies until the end, then half-closes."""
    while data := await reader.read(CHUNK):
        record += data
        writer.write(data)
        await writer.drain()
    writer.write_eof()
