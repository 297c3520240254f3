"""A server process of ours: started until it answers, started again when it dies, stopped in bounded time."""

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NoReturn

import structlog

from taskgraph.errors import TaskgraphError
from taskgraph.storage import tether

# Long, because mongod may have to replay a large journal after a crash.
START_SECONDS = 60
STOP_SECONDS = 10
# More deaths than this within the window have a reason that another start does not cure.
DEATHS_ALLOWED = 5
DEATHS_WINDOW_SECONDS = 60
log = structlog.get_logger(__name__)


class ChildEnded(TaskgraphError):
    """The process ended, or stayed silent, before it was ready; it is gone."""

    def __init__(self, name: str, status: int | None, log_file: Path) -> None:
        what = f"did not answer within {START_SECONDS} s" if status is None else f"ended with status {status}"
        super().__init__(f"{name} {what}; its reason is at the end of {log_file}")
        self.status = status


class ChildKeepsDying(TaskgraphError):
    """Starting the process again has stopped making sense."""


class Child:
    """One process and the wish that it runs; `ready` returns once the server answers, and may retry without a bound of its own."""

    def __init__(self, name: str, command: Sequence[str], *, log_file: Path, ready: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._command = command
        self._log_file = log_file
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now; after a death it is another one."""
        return self._running.pid

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process

    async def start(self) -> None:
        """Returns once the server is ready; ChildEnded when that does not happen."""
        with self._log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                # -I -S: neither site-packages nor the environment can break these few lines.
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *self._command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Our secrets are none of the child's business, and mongod refuses to start in a locale it does not know.
                env={name: value for name, value in os.environ.items() if not name.startswith("TASKGRAPH_")} | {"LC_ALL": "C"},
                # Its own session: Ctrl-C in a terminal reaches only us, and we stop our servers in order.
                start_new_session=True,
            )
        try:
            await self._ready_or_ended(self._process)
        except BaseException:
            await self.stop()
            raise

    async def _ready_or_ended(self, process: asyncio.subprocess.Process) -> None:
        ready, ended = asyncio.ensure_future(self._ready()), asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or not ready.done():
                raise ChildEnded(self.name, process.returncode, self._log_file)
            ready.result()
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    async def keep_alive(self) -> NoReturn:
        """Starts the server again, on the same data, whenever it ends by itself; ChildKeepsDying when that goes on and on."""
        deaths: deque[float] = deque(maxlen=DEATHS_ALLOWED + 1)
        while True:
            status = await self._running.wait()
            deaths.append(time.monotonic())
            if len(deaths) > DEATHS_ALLOWED and deaths[-1] - deaths[0] < DEATHS_WINDOW_SECONDS:
                raise ChildKeepsDying(
                    f"{self.name} died {len(deaths)} times within {DEATHS_WINDOW_SECONDS} s; its reason is at the end of {self._log_file}"
                )
            try:
                await self.start()
            except ChildEnded:
                continue  # It has ended again, so the wait above returns at once and counts this death too.
            log.warning("embedded server died and was started again", server=self.name, status=status, pid=self.pid)

    async def stop(self) -> None:
        """Returns when the process is gone: asked first, killed when it does not listen within STOP_SECONDS."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        except BaseException:
            process.kill()
            raise
