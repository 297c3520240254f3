"""The data loader of one operation: what several of its fields ask for is read once, together with what other operations ask for."""

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

from taskgraph.storage.merged_reads import Answer, Batch, MergedReads
from taskgraph.storage.mongo import Projection

Value = TypeVar("Value")
# What is read of a key, together with which others, and where among them.
Asked = tuple[Projection, Answer[Any], int]


class Loader:
    """Remembers what was asked for until it is told to forget, or until the operation ends."""

    def __init__(self, merged: MergedReads) -> None:
        self._merged = merged
        self._asked: dict[Batch[Any], dict[Hashable, Asked]] = {}

    async def load(self, batch: Batch[Value], key: Hashable, projection: Projection = None) -> Value:
        """One value of a batched read."""
        asked = self._asked.setdefault(batch, {})
        held = asked.get(key)
        if held is None or not _covers(held[0], projection):
            held = asked[key] = (projection, self._merged.load(batch, [key], projection), 0)
        _, answer, position = held
        try:
            values: list[Value] = await answer
        except (Exception, asyncio.CancelledError) as error:
            _forget_failed(asked, [key])
            if not _is_meant_for_another(error):
                raise
        else:
            return values[position]
        return await self.load(batch, key, projection)

    async def load_many(self, batch: Batch[Value], keys: Sequence[Hashable], projection: Projection = None) -> list[Value]:
        """Many values of a batched read, in the order of the keys."""
        asked = self._asked.setdefault(batch, {})
        found: list[Asked] = []
        new: list[Hashable] = []
        answer = None
        for key in keys:
            held = asked.get(key)
            if held is None or not _covers(held[0], projection):
                answer = answer or self._merged.load(batch, new, projection)
                held = asked[key] = (projection, answer, len(new))
                new.append(key)
            found.append(held)
        try:
            for each in dict.fromkeys(answer for _, answer, _ in found):
                await each
        except (Exception, asyncio.CancelledError) as error:
            _forget_failed(asked, keys)
            if not _is_meant_for_another(error):
                raise
        else:
            return [answer.result()[position] for _, answer, position in found]
        return await self.load_many(batch, keys, projection)

    def forget(self) -> None:
        """What is asked for from now on is read anew."""
        self._asked.clear()


def _covers(held: Projection, wanted: Projection) -> bool:
    """Whether what was read with one projection has all that another asks for."""
    return held is None or (wanted is not None and held >= wanted)


def _forget_failed(asked: dict[Hashable, Asked], keys: Iterable[Hashable]) -> None:
    """The next to ask reads them anew."""
    for key in keys:
        held = asked.get(key)
        if held is not None and _has_failed(held[1]):
            del asked[key]


def _has_failed(answer: Answer[Any]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)


def _is_meant_for_another(error: BaseException) -> bool:
    """Whether it is the cancellation of another field that waited for the same: graphql-core cancels the siblings of one that failed.
    To shield what may be shared would cost every read another future, and this happens seldom.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
