"""Taskwarrior's export, and what `task import` takes.

What Taskwarrior has no word for stands in user-defined attributes, which it keeps: they count while the attribute that they refine
still says the same.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from taskgraph.formats.fields import BadField, an_object, as_text, listed, moment, needed, one_of, text, uuid
from taskgraph.formats.record import Record, Skipped
from taskgraph.tasks.model import CLOSED, TaskPriority, TaskStatus

KEYS = frozenset({"uuid", "description", "status"})
STATUS, PRIORITY, PARENT = "taskgraphstatus", "taskgraphpriority", "taskgraphparent"
EXAMPLE = "20301124T080000Z"
_STATUSES = ("pending", "waiting", "completed", "deleted", "recurring")
_PRIORITIES = {"L": TaskPriority.LOW, "M": TaskPriority.MEDIUM, "H": TaskPriority.HIGH}
_LETTERS = {priority: letter for letter, priority in _PRIORITIES.items()} | {TaskPriority.URGENT: "H"}


def task(given: Mapping[str, Any]) -> Record | Skipped:
    """The task of one entry. BadField."""
    status = one_of("status", needed(given, "status"), _STATUSES)
    if status in {"deleted", "recurring"}:
        return Skipped()
    return Record(
        id=uuid("uuid", needed(given, "uuid")),
        title=needed(given, "description"),
        description="\n".join(text(an_object("annotations", each), "description") for each in listed(given, "annotations")),
        status=_status(given, is_completed=status == "completed"),
        priority=_priority(given),
        labels=[
            *(as_text("tags", each) for each in listed(given, "tags")),
            *([project] if (project := text(given, "project")) else []),
        ],
        due=moment("due", text(given, "due"), EXAMPLE),
        parent=uuid(PARENT, parent) if (parent := text(given, PARENT)) else None,
        blockers=[uuid("depends", each) for each in _depends(given)],
    )


def entry(record: Record) -> dict[str, Any]:
    """What `task` makes the same record of."""
    created = _time(record.created) if record.created else "19700101T000000Z"
    shown: dict[str, Any] = {
        "uuid": record.id,
        "description": record.title,
        "status": "completed" if record.status in CLOSED else "pending",
        "entry": created,
        "priority": _LETTERS[record.priority],
        "tags": list(record.labels),
    }
    if record.status is TaskStatus.CANCELED:
        shown[STATUS] = record.status.value
    if record.status is TaskStatus.IN_PROGRESS:
        shown["start"] = created
    if record.priority is TaskPriority.URGENT:
        shown[PRIORITY] = record.priority.name
    if record.description:
        shown["annotations"] = [{"entry": created, "description": record.description}]
    if record.due:
        shown["due"] = _time(record.due)
    if record.parent:
        shown[PARENT] = record.parent
    if record.blockers:
        shown["depends"] = list(record.blockers)
    return shown


def _status(given: Mapping[str, Any], *, is_completed: bool) -> TaskStatus:
    if is_completed:
        return TaskStatus.CANCELED if text(given, STATUS) == TaskStatus.CANCELED else TaskStatus.DONE
    return TaskStatus.IN_PROGRESS if text(given, "start") else TaskStatus.TODO


def _priority(given: Mapping[str, Any]) -> TaskPriority:
    letter = text(given, "priority")
    priority = _PRIORITIES[one_of("priority", letter, tuple(_PRIORITIES))] if letter else TaskPriority.MEDIUM
    is_urgent = priority is TaskPriority.HIGH and text(given, PRIORITY) == TaskPriority.URGENT.name
    return TaskPriority.URGENT if is_urgent else priority


def _depends(given: Mapping[str, Any]) -> list[str]:
    """Before version 2.6 a text."""
    match given.get("depends"):
        case None | "":
            return []
        case str() as found:
            return found.split(",")
        case list() as found:
            return [as_text("depends", each) for each in found]
        case found:
            raise BadField.of("depends", found, "a list")


def _time(at: datetime) -> str:
    # strftime writes the year 1 as it is.
    return f"{at.year:04}{at:%m%dT%H%M%SZ}"
