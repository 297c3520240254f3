"""A program to be killed, frozen and started again, always on the port that it had first."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import cores
from bench.process import Process

HOST = "127.0.0.1"
START_SECONDS = 60
POLL_SECONDS = 0.1
# Below the range from which Linux takes the ports of outgoing connections: with thousands of those a server that was killed would
# not always get its port back.
PORTS = range(12_000, 30_000)


class NotReady(Exception):
    """Something did not come up in time, or ended; the message has the end of its log."""


@dataclass(slots=True)
class Program:
    """What to run, and the process that runs now, if any. `is_ready` says whether it can do its work."""

    name: str
    command: Sequence[str]
    port: int
    folder: Path
    env: Mapping[str, str]
    is_ready: Callable[[], Awaitable[bool]]
    _process: Process | None = None
    _starts: int = field(default=0)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._running.pid

    @property
    def is_running(self) -> bool:
        """Also while it is frozen."""
        return self._process is not None and self._process.is_running

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    def launch(self) -> None:
        """Does not wait for it. From the main thread: the kernel ends the process with the thread that started it."""
        self._starts += 1
        log_file = self.folder / f"{self.name}.{self._starts}.log"
        self._process = Process(self.command, folder=self.folder, env=self.env, on=cores.ALL, log_file=log_file)

    async def start(self) -> None:
        """Returns once it is ready; NotReady."""
        self.launch()
        await self.ready()

    async def ready(self) -> None:
        """Returns once it is; NotReady."""
        process = self._running
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self.is_ready():
                    if not process.is_running:
                        raise NotReady(f"{self.name} ended:\n{process.log_tail()}")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise NotReady(f"{self.name} was not ready within {START_SECONDS} s:\n{process.log_tail()}") from None

    async def stop(self) -> int:
        """Asks it to end and waits for that; its status."""
        return await asyncio.to_thread(self._running.stop)

    async def kill(self) -> None:
        """As `kill -9` does; returns when it is gone."""
        await asyncio.to_thread(self._running.kill)

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Within the block it does nothing, but its connections stay."""
        process = self._running
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def ended(programs: Sequence[Program]) -> AsyncIterator[None]:
    """Whatever of them still runs at the end of the block is killed: what they have written goes anyway."""
    try:
        yield
    finally:
        for program in programs:
            if program.is_running:
                await program.kill()


async def until(is_true: Callable[[], Awaitable[bool]], *, what: str, within_seconds: float) -> float:
    """The seconds that it took to become true; NotReady with `what` when it does not."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(within_seconds):
            while not await is_true():  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise NotReady(f"not within {within_seconds:g} s: {what}") from None
    return time.monotonic() - began


async def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def free_ports(count: int) -> list[int]:
    """Different ones, on which nobody listens now."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found.append(port)
            if len(found) == count:
                return found
    raise NotReady(f"there are no {count} free ports between {PORTS.start} and {PORTS.stop}")
