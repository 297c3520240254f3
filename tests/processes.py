"""Real `taskgraph` processes: started, watched line by line, stopped by their own pid, and what they leave behind."""

import asyncio
import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo.database import Database

START_SECONDS = 40
STOP_SECONDS = 20


def environ(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of taskgraph, plus `given`: MONGO_URL stands for TASKGRAPH_MONGO_URL."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKGRAPH_")}
    return inherited | {"PYTHONUNBUFFERED": "1"} | {f"TASKGRAPH_{name}": value for name, value in given.items()}


def ran(
    *arguments: str, given: Mapping[str, str] | None = None, folder: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """One `taskgraph` command, run to its end in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "taskgraph", *arguments],
        cwd=folder,
        env=environ(given or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def eventually(is_true: Callable[[], bool], *, within_seconds: float = 10) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + within_seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def until(is_true: Callable[[], Awaitable[bool]], *, within_seconds: float = 20) -> None:
    """`eventually` for coroutines; TimeoutError when it does not become true in time."""
    async with asyncio.timeout(within_seconds):
        while not await is_true():  # noqa: ASYNC110 - other processes make it true, and set no event
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie, which only waits for its parent to take notice, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> dict[str, int]:
    """Program name to pid."""
    found = {}
    with contextlib.suppress(OSError):  # Either may end while we look.
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in task.read_text().split():
                found[Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
    return found


@dataclass
class Running:
    """A process whose output is read all the time, so that it never blocks on a full pipe."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _arriving: "queue.SimpleQueue[str | None]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arriving.put(line.rstrip("\n"))
        self._arriving.put(None)

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, pattern: str) -> re.Match[str]:
        """The first line from here on that has `pattern`, stdout and stderr together."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                line = self._arriving.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"never said {pattern!r}, but:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status; one that has ended already is fine, one that does not end is killed and fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not stop within {STOP_SECONDS} s of {number.name}:\n" + "\n".join(self.rest())) from None
        self.rest()
        return status

    def rest(self) -> list[str]:
        """Every line it said; only after its end."""
        self._reader.join(STOP_SECONDS)
        while not self._arriving.empty():
            line = self._arriving.get()
            if line is not None:
                self.lines.append(line)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.lines


@contextmanager
def started(*arguments: str, given: Mapping[str, str], folder: Path, without: Sequence[str] = ()) -> Iterator[Running]:
    """`taskgraph` with these arguments; stopped at the end, if the test has not done it. `without` is for weakened.py."""
    program = [str(Path(__file__).with_name("weakened.py")), ",".join(without)] if without else ["-m", "taskgraph"]
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environ(given),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    running = Running(process)
    try:
        yield running
    finally:
        running.stop()


@dataclass(frozen=True)
class Launched:
    """A `taskgraph serve` process that accepts connections. `mongo` is its database, for a look at what was written."""

    running: Running
    url: str
    database: str
    mongo: "Database[dict[str, Any]]"

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/graphql"

    @property
    def pid(self) -> int:
        return self.running.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        return self.running.stop(number)
