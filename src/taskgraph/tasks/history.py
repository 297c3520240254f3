"""What tasks were: their events one by one, and how they stood at some point. Like reads.py, of many tasks at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from bson import ObjectId

from taskgraph.storage import stored_events
from taskgraph.storage.event_log import COLLECTION, EventCursor
from taskgraph.storage.mongo import Database, Document, Projection, Session
from taskgraph.storage.stored_events import LogPage
from taskgraph.tasks.reads import TaskKey

OLDEST_FIRST, NEWEST_FIRST = {"version": 1}, {"version": -1}


@dataclass(frozen=True, slots=True)
class Point:
    """A version of a task, or a time (UTC without a zone)."""

    version: int | None = None
    time: datetime | None = None

    @property
    def condition(self) -> Document:
        """Which events lead up to it; the last of them says how the task stood."""
        return {"version": self.version} if self.time is None else {"occurredAt": {"$lte": self.time}}

    def is_now(self, task: Document) -> bool:
        """Whether the task still stands as it did then."""
        return task["version"] == self.version if self.time is None else bool(task["updatedAt"] <= self.time)


class HistoryKey(NamedTuple):
    """One page of one task's events."""

    task: TaskKey
    after: EventCursor | None
    size: int


class PointKey(NamedTuple):
    """One task at one point."""

    task: TaskKey
    point: Point


class EventKey(NamedTuple):
    """One event, for one who may see it or not."""

    viewer_id: ObjectId
    event_id: ObjectId


async def pages(db: Database, keys: Sequence[HistoryKey], _projection: Projection = None) -> list[LogPage]:
    """A page of events for each key; one query for all keys of the same bounds."""
    found: list[LogPage] = [LogPage((), has_next=False, has_previous=False)] * len(keys)
    alike: dict[Any, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        alike[key.after, key.size].append(position)
    for (after, size), positions in alike.items():
        events = await _events(db, [keys[position].task for position in positions], after, size + 1)
        for position in positions:
            mine = [stored_events.logged(each) for each in events.get(keys[position].task, ())]
            found[position] = LogPage(mine[:size], has_next=len(mine) > size, has_previous=after is not None)
    return found


async def snapshots(db: Database, keys: Sequence[PointKey], _projection: Projection = None) -> list[Document | None]:
    """The tasks as they stood, as far as their events are kept; one query for all keys of the same point."""
    found: list[Document | None] = [None] * len(keys)
    alike: dict[Point, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        alike[key.point].append(position)
    for point, positions in alike.items():
        tasks = [keys[position].task for position in positions]
        last = {"$top": {"sortBy": NEWEST_FIRST, "output": "$snapshot"}}
        groups = await _by_task(db, tasks, point.condition, {"snapshot": last})
        for position in positions:
            found[position] = groups.get(keys[position].task, {}).get("snapshot")
    return found


async def standing(db: Database, task: TaskKey, point: Point, session: Session) -> Document | None:
    """The task as it stood then, within a transaction; None where no event that is kept tells."""
    leading = {"ownerId": task.owner_id, "subjectId": task.task_id, **point.condition}
    event = await db[COLLECTION].find_one(leading, {"snapshot": 1}, sort=NEWEST_FIRST, session=session)
    return event["snapshot"] if event else None


async def events_by_key(db: Database, keys: Sequence[EventKey], _projection: Projection = None) -> list[Document | None]:
    """Stored events with their positions; None for what is not there or not for this viewer."""
    viewers = list({key.viewer_id for key in keys})
    wanted = {"_id": {"$in": [key.event_id for key in keys]}, "audience": {"$in": viewers}}
    await stored_events.settle(db, wanted)
    found = {each["_id"]: each for each in await db[COLLECTION].find(wanted, batch_size=len(keys) + 1).to_list()}
    events = (found.get(key.event_id) for key in keys)
    return [event if event and key.viewer_id in event["audience"] else None for key, event in zip(keys, events, strict=True)]


async def _events(db: Database, tasks: Sequence[TaskKey], after: EventCursor | None, limit: int) -> dict[TaskKey, list[Document]]:
    """The first events behind a position. An event that has no position yet is behind any."""
    behind = {} if after is None else {"$or": [{"position": {"$gt": after.packed}}, {"position": None}]}
    first = {"$topN": {"n": limit, "sortBy": OLDEST_FIRST, "output": "$$ROOT"}}

    async def read() -> dict[TaskKey, list[Document]]:
        groups = await _by_task(db, tasks, behind, {"events": first})
        return {key: group["events"] for key, group in groups.items()}

    found = await read()
    waiting = [event["_id"] for events in found.values() for event in events if "position" not in event]
    if waiting:
        await stored_events.settle(db, {"_id": {"$in": waiting}})
        found = await read()
    return {key: [event for event in events if "position" in event] for key, events in found.items()}


async def _by_task(db: Database, tasks: Sequence[TaskKey], condition: Document, output: Document) -> dict[TaskKey, Document]:
    owners, ids = {key.owner_id for key in tasks}, [key.task_id for key in tasks]
    of_these = {"ownerId": {"$in": list(owners)}, "subjectId": {"$in": ids}}
    group = {"_id": {"ownerId": "$ownerId", "taskId": "$subjectId"}, **output}
    cursor = await db[COLLECTION].aggregate([{"$match": {**of_these, **condition}}, {"$group": group}], batchSize=len(ids) + 1)
    return {TaskKey(each["_id"]["ownerId"], each["_id"]["taskId"]): each for each in await cursor.to_list()}
