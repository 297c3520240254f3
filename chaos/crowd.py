"""Subscribers by the thousand, in a process of their own so that they are not delayed by who drives them.

`python -m chaos.crowd` is told what to do by one line of JSON on stdin, says `live` when all are subscribed, and at the next line
writes what they have noted to a file and ends.
"""

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.machine import ROOT
from bench.subscribers import allow_files
from chaos.history import Interruption, Seen, Stream
from chaos.program import NotReady
from chaos.site import OPEN_FILES, Site
from chaos.subscriber import Subscriber

# As many may be on their way to being connected at a time.
AT_ONCE = 100
LIVE_SECONDS = 120
REPORT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Crowd:
    """Subscribed. Subscriber n is of user n modulo `users`."""

    users: int
    _process: asyncio.subprocess.Process
    _file: Path

    async def report(self) -> list[Stream]:
        """What each was told; they are gone then."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.write(b"\n")
        await _line(self._process, "reported", REPORT_SECONDS)
        noted = orjson.loads(self._file.read_bytes())
        events = [Seen(event_id, task_id, version, at=0) for event_id, task_id, version in noted["events"]]
        return [
            Stream(
                f"subscriber {number}",
                number % self.users,
                [replace(events[event], at=at) for event, at in each["seen"]],
                each["gaps"],
                each["refusals"],
                [Interruption(**interruption) for interruption in each["interruptions"]],
            )
            for number, each in enumerate(noted["subscribers"])
        ]


@contextlib.asynccontextmanager
async def subscribed(site: Site, *, subscribers: int, users: int, port: int | None = None) -> AsyncIterator[Crowd]:
    """They go through the proxy, or straight to a `port`."""
    file = site.folder / "crowd.json"
    told = {"port": port or site.proxy.port, "tokens": site.tokens[:users], "subscribers": subscribers, "file": str(file)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.crowd"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.write(orjson.dumps(told) + b"\n")
        await _line(process, "live", LIVE_SECONDS)
        yield Crowd(users, process, file)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process, expected: str, seconds: float) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        async with asyncio.timeout(seconds):
            said = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        said = "nothing"
    if said != expected:
        raise NotReady(f"the crowd of subscribers said {said!r} instead of {expected!r}")


@dataclass(slots=True)
class _Notes:
    """Events by number: thousands are told the same, which is kept once."""

    numbers: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str, int]] = field(default_factory=list)

    def number(self, message: dict[str, Any]) -> int:
        number = self.numbers.get(message["id"])
        if number is None:
            number = self.numbers[message["id"]] = len(self.events)
            self.events.append((message["id"], message["taskId"], message["version"]))
        return number


async def _run(told: dict[str, Any], stdin: asyncio.StreamReader) -> None:
    notes = _Notes()
    seen: list[list[tuple[int, float]]] = [[] for _ in range(told["subscribers"])]
    tokens: Sequence[str] = told["tokens"]

    def subscriber(number: int) -> Subscriber:
        mine = seen[number]
        return Subscriber(told["port"], tokens[number % len(tokens)], lambda message, at: mine.append((notes.number(message), at)))

    subscribers = [subscriber(number) for number in range(told["subscribers"])]
    running = []
    for begin in range(0, len(subscribers), AT_ONCE):
        group = subscribers[begin : begin + AT_ONCE]
        running += [asyncio.create_task(each.run()) for each in group]
        await asyncio.gather(*(each.is_live.wait() for each in group))
    print("live", flush=True)
    await stdin.readline()
    for each in subscribers:
        each.finish()
    noted = [
        {"seen": mine, "gaps": each.gaps, "refusals": each.refusals, "interruptions": each.interruptions}
        for mine, each in zip(seen, subscribers, strict=True)
    ]
    shown = {"events": notes.events, "subscribers": noted}
    await asyncio.to_thread(Path(told["file"]).write_bytes, orjson.dumps(shown))
    print("reported", flush=True)


async def _main() -> None:
    allow_files(OPEN_FILES)
    # What is noted has no cycles, and a collection of it all would stop every subscriber for a while.
    gc.disable()
    stdin = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    await _run(orjson.loads(await stdin.readline()), stdin)


if __name__ == "__main__":
    uvloop.run(_main())
