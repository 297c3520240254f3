"""One timer for many that wait: `call_later` for each would cost as much as what most of them wait for."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter", bound=Hashable)


class Waiting(Generic[Waiter]):
    """Those that wait, the longest first. All may wait for `seconds`, then `overdue` is called with each; so they become overdue in
    the order in which they began, and one timer will do.
    """

    def __init__(self, seconds: float, overdue: Callable[[Waiter], object]) -> None:
        self._seconds = seconds
        self._overdue = overdue
        self._until: dict[Waiter, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._until

    def add(self, waiter: Waiter) -> None:
        """Its time begins. It does not wait yet."""
        loop = asyncio.get_running_loop()
        self._until[waiter] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._end_overdue)

    def remove(self, waiter: Waiter) -> None:
        """It waits no more; perhaps it did not."""
        self._until.pop(waiter, None)

    def end_longest(self) -> None:
        """The one that has waited longest is overdue now. There is one."""
        self._end(next(iter(self._until)))

    def _end_overdue(self) -> None:
        loop, self._timer = asyncio.get_running_loop(), None
        while self._until:
            waiter, until = next(iter(self._until.items()))
            if until > loop.time():
                self._timer = loop.call_at(until, self._end_overdue)
                return
            self._end(waiter)

    def _end(self, waiter: Waiter) -> None:
        del self._until[waiter]
        self._overdue(waiter)
