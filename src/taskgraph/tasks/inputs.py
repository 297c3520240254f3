"""What creates and changes tasks: the input types, and their way inside to fields as stored."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import strawberry
from bson import ObjectId
from strawberry import UNSET

from taskgraph.accounts.schema import USER
from taskgraph.errors import ErrorCode
from taskgraph.server.relay import parse_id_of
from taskgraph.storage import idempotency
from taskgraph.storage.idempotency import Key
from taskgraph.tasks import rules
from taskgraph.tasks.creation import Draft, Path, Pointer, Ref
from taskgraph.tasks.enums import TaskPriority, TaskStatus
from taskgraph.tasks.model import TASK
from taskgraph.tasks.refusals import TaskNotFound
from taskgraph.tasks.rules import Checklist
from taskgraph.tasks.writes import Patch

KEY = (
    "Names this write, 1 to 200 characters. For 24 hours the same key with the same input answers the first result again and writes "
    "nothing; with another input it is IDEMPOTENCY_KEY_REUSED. Its events carry the key as `causedBy`."
)


@strawberry.input(one_of=True, description="Points to a task: an existing one, or another of the same bulk call.")
class TaskRef:
    """By its id or by its local name."""

    id: strawberry.ID | None = strawberry.field(default=UNSET, description="An existing task.")
    ref: str | None = strawberry.field(default=UNSET, description="The `ref` of another item of the same call, earlier or later.")

    def pointer(self, checklist: Checklist, *path: str) -> Pointer | None:
        """What it points to; None for an id that is none, which is noted."""
        if self.ref not in {None, UNSET}:
            return Ref(self.ref)
        found: ObjectId | None = _reference(TASK, self.id, checklist, *path, "id")
        return found


@strawberry.input(description="A new task.")
class CreateTaskInput:
    """Limits are in the descriptions."""

    title: str = strawberry.field(description="1 to 200 characters after trimming.")
    description: str | None = strawberry.field(default="", description="At most 10,000 characters.")
    status: TaskStatus | None = strawberry.field(default=TaskStatus.TODO, description="Where the work stands.")
    priority: TaskPriority | None = strawberry.field(default=TaskPriority.MEDIUM, description="How much it matters.")
    labels: list[str] | None = strawberry.field(
        default=None, description="At most 20, each 1 to 50 characters after trimming; repeated ones are kept once."
    )
    due_date: datetime | None = strawberry.field(default=None, description="When it should be done.")
    assignee_id: strawberry.ID | None = strawberry.field(
        default=None, description="Someone the task is shared with: for now, its owner."
    )
    parent: TaskRef | None = strawberry.field(
        default=None, description="The task of which this is a part; one of the viewer's own."
    )
    blocked_by: list[TaskRef] | None = strawberry.field(
        default=None, description="The tasks that it has to wait for: at most 100, of the viewer's own."
    )
    ref: str | None = strawberry.field(
        default=None,
        description="A local name, 1 to 200 characters, by which other items of the same bulk call may point to this one.",
    )
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)

    def draft(self, *path: str) -> Draft:
        """The given members, as stored, with what is wrong with them so far; ids that are none refer to nothing."""
        checklist = Checklist(*path)
        if self.ref is not None and not 1 <= len(self.ref) <= rules.IDEMPOTENCY_KEY_CHARACTERS:
            checklist.note(ErrorCode.INVALID, f"A ref has 1 to {rules.IDEMPOTENCY_KEY_CHARACTERS} characters.", "ref")
        given = {
            "title": self.title,
            "description": self.description,
            "status": self.status or TaskStatus.TODO,
            "priority": self.priority or TaskPriority.MEDIUM,
            "labels": self.labels,
            "dueDate": self.due_date,
            "assigneeId": _reference(USER, self.assignee_id, checklist, "assigneeId"),
        }
        parent = self.parent.pointer(checklist, "parent") if self.parent else None
        blockers = [
            pointer
            for number, each in enumerate(self.blocked_by or ())
            if (pointer := each.pointer(checklist, "blockedBy", str(number)))
        ]
        return Draft(given, parent, blockers, self.ref, path, checklist.problems)


@strawberry.input(description="A field left out is kept; null clears it.")
class TaskPatch:
    """title, status and priority cannot be cleared."""

    title: str | None = strawberry.field(default=UNSET, description="1 to 200 characters after trimming.")
    description: str | None = strawberry.field(default=UNSET, description="At most 10,000 characters.")
    status: TaskStatus | None = strawberry.field(default=UNSET, description="Where the work stands; completedAt follows.")
    priority: TaskPriority | None = strawberry.field(default=UNSET, description="How much it matters.")
    due_date: datetime | None = strawberry.field(default=UNSET, description="When it should be done.")
    labels: list[str] | None = strawberry.field(
        default=UNSET, description="Replaces all labels: at most 20, each 1 to 50 characters."
    )
    add_labels: list[str] | None = strawberry.field(default=UNSET, description="Added behind the others, unless there already.")
    remove_labels: list[str] | None = strawberry.field(default=UNSET, description="Removed if there.")
    assignee_id: strawberry.ID | None = strawberry.field(
        default=UNSET, description="Someone the task is shared with: for now, its owner."
    )
    parent_id: strawberry.ID | None = strawberry.field(
        default=UNSET, description="Another task of the same owner that neither stands below this one nor waits for it."
    )

    def patch(self) -> Patch:
        """The members that were given, as stored."""
        checklist = Checklist("input", "patch")
        given = {
            "title": self.title,
            "description": self.description,
            "status": self.status,
            "priority": self.priority,
            "dueDate": self.due_date,
            "labels": self.labels,
            "assigneeId": _reference(USER, self.assignee_id, checklist, "assigneeId"),
            "parentId": _reference(TASK, self.parent_id, checklist, "parentId"),
        }
        checklist.done()
        fields = {name: value for name, value in given.items() if value is not UNSET}
        return Patch(fields, add_labels=self.add_labels or (), remove_labels=self.remove_labels or ())


@strawberry.input(description="A change of one task.")
class UpdateTaskInput:
    """Which, what, and under which condition."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's tasks.")
    patch: TaskPatch = strawberry.field(description="What to change.")
    expected_version: int | None = strawberry.field(
        default=None, description="Change only this version of the task; if it has moved on, VersionConflict and no change."
    )
    ignore_blockers: bool | None = strawberry.field(
        default=False, description="Lets the task become DONE while a blocker is open, which is BLOCKED otherwise."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


@strawberry.input(description="Which task to delete.")
class DeleteTaskInput:
    """Which, and under which condition."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's tasks.")
    expected_version: int | None = strawberry.field(
        default=None, description="Delete only this version of the task; if it has moved on, VersionConflict and no change."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


@strawberry.input(description="Which task to restore.")
class RestoreTaskInput:
    """Which."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's deleted tasks.")
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


def key_of(owner_id: ObjectId, operation: str, given: Any) -> Key | None:
    """The idempotency key of a mutation's input, with what stands for the rest of it. InputRefused when it cannot be a key."""
    text: str | None = given.idempotency_key
    rules.check_idempotency_key(text)
    if text is None:
        return None
    return Key(owner_id, text, idempotency.digest_of(operation, replace(given, idempotency_key=None)))


def task_id_of(text: str, path: Path = ("input", "id")) -> ObjectId:
    """The task that an id of the input names. TaskNotFound."""
    found = parse_id_of(TASK, text)
    if found is None:
        raise TaskNotFound(path=path)
    return found


def _reference(kind: str, text: Any, checklist: Checklist, *path: str) -> Any:
    """The object id of a reference; null and left out pass through."""
    if text is None or text is UNSET:
        return text
    found = parse_id_of(kind, text)
    if found is None:
        checklist.note(ErrorCode.NOT_FOUND, "There is no such object.", *path)
    return found
