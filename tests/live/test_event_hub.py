"""The hub by itself: what its memory reaches back to, what it reads from the store, who is too slow, and when it has nothing to say."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from bson import ObjectId, Timestamp

from taskgraph.storage import event_hub
from taskgraph.storage.change_tail import Change
from taskgraph.storage.event_hub import QUEUED_EVENTS, Checkpoint, EventHub, Gap, Message, SlowListener
from taskgraph.storage.event_log import EventCursor, LoggedEvent

pytestmark = pytest.mark.anyio
ADA, BEA = ObjectId(), ObjectId()
START = 1000


class Store:
    """A log that is kept from `whole_since` on."""

    def __init__(self, *numbers: int, whole_since: int = 10**6) -> None:
        self.events = [LoggedEvent(cursor(number), {"_id": number, "audience": [ADA]}) for number in numbers]
        self.whole_since = whole_since
        self.reads = 0

    def is_whole_after(self, cursor: EventCursor) -> bool:
        return cursor.seconds >= START + self.whole_since

    async def of(self, user_id: ObjectId, *, after: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        self.reads += 1
        return [each for each in self.events if user_id == ADA and after < each.cursor <= until][:limit]

    async def recent(self, *, since: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        return [each for each in reversed(self.events) if since < each.cursor <= until][:limit]


@pytest.fixture
def hub() -> EventHub:
    return begun()


def begun(*, checkpoint_seconds: float = 30, store: Store | None = None, at: int = 0) -> EventHub:
    """A hub whose change stream has begun at START, or so many seconds later."""
    made = EventHub(store or Store(), checkpoint_seconds=checkpoint_seconds)
    made.subscription.restart(Timestamp(START + at, 0))
    return made


def happened(hub: EventHub, number: int, *audience: ObjectId) -> None:
    """Event `number`, committed `number` seconds after START."""
    change = Change(Timestamp(START + number, 1), 0, {"fullDocument": {"_id": number, "audience": list(audience)}})
    hub.subscription.handle(change)


def cursor(number: int) -> EventCursor:
    return EventCursor(START + number, 1, 0)


async def opening(listener: AsyncGenerator[Message]) -> Message:
    return await anext(listener)


async def numbers(listener: AsyncGenerator[Message], count: int) -> list[int]:
    """The next messages, which must be events."""
    found = []
    for _ in range(count):
        message = await anext(listener)
        assert isinstance(message, LoggedEvent), message
        found.append(message.document["_id"])
    return found


async def test_a_listener_hears_its_own_events_in_order(hub: EventHub) -> None:
    ada, bea = hub.listen(ADA), hub.listen(BEA)
    assert isinstance(await opening(ada), Checkpoint)
    assert isinstance(await opening(bea), Checkpoint)
    happened(hub, 1, ADA)
    happened(hub, 2, BEA)
    happened(hub, 3, ADA, BEA)
    assert await numbers(ada, 2) == [1, 3]
    assert await numbers(bea, 2) == [2, 3]


async def test_a_position_is_replayed_from_and_then_live(hub: EventHub) -> None:
    for number in range(1, 5):
        happened(hub, number, ADA)
    listener = hub.listen(ADA, after=cursor(2))
    first = await opening(listener)
    assert isinstance(first, Checkpoint)
    assert first.cursor == cursor(2)
    happened(hub, 5, ADA)
    assert await numbers(listener, 3) == [3, 4, 5]


async def test_the_start_of_the_change_stream_can_be_replayed_from(hub: EventHub) -> None:
    happened(hub, 1, ADA)
    listener = hub.listen(ADA, after=EventCursor(START, 0))
    assert isinstance(await opening(listener), Checkpoint)
    assert await numbers(listener, 1) == [1]


@pytest.mark.parametrize("after", [EventCursor(1, 1), EventCursor(START - 1, 99, 99), EventCursor(2**32 - 1, 0)])
async def test_what_is_not_remembered_is_a_gap(hub: EventHub, after: EventCursor) -> None:
    """The last one is of the future, so of another database: waiting for what follows it would be silence."""
    happened(hub, 1, ADA)
    listener = hub.listen(ADA, after=after)
    gap = await opening(listener)
    assert isinstance(gap, Gap)
    assert (gap.start, gap.cursor) == (after, cursor(1))
    happened(hub, 2, ADA)
    assert await numbers(listener, 1) == [2]


async def test_a_process_that_lags_behind_a_position_does_not_repeat_what_led_to_it(hub: EventHub) -> None:
    listener = hub.listen(ADA, after=cursor(2))
    assert isinstance(await opening(listener), Checkpoint)
    for number in range(1, 4):
        happened(hub, number, ADA)
    assert await numbers(listener, 1) == [3]


async def test_the_memory_is_bounded_and_knows_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "RING_EVENTS", 3)
    hub = begun()
    for number in range(1, 6):
        happened(hub, number, ADA)
    from_first = hub.listen(ADA, after=cursor(1))
    assert isinstance(await opening(from_first), Gap)
    from_second = hub.listen(ADA, after=cursor(2))
    assert isinstance(await opening(from_second), Checkpoint)
    assert await numbers(from_second, 3) == [3, 4, 5]


async def test_a_listener_is_ended_when_its_queue_is_full_and_others_are_not(hub: EventHub) -> None:
    slow, quick, other = hub.listen(ADA), hub.listen(ADA), hub.listen(BEA)
    for listener in (slow, quick, other):
        await opening(listener)
    waiting = [asyncio.create_task(numbers(listener, 1)) for listener in (slow, quick, other)]
    await asyncio.sleep(0)
    happened(hub, 0, ADA, BEA)
    assert await asyncio.gather(*waiting) == [[0], [0], [0]]
    for number in range(1, QUEUED_EVENTS + 1):
        happened(hub, number, ADA, BEA)
        assert await numbers(quick, 1) == [number]
        if number == QUEUED_EVENTS - 1:
            assert await numbers(other, 1) == [1]
    with pytest.raises(SlowListener):
        await anext(slow)
    assert await numbers(other, QUEUED_EVENTS - 1) == list(range(2, QUEUED_EVENTS + 1))
    happened(hub, QUEUED_EVENTS + 1, ADA)
    assert await numbers(quick, 1) == [QUEUED_EVENTS + 1]


async def test_a_quiet_listener_is_told_where_it_stands() -> None:
    hub = begun(checkpoint_seconds=0.02)
    listener = hub.listen(ADA)
    await opening(listener)
    happened(hub, 1, BEA)
    message = await anext(listener)
    assert isinstance(message, Checkpoint)
    assert message.cursor == cursor(1)
    happened(hub, 2, ADA)
    assert await numbers(listener, 1) == [2]


async def test_whoever_listens_is_told_when_the_database_was_lost(hub: EventHub) -> None:
    listener = hub.listen(ADA)
    await opening(listener)
    waiting = asyncio.create_task(anext(listener))
    await asyncio.sleep(0)
    happened(hub, 1, BEA)
    hub.subscription.restart(Timestamp(START + 50, 0))
    gap = await waiting
    assert isinstance(gap, Gap)
    assert (gap.start, gap.cursor) == (cursor(1), EventCursor(START + 50, 0))
    happened(hub, 60, ADA)
    assert await numbers(listener, 1) == [60]
    from_before = hub.listen(ADA, after=cursor(1))
    assert isinstance(await opening(from_before), Gap)


async def test_a_listener_that_leaves_is_forgotten(hub: EventHub) -> None:
    first, second = hub.listen(ADA), hub.listen(ADA)
    for listener in (first, second):
        await opening(listener)
    waiting = [asyncio.create_task(numbers(listener, 1)) for listener in (first, second)]
    await asyncio.sleep(0)
    happened(hub, 1, ADA)
    await asyncio.gather(*waiting)
    await first.aclose()
    assert len(hub._listeners[ADA]) == 1
    await second.aclose()
    assert hub._listeners == {}


async def test_what_is_no_longer_remembered_is_read_from_the_store() -> None:
    store = Store(*range(1, 9), whole_since=0)
    hub = begun(store=store, at=5)
    for number in (6, 7, 8):
        happened(hub, number, ADA)
    listener = hub.listen(ADA, after=cursor(2))
    first = await opening(listener)
    assert isinstance(first, Checkpoint)
    assert first.cursor == cursor(2)
    assert await numbers(listener, 6) == [3, 4, 5, 6, 7, 8]
    happened(hub, 9, ADA)
    assert await numbers(listener, 1) == [9]
    stranger = hub.listen(BEA, after=cursor(2))
    await opening(stranger)
    waiting = asyncio.create_task(numbers(stranger, 1))
    await asyncio.sleep(0)
    happened(hub, 10, BEA)
    assert await waiting == [10]


async def test_a_long_way_back_is_read_in_parts_and_what_happens_meanwhile_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "STORED_BATCH", 2)
    store = Store(*range(1, 8), whole_since=0)
    hub = begun(store=store, at=7)
    listener = hub.listen(ADA, after=EventCursor(START, 0))
    await opening(listener)
    assert await numbers(listener, 3) == [1, 2, 3]
    happened(hub, 8, ADA)
    store.events.append(LoggedEvent(cursor(8), {"_id": 8, "audience": [ADA]}))
    assert await numbers(listener, 5) == [4, 5, 6, 7, 8]
    happened(hub, 9, ADA)
    assert await numbers(listener, 1) == [9]


async def test_a_process_that_starts_remembers_what_happened_lately() -> None:
    store = Store(1, 2, 3)
    hub = begun(store=store, at=4)
    await hub.warm()
    listener = hub.listen(ADA, after=cursor(1))
    assert isinstance(await opening(listener), Checkpoint)
    assert await numbers(listener, 2) == [2, 3]
    assert store.reads == 0


async def test_what_is_remembered_at_the_start_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_hub, "RING_EVENTS", 2)
    hub = begun(store=Store(1, 2, 3, 4), at=5)
    await hub.warm()
    assert isinstance(await opening(hub.listen(ADA, after=cursor(1))), Gap)
    listener = hub.listen(ADA, after=cursor(2))
    await opening(listener)
    assert await numbers(listener, 2) == [3, 4]


async def test_time_that_passes_without_events_moves_the_position_on(hub: EventHub) -> None:
    happened(hub, 1, ADA)
    advance = hub.subscription.advance
    assert advance is not None
    advance(Timestamp(START + 60, 5))
    assert await hub.latest() == EventCursor(START + 60, 4, 2**16 - 1)
    advance(Timestamp(START + 30, 0))
    assert await hub.latest() == EventCursor(START + 60, 4, 2**16 - 1)


async def test_who_waits_for_a_position_waits_until_it_is_reached(hub: EventHub) -> None:
    await hub.reached(EventCursor(START, 0))
    waiting = asyncio.create_task(hub.reached(cursor(2)))
    happened(hub, 1, BEA)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    happened(hub, 2, BEA)
    await waiting
