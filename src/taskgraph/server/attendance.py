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
    """Watches the clients of what takes longer than `seconds`, or up to twice that: one timer looks for those it has seen before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._new: dict[asyncio.Task[Any], Receive] = {}
        self._seen: dict[asyncio.Task[Any], Receive] = {}
        self._watchers: dict[asyncio.Task[Any], asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def required(self, doing: Coroutine[Any, Any, Result], receive: Receive) -> Result:
        """What `doing` gives; it is cancelled, and ClientLeft raised, when the client goes away. The request has been read."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        self._new[task] = receive
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)
        try:
            return await doing
        except asyncio.CancelledError:
            watcher = self._watchers.get(task)
            if watcher is None or not watcher.done():
                raise
            task.uncancel()
            raise ClientLeft from None
        finally:
            if self._new.pop(task, None) is None:
                self._forget(task)

    def _look(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        for task, receive in self._seen.items():
            self._watchers[task] = loop.create_task(_cancelled_without_client(task, receive))
        self._seen, self._new = self._new, {}
        if self._seen:
            self._timer = loop.call_later(self._seconds, self._look)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._seen.pop(task, None)
        if (watcher := self._watchers.pop(task, None)) is not None:
            watcher.cancel()


async def _cancelled_without_client(task: asyncio.Task[Any], receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
