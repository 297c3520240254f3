"""Changing tasks one by one: check the rule, then one transaction that writes the task and its event. What is returned was not read
again. Changes of many tasks at once, in bulk.py, follow the same rules.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.errors import BulkWriteError

from taskgraph.errors import InputRefused
from taskgraph.storage import clock, event_log, idempotency
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.group_commit import Commits
from taskgraph.storage.idempotency import Key
from taskgraph.storage.mongo import Document
from taskgraph.tasks import creation, graph, history, rules
from taskgraph.tasks.creation import Draft
from taskgraph.tasks.events import TaskAction, event
from taskgraph.tasks.history import Point
from taskgraph.tasks.model import NEVER, RESTORABLE_SECONDS, TaskStatus, title_key
from taskgraph.tasks.reads import TaskKey
from taskgraph.tasks.refusals import AssigneeNotFound, Blocked, NoSuchPoint, TaskNotFound, VersionConflict
from taskgraph.tasks.work import EDGES, OPEN_BLOCKERS, Outcome, Work, Written, perform, replayed, result_of, told

# What a task says; not where it stands, nor whether it is deleted.
REVERTED = ("title", "description", "status", "priority", "labels", "dueDate", "assigneeId")


async def create_task(commits: Commits, viewer_id: ObjectId, draft: Draft, *, key: Key | None = None) -> Written:
    """A new task of the viewer. InputRefused with all that is wrong, KeyReused."""
    task, problems = creation.drafted(draft, viewer_id, clock.now())
    if problems:
        raise InputRefused(*problems)
    if draft.parent is None and not draft.blockers:
        return await _create_alone(commits, task, key)

    async def change(work: Work) -> Outcome:
        ids, refused = await creation.create(work, [draft])
        if refused:
            raise InputRefused(*refused[0])
        return Outcome(ids)

    return await perform(commits, viewer_id, change, key=key)


async def _create_alone(commits: Commits, task: Document, key: Key | None) -> Written:
    """Nothing else has to be read or changed, so it is committed together with the creations of others."""
    owner_id, caused_by = task["ownerId"], key.text if key else None
    made = event(TaskAction.CREATED, before={}, after=task, actor_id=owner_id, caused_by=caused_by)
    inserts = {"tasks": [task], **event_log.inserts([made], told(commits.trail, [made]))}
    if key is not None:
        if (result := await idempotency.first_result(commits.db, key)) is not None:
            await commits.versions.renew(owner_id)
            return await replayed(commits.db, owner_id, result)
        result = result_of(Outcome([task["_id"]]), {task["_id"]: task}, [made])
        inserts[idempotency.COLLECTION] = [idempotency.record(key, result, task["createdAt"])]
    try:
        committed = await commits.group.insert(inserts)
    except BulkWriteError:
        # The twin was faster.
        if key is None or (result := await idempotency.first_result(commits.db, key)) is None:
            raise
        await commits.versions.renew(owner_id)
        return await replayed(commits.db, owner_id, result)
    if commits.trail is not None:
        commits.trail.is_left = True
    await commits.versions.renew(owner_id)
    return Written([task], EventCursor.at(committed.time, committed.first[event_log.COLLECTION]))


@dataclass(frozen=True, slots=True)
class Patch:
    """What to change: `fields` as stored, None clearing; labels can also be added and removed."""

    fields: Mapping[str, Any]
    add_labels: Sequence[str] = ()
    remove_labels: Sequence[str] = ()

    @property
    def names(self) -> set[str]:
        """The fields of a task that it is about."""
        return {*self.fields, *(["labels"] if self.add_labels or self.remove_labels else [])}

    def cleaned(self, viewer_id: ObjectId) -> "Patch":
        """The same with clean values. InputRefused, AssigneeNotFound."""
        checklist = rules.Checklist("input", "patch")
        values = rules.cleaned(self.fields, checklist)
        checklist.done()
        if values.get("assigneeId") not in {None, viewer_id}:
            raise AssigneeNotFound(("input", "patch", "assigneeId"))
        return Patch(values, self.add_labels, self.remove_labels)

    def applied(self, before: Document, now: datetime) -> Document:
        """The task after it, but for version and time; of a clean patch. InputRefused for too many labels, TaskNotFound when deleted."""
        if before["isDeleted"]:
            raise TaskNotFound("This task is deleted; restore it first.")
        after = {**before, **self.fields}
        if self.add_labels or self.remove_labels:
            labels = rules.Checklist("input", "patch")
            after["labels"] = rules.merged_labels(after["labels"], add=self.add_labels, remove=self.remove_labels, checklist=labels)
            labels.done()
        return _with_derived(before, after, now)


async def update_task(
    commits: Commits,
    viewer_id: ObjectId,
    task_id: ObjectId,
    patch: Patch,
    *,
    expected_version: int | None = None,
    ignore_blockers: bool = False,
    key: Key | None = None,
) -> Written:
    """The task with the patch applied. InputRefused, TaskNotFound, VersionConflict, AssigneeNotFound, CycleClosed, TooDeep, Blocked,
    KeyReused.
    """
    clean = patch.cleaned(viewer_id)

    async def change(work: Work) -> Outcome:
        before = await _task(work, task_id, expected_version, clean.names)
        after = clean.applied(before, work.now)
        if after["parentId"] not in {None, before["parentId"]}:
            for refused in (await graph.refused_moves(work, [task_id], after["parentId"], ("input", "patch", "parentId"))).values():
                raise refused
        if is_completed(before, after) and before.get(OPEN_BLOCKERS) and not ignore_blockers:
            raise Blocked(("input", "patch", "status"))
        if after != before:
            work.change(TaskAction.UPDATED, after)
        return Outcome([task_id])

    return await perform(commits, viewer_id, change, key=key)


def is_completed(before: Document, after: Document) -> bool:
    """Whether a change makes the task DONE."""
    return bool(after["status"] == TaskStatus.DONE != before["status"])


async def delete_task(
    commits: Commits, viewer_id: ObjectId, task_id: ObjectId, *, expected_version: int | None = None, key: Key | None = None
) -> Written:
    """The task in the trash, from where it can be restored for 30 days, and without its dependencies; again is no change.
    TaskNotFound, VersionConflict, KeyReused.
    """

    async def change(work: Work) -> Outcome:
        before = await _task(work, task_id, expected_version)
        await put_in_trash(work, [before])
        return Outcome([task_id])

    return await perform(commits, viewer_id, change, key=key)


async def put_in_trash(work: Work, tasks: Iterable[Document]) -> None:
    """Deletes those that are not deleted, and all dependencies of theirs."""
    trashed = [task for task in tasks if not task["isDeleted"]]
    for task in trashed:
        work.change(TaskAction.DELETED, task | {"deletedAt": work.now, "isDeleted": True})
    linked = [task["_id"] for task in trashed if task.get(EDGES)]
    if not linked:
        return
    edges = await work.edges({"$or": [{"blockerId": {"$in": linked}}, {"blockedId": {"$in": linked}}]})
    await work.read(end for edge in edges for end in (edge["blockerId"], edge["blockedId"]))
    for edge in edges:
        # The other end may be purged already.
        if edge["blockerId"] in work.tasks and edge["blockedId"] in work.tasks:
            work.unlink(edge)


async def restore_task(commits: Commits, viewer_id: ObjectId, task_id: ObjectId, *, key: Key | None = None) -> Written:
    """The task back from the trash; no change when it is not there. TaskNotFound after 30 days; KeyReused."""

    async def change(work: Work) -> Outcome:
        before = await _task(work, task_id, None)
        # MongoDB removes expired documents about once a minute; until then they are gone all the same.
        if before["isDeleted"] and before["deletedAt"] < work.now - timedelta(seconds=RESTORABLE_SECONDS):
            raise TaskNotFound("This task was deleted more than 30 days ago and cannot be brought back.")
        if before["isDeleted"]:
            work.change(TaskAction.RESTORED, before | {"deletedAt": None, "isDeleted": False})
        return Outcome([task_id])

    return await perform(commits, viewer_id, change, key=key)


async def revert_task(
    commits: Commits,
    viewer_id: ObjectId,
    task_id: ObjectId,
    point: Point,
    *,
    expected_version: int | None = None,
    key: Key | None = None,
) -> Written:
    """The task with the fields that it had then, as its next version; where it stands and what it waits for stay as they are.
    TaskNotFound, VersionConflict, NoSuchPoint, Blocked, KeyReused.
    """

    async def change(work: Work) -> Outcome:
        before = await _task(work, task_id, expected_version, REVERTED)
        if before["isDeleted"]:
            raise TaskNotFound("This task is deleted; restore it first.")
        then = before
        if not point.is_now(before):
            found = await history.standing(work.db, TaskKey(viewer_id, task_id), point, work.session)
            if found is None:
                raise NoSuchPoint
            then = found
        after = _with_derived(before, {**before, **{name: then[name] for name in REVERTED}}, work.now)
        if is_completed(before, after) and before.get(OPEN_BLOCKERS):
            raise Blocked(("input", "to"))
        if after != before:
            work.change(TaskAction.UPDATED, after)
        return Outcome([task_id])

    return await perform(commits, viewer_id, change, key=key)


async def _task(work: Work, task_id: ObjectId, expected_version: int | None, names: Iterable[str] = ()) -> Document:
    """The task, deleted or not, at the expected version; `names` are the fields that are to be changed."""
    await work.read([task_id])
    if (task := work.tasks.get(task_id)) is None:
        raise TaskNotFound
    if expected_version is not None and task["version"] != expected_version:
        changed = await _changed_since(work, task, expected_version)
        raise VersionConflict(task, sorted(name for name in names if changed is None or name in changed))
    return task


async def _changed_since(work: Work, task: Document, version: int) -> set[str] | None:
    """The fields that later versions have changed; None when not all of their events are there to tell."""
    later = {"ownerId": work.owner_id, "subjectId": task["_id"], "version": {"$gt": version}}
    events = await work.db["events"].find(later, {"changes.field": 1}, session=work.session).to_list()
    if len(events) != task["version"] - max(version, 0):
        return None
    return {change["field"] for each in events for change in each["changes"]}


def _with_derived(before: Document, after: Document, now: datetime) -> Document:
    """The fields that follow from others."""
    after["titleKey"] = title_key(after["title"])
    after["dueOrder"] = after["dueDate"] or NEVER
    is_done, was_done = after["status"] == TaskStatus.DONE, before["status"] == TaskStatus.DONE
    if is_done != was_done:
        after["completedAt"] = now if is_done else None
    return after
