"""Point reads of many requests as one query: what is asked for within a few turns of the event loop is read together.

A batch takes keys that hold everything the answer depends on, the owner included, so two viewers can share a query but never
an answer. Nothing is kept: what was read is handed out and forgotten.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from taskgraph.storage import mongo
from taskgraph.storage.mongo import Database, Projection

Value = TypeVar("Value")
# Called with the database, the keys and, where only some of the documents' keys are wanted, the projection.
Batch = Callable[..., Awaitable[list[Value]]]
Answer = asyncio.Future[list[Value]]
Asked = list[tuple[Sequence[Any], Projection, Answer[Any]]]

MAX_KEYS = 1000
# graphql-core reaches the fields of equal depth over several turns of the event loop, which take microseconds when it is idle.
TURNS = 2


class MergedReads:
    """One for each process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._asked: dict[Batch[Any], Asked] = {}
        self._running: set[asyncio.Task[None]] = set()

    def load(self, batch: Batch[Value], keys: Sequence[Hashable], projection: Projection = None) -> Answer[Value]:
        """The values in the order of the keys, which may still be added to until the caller gives way to the event loop.

        Documents have the keys of the projection, or more. Raises what the batch raises.
        """
        loop = asyncio.get_running_loop()
        answer: Answer[Value] = loop.create_future()
        asked = self._asked.get(batch)
        if asked is None:
            asked = self._asked[batch] = []
            loop.call_soon(self._wait, batch, TURNS)
        asked.append((keys, projection, answer))
        return answer

    def _wait(self, batch: Batch[Any], turns: int) -> None:
        """Goes behind everything that is ready to run and may ask for more of the same, `turns` times."""
        if turns:
            asyncio.get_running_loop().call_soon(self._wait, batch, turns - 1)
        else:
            self._dispatch(batch)

    def _dispatch(self, batch: Batch[Any]) -> None:
        # In a context of its own: the deadline of whoever asked first must not end what others wait for.
        task = asyncio.create_task(self._read(batch, self._asked.pop(batch)), context=contextvars.Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _read(self, batch: Batch[Any], asked: Asked) -> None:
        # Each key is hashed once: they are made of many parts, and there can be hundreds.
        positions: dict[Hashable, int] = {}
        wanted = [[positions.setdefault(key, len(positions)) for key in keys] for keys, _, _ in asked]
        distinct = list(positions)
        projection = _union([each for _, each, _ in asked])
        more = () if projection is None else (projection,)
        try:
            with mongo.reading():
                parts = [
                    await batch(self._db, distinct[start : start + MAX_KEYS], *more) for start in range(0, len(distinct), MAX_KEYS)
                ]
        except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
            # Whose fault it was is not known; but when MongoDB is away, nobody's.
            if len(asked) > 1 and not mongo.is_unavailable(error):
                await asyncio.gather(*(self._read(batch, [each]) for each in asked))
                return
            for _, _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
                    answer.exception()  # Seen: whoever asked may be gone before awaiting it.
            return
        values = [value for part in parts for value in part]
        for (_, _, answer), mine in zip(asked, wanted, strict=True):
            # Whoever asked may have left meanwhile.
            if not answer.done():
                answer.set_result([values[position] for position in mine])


def _union(projections: Sequence[Projection]) -> Projection:
    """Enough for all of them."""
    if len(projections) == 1:
        return projections[0]
    named = [each for each in projections if each is not None]
    return frozenset().union(*named) if len(named) == len(projections) else None
