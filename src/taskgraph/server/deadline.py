"""One bound for many short waits: `asyncio.timeout` makes a timer for each, this one for all of them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Deadline:
    """Ends what takes longer than `seconds`. Waits of equal length end in the order in which they began, so one timer will do."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def bound(self, doing: Coroutine[Any, Any, Result]) -> Result:
        """What `doing` gives; TimeoutError when it has not ended in time."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        cancelling = task.cancelling()
        self._ends_at[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._end_overdue)
        try:
            return await doing
        except asyncio.CancelledError:
            is_overdue = task not in self._ends_at
            if is_overdue and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._ends_at.pop(task, None)

    def _end_overdue(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._ends_at:
            task, ends_at = next(iter(self._ends_at.items()))
            if ends_at > loop.time():
                self._timer = loop.call_at(ends_at, self._end_overdue)
                return
            del self._ends_at[task]
            task.cancel()
