"""Ends tasks for certain, and loops: in Python 3.11 a cancellation can get lost.

`asyncio.wait_for`, which PyMongo has around every message that it sends, swallows a cancellation when what it waits for is done in the
same turn of the event loop (python/cpython#86296, mended in 3.12).
"""

import asyncio
from typing import Any

AGAIN_SECONDS = 1.0


async def cancelled(task: asyncio.Future[Any]) -> None:
    """Cancels the task, again and again where that gets lost, and returns when it has ended, however it did."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_SECONDS)


def heed(task: asyncio.Task[Any] | None = None) -> None:
    """Raises the CancelledError that got lost on the way to this task: for loops around PyMongo, which else would never end."""
    task = task or asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
