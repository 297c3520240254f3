"""New documents of many requests in one transaction, on a real replica set."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from taskgraph.storage import group_commit, mongo
from taskgraph.storage.group_commit import Committed, GroupCommit, Inserts
from taskgraph.storage.mongo import Database
from taskgraph.storage.versions import Versions
from tests.conftest import MakeSettings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def db(settings: MakeSettings) -> AsyncIterator[Database]:
    db = mongo.connect(settings())
    # A transaction must not have to make its collections.
    await db["a"].insert_one({"_id": "taken"})
    await db["b"].insert_one({"_id": "taken"})
    yield db
    await db.client.drop_database(db.name)
    await db.close()


async def test_what_comes_together_is_committed_together_in_order(db: Database) -> None:
    commits = GroupCommit(db, Versions(db))
    answers = await asyncio.gather(*(commits.insert({"a": [{"_id": n}], "b": [{"_id": n}, {"_id": -n}]}) for n in range(1, 21)))
    assert len({answer.time for answer in answers}) == 1
    assert [answer.first for answer in answers] == [{"a": n, "b": 2 * n} for n in range(20)]
    assert await db["a"].count_documents({}) == 21
    assert await db["b"].count_documents({}) == 41


async def test_what_comes_during_commits_goes_into_the_next_one(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions = []

    async def noted(*args: Any) -> Any:
        transactions.append(args)
        return await transaction(*args)

    transaction = mongo.transaction
    monkeypatch.setattr(group_commit, "transaction", noted)
    commits = GroupCommit(db, Versions(db))

    async def after_turns(number: int) -> Committed:
        for _ in range(number):
            await asyncio.sleep(0)
        return await commits.insert({"a": [{"_id": number}]})

    await asyncio.gather(*(after_turns(number) for number in range(40)))
    assert await db["a"].count_documents({}) == 41
    assert group_commit.TRANSACTIONS < len(transactions) < 20


async def test_a_request_that_cannot_be_written_takes_nobody_with_it_and_writes_nothing(db: Database) -> None:
    commits = GroupCommit(db, Versions(db))
    wanted: list[Inserts] = [
        {"a": [{"_id": 1}], "b": [{"_id": 1}]},
        {"a": [{"_id": 2}], "b": [{"_id": "taken"}]},
        {"a": [{"_id": 3}]},
    ]
    one, two, three = await asyncio.gather(*(commits.insert(each) for each in wanted), return_exceptions=True)
    assert isinstance(two, BulkWriteError)
    assert isinstance(one, Committed)
    assert isinstance(three, Committed)
    assert one.time != three.time
    assert sorted(str(each["_id"]) for each in await db["a"].find({}).to_list()) == ["1", "3", "taken"]


async def test_while_the_database_is_away_nothing_is_tried_twice(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def away(*_: object) -> None:
        tried.append(1)
        raise AutoReconnect("gone")

    monkeypatch.setattr(group_commit, "transaction", away)
    commits = GroupCommit(db, Versions(db))
    answers = await asyncio.gather(*(commits.insert({"a": [{"_id": n}]}) for n in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [AutoReconnect] * 5
    assert tried == [1]


async def test_who_leaves_takes_nothing_from_the_others(db: Database) -> None:
    commits = GroupCommit(db, Versions(db))
    leaving, staying = (asyncio.create_task(commits.insert({"a": [{"_id": n}]})) for n in (1, 2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).first == {"a": 1}
    assert leaving.cancelled()
