"""What an event says about a task: the action, the task right after it, and what changed."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from bson import ObjectId

from taskgraph.storage.event_log import Event
from taskgraph.storage.mongo import Document

TRACKED = (
    "title",
    "description",
    "status",
    "priority",
    "labels",
    "dueDate",
    "assigneeId",
    "parentId",
    "completedAt",
    "deletedAt",
)


class TaskAction(StrEnum):
    """What happened to a task."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    RESTORED = "RESTORED"
    DEPENDENCY_ADDED = "DEPENDENCY_ADDED"
    DEPENDENCY_REMOVED = "DEPENDENCY_REMOVED"
    ACCESS_LOST = "ACCESS_LOST"


def changes(before: Document, after: Document) -> list[dict[str, Any]]:
    """The tracked fields that differ, as stored. Of a new task (`before` is empty): those that hold something."""
    nothing: tuple[Any, ...] = (None, "", [])
    return [
        {"field": name, "before": before.get(name), "after": after[name]}
        for name in TRACKED
        if (before[name] != after[name] if before else after[name] not in nothing)
    ]


def blocker_change(*, before: ObjectId | None = None, after: ObjectId | None = None) -> dict[str, Any]:
    """A blocker that came or went."""
    return {"field": "blockedBy", "before": before, "after": after}


def event(
    action: TaskAction,
    *,
    before: Document,
    after: Document,
    blockers: Sequence[dict[str, Any]] = (),
    actor_id: ObjectId,
    caused_by: str | None,
) -> Event:
    """The event of one change; `blockers` are those that came or went. Until tasks can be shared, its audience is the owner alone."""
    people = {after["ownerId"], after["creatorId"], after["assigneeId"], before.get("assigneeId"), actor_id}
    return Event(
        owner_id=after["ownerId"],
        subject_id=after["_id"],
        audience=[after["ownerId"]],
        people=sorted(person for person in people if person is not None),
        action=action.value,
        version=after["version"],
        snapshot=after,
        changes=[*changes(before, after), *blockers],
        actor_id=actor_id,
        occurred_at=after["updatedAt"],
        caused_by=caused_by,
    )
