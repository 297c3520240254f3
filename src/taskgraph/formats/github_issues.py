"""The issues that `gh issue list --json` prints. Priorities, and that work has begun, are labels as many repositories have them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from taskgraph.formats.fields import BadField, an_object, as_text, is_uuid, listed, moment, needed, one_of, text
from taskgraph.formats.record import Record
from taskgraph.tasks.model import CLOSED, TaskPriority, TaskStatus

KEYS = frozenset({"number", "title", "state"})
EXAMPLE = "2030-11-24T08:00:00Z"
# How an address names a task of ours.
OURS = "urn:uuid:"
_PRIORITY = re.compile(r"priority:\s*(low|medium|high|urgent)", re.IGNORECASE)
_STATUS = re.compile(r"status:\s*(todo|in[ _-]progress)", re.IGNORECASE)


def task(given: Mapping[str, Any]) -> Record:
    """The task of one issue. BadField."""
    number, url = _number(given), text(given, "url").strip()
    if url and not url.startswith(("https://", "http://", OURS)):
        raise BadField.of("url", url, "an address")
    title = needed(given, "title")
    is_closed = one_of("state", needed(given, "state"), ("OPEN", "CLOSED")) == "CLOSED"
    names = [_label(each) for each in listed(given, "labels")]
    progress, names = _taken(_STATUS, names)
    priority, names = _taken(_PRIORITY, names)
    if is_closed:
        given_up = text(given, "stateReason").upper() in {"NOT_PLANNED", "DUPLICATE"}
        status = TaskStatus.CANCELED if given_up else TaskStatus.DONE
    else:
        status = TaskStatus.TODO if progress.casefold() in {"", "todo"} else TaskStatus.IN_PROGRESS
    milestone = {} if given.get("milestone") is None else an_object("milestone", given["milestone"])
    return Record(
        id=_id(number, url),
        title=title,
        description=text(given, "body"),
        status=status,
        priority=TaskPriority[priority.upper()] if priority else TaskPriority.MEDIUM,
        labels=names,
        due=moment("milestone.dueOn", text(milestone, "dueOn"), EXAMPLE),
        mark=None if url else text(given, "createdAt") or title.strip(),
    )


def entry(record: Record) -> dict[str, Any]:
    """What `task` makes the same record of, without its relatives. The number only looks like one: it is the same in every export."""
    is_closed = record.status in CLOSED
    labels = list(record.labels)
    # A label of the task that would be read as its priority or status follows the one that is meant.
    if record.priority is not TaskPriority.MEDIUM or _is_any(_PRIORITY, record.labels):
        labels.insert(0, f"priority: {record.priority.name.lower()}")
    if record.status is TaskStatus.IN_PROGRESS or _is_any(_STATUS, record.labels):
        labels.insert(0, "status: in progress" if record.status is TaskStatus.IN_PROGRESS else "status: todo")
    return {
        # 53 bits, which every reader of JSON takes.
        "number": int.from_bytes(hashlib.sha256(record.id.encode()).digest()[:8]) >> 11,
        "url": f"{OURS}{record.id}",
        "title": record.title,
        "body": record.description,
        "state": "CLOSED" if is_closed else "OPEN",
        "stateReason": "NOT_PLANNED" if record.status is TaskStatus.CANCELED else "COMPLETED" if is_closed else "",
        "labels": [{"name": label} for label in labels],
        "milestone": {"title": record.due.date().isoformat(), "dueOn": f"{record.due.isoformat()}Z"} if record.due else None,
        "createdAt": f"{record.created.isoformat(timespec='seconds')}Z" if record.created else None,
    }


def _number(given: Mapping[str, Any]) -> int:
    number = given.get("number")
    if number is None:
        raise BadField("number is missing")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadField.of("number", number, "a whole number")
    return number


def _id(number: int, url: str) -> str:
    if not url:
        return str(number)
    named = url.removeprefix(OURS)
    return named.lower() if named != url and is_uuid(named) else url


def _label(given: Any) -> str:
    """As gh prints it, or only its name."""
    return as_text("labels", given) if isinstance(given, str) else needed(an_object("labels", given), "name")


def _taken(wanted: re.Pattern[str], labels: Sequence[str]) -> tuple[str, list[str]]:
    """What the first such label says, if there is one, and the other labels."""
    for number, label in enumerate(labels):
        if found := wanted.fullmatch(label.strip()):
            return found[1], [*labels[:number], *labels[number + 1 :]]
    return "", list(labels)


def _is_any(wanted: re.Pattern[str], labels: Sequence[str]) -> bool:
    return any(wanted.fullmatch(label) for label in labels)
