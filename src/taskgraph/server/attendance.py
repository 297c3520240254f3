"""Ends what nobody waits for any more: an operation over HTTP whose client has left before the answer.

To look costs a task, so only those operations are looked at that have been running for a while.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Result = TypeVar("Result")


class ClientLeft(Exception):
    """Nobody is there to be answered."""


class Attendance:
    """Watches the clients of what takes longer than `seconds`. All begin to be watched in the order in which they came, by one timer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._unwatched: dict[asyncio.Task[Any], tuple[float, Receive]] = {}
        self._watchers: dict[asyncio.Task[Any], asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def required(self, doing: Coroutine[Any, Any, Result], receive: Receive) -> Result:
        """What `doing` gives; it is cancelled, and ClientLeft raised, when the client goes away. The request has been read."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        cancelling = task.cancelling()
        self._unwatched[task] = loop.time() + self._seconds, receive
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._watch_overdue)
        try:
            return await doing
        except asyncio.CancelledError:
            watcher = self._watchers.get(task)
            if watcher is not None and watcher.done() and task.uncancel() <= cancelling:
                raise ClientLeft from None
            raise
        finally:
            self._unwatched.pop(task, None)
            if (watcher := self._watchers.pop(task, None)) is not None:
                watcher.cancel()

    def _watch_overdue(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._unwatched:
            task, (watched_at, receive) = next(iter(self._unwatched.items()))
            if watched_at > loop.time():
                self._timer = loop.call_at(watched_at, self._watch_overdue)
                return
            del self._unwatched[task]
            self._watchers[task] = loop.create_task(_cancelled_without_client(task, receive))


async def _cancelled_without_client(task: asyncio.Task[Any], receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
