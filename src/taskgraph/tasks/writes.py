"""Changing tasks: check the rule, then one transaction that writes the task and its event. What is returned was not read again."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage import clock, event_log
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.group_commit import GroupCommit
from taskgraph.storage.mongo import Database, Document, Session, transaction
from taskgraph.tasks import rules
from taskgraph.tasks.events import TaskAction, event
from taskgraph.tasks.model import NEVER, RESTORABLE_SECONDS, Task, TaskStatus, title_key

MAX_DEPTH = 50


class TaskNotFound(Refused):
    """Not there, not yours, or in the trash."""

    def __init__(self, message: str = "You have no such task.", path: tuple[str, ...] = ("input", "id")) -> None:
        super().__init__(Problem(ErrorCode.NOT_FOUND, message, path))


class AssigneeNotFound(Refused):
    """Only somebody the task is shared with can be assigned to it: for now, its owner."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.NOT_FOUND, "The assignee must be someone the task is shared with: its owner.", path))


class VersionConflict(Refused):
    """The task is not at the version that the caller expected."""

    def __init__(self, current: int) -> None:
        message = f"The task has changed meanwhile: it is at version {current}. Read it again, then repeat the change."
        super().__init__(Problem(ErrorCode.VERSION_CONFLICT, message, ("input", "expectedVersion")))


class ParentCycle(Refused):
    """The new parent is the task itself or stands below it."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.DEPENDENCY_CYCLE, "A task cannot stand below itself or one of its subtasks.", path))


class TooDeep(Refused):
    """The tree of subtasks would be too deep."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.LIMIT_EXCEEDED, f"Subtasks nest at most {MAX_DEPTH} levels deep.", path))


@dataclass(frozen=True, slots=True)
class Written:
    """A task as it was written, and the position of its event; no position when nothing had to change."""

    task: Document
    cursor: EventCursor | None


async def create_task(
    commits: GroupCommit, viewer_id: ObjectId, given: Mapping[str, Any], *, caused_by: str | None = None
) -> Written:
    """A new task of the viewer from fields as stored. InputRefused, AssigneeNotFound, TaskNotFound for the parent."""
    checklist = rules.Checklist("input")
    values = rules.cleaned(given, checklist)
    checklist.done()
    rules.check_idempotency_key(caused_by)
    _check_assignee(viewer_id, values, ("input", "assigneeId"))
    now = clock.now()
    task = Task(
        owner_id=viewer_id,
        creator_id=viewer_id,
        title=values["title"],
        title_key=title_key(values["title"]),
        description=values.get("description", ""),
        status=values.get("status", TaskStatus.TODO),
        priority=values["priority"],
        labels=values.get("labels", []),
        due_date=values.get("dueDate"),
        due_order=values.get("dueDate") or NEVER,
        assignee_id=values.get("assigneeId"),
        parent_id=values.get("parentId"),
        created_at=now,
        updated_at=now,
        completed_at=now if values.get("status") is TaskStatus.DONE else None,
    ).model_dump_doc()

    made = event(TaskAction.CREATED, before={}, after=task, actor_id=viewer_id, caused_by=caused_by)
    if task["parentId"] is None:
        committed = await commits.insert({"tasks": [task], **event_log.inserts([made])})
        await commits.versions.renew(viewer_id)
        return Written(task, EventCursor.at(committed.time, committed.first[event_log.COLLECTION]))

    async def write(session: Session) -> None:
        await _check_parent(commits.db, session, task, ("input", "parent", "id"), is_new=True)
        await commits.db["tasks"].insert_one(task, session=session)
        await event_log.append(commits.db, session, [made])

    _, committed_at = await transaction(commits.db, write)
    await commits.versions.renew(viewer_id)
    return Written(task, EventCursor.at(committed_at))


@dataclass(frozen=True, slots=True)
class Patch:
    """What to change: `fields` as stored, None clearing; labels can also be added and removed."""

    fields: Mapping[str, Any]
    add_labels: Sequence[str] = ()
    remove_labels: Sequence[str] = ()


async def update_task(
    commits: GroupCommit,
    viewer_id: ObjectId,
    task_id: ObjectId,
    patch: Patch,
    *,
    expected_version: int | None = None,
    caused_by: str | None = None,
) -> Written:
    """The task with the patch applied. InputRefused, TaskNotFound, VersionConflict, AssigneeNotFound, ParentCycle, TooDeep."""
    checklist = rules.Checklist("input", "patch")
    values = rules.cleaned(patch.fields, checklist)
    checklist.done()
    _check_assignee(viewer_id, values, ("input", "patch", "assigneeId"))

    async def change(session: Session, before: Document, now: datetime) -> Document:
        if before["isDeleted"]:
            raise TaskNotFound("This task is deleted; restore it first.")
        after = before | values
        if patch.add_labels or patch.remove_labels:
            labels = rules.Checklist("input", "patch")
            after["labels"] = rules.merged_labels(
                after["labels"], add=patch.add_labels, remove=patch.remove_labels, checklist=labels
            )
            labels.done()
        if after["parentId"] is not None and after["parentId"] != before["parentId"]:
            await _check_parent(commits.db, session, after, ("input", "patch", "parentId"), is_new=False)
        return _with_derived(before, after, now)

    return await _change(
        commits, viewer_id, task_id, TaskAction.UPDATED, change, expected_version=expected_version, caused_by=caused_by
    )


