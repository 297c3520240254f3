"""Point reads of many requests as one query: what is asked for within one turn of the event loop is read together.

A batch takes keys that hold everything the answer depends on, the owner included, so two viewers can share a query but never
an answer. Nothing is kept: what was read is handed out and forgotten.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from taskgraph.storage import mongo
from taskgraph.storage.mongo import Database

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Batch = Callable[[Database, Sequence[Key]], Awaitable[list[Value]]]
Asked = list[tuple[Sequence[Any], "asyncio.Future[list[Any]]"]]

MAX_KEYS = 1000


class MergedReads:
    """One for each process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._asked: dict[Batch[Any, Any], Asked] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def load(self, batch: Batch[Key, Value], keys: Sequence[Key]) -> list[Value]:
        """The values of the keys, in their order; raises what the batch raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Value]] = loop.create_future()
        asked = self._asked.get(batch)
        if asked is None:
            asked = self._asked[batch] = []
            # Behind everything that is ready to run now and may ask for more of the same.
            loop.call_soon(self._dispatch, batch)
        asked.append((keys, answer))
        return await answer

    def _dispatch(self, batch: Batch[Any, Any]) -> None:
        # In a context of its own: the deadline of whoever asked first must not end what others wait for.
        task = asyncio.create_task(self._read(batch, self._asked.pop(batch)), context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _read(self, batch: Batch[Any, Any], asked: Asked) -> None:
        keys = list(dict.fromkeys(key for wanted, _ in asked for key in wanted))
        try:
            with mongo.reading():
                parts = [await batch(self._db, keys[start : start + MAX_KEYS]) for start in range(0, len(keys), MAX_KEYS)]
        except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            return
        values = dict(zip(keys, (value for part in parts for value in part), strict=True))
        for wanted, answer in asked:
            # Whoever asked may have left meanwhile.
            if not answer.done():
                answer.set_result([values[key] for key in wanted])
