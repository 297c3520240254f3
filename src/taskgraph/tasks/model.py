"""What is stored about tasks. Documents are camelCase; the model validates and dumps them."""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

from bson import ObjectId
from odmantic import Field, Model
from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel

# The kind of global ids.
TASK = "T"
RESTORABLE_SECONDS = 30 * 24 * 3600
# Where a task without a due date stands in the order of due dates: after every task that has one. The year 9999 is the last
# that MongoDB, Python and RFC 3339 agree on; real due dates end a day earlier.
NEVER = datetime(9999, 12, 31)  # noqa: DTZ001 - stored times are UTC without a zone


class TaskStatus(StrEnum):
    """Where the work stands."""

    TODO = "TODO"
    IN_PROGRESS = "IN_PROGRESS"
    DONE = "DONE"
    CANCELED = "CANCELED"


CLOSED = (TaskStatus.DONE, TaskStatus.CANCELED)


class TaskPriority(IntEnum):
    """Stored as a number, so that an index orders LOW < MEDIUM < HIGH < URGENT."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    URGENT = 4


def _indexes() -> list[Any]:
    def within_owner(name: str, *keys: str, direction: int = ASCENDING) -> IndexModel:
        # isDeleted comes before the order so that trash never lengthens a scan; _id breaks ties in the same direction.
        prefix = [("ownerId", ASCENDING), ("isDeleted", ASCENDING), *((key, ASCENDING) for key in keys[:-1])]
        return IndexModel([*prefix, (keys[-1], direction), ("_id", direction)], name=name)

    return [
        within_owner("owner_created", "createdAt", direction=DESCENDING),
        within_owner("owner_updated", "updatedAt", direction=DESCENDING),
        within_owner("owner_due", "dueOrder"),
        within_owner("owner_priority", "priority"),
        within_owner("owner_title", "titleKey"),
        within_owner("owner_status_created", "status", "createdAt", direction=DESCENDING),
        within_owner("owner_priority_created", "priority", "createdAt", direction=DESCENDING),
        within_owner("owner_parent_created", "parentId", "createdAt", direction=DESCENDING),
        IndexModel([("assigneeId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)], name="assignee_created"),
        # No stemming and no stop words: every word can be found, in any language.
        IndexModel(
            [("ownerId", ASCENDING), ("title", TEXT), ("description", TEXT)],
            name="owner_text",
            weights={"title": 10, "description": 5},
            default_language="none",
        ),
        IndexModel(
            [("deletedAt", ASCENDING)],
            name="purge_deleted",
            expireAfterSeconds=RESTORABLE_SECONDS,
            partialFilterExpression={"deletedAt": {"$type": "date"}},
        ),
    ]


def _dependency_indexes() -> list[Any]:
    return [
        IndexModel([("ownerId", ASCENDING), ("blockerId", ASCENDING), ("blockedId", ASCENDING)], name="edge", unique=True),
        # Without the owner: when a task is purged, its id is all that is told.
        IndexModel([("blockerId", ASCENDING), ("_id", ASCENDING)], name="blocker"),
        IndexModel([("blockedId", ASCENDING), ("_id", ASCENDING)], name="blocked"),
    ]


class Task(Model):
    """One task. `title_key`, `due_order` and `is_deleted` follow from the others: they are what indexes order and filter by.

    Two counters follow from dependencies; tasks from before there were any lack them, which is 0. `open_blockers` is exact, and
    `edge_count` at least the number of dependencies on either side: purged tasks are not subtracted. Whoever changes a
    dependency changes a counter of both tasks, so that nobody can decide by an older state of it at the same time.
    """

    model_config = {"collection": "tasks", "indexes": _indexes}

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    owner_id: ObjectId = Field(key_name="ownerId")
    creator_id: ObjectId = Field(key_name="creatorId")
    assignee_id: ObjectId | None = Field(default=None, key_name="assigneeId")
    parent_id: ObjectId | None = Field(default=None, key_name="parentId")
    title: str
    title_key: str = Field(key_name="titleKey")
    description: str = ""
    status: TaskStatus = TaskStatus.TODO
    priority: TaskPriority = TaskPriority.MEDIUM
    labels: list[str] = []
    due_date: datetime | None = Field(default=None, key_name="dueDate")
    due_order: datetime = Field(default=NEVER, key_name="dueOrder")
    version: int = 1
    created_at: datetime = Field(key_name="createdAt")
    updated_at: datetime = Field(key_name="updatedAt")
    completed_at: datetime | None = Field(default=None, key_name="completedAt")
    deleted_at: datetime | None = Field(default=None, key_name="deletedAt")
    is_deleted: bool = Field(default=False, key_name="isDeleted")
    open_blockers: int = Field(default=0, key_name="openBlockers")
    edge_count: int = Field(default=0, key_name="edgeCount")


class Dependency(Model):
    """One task waits for another of the same owner."""

    model_config = {"collection": "dependencies", "indexes": _dependency_indexes}

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    owner_id: ObjectId = Field(key_name="ownerId")
    blocker_id: ObjectId = Field(key_name="blockerId")
    blocked_id: ObjectId = Field(key_name="blockedId")
    created_at: datetime = Field(key_name="createdAt")


def is_overdue(task: Mapping[str, Any], at: datetime) -> bool:
    """Whether a stored task was due before `at` and is still open; criteria.is_overdue says the same to MongoDB."""
    return task["dueDate"] is not None and task["dueDate"] < at and task["status"] not in CLOSED


def is_open(task: Mapping[str, Any]) -> bool:
    """Whether a stored task is still to be done, so that those it blocks have to wait."""
    return task["status"] not in CLOSED and not task["isDeleted"]


def title_key(title: str) -> str:
    """The title as it is ordered and searched by prefix: without case."""
    return title.casefold()
