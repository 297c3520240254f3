"""Which tasks are meant: small conditions on stored tasks, and how they combine. Values are typed before they come here, so no
operator can be smuggled in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import bson
from bson import ObjectId

from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import all_of
from taskgraph.tasks.model import CLOSED, NEVER, TaskPriority, TaskStatus, title_key

NOTHING: Document = {"_id": {"$in": []}}
ANYTHING: Document = {}


@dataclass(frozen=True)
class Criteria:
    """A condition on tasks, comparable so that equal ones are read together. Deleted tasks are left out unless asked for."""

    condition: Document = field(default_factory=dict, compare=False)
    include_deleted: bool = False
    digest: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", bson.encode(self.condition))

    @property
    def is_plain(self) -> bool:
        """Whether it is all tasks that are not deleted."""
        return not self.condition and not self.include_deleted

    @property
    def conditions(self) -> list[Document]:
        """For the database; whether deleted or not is always said, because indexes start with it."""
        return [{"isDeleted": {"$in": [False, True]} if self.include_deleted else False}, self.condition]


PLAIN = Criteria()


def any_of(conditions: Sequence[Document]) -> Document:
    """At least one holds; of none, none does."""
    return {"$or": list(conditions)} if conditions else NOTHING


def none_of(condition: Document) -> Document:
    """It does not hold."""
    return {"$nor": [condition]}


def value_in(key: str, values: Sequence[Any]) -> Document:
    """The value is one of these."""
    return {key: values[0]} if len(values) == 1 else {key: {"$in": list(values)}}


def value_not_in(key: str, values: Sequence[Any]) -> Document:
    """The value is none of these."""
    return {key: {"$nin": list(values)}}


def value_between(key: str, **bounds: Any) -> Document:
    """Comparisons by gt, gte, lt and lte; those that are None are left out."""
    given = {f"${name}": bound for name, bound in bounds.items() if bound is not None}
    return {key: given} if given else ANYTHING


def due_between(**bounds: datetime | None) -> Document:
    """The same for due dates; a task without one is never within bounds. Uses the key that the index orders by."""
    given = value_between("dueOrder", **bounds)
    return all_of([given, {"dueOrder": {"$lt": NEVER}}]) if given else ANYTHING


def has_due_date(*, wanted: bool) -> Document:
    """With or without a due date."""
    return {"dueOrder": {"$lt": NEVER}} if wanted else {"dueOrder": NEVER}


def is_null(key: str, *, wanted: bool) -> Document:
    """The value is null, or is not."""
    return {key: None} if wanted else {key: {"$ne": None}}


def title_contains(text: str) -> Document:
    """Anywhere in the title, ignoring case."""
    return _title_matches(re.escape(title_key(text)), text)


def title_starts_with(text: str) -> Document:
    """At the start of the title, ignoring case; a range of the title index."""
    return _title_matches("^" + re.escape(title_key(text)), text)


def labels_any(labels: Sequence[str]) -> Document:
    """At least one of these labels; of no labels, none."""
    return {"labels": {"$in": list(labels)}}


def labels_all(labels: Sequence[str]) -> Document:
    """Every one of these labels; of no labels, always."""
    return {"labels": {"$all": list(labels)}} if labels else ANYTHING


def labels_none(labels: Sequence[str]) -> Document:
    """None of these labels."""
    return {"labels": {"$nin": list(labels)}} if labels else ANYTHING


def is_overdue(at: datetime, *, wanted: bool) -> Document:
    """Due before `at` and still open, or not so."""
    overdue = {"dueOrder": {"$lt": at}, "status": {"$nin": [status.value for status in CLOSED]}}
    return overdue if wanted else none_of(overdue)


def is_blocked(*, wanted: bool) -> Document:
    """Some blocker is open, or none is."""
    blocked = {"openBlockers": {"$gt": 0}}
    return blocked if wanted else none_of(blocked)


def ids_in(key: str, ids: Sequence[ObjectId]) -> Document:
    """The reference is one of these."""
    return value_in(key, ids) if ids else NOTHING


def statuses(values: Sequence[TaskStatus]) -> list[str]:
    """As stored."""
    return [status.value for status in values]


def priorities(values: Sequence[TaskPriority]) -> list[int]:
    """As stored."""
    return [priority.value for priority in values]


def _title_matches(pattern: str, text: str) -> Document:
    # No title contains NUL, and MongoDB refuses it in a pattern.
    return NOTHING if "\0" in text else {"titleKey": {"$regex": pattern}}