async def delete_task(
    commits: GroupCommit,
    viewer_id: ObjectId,
    task_id: ObjectId,
    *,
    expected_version: int | None = None,
    caused_by: str | None = None,
) -> Written:
    """The task in the trash, from where it can be restored for 30 days; again is no change. TaskNotFound, VersionConflict."""

    async def change(_session: Session, before: Document, now: datetime) -> Document:
        return before if before["isDeleted"] else before | {"deletedAt": now, "isDeleted": True}

    return await _change(
        commits, viewer_id, task_id, TaskAction.DELETED, change, expected_version=expected_version, caused_by=caused_by
    )


async def restore_task(commits: GroupCommit, viewer_id: ObjectId, task_id: ObjectId, *, caused_by: str | None = None) -> Written:
    """The task back from the trash; no change when it is not there. TaskNotFound after 30 days."""

    async def change(_session: Session, before: Document, now: datetime) -> Document:
        # MongoDB removes expired documents about once a minute; until then they are gone all the same.
        if before["isDeleted"] and before["deletedAt"] < now - timedelta(seconds=RESTORABLE_SECONDS):
            raise TaskNotFound("This task was deleted more than 30 days ago and cannot be brought back.")
        return before | {"deletedAt": None, "isDeleted": False}

    return await _change(commits, viewer_id, task_id, TaskAction.RESTORED, change, expected_version=None, caused_by=caused_by)


async def _change(
    commits: GroupCommit,
    viewer_id: ObjectId,
    task_id: ObjectId,
    action: TaskAction,
    change: Callable[[Session, Document, datetime], Awaitable[Document]],
    *,
    expected_version: int | None,
    caused_by: str | None,
) -> Written:
    """One transaction: read, change, write what differs with the next version, and the event. No difference, no write."""
    rules.check_idempotency_key(caused_by)
    db = commits.db

    async def write(session: Session) -> tuple[Document, bool]:
        before = await db["tasks"].find_one({"_id": task_id, "ownerId": viewer_id}, session=session)
        if before is None:
            raise TaskNotFound
        if expected_version is not None and before["version"] != expected_version:
            raise VersionConflict(before["version"])
        now = clock.now()
        after = await change(session, before, now)
        if after == before:
            return before, False
        after |= {"version": before["version"] + 1, "updatedAt": now}
        changed = {key: value for key, value in after.items() if before[key] != value}
        await db["tasks"].update_one({"_id": task_id, "ownerId": viewer_id}, {"$set": changed}, session=session)
        made = event(action, before=before, after=after, actor_id=viewer_id, caused_by=caused_by)
        await event_log.append(db, session, [made])
        return after, True

    try:
        (task, is_changed), committed_at = await transaction(db, write)
    except VersionConflict:
        await commits.versions.renew(viewer_id)
        raise
    # Also where nothing had to change, or may not: what the caller hears of may be the commit of another, who has not renewed yet.
    await commits.versions.renew(viewer_id)
    return Written(task, EventCursor.at(committed_at) if is_changed else None)


def _with_derived(before: Document, after: Document, now: datetime) -> Document:
    """The fields that follow from others."""
    after["titleKey"] = title_key(after["title"])
    after["dueOrder"] = after["dueDate"] or NEVER
    is_done, was_done = after["status"] == TaskStatus.DONE, before["status"] == TaskStatus.DONE
    if is_done != was_done:
        after["completedAt"] = now if is_done else None
    return after


def _check_assignee(viewer_id: ObjectId, values: Mapping[str, Any], path: tuple[str, ...]) -> None:
    if values.get("assigneeId") not in {None, viewer_id}:
        raise AssigneeNotFound(path)


async def _check_parent(db: Database, session: Session, task: Document, path: tuple[str, ...], *, is_new: bool) -> None:
    """The parent is there, is the same owner's, does not stand below the task, and the tree does not get too deep."""
    # Snapshot transactions alone let two moves close a loop between them; touching one document per owner makes them take turns.
    # A new task has nothing below it and closes no loop, so it need not wait; a race may take a tree a level or two too deep.
    if not is_new:
        await db["graphs"].update_one({"_id": task["ownerId"]}, {"$inc": {"moves": 1}}, upsert=True, session=session)
    ancestors = {
        "$graphLookup": {
            "from": "tasks",
            "startWith": "$parentId",
            "connectFromField": "parentId",
            "connectToField": "_id",
            "as": "ancestors",
            "maxDepth": 2 * MAX_DEPTH,
            "restrictSearchWithMatch": {"ownerId": task["ownerId"]},
        }
    }
    parent_only = {"$match": {"_id": task["parentId"], "ownerId": task["ownerId"], "isDeleted": False}}
    pipeline: list[Document] = [parent_only, ancestors, {"$project": {"ancestors._id": 1}}]
    found = await (await db["tasks"].aggregate(pipeline, session=session)).to_list()
    if not found:
        raise TaskNotFound("You have no such task to be the parent.", path)
    above = {found[0]["_id"], *(each["_id"] for each in found[0]["ancestors"])}
    if task["_id"] in above:
        raise ParentCycle(path)
    below = 0 if is_new else await _levels_below(db, session, task)
    if len(above) + 1 + below > MAX_DEPTH:
        raise TooDeep(path)


async def _levels_below(db: Database, session: Session, task: Document) -> int:
    """How many levels of subtasks a task has, deleted ones included as they can come back; counts no further than MAX_DEPTH.

    A query for each level: $graphLookup would hold the whole documents of the tree in memory, where 100 MB are the end.
    """
    parents = [task["_id"]]
    for level in range(MAX_DEPTH):
        children = {"ownerId": task["ownerId"], "isDeleted": {"$in": [False, True]}, "parentId": {"$in": parents}}
        parents = [child["_id"] async for child in db["tasks"].find(children, {"_id": 1}, session=session)]
        if not parents:
            return level
    return MAX_DEPTH
