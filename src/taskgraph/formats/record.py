"""What every format is read into and written from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from taskgraph.errors import TaskgraphError
from taskgraph.tasks.model import TaskPriority, TaskStatus


class Format(StrEnum):
    """Whose file it is."""

    TASKWARRIOR = "taskwarrior"
    GITHUB_ISSUES = "github-issues"
    CSV = "csv"


class NotThisFormat(TaskgraphError):
    """The file as a whole cannot be read as what it should be."""


@dataclass(frozen=True, slots=True)
class Record:
    """One task of a file. `id` is the file's name for it, by which `parent` and `blockers` refer to others.

    `mark` is None when no other task anywhere has this id. An id that only counts within its list is told from the same one of another
    list by the mark, which stays as it is as long as the list is the same.
    """

    id: str
    title: str
    description: str = ""
    status: TaskStatus = TaskStatus.TODO
    priority: TaskPriority = TaskPriority.MEDIUM
    labels: Sequence[str] = ()
    due: datetime | None = None
    parent: str | None = None
    blockers: Sequence[str] = ()
    mark: str | None = None
    # Only written: an import is a creation, at its own time.
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry that should be a task and is none, and why; with its id where that is known."""

    reason: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry that is not meant to become a task."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at one place of a file."""

    place: str
    found: Record | Unusable | Skipped


@dataclass(frozen=True, slots=True)
class Contents:
    """A file that was read: its entries in order, and the columns that nobody has asked for."""

    of: Format
    entries: Sequence[Entry]
    ignored: Sequence[str] = ()
