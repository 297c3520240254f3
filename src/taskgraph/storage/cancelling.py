"""Tasks that end when they are cancelled.

In Python 3.11 a cancellation can get lost: `asyncio.wait_for`, which PyMongo has around every message that it sends, swallows one when
what it waits for is done in the same turn of the event loop (python/cpython#86296, mended in 3.12). A loop around a query then never
ends: 4 % of those that ran into a timeout did not.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

import pymongo.lock

Result = TypeVar("Result")


async def _wait_for(awaitable: Awaitable[Result], timeout: float | None) -> Result:  # noqa: ASYNC109 - as asyncio has it
    """What Python has from 3.12 on: no task between the one that waits and what it waits for."""
    async with asyncio.timeout(timeout):
        return await awaitable


def mend() -> None:
    """For the whole process, where Python needs it. May be repeated."""
    if sys.version_info < (3, 12):
        for module in (asyncio, pymongo.lock):  # The latter has imported it by name.
            vars(module)["wait_for"] = _wait_for


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancels the task and returns when it has ended, however it did."""
    task.cancel()
    await asyncio.wait({task})
