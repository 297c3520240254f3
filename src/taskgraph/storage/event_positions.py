"""Adds to each stored event where it stands in the log, which nobody knows before it is committed, and takes its trail on to the
audit log: an event that has its position has left its entry there.

The change stream tells. Of every process, for an event's own process does it at once, and the others look a little later whether it
was: a process can die between a commit and its position. What was committed while none was running is found at the next start.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from bson import ObjectId, Timestamp
from pymongo import UpdateOne
from pymongo.errors import OperationFailure, PyMongoError

from taskgraph.storage import audit_log, clock
from taskgraph.storage.change_tail import LOST_HISTORY_CODES, Change, Subscription, time_of
from taskgraph.storage.event_log import COLLECTION, ORIGIN, EventCursor
from taskgraph.storage.mongo import Database, Document

BATCH = 500
BATCH_SECONDS = 0.01
# When the others look after an event whose own process should have done it.
LATE_SECONDS = 1.0
RETRY_SECONDS = 1.0
# From the moment that an event carries as its time to its commit, and between the clocks of two machines.
UNSURE_SECONDS = 60
MISSING = {"position": None}
# By which operators, and tests, tell these commands from those of requests.
COMMENT = "event positions"
# An event, its position, and its entry for the audit log.
Placed = tuple[ObjectId, bytes, Document | None]
log = structlog.get_logger(__name__)


class EventPositions:
    """One for each process; `run` until cancelled."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._events = db[COLLECTION]
        self._own: deque[Placed] = deque()
        self._others: deque[tuple[float, Placed]] = deque()
        self._has_own = asyncio.Event()
        self._unwatched: tuple[float, Timestamp] | None = None

    @property
    def subscription(self) -> Subscription:
        """What the change stream should report."""
        return Subscription(COLLECTION, {"operationType": "insert"}, self._receive, self._restart)

    async def run(self) -> None:
        """Goes on for ever, in batches."""
        while True:
            try:
                await self._write_own()
                await self._look_after_others()
                await self._look_back()
            # This task is a process edge: ending it would leave all later events without their place.
            except Exception as error:
                if not isinstance(error, PyMongoError):
                    log.exception("events could not be given their positions")
                await asyncio.sleep(RETRY_SECONDS)

    def _receive(self, change: Change) -> None:
        event, position = change.detail["fullDocument"], EventCursor.at(change.cluster_time, change.index).packed
        placed = event["_id"], position, event.get("trail")
        if event.get("origin") == ORIGIN:
            self._own.append(placed)
            self._has_own.set()
        else:
            self._others.append((asyncio.get_running_loop().time() + LATE_SECONDS, placed))

    def _restart(self, time: Timestamp) -> None:
        self._unwatched = asyncio.get_running_loop().time() + LATE_SECONDS, time

    async def _write_own(self) -> None:
        """The next batch; returns without one when there is none for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_SECONDS):
                await self._has_own.wait()
        # What is committed together comes together.
        await asyncio.sleep(BATCH_SECONDS)
        batch = list(self._own)[:BATCH]
        await self._write(batch)
        for _ in batch:
            self._own.popleft()
        if not self._own:
            self._has_own.clear()

    async def _look_after_others(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [placed for at, placed in list(self._others)[:BATCH] if at <= now]
        if due:
            wanted = {"_id": {"$in": [event_id for event_id, _, _ in due]}, **MISSING}
            missing = {each["_id"] for each in await self._events.find(wanted, {"_id": 1}, comment=COMMENT).to_list()}
            await self._write([placed for placed in due if placed[0] in missing])
            for _ in due:
                self._others.popleft()

    async def _write(self, batch: Sequence[Placed]) -> None:
        # The entries first: what has its position is not looked at again.
        if entries := [{"_id": event_id, **trail} for event_id, _, trail in batch if trail]:
            await audit_log.add(self._db, entries)
        if batch:
            updates = [
                UpdateOne({"_id": event_id, **MISSING}, {"$set": {"position": position}, "$unset": {"trail": ""}})
                for event_id, position, _ in batch
            ]
            await self._events.bulk_write(updates, ordered=False, comment=COMMENT)

    async def _look_back(self) -> None:
        """For events from before the change stream began: their commits are read once more, or estimated where the oplog has
        forgotten them. Not at once, as other processes may be at it.
        """
        if self._unwatched is None or self._unwatched[0] > asyncio.get_running_loop().time():
            return
        _, until = self._unwatched
        await self._find_unwatched(until)
        self._unwatched = None

    async def _find_unwatched(self, until: Timestamp) -> None:
        oldest = await self._events.find_one(MISSING, {"occurredAt": 1}, sort=[("occurredAt", 1)], comment=COMMENT)
        if oldest is None:
            return
        since = oldest["occurredAt"] - timedelta(seconds=UNSURE_SECONDS)
        try:
            await self._read_commits(Timestamp(int((since - clock.EPOCH).total_seconds()), 0), until)
        except OperationFailure as error:
            if error.code not in LOST_HISTORY_CODES:
                raise
            log.warning("events older than the oplog are ordered by their time")
            await self._estimate()

    async def _read_commits(self, since: Timestamp, until: Timestamp) -> None:
        pipeline: list[Mapping[str, Any]] = [
            {"$match": {"operationType": "insert"}},
            {"$project": {"documentKey": 1, "clusterTime": 1, "fullDocument.trail": 1}},
        ]
        batch: list[Placed] = []
        last, index = Timestamp(0, 0), 0
        async with await self._events.watch(pipeline, start_at_operation_time=since, comment=COMMENT) as stream:
            while stream.alive:
                change = await stream.try_next()
                if change is not None and change["clusterTime"] <= until:
                    last, index = change["clusterTime"], index + 1 if change["clusterTime"] == last else 0
                    trail = change["fullDocument"].get("trail")
                    batch.append((change["documentKey"]["_id"], EventCursor.at(last, index).packed, trail))
                reached = time_of(stream.resume_token) if change is None else change["clusterTime"]
                is_over = reached >= until if change is None else reached > until
                if len(batch) >= BATCH or is_over:
                    await self._write(batch)
                    batch = []
                if is_over:
                    return

    async def _estimate(self) -> None:
        number, wanted = 0, {"occurredAt": 1, "trail": 1}
        # Those of a batch drop out of the search once they are written, so each search begins with the next ones.
        while events := await self._events.find(MISSING, wanted, comment=COMMENT).sort("occurredAt", 1).to_list(BATCH):
            batch = [(each["_id"], _estimated(each, number + place).packed, each.get("trail")) for place, each in enumerate(events)]
            await self._write(batch)
            number += len(batch)


def _estimated(event: Document, number: int) -> EventCursor:
    return EventCursor(int((event["occurredAt"] - clock.EPOCH).total_seconds()), number)
