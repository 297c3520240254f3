"""One write on an owner's tasks as one transaction: what is read, changed and linked is kept in memory, and written at its end in
few commands, together with the events and the record of the idempotency key.
"""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId, Timestamp
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage import clock, event_log, idempotency
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.event_log import Event, EventCursor
from taskgraph.storage.group_commit import Commits
from taskgraph.storage.idempotency import Key
from taskgraph.storage.mongo import Database, Document, Session, transaction
from taskgraph.tasks.events import TaskAction, blocker_change, event
from taskgraph.tasks.model import TASK, Dependency, is_open

EDGES, OPEN_BLOCKERS = "edgeCount", "openBlockers"
# By the number of the item.
Problems = Mapping[int, Sequence[Problem]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a write answers: tasks by id, None where an item was refused, and what is wrong with that one. `notes` is the rest, in a
    form that can be stored.
    """

    ids: Sequence[ObjectId | None]
    notes: Document = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """The tasks as they were right after the write, and the position of its last event; no position when nothing had to change."""

    tasks: Sequence[Document | None]
    cursor: EventCursor | None
    replayed: bool = False
    notes: Document = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)

    @property
    def task(self) -> Document:
        """Of a write on one task. Only a replay may find that it is gone."""
        (task,) = self.tasks
        assert task is not None  # noqa: S101 - see above
        return task


@dataclass(slots=True)
class _Change:
    action: TaskAction
    blockers: list[dict[str, Any]] = field(default_factory=list)


class Work:
    """Begun anew with each attempt of a transaction. `tasks` are the documents as this write leaves them."""

    def __init__(self, commits: Commits, session: Session, owner_id: ObjectId, key: Key | None) -> None:
        self.db = commits.db
        self.session = session
        self.owner_id = owner_id
        self.now = clock.now()
        self.tasks: dict[ObjectId, Document] = {}
        self.events: list[Event] = []
        self._key = key
        self._trail = commits.trail
        self._stored: dict[ObjectId, Document] = {}
        self._changes: dict[ObjectId, _Change] = {}
        self._counts: dict[ObjectId, Counter[str]] = defaultdict(Counter)
        self._new_edges: list[Document] = []
        self._lost_edges: list[ObjectId] = []

    async def read(self, ids: Iterable[ObjectId]) -> None:
        """Those of the owner's tasks that are there, deleted ones too; one query for all that have not been read."""
        missing = [each for each in dict.fromkeys(ids) if each not in self.tasks]
        if missing:
            wanted = {"_id": {"$in": missing}, "ownerId": self.owner_id}
            self.hold(await self.db["tasks"].find(wanted, session=self.session, batch_size=len(missing) + 1).to_list())

    def hold(self, documents: Iterable[Document]) -> None:
        """Takes documents that were read in this transaction."""
        for document in documents:
            self.tasks[document["_id"]] = self._stored[document["_id"]] = document

    async def edges(self, condition: Document) -> list[Document]:
        """The owner's dependencies that meet a condition."""
        found = self.db["dependencies"].find({"ownerId": self.owner_id, **condition}, session=self.session)
        return await found.to_list()

    @property
    def changed_ids(self) -> set[ObjectId]:
        """The tasks that get an event."""
        return set(self._changes)

    def add(self, task: Document) -> None:
        """A new task."""
        self.tasks[task["_id"]] = task
        self._changes[task["_id"]] = _Change(TaskAction.CREATED)

    def change(self, action: TaskAction, after: Document) -> None:
        """A task that was read gets other fields and the next version; once in a write."""
        self._changes[after["_id"]] = _Change(action)
        before = self._stored[after["_id"]]
        self.tasks[after["_id"]] = after | {"version": before["version"] + 1, "updatedAt": self.now}

    def link(self, blocker_id: ObjectId, blocked_id: ObjectId) -> None:
        """A new dependency between two tasks that were read or added."""
        edge = Dependency(owner_id=self.owner_id, blocker_id=blocker_id, blocked_id=blocked_id, created_at=self.now)
        self._new_edges.append(edge.model_dump_doc())
        self._count(blocker_id, blocked_id, by=1)
        self._change_of(blocked_id, TaskAction.DEPENDENCY_ADDED).blockers.append(blocker_change(after=blocker_id))

    def unlink(self, edge: Document) -> None:
        """A stored dependency goes; both tasks were read. A task that is deleted in this write has its own event for it."""
        self._lost_edges.append(edge["_id"])
        self._count(edge["blockerId"], edge["blockedId"], by=-1)
        blockers = self._change_of(edge["blockedId"], TaskAction.DEPENDENCY_REMOVED).blockers
        blockers.append(blocker_change(before=edge["blockerId"]))

    def _change_of(self, task_id: ObjectId, action: TaskAction) -> _Change:
        if task_id not in self._changes:
            self.change(action, self.tasks[task_id])
        return self._changes[task_id]

    def _count(self, blocker_id: ObjectId, blocked_id: ObjectId, *, by: int) -> None:
        self._counts[blocker_id][EDGES] += by
        self._counts[blocked_id][EDGES] += by
        # As it was before this write: what a change of its status means for those it blocks is settled at the end.
        if is_open(self._stored.get(blocker_id) or self.tasks[blocker_id]):
            self._counts[blocked_id][OPEN_BLOCKERS] += by

    async def settle(self) -> None:
        """Brings the counters up to date with what was changed: the last step before the write, or instead of it."""
        turned = {
            task_id: 1 if is_open(self.tasks[task_id]) else -1
            for task_id, change in self._changes.items()
            if change.action is TaskAction.UPDATED
            and self._stored[task_id].get(EDGES)
            and is_open(self._stored[task_id]) != is_open(self.tasks[task_id])
        }
        if turned:
            for edge in await self.edges({"blockerId": {"$in": list(turned)}}):
                self._counts[edge["blockedId"]][OPEN_BLOCKERS] += turned[edge["blockerId"]]
        for task_id, counts in self._counts.items():
            if task_id in self.tasks:
                task = self.tasks[task_id]
                self.tasks[task_id] = task | {name: task.get(name, 0) + by for name, by in counts.items()}

    async def write(self) -> None:
        """Sends everything: a command for each kind of change."""
        await self.settle()
        for task_id, change in self._changes.items():
            made = event(
                change.action,
                before=self._stored.get(task_id, {}),
                after=self.tasks[task_id],
                blockers=change.blockers,
                actor_id=self.owner_id,
                caused_by=self._key.text if self._key else None,
            )
            self.events.append(made)
        new = [self.tasks[task_id] for task_id in self._changes if task_id not in self._stored]
        if new:
            await self.db["tasks"].insert_many(new, session=self.session)
        if updates := self._updates():
            await self.db["tasks"].bulk_write(updates, session=self.session)
        if self._new_edges:
            await self.db["dependencies"].insert_many(self._new_edges, session=self.session)
        if self._lost_edges:
            lost = {"ownerId": self.owner_id, "_id": {"$in": self._lost_edges}}
            await self.db["dependencies"].delete_many(lost, session=self.session)
        if self.events:
            await event_log.append(self.db, self.session, self.events, told(self._trail, self.events))

    def _updates(self) -> list[UpdateOne]:
        updates = []
        for task_id in {**self._changes, **self._counts}:
            before, after = self._stored.get(task_id), self.tasks.get(task_id)
            if before is None and after is not None:
                continue  # It is new, and was inserted with its counters.
            counts = {name: by for name, by in self._counts[task_id].items() if by}
            fields = {name: value for name, value in (after or {}).items() if before is None or before.get(name) != value}
            fields = {name: value for name, value in fields.items() if name not in {EDGES, OPEN_BLOCKERS}}
            change = {operator: values for operator, values in (("$set", fields), ("$inc", counts)) if values}
            if change:
                updates.append(UpdateOne({"_id": task_id, "ownerId": self.owner_id}, change))
        return updates


async def perform(
    commits: Commits, owner_id: ObjectId, change: Callable[[Work], Awaitable[Outcome]], *, key: Key | None = None
) -> Written:
    """Does `change` and writes it, all in one transaction; with a key that was used before, answers what the first call did.

    `change` may run several times. Refused: nothing is written.
    """
    db = commits.db

    async def attempt(session: Session) -> tuple[Work, Outcome] | Document:
        if key is not None and (result := await idempotency.first_result(db, key, session)) is not None:
            return result
        work = Work(commits, session, owner_id, key)
        outcome = await change(work)
        if outcome.is_dry:
            await work.settle()
            await session.abort_transaction()
            return work, outcome
        await work.write()
        if key is not None:
            result = result_of(outcome, work.tasks, work.events)
            await db[idempotency.COLLECTION].insert_one(idempotency.record(key, result, work.now), session=session)
        return work, outcome

    try:
        done, committed_at = await _once(db, key, attempt)
    except Refused:
        await commits.versions.renew(owner_id)
        raise
    # Also where nothing had to change, or may not: what the caller hears of may be the commit of another, who has not renewed yet.
    await commits.versions.renew(owner_id)
    if isinstance(done, dict):
        return await replayed(db, owner_id, done)
    work, outcome = done
    if work.events and commits.trail is not None:
        commits.trail.is_left = True
    cursor = EventCursor.at(committed_at, len(work.events) - 1) if work.events else None
    return Written(
        [work.tasks[each] if each else None for each in outcome.ids], cursor, notes=outcome.notes, problems=outcome.problems
    )


def told(trail: Trail | None, events: Sequence[Event]) -> Document | None:
    """The entry for the audit log that the first event of a write carries."""
    if trail is None:
        return None
    trail.kind, trail.targets = TASK, list(dict.fromkeys(event.subject_id for event in events))
    return trail.told(at=events[0].occurred_at)


async def _once(
    db: Database, key: Key | None, attempt: Callable[[Session], Awaitable[tuple[Work, Outcome] | Document]]
) -> tuple[tuple[Work, Outcome] | Document, Timestamp]:
    try:
        return await transaction(db, attempt)
    except (DuplicateKeyError, BulkWriteError):
        # The twin was faster.
        if key is None or (result := await idempotency.first_result(db, key)) is None:
            raise
        return result, Timestamp(0, 0)


def result_of(outcome: Outcome, tasks: dict[ObjectId, Document], events: Sequence[Event]) -> Document:
    """What a record keeps of a write."""
    return {
        "tasks": [{"id": each, "version": tasks[each]["version"]} if each else None for each in outcome.ids],
        "eventId": events[-1].id if events else None,
        "notes": outcome.notes,
        "problems": [
            {"item": item, "code": problem.code.value, "message": problem.message, "path": problem.path}
            for item, found in outcome.problems.items()
            for problem in found
        ],
    }


async def replayed(db: Database, owner_id: ObjectId, result: Document) -> Written:
    """What the first call answered: the tasks from the events of that time, or as they are now where those are gone. Of problems,
    what every problem has.
    """
    wanted = [None if each is None else (each["id"], each["version"]) for each in result["tasks"]]
    found: dict[tuple[ObjectId, int], Document] = {}
    if present := [each for each in wanted if each]:
        ids, versions = list({each for each, _ in present}), list({version for _, version in present})
        events = db["events"].find(
            {"ownerId": owner_id, "subjectId": {"$in": ids}, "version": {"$in": versions}},
            {"subjectId": 1, "version": 1, "snapshot": 1},
        )
        found = {(each["subjectId"], each["version"]): each["snapshot"] async for each in events}
        if missing := [each for each in present if each not in found]:
            current = db["tasks"].find({"ownerId": owner_id, "_id": {"$in": [each for each, _ in missing]}})
            now = {each["_id"]: each async for each in current}
            found |= {each: now[each[0]] for each in missing if each[0] in now}
    cursor = await event_log.cursor_of(db, result["eventId"]) if result["eventId"] else None
    problems: dict[int, list[Problem]] = defaultdict(list)
    for each in result["problems"]:
        problems[each["item"]].append(Problem(ErrorCode(each["code"]), each["message"], tuple(each["path"])))
    tasks = [found.get(each) if each else None for each in wanted]
    return Written(tasks, cursor, replayed=True, notes=result["notes"], problems=problems)
