"""The calls that the agents of the matrix make, one function a kind.

Each goes to `SINK/call/<kind>/<n>`, where `n` is the number of the request
that it is made for: that is how the matrix knows the truth. Nothing here
passes any trace context on.
"""

import asyncio
import http.client
import os
import queue
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

SINK = os.environ["SINK"]
POOL = ThreadPoolExecutor(8)
local = threading.local()


def url(kind, n):
    """Where a call of this kind for this request goes."""
    return f"{SINK}/call/{kind}/{n}"


# --- blocking clients ---


def requests_get(kind, n):
    """`requests`, with a session a thread."""
    import requests

    session = getattr(local, "session", None)
    if session is None:
        session = local.session = requests.Session()
    session.get(url(kind, n), timeout=60).raise_for_status()


def urllib3_get(kind, n):
    """`urllib3`, with a pool a thread."""
    import urllib3

    pool = getattr(local, "pool", None)
    if pool is None:
        pool = local.pool = urllib3.PoolManager()
    assert pool.request("GET", url(kind, n)).status == 200


def urllib_get(kind, n):
    """The standard library's opener."""
    with urllib.request.urlopen(url(kind, n), timeout=60) as response:
        response.read()


def http_client_get(kind, n):
    """The standard library's connection."""
    connection = http.client.HTTPConnection(urlsplit(SINK).netloc, timeout=60)
    connection.request("GET", f"/call/{kind}/{n}")
    assert connection.getresponse().status == 200
    connection.close()


def httpx_get(kind, n):
    """`httpx`, blocking, with a client a thread."""
    import httpx

    client = getattr(local, "httpx", None)
    if client is None:
        client = local.httpx = httpx.Client(timeout=60)
    client.get(url(kind, n)).raise_for_status()


def thread_get(kind, n):
    """A thread of its own."""
    thread = threading.Thread(target=urllib_get, args=(kind, n))
    thread.start()
    thread.join()


def pool_get(kind, n):
    """A thread pool that the process keeps."""
    POOL.submit(urllib_get, kind, n).result()


BLOCKING = {
    "requests": requests_get,
    "urllib3": urllib3_get,
    "urllib": urllib_get,
    "http.client": http_client_get,
    "httpx-sync": httpx_get,
    "thread": thread_get,
    "pool": pool_get,
}


class Consumer:
    """A thread that works off a queue: no context can follow an item there."""

    def __init__(self):
        self.items = queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            kind, n, done = self.items.get()
            urllib_get(kind, n)
            done.set()

    def get(self, kind, n):
        """Hands it over and waits."""
        done = threading.Event()
        self.items.put((kind, n, done))
        done.wait()


# --- asynchronous clients, kept for the life of the process ---


class Clients:
    """The clients of one event loop; `start` opens them before any request."""

    async def start(self):
        """Opens what is installed."""
        self.httpx = self.httpx2 = self.aiohttp = None
        try:
            import httpx

            self.httpx = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))
        except ImportError:
            pass
        try:
            import httpx2

            self.httpx2 = httpx2.AsyncClient(timeout=60)
        except ImportError:
            pass
        try:
            import aiohttp

            self.aiohttp = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        except ImportError:
            pass
        self.items = asyncio.Queue()
        self.consumer = asyncio.create_task(self._consume())
        self.late = set()

    async def _consume(self):
        while True:
            kind, n, done = await self.items.get()
            await self.plain(kind, n)
            done.set_result(None)

    async def plain(self, kind, n):
        """By whatever asynchronous client is there."""
        if self.httpx or self.httpx2:
            (await (self.httpx or self.httpx2).get(url(kind, n))).raise_for_status()
        else:
            await self.by_aiohttp(kind, n)

    async def by_httpx2(self, kind, n):
        """`httpx2`, the client under `mcp` 2.x."""
        (await self.httpx2.get(url(kind, n))).raise_for_status()

    async def by_aiohttp(self, kind, n):
        """`aiohttp`."""
        async with self.aiohttp.get(url(kind, n)) as response:
            response.raise_for_status()
            await response.read()

    async def gather(self, kind, n):
        """Three at once."""
        await asyncio.gather(*(self.plain(kind, n) for _ in range(3)))

    async def task(self, kind, n):
        """A task of its own."""
        await asyncio.create_task(self.plain(kind, n))

    async def after_reply(self, kind, n):
        """A task that goes on after the answer."""

        async def later():
            await asyncio.sleep(0.05)
            await self.plain(kind, n)

        task = asyncio.create_task(later())
        self.late.add(task)
        task.add_done_callback(self.late.discard)

    async def to_thread(self, kind, n):
        """`asyncio.to_thread`."""
        await asyncio.to_thread(urllib_get, kind, n)

    async def executor(self, kind, n):
        """The loop's executor, to which asyncio hands no context."""
        await asyncio.get_running_loop().run_in_executor(None, urllib_get, kind, n)

    async def queue(self, kind, n):
        """A task that works off a queue."""
        done = asyncio.get_running_loop().create_future()
        await self.items.put((kind, n, done))
        await done

    def kinds(self):
        """Name and function of each kind that can be made here."""
        found = {
            "gather": self.gather,
            "task": self.task,
            "after-reply": self.after_reply,
            "to-thread": self.to_thread,
            "executor": self.executor,
            "queue": self.queue,
        }
        if self.httpx:
            found["httpx"] = self.plain
        if self.httpx2:
            found["httpx2"] = self.by_httpx2
        if self.aiohttp:
            found["aiohttp"] = self.by_aiohttp
        return found


async def slowly(turn):
    """Some work of differing length, so that requests overtake each other."""
    await asyncio.sleep(0.002 * (turn * 7 % 5))


def slowly_blocking(turn):
    """The same for a thread."""
    time.sleep(0.002 * (turn * 7 % 5))
