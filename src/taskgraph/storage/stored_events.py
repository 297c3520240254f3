"""Reading the log from the database: for pages of it, and for subscribers who come back from before what a process remembers.

Positions come moments after the commit, in any order. So a read first waits until whatever was committed before it began has its
position: nothing can turn up later among what has been read.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId

from taskgraph.errors import BadUserInput, Busy
from taskgraph.settings import Settings
from taskgraph.storage import clock, expiry
from taskgraph.storage.event_log import COLLECTION, MAX_INDEX, PURGE_INDEX, EventCursor, LoggedEvent
from taskgraph.storage.mongo import Database, Document

SETTLE_SECONDS = 5.0
POLL_SECONDS = 0.01
RETRY_AFTER_SECONDS = 5
# An event carries a time from before its commit, by another clock than the position's.
UNSURE_SECONDS = 60
STATE = "log"


@dataclass(frozen=True, slots=True)
class LogPage:
    """A stretch of the log, in its order."""

    events: Sequence[LoggedEvent]
    has_next: bool
    has_previous: bool

    @property
    def start_cursor(self) -> str | None:
        """Of the first event; None on an empty page."""
        return str(self.events[0].cursor) if self.events else None

    @property
    def end_cursor(self) -> str | None:
        """Of the last event; None on an empty page."""
        return str(self.events[-1].cursor) if self.events else None


async def settle(db: Database, condition: Mapping[str, Any]) -> None:
    """Returns when every event that meets the condition and was committed before the call has its position; Busy after SETTLE_SECONDS."""
    waiting: Mapping[str, Any] = {**condition, "position": None}
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while ids := [each["_id"] for each in await db[COLLECTION].find(waiting, {"_id": 1}).to_list()]:
                waiting = {"_id": {"$in": ids}, "position": None}
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as error:
        late = "The latest events have no place in the log yet; try again shortly."
        raise Busy(late, retry_after_seconds=RETRY_AFTER_SECONDS) from error


async def between(
    db: Database, condition: Mapping[str, Any], *, after: EventCursor | None, until: EventCursor, limit: int
) -> list[LoggedEvent]:
    """The first settled events that meet the condition, behind `after` and not behind `until`, in the order of the log."""
    bounds = {"$lte": until.packed} if after is None else {"$gt": after.packed, "$lte": until.packed}
    found = db[COLLECTION].find({**condition, "position": bounds}).sort("position", 1).limit(limit)
    return [logged(document) for document in await found.to_list()]


async def latest(db: Database, *, since: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
    """The last settled events of everybody within the bounds, the latest first."""
    bounds = {"$gt": since.packed, "$lte": until.packed}
    found = db[COLLECTION].find({"position": bounds}).sort("position", -1).limit(limit)
    return [logged(document) for document in await found.to_list()]


def logged(document: Document) -> LoggedEvent:
    """A stored event that has its position."""
    return LoggedEvent(EventCursor.unpacked(document["position"]), document)


class StoredEvents:
    """The log of one deployment, as far back as it is kept."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._retention = timedelta(days=settings.event_retention_days)
        self._whole_since = clock.EPOCH

    async def apply_retention(self) -> None:
        """Makes MongoDB purge what is older than TASKGRAPH_EVENT_RETENTION_DAYS. May be repeated.

        When that is raised, what the former value has let go does not come back: the time is noted, lest a gap be taken for silence.
        """
        before = await expiry.current_seconds(self._db, COLLECTION, PURGE_INDEX)
        seconds = int(self._retention.total_seconds())
        if before is not None and before < seconds:
            lost = clock.now() - timedelta(seconds=before)
            await self._db[STATE].update_one({"_id": COLLECTION}, {"$max": {"wholeSince": lost}}, upsert=True)
        await expiry.apply(self._db, COLLECTION, "occurredAt", name=PURGE_INDEX, seconds=seconds)
        state = await self._db[STATE].find_one({"_id": COLLECTION})
        self._whole_since = state["wholeSince"] if state else clock.EPOCH

    def is_whole_after(self, cursor: EventCursor) -> bool:
        """Whether all events behind this position are still kept."""
        since = max(self._whole_since, clock.now() - self._retention) + timedelta(seconds=UNSURE_SECONDS)
        return clock.EPOCH + timedelta(seconds=cursor.seconds) >= since

    async def page(self, user_id: ObjectId, condition: Mapping[str, Any], *, after: EventCursor | None, size: int) -> LogPage:
        """The first events behind `after` that the user may see and that meet the condition, of all that were committed before the
        call. BadUserInput when not all of them are kept any more.
        """
        if after is not None and not self.is_whole_after(after):
            raise BadUserInput("The events after this cursor are no longer kept; read anew, then go on from latestCursor.")
        reply = await self._db.raw.command("ping")
        visible = {"audience": user_id}
        await settle(self._db, visible)
        until = EventCursor.at(reply["operationTime"], MAX_INDEX)
        events = await between(self._db, {**visible, **condition}, after=after, until=until, limit=size + 1)
        return LogPage(events[:size], has_next=len(events) > size, has_previous=after is not None)

    async def of(self, user_id: ObjectId, *, after: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        """The first events within the bounds that the user may see; fewer than `limit` are all there are."""
        condition = {"audience": user_id}
        await settle(self._db, condition)
        return await between(self._db, condition, after=after, until=until, limit=limit)

    async def recent(self, *, since: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        """The last events of everybody within the bounds, the latest first."""
        await settle(self._db, {})
        return await latest(self._db, since=since, until=until, limit=limit)
