"""Points in the life of a task, and how it stood there."""

from datetime import datetime

import strawberry
from strawberry import UNSET

from taskgraph.accounts import reads as accounts
from taskgraph.accounts.schema import User
from taskgraph.context import Info
from taskgraph.server.fields import Reading, batched, stored
from taskgraph.storage.mongo import Document
from taskgraph.tasks.enums import TaskPriority, TaskStatus
from taskgraph.tasks.history import Point
from taskgraph.tasks.inputs import KEY

# What a snapshot shows, and so what must be at hand where the task itself serves as one.
SHOWN = ("version", "updatedAt", "title", "description", "status", "priority", "labels", "dueDate", "assigneeId")


@strawberry.input(one_of=True, description="A point in the life of a task.")
class TaskPoint:
    """Either."""

    version: int | None = strawberry.field(default=UNSET, description="When it had this version.")
    time: datetime | None = strawberry.field(default=UNSET, description="At this time.")

    def point(self) -> Point:
        """Of one-of inputs the other member is not set."""
        return Point(version=self.version) if self.version else Point(time=self.time or None)


@strawberry.input(description="Which task to set back, and to when.")
class RevertTaskInput:
    """Which, to when, and under which condition."""

    id: strawberry.ID = strawberry.field(description="One of the viewer's tasks.")
    to: TaskPoint = strawberry.field(description="The point whose fields it gets.")
    expected_version: int | None = strawberry.field(
        default=None, description="Change only this version of the task; if it has moved on, VersionConflict and no change."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


def _assignee(_info: Info) -> Reading["TaskSnapshot"]:
    return Reading(
        accounts.users_by_id, lambda task: task.document["assigneeId"], lambda _task, user: User(document=user) if user else None
    )


@strawberry.type(description="A task as it stood at some point.")
class TaskSnapshot:
    """Wraps a task as it was in an event."""

    document: strawberry.Private[Document]
    version: int = stored("version", "Which version it was.")
    at: datetime = stored("updatedAt", "When it became that version.")
    title: str = stored("title", "1 to 200 characters.")
    description: str = stored("description", "0 to 10,000 characters.")
    status: TaskStatus = stored("status", "Where the work stood.")
    priority: TaskPriority = stored("priority", "How much it mattered.")
    labels: list[str] = stored("labels", "At most 20, in order.")
    due_date: datetime | None = stored("dueDate", "When it was to be done.")
    assignee: User | None = batched(_assignee, "Who was to do it; null when that account is gone.", reads=["assigneeId"])
