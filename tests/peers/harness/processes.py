"""Starts peers and sidecars, and ends every process that it started.

All of them live on loopback. Children get the caller's environment without
proxy settings and without any `OTEL_*` of its own, so no outside setting can
decide a run.
"""

import asyncio
import os
import pathlib
import random
import shutil
import signal
import socket
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
PEERS = pathlib.Path(
    os.environ.get("MESHTRACE_PEERS_DIR") or HERE.parent.parent / "target" / "peers"
).resolve()
PATIENCE = 30


def environment(**extra):
    """The environment of a child."""
    outside = ("OTEL_", "MESHTRACE_")
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(outside) and not name.upper().endswith("_PROXY")
    }
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", **extra}


def command(sdk, role, *words):
    """The command line of a scripted peer."""
    if sdk == "node":
        script = PEERS / "node" / f"{role}.mjs"
        return ["node", str(script), *words]
    if sdk == "rmcp":
        return [str(PEERS / "rmcp" / "debug" / "meshtrace-peer-rmcp"), role, *words]
    return [str(PEERS / sdk / "bin" / "python"), str(HERE / "python" / f"{role}.py"), sdk, *words]


def missing(*sdks):
    """The first of these that `install.sh` did not install, or None."""
    programs = {"node": "node/node_modules", "rmcp": "rmcp/debug/meshtrace-peer-rmcp"}
    for sdk in sdks:
        if not (PEERS / programs.get(sdk, f"{sdk}/bin/python")).exists():
            return sdk
    return None


def place_scripts():
    """Puts the Node scripts beside their packages, where Node looks for these."""
    if missing("node"):
        return
    for script in (HERE / "node").glob("*.mjs"):
        shutil.copy(script, PEERS / "node" / script.name)


def free_ports(count):
    """Free loopback ports for a program that has to be told its own.

    They lie below the range from which the kernel takes ports for outgoing
    connections, so that none of these can take one before it is used.
    """
    held = []
    while len(held) < count:
        try:
            held.append(socket.create_server(("127.0.0.1", random.randrange(16_000, 32_000))))
        except OSError:
            continue
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


class Process:
    """A child that runs until it is stopped; its stderr is kept in memory."""

    def __init__(self, child):
        self.child = child
        self.errors = bytearray()
        self.reading = [asyncio.create_task(self._read(child.stderr, self.errors))]

    @classmethod
    async def start(cls, words, **extra):
        """Starts it with both outputs piped."""
        child = await asyncio.create_subprocess_exec(
            *words,
            env=environment(**extra),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(child)

    @staticmethod
    async def _read(stream, into):
        while data := await stream.read(65536):
            into += data
            del into[:-200_000]

    async def listening(self):
        """The port that a scripted server announces on stdout."""
        while line := await asyncio.wait_for(self.child.stdout.readline(), PATIENCE):
            if line.startswith(b"LISTENING "):
                self.reading.append(asyncio.create_task(self._read(self.child.stdout, bytearray())))
                return int(line.split()[1])
        raise RuntimeError(f"the server ended: {self.said()}")

    async def accepting(self, *ports):
        """Waits until a program that was told its ports accepts on all of them."""
        for port in ports:
            for _ in range(PATIENCE * 50):
                if self.child.returncode is not None:
                    raise RuntimeError(f"ended with {self.child.returncode}: {self.said()}")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            else:
                raise RuntimeError(f"does not listen on {port}: {self.said()}")

    def said(self):
        """The end of what it wrote to stderr."""
        return bytes(self.errors[-2000:]).decode(errors="replace").strip()

    async def stop(self):
        """SIGTERM, then SIGKILL if need be; returns the exit code."""
        if self.child.returncode is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.child.wait(), PATIENCE)
            except asyncio.TimeoutError:
                self.child.kill()
                await self.child.wait()
        for task in self.reading:
            task.cancel()
        return self.child.returncode


async def run_client(sdk, era, url, extra=None):
    """Runs a scripted client to its end: exit code, transcript, stderr."""
    process = await asyncio.create_subprocess_exec(
        *command(sdk, "client", era, url),
        env=environment(**(extra or {})),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 3 * PATIENCE)
    except asyncio.TimeoutError:
        return "no end in time", "", ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode(errors="replace")


async def start_sidecar(binary, service, receiver, *, inbound=(), outbound=(), admin="off", **extra):
    """Starts a sidecar; `inbound` and `outbound` are pairs of ports, own and target.

    An outbound listener without a target is a forward proxy. What else is given
    is set in its environment.
    """
    words = [binary, "proxy", "--admin", admin]
    for own, target in inbound:
        words += ["--inbound", f"127.0.0.1:{own}=127.0.0.1:{target}"]
    for own, target in outbound:
        base = f"=http://127.0.0.1:{target}" if target else ""
        words += ["--outbound", f"127.0.0.1:{own}{base}"]
    sidecar = await Process.start(
        words,
        OTEL_SERVICE_NAME=service,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="200",
        **extra,
    )
    sidecar.reading.append(asyncio.create_task(Process._read(sidecar.child.stdout, sidecar.errors)))
    try:
        await sidecar.accepting(*(own for own, _ in (*inbound, *outbound)))
    except BaseException:
        await sidecar.stop()
        raise
    return sidecar


if sys.version_info < (3, 11):
    raise SystemExit("the harness needs Python 3.11")
