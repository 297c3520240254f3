"""The stored log: how far back it can be trusted, and that nothing turns up later among what was read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from bson import ObjectId

from taskgraph.errors import Busy
from taskgraph.settings import Settings
from taskgraph.storage import cancelling, clock, migrate, mongo, stored_events
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.mongo import Database
from taskgraph.storage.stored_events import StoredEvents
from tests.conftest import MakeSettings

pytestmark = pytest.mark.anyio
ADA = ObjectId()
END = EventCursor(2**32 - 1, 0)
WAITS = 25


@pytest.fixture
async def made(settings: MakeSettings) -> Settings:
    return settings()


@pytest.fixture
async def db(made: Settings) -> AsyncIterator[Database]:
    opened = mongo.connect(made)
    await migrate.apply(opened)
    yield opened
    await opened.close()


async def log_kept_for(db: Database, made: Settings, days: int) -> StoredEvents:
    log = StoredEvents(db, made.model_copy(update={"event_retention_days": days}))
    await log.apply_retention()
    return log


def days_ago(days: float) -> EventCursor:
    return EventCursor(int((clock.now() - timedelta(days=days) - clock.EPOCH).total_seconds()), 1)


async def put(db: Database, number: int, *, position: EventCursor | None) -> ObjectId:
    event = {"_id": ObjectId(), "audience": [ADA], "number": number, "occurredAt": clock.now()}
    await db["events"].insert_one(event if position is None else event | {"position": position.packed})
    return event["_id"]  # type: ignore[return-value]


async def test_the_log_is_whole_as_far_back_as_it_is_kept(db: Database, made: Settings) -> None:
    log = await log_kept_for(db, made, 30)
    assert log.is_whole_after(days_ago(29))
    assert not log.is_whole_after(days_ago(31))
    index = (await db["events"].index_information())["purge"]
    assert index["expireAfterSeconds"] == 30 * 24 * 3600


async def test_keeping_events_for_longer_brings_none_back(db: Database, made: Settings) -> None:
    await log_kept_for(db, made, 1)
    log = await log_kept_for(db, made, 30)
    assert log.is_whole_after(days_ago(0.5))
    assert not log.is_whole_after(days_ago(2))
    again = await log_kept_for(db, made, 30)
    assert not again.is_whole_after(days_ago(2))


async def test_keeping_them_for_a_shorter_time_takes_effect_at_once(db: Database, made: Settings) -> None:
    await log_kept_for(db, made, 30)
    log = await log_kept_for(db, made, 1)
    assert not log.is_whole_after(days_ago(2))


async def test_a_read_waits_for_the_positions_of_what_was_committed_before_it(db: Database, made: Settings) -> None:
    log = await log_kept_for(db, made, 30)
    await put(db, 2, position=EventCursor(2, 0))
    late = await put(db, 1, position=None)
    reading = asyncio.create_task(log.of(ADA, after=EventCursor(0, 0), until=END, limit=10))
    await asyncio.sleep(0.1)
    assert not reading.done()
    # What comes later is not waited for.
    await put(db, 3, position=None)
    await db["events"].update_one({"_id": late}, {"$set": {"position": EventCursor(1, 0).packed}})
    assert [event.document["number"] for event in await reading] == [1, 2]


async def test_a_position_that_never_comes_is_waited_for_in_vain_only_so_long(
    db: Database, made: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_events, "SETTLE_SECONDS", 0.1)
    log = await log_kept_for(db, made, 30)
    await put(db, 1, position=None)
    with pytest.raises(Busy):
        await log.of(ADA, after=EventCursor(0, 0), until=END, limit=10)
    assert await log.of(ObjectId(), after=EventCursor(0, 0), until=END, limit=10) == []


async def test_the_end_of_such_a_wait_never_gets_lost(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cancellation may in Python 3.11, where PyMongo is just being answered."""
    await put(db, 1, position=None)
    # Who is cancelled while PyMongo connects leaves a socket to the garbage collector.
    await asyncio.gather(*(db["events"].find_one() for _ in range(WAITS)))
    for attempt in range(4):
        waits = []
        for number in range(WAITS):
            monkeypatch.setattr(stored_events, "SETTLE_SECONDS", 0.2 + attempt * 0.0007 + number * 0.0031)
            waits.append(asyncio.create_task(stored_events.settle(db, {})))
            await asyncio.sleep(0)
        _, endless = await asyncio.wait(waits, timeout=5)
        for wait in endless:
            await cancelling.cancelled(wait)
        assert not endless
        assert {type(wait.exception()) for wait in waits} == {Busy}
