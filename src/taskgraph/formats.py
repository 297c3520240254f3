"""Tasks in files of other programs: Taskwarrior's export, the issues that `gh issue list --json` prints, and CSV with a header.

What a file says is taken as it is meant there; what one of its entries lacks or has wrong is told with that entry. Limits of tasks are
none of this module's business.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from taskgraph.errors import TaskgraphError
from taskgraph.tasks.model import TaskPriority, TaskStatus

TASKWARRIOR_TIME = "%Y%m%dT%H%M%SZ"
LABELS_SEPARATOR = ";"
COLUMNS = ("id", "title", "description", "status", "priority", "labels", "due", "parent", "blocked_by")
_LETTERS = {TaskPriority.LOW: "L", TaskPriority.MEDIUM: "M", TaskPriority.HIGH: "H", TaskPriority.URGENT: "H"}
_PRIORITIES = {"L": TaskPriority.LOW, "M": TaskPriority.MEDIUM, "H": TaskPriority.HIGH}


class Format(StrEnum):
    """Whose file it is."""

    TASKWARRIOR = "taskwarrior"
    GITHUB_ISSUES = "github-issues"
    CSV = "csv"


class NotThisFormat(TaskgraphError):
    """The file as a whole cannot be read as what it should be."""


@dataclass(frozen=True, slots=True)
class Record:
    """One task of a file. `id` is the file's name for it, by which `parent` and `blockers` refer to others."""

    id: str
    title: str
    description: str = ""
    status: TaskStatus = TaskStatus.TODO
    priority: TaskPriority = TaskPriority.MEDIUM
    labels: Sequence[str] = ()
    due: datetime | None = None
    parent: str | None = None
    blockers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry that is no task, and why."""

    reason: str


Entry = tuple[str, Record | Unusable]


def guessed(name: str, text: str) -> Format:
    """The format of a file by its name and its first characters."""
    if name.lower().endswith(".csv"):
        return Format.CSV
    beginning = text.lstrip()[:2000]
    if not beginning.startswith(("[", "{")):
        return Format.CSV
    return Format.GITHUB_ISSUES if '"number"' in beginning and '"uuid"' not in beginning else Format.TASKWARRIOR


def read(text: str, of: Format) -> list[Entry]:
    """The entries of a file in order, each with where it stands. NotThisFormat."""
    if of is Format.CSV:
        rows = csv.DictReader(io.StringIO(text))
        missing = {"title"} - set(rows.fieldnames or ())
        if missing:
            raise NotThisFormat("the file is no CSV with a header that has a column title")
        return [(f"line {rows.line_num}", _entry(_from_row, row, rows.line_num)) for row in rows]
    parse = _from_taskwarrior if of is Format.TASKWARRIOR else _from_issue
    return [(f"entry {number}", _entry(parse, each, number)) for number, each in enumerate(_objects(text), start=1)]


def written(records: Iterable[Record], of: Format) -> str:
    """A file of these tasks, as `read` takes it."""
    if of is Format.CSV:
        file = io.StringIO()
        rows = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        rows.writeheader()
        rows.writerows(map(_to_row, records))
        return file.getvalue()
    shown = map(_to_taskwarrior if of is Format.TASKWARRIOR else _to_issue, records)
    return json.dumps(list(shown), ensure_ascii=False, indent=1) + "\n"


def _objects(text: str) -> list[Any]:
    """The items of one JSON list, or of one JSON object a line, as Taskwarrior writes with json.array=off."""
    try:
        if text.lstrip().startswith("{"):
            return [json.loads(line.rstrip().rstrip(",")) for line in text.splitlines() if line.strip()]
        found = json.loads(text)
    except ValueError as error:
        raise NotThisFormat(f"the file is no JSON: {error}") from error
    if not isinstance(found, list):
        raise NotThisFormat("the file is no JSON list")
    return found


def _entry(parse: Callable[[Any, int], Record | Unusable], given: Any, number: int) -> Record | Unusable:
    try:
        return parse(given, number)
    except KeyError as error:
        return Unusable(f"{error.args[0]} is missing")
    except (TypeError, ValueError, AttributeError) as error:
        return Unusable(str(error) or "it makes no sense")


def _from_taskwarrior(given: Mapping[str, Any], _number: int) -> Record | Unusable:
    if given["status"] in {"deleted", "recurring"}:
        return Unusable(f"it is {given['status']}")
    notes = "\n".join(each["description"] for each in given.get("annotations", ()))
    depends = given.get("depends") or ()
    is_done = given["status"] == "completed"
    return Record(
        id=given["uuid"],
        title=given["description"],
        description=notes,
        status=TaskStatus.DONE if is_done else TaskStatus.IN_PROGRESS if "start" in given else TaskStatus.TODO,
        priority=_PRIORITIES[given["priority"]] if given.get("priority") else TaskPriority.MEDIUM,
        labels=[*given.get("tags", ()), *([given["project"]] if given.get("project") else ())],
        due=datetime.strptime(given["due"], TASKWARRIOR_TIME).replace(tzinfo=None) if given.get("due") else None,  # noqa: DTZ007 - as stored
        # Before version 2.6 a text.
        blockers=depends.split(",") if isinstance(depends, str) else list(depends),
    )


def _to_taskwarrior(record: Record) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "uuid": record.id,
        "description": record.title,
        "status": {TaskStatus.DONE: "completed", TaskStatus.CANCELED: "deleted"}.get(record.status, "pending"),
        "priority": _LETTERS[record.priority],
        "tags": list(record.labels),
    }
    if record.description:
        shown["annotations"] = [{"description": record.description}]
    if record.due:
        shown["due"] = record.due.strftime(TASKWARRIOR_TIME)
    if record.blockers:
        shown["depends"] = list(record.blockers)
    return shown


def _from_issue(given: Mapping[str, Any], _number: int) -> Record | Unusable:
    is_closed = given["state"].upper() == "CLOSED"
    closed = TaskStatus.CANCELED if given.get("stateReason") == "NOT_PLANNED" else TaskStatus.DONE
    milestone = given.get("milestone") or {}
    return Record(
        id=str(given["number"]),
        title=given["title"],
        description=given.get("body") or "",
        status=closed if is_closed else TaskStatus.TODO,
        labels=[label["name"] for label in given.get("labels", ())],
        due=_moment(milestone["dueOn"]) if milestone.get("dueOn") else None,
    )


def _to_issue(record: Record) -> dict[str, Any]:
    is_closed = record.status in {TaskStatus.DONE, TaskStatus.CANCELED}
    return {
        "number": int(record.id),
        "title": record.title,
        "body": record.description,
        "state": "CLOSED" if is_closed else "OPEN",
        "stateReason": "NOT_PLANNED" if record.status is TaskStatus.CANCELED else "COMPLETED" if is_closed else "",
        "labels": [{"name": label} for label in record.labels],
        "milestone": {"title": f"{record.due:%Y-%m-%d}", "dueOn": f"{record.due.isoformat()}Z"} if record.due else None,
    }


def _from_row(given: Mapping[Any, Any], number: int) -> Record | Unusable:
    # A row with more cells than the header has them under None.
    cells = {name: (value or "").strip() for name, value in given.items() if name is not None}
    return Record(
        id=cells.get("id") or f"{number}:{cells['title']}",
        title=cells["title"],
        description=cells.get("description", ""),
        status=TaskStatus(cells.get("status", "").upper() or "TODO"),
        priority=TaskPriority[cells.get("priority", "").upper() or "MEDIUM"],
        labels=_listed(cells.get("labels", "")),
        due=_moment(cells["due"]) if cells.get("due") else None,
        parent=cells.get("parent") or None,
        blockers=_listed(cells.get("blocked_by", "")),
    )


def _to_row(record: Record) -> dict[str, str]:
    return {
        "id": record.id,
        "title": record.title,
        "description": record.description,
        "status": record.status.value,
        "priority": record.priority.name,
        "labels": LABELS_SEPARATOR.join(record.labels),
        "due": f"{record.due.isoformat()}Z" if record.due else "",
        "parent": record.parent or "",
        "blocked_by": LABELS_SEPARATOR.join(record.blockers),
    }


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(LABELS_SEPARATOR) if each.strip()]


def _moment(text: str) -> datetime:
    """As stored; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
