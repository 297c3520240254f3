"""What the fields of one operation ask for. The database is not asked: a batch may be any function."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from taskgraph.storage.loader import Loader
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database, Projection

pytestmark = pytest.mark.anyio
TITLE, NAME, STATUS = frozenset({"title"}), frozenset({"name"}), frozenset({"status"})


class Doubling:
    """A batch that remembers what it was asked for, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.projections: list[Projection] = []
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_answer.set()

    async def __call__(self, _db: Database, keys: Sequence[int], projection: Projection = None) -> list[int]:
        self.asked.append(list(keys))
        self.projections.append(projection)
        self.is_asked.set()
        await self.may_answer.wait()
        return [2 * key for key in keys]


def loader() -> Loader:
    return Loader(MergedReads(cast("Database", None)))


async def test_what_was_asked_for_is_read_once_until_it_is_forgotten() -> None:
    fields, double = loader(), Doubling()
    assert await fields.load(double, 1) == 2
    assert await fields.load_many(double, [1, 2, 1]) == [2, 4, 2]
    assert await fields.load(double, 2) == 4
    fields.forget()
    assert await fields.load(double, 1) == 2
    assert double.asked == [[1], [2], [1]]


async def test_what_was_read_with_other_keys_of_the_document_is_read_again() -> None:
    fields, double = loader(), Doubling()
    await fields.load(double, 1, TITLE | NAME)
    await fields.load(double, 1, TITLE)
    await fields.load_many(double, [1], NAME)
    assert double.projections == [TITLE | NAME]
    await fields.load(double, 1, STATUS)
    await fields.load_many(double, [1], TITLE)
    await fields.load_many(double, [1])
    await fields.load(double, 1, NAME)
    assert double.projections == [TITLE | NAME, STATUS, TITLE, None]


async def test_a_field_that_is_cancelled_takes_nothing_from_others_that_wait_for_the_same() -> None:
    fields, double = loader(), Doubling()
    double.may_answer.clear()
    canceled = asyncio.create_task(fields.load(double, 1))
    one, several = asyncio.create_task(fields.load(double, 1)), asyncio.create_task(fields.load_many(double, [2, 1]))
    await double.is_asked.wait()
    canceled.cancel()
    double.may_answer.set()
    assert (await one, await several) == (2, [4, 2])
    assert canceled.cancelled()
    # What was not only the cancelled field's is not read again.
    assert double.asked == [[1, 2], [1]]


async def test_an_operation_that_is_cancelled_ends_at_once() -> None:
    fields, double = loader(), Doubling()
    double.may_answer.clear()
    one, several = asyncio.create_task(fields.load(double, 1)), asyncio.create_task(fields.load_many(double, [1, 2]))
    await double.is_asked.wait()
    one.cancel()
    several.cancel()
    await asyncio.wait({one, several}, timeout=10)
    assert one.cancelled()
    assert several.cancelled()
    assert len(double.asked) == 1


async def test_a_failure_is_not_remembered() -> None:
    failures = [OSError("first"), OSError("second")]

    async def fails_twice(_db: Database, keys: Sequence[int]) -> list[int]:
        if failures:
            raise failures.pop(0)
        return list(keys)

    fields = loader()
    with pytest.raises(OSError, match="first"):
        await fields.load(fails_twice, 1)
    with pytest.raises(OSError, match="second"):
        await fields.load_many(fails_twice, [1, 2])
    assert await fields.load(fails_twice, 1) == 1
    assert await fields.load_many(fails_twice, [1, 2]) == [1, 2]
