"""What creates and changes tasks: the input types, and their way inside to fields as stored."""

from datetime import datetime
from typing import Any

import strawberry
from strawberry import UNSET

from taskgraph.accounts.schema import USER
from taskgraph.errors import ErrorCode
from taskgraph.server.relay import parse_id_of
from taskgraph.storage.mongo import Document
from taskgraph.tasks.enums import TaskPriority, TaskStatus
from taskgraph.tasks.filters import TASK
from taskgraph.tasks.rules import Checklist
from taskgraph.tasks.writes import Patch


@strawberry.input(one_of=True, description="Points to a task.")
class TaskRef:
    """By its id."""

    id: strawberry.ID | None = strawberry.field(default=UNSET, description="An existing task.")


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
    idempotency_key: str | None = strawberry.field(
        default=None, description="Names this write, 1 to 200 characters: its event carries the key as `causedBy`."
    )

    def fields(self) -> Document:
        """The given members, as stored. InputRefused is left to the rules; ids that are none refer to nothing."""
        checklist = Checklist("input")
        given = {
            "title": self.title,
            "description": self.description,
            "status": self.status or TaskStatus.TODO,
            "priority": self.priority or TaskPriority.MEDIUM,
            "labels": self.labels,
            "dueDate": self.due_date,
            "assigneeId": _reference(USER, self.assignee_id, checklist, "assigneeId"),
            "parentId": _reference(TASK, self.parent.id if self.parent else None, checklist, "parent", "id"),
        }
        checklist.done()
        return given


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
        default=UNSET, description="Another task of the same owner that does not stand below this one."
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
        default=None, description="Change only this version of the task; if it has moved on, VERSION_CONFLICT and no change."
    )
    ignore_blockers: bool | None = strawberry.field(
        default=False, description="Has no effect while no task can be blocked by another."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="Names this write, 1 to 200 characters: its event carries the key as `causedBy`."
    )


@strawberry.input(description="Which task to delete.")
class DeleteTaskInput:
    """Which, and under which condition."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's tasks.")
    expected_version: int | None = strawberry.field(
        default=None, description="Delete only this version of the task; if it has moved on, VERSION_CONFLICT and no change."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="Names this write, 1 to 200 characters: its event carries the key as `causedBy`."
    )


@strawberry.input(description="Which task to restore.")
class RestoreTaskInput:
    """Which."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's deleted tasks.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="Names this write, 1 to 200 characters: its event carries the key as `causedBy`."
    )


def _reference(kind: str, text: Any, checklist: Checklist, *path: str) -> Any:
    """The object id of a reference; null and left out pass through."""
    if text is None or text is UNSET:
        return text
    found = parse_id_of(kind, text)
    if found is None:
        checklist.note(ErrorCode.NOT_FOUND, "There is no such object.", *path)
    return found
