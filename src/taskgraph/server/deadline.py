"""One bound for many short waits: `asyncio.timeout` makes a timer for each, this one for all of them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from taskgraph.server.waiting import Waiting

Result = TypeVar("Result")


class Deadline:
    """Ends what takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._waiting: Waiting[asyncio.Task[Any]] = Waiting(seconds, lambda task: task.cancel())

    async def bound(self, doing: Coroutine[Any, Any, Result]) -> Result:
        """What `doing` gives; TimeoutError when it has not ended in time."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        cancelling = task.cancelling()
        self._waiting.add(task)
        try:
            return await doing
        except asyncio.CancelledError:
            is_overdue = task not in self._waiting
            if is_overdue and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._waiting.remove(task)
