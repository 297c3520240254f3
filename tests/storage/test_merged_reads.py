"""Point reads of many requests as one query. The database is not asked: a batch may be any function."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pymongo
import pytest

from taskgraph.storage import merged_reads
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database

pytestmark = pytest.mark.anyio
NO_DATABASE = cast("Database", None)


class Doubling:
    """A batch that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    async def __call__(self, _db: Database, keys: Sequence[int]) -> list[int]:
        self.asked.append(list(keys))
        await asyncio.sleep(0)
        return [2 * key for key in keys]


async def test_what_is_asked_for_in_one_turn_is_read_together_and_each_key_once() -> None:
    merged, double = MergedReads(NO_DATABASE), Doubling()
    answers = list(await asyncio.gather(merged.load(double, [1, 2]), merged.load(double, [2, 3, 2]), merged.load(double, [3])))
    assert answers == [[2, 4], [4, 6, 4], [6]]
    assert double.asked == [[1, 2, 3]]


async def test_nothing_is_kept_for_the_next_turn() -> None:
    merged, double = MergedReads(NO_DATABASE), Doubling()
    assert await merged.load(double, [1]) == await merged.load(double, [1])
    assert double.asked == [[1], [1]]


async def test_a_large_read_is_cut_into_bounded_ones() -> None:
    merged, double = MergedReads(NO_DATABASE), Doubling()
    keys = list(range(merged_reads.MAX_KEYS + 1))
    assert await merged.load(double, keys) == [2 * key for key in keys]
    assert [len(each) for each in double.asked] == [merged_reads.MAX_KEYS, 1]


async def test_a_failure_reaches_everyone_who_asked_and_nobody_else() -> None:
    async def fail(_db: Database, _keys: Sequence[int]) -> list[int]:
        raise OSError("gone")

    merged, double = MergedReads(NO_DATABASE), Doubling()
    results = await asyncio.gather(merged.load(fail, [1]), merged.load(fail, [2]), merged.load(double, [3]), return_exceptions=True)
    assert [str(result) for result in results] == ["gone", "gone", "[6]"]


async def test_a_key_that_cannot_be_read_spoils_no_other() -> None:
    async def refuses_one(_db: Database, keys: Sequence[int]) -> list[int]:
        if 1 in keys:
            raise ValueError("no such key")
        return list(keys)

    merged = MergedReads(NO_DATABASE)
    results = await asyncio.gather(merged.load(refuses_one, [1]), merged.load(refuses_one, [2]), return_exceptions=True)
    assert [str(result) for result in results] == ["no such key", "[2]"]


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    merged, double = MergedReads(NO_DATABASE), Doubling()
    leaving, staying = merged.load(double, [1]), merged.load(double, [2])
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == [4]
    assert leaving.cancelled()


async def test_the_deadline_of_the_first_to_ask_is_not_that_of_the_others() -> None:
    deadlines: list[float | None] = []

    async def note(_db: Database, keys: Sequence[int]) -> list[int]:
        deadlines.append(pymongo._csot.remaining())
        return list(keys)

    merged = MergedReads(NO_DATABASE)
    with pymongo.timeout(0.001):
        first = merged.load(note, [1])
    second = merged.load(note, [2])
    assert (await first, await second) == ([1], [2])
    (remaining,) = deadlines
    assert remaining is not None
    assert remaining > 1
