"""Which tasks and in which order: the input types, and their way inside to criteria and orders."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import strawberry
from bson import ObjectId

from taskgraph.accounts.schema import USER
from taskgraph.errors import BadUserInput
from taskgraph.server.relay import expect_id_of
from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import Order, all_of
from taskgraph.tasks import criteria, orders
from taskgraph.tasks.criteria import ANYTHING, Criteria
from taskgraph.tasks.enums import OrderDirection, TaskOrderField, TaskPriority, TaskStatus
from taskgraph.tasks.model import TASK

MAX_FILTER_DEPTH = 4
MAX_FILTERS = 200
MAX_VALUES = 100
MAX_TEXT_CHARACTERS = 200
Value = TypeVar("Value")


@strawberry.input(description="How to order tasks.")
class TaskOrder:
    """A field and a direction."""

    field: TaskOrderField = strawberry.field(default=TaskOrderField.CREATED_AT, description="What to order by.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="Which end comes first.")

    def order(self) -> Order:
        """The order it stands for."""
        return orders.by(self.field, self.direction)


@strawberry.input(description="Conditions on a text; all given ones hold together.")
class StringFilter:
    """contains and startsWith ignore case."""

    eq: str | None = strawberry.field(default=None, description="Exactly this text.")
    in_: list[str] | None = strawberry.field(default=None, name="in", description="One of these texts; at most 100.")
    contains: str | None = strawberry.field(
        default=None, description="This text is somewhere in it, ignoring case; at most 200 characters."
    )
    starts_with: str | None = strawberry.field(
        default=None, description="It begins with this text, ignoring case; at most 200 characters."
    )


@strawberry.input(description="Conditions on a reference; all given ones hold together.")
class IDFilter:
    """Global ids."""

    eq: strawberry.ID | None = strawberry.field(default=None, description="Exactly this object.")
    in_: list[strawberry.ID] | None = strawberry.field(default=None, name="in", description="One of these objects; at most 100.")
    is_null: bool | None = strawberry.field(default=None, description="True: refers to nothing. False: refers to something.")


@strawberry.input(description="Conditions on a time; all given ones hold together. A null time meets none but isNull.")
class DateTimeFilter:
    """Bounds."""

    gt: datetime | None = strawberry.field(default=None, description="Later than.")
    gte: datetime | None = strawberry.field(default=None, description="At or later than.")
    lt: datetime | None = strawberry.field(default=None, description="Earlier than.")
    lte: datetime | None = strawberry.field(default=None, description="At or earlier than.")
    is_null: bool | None = strawberry.field(default=None, description="True: is not set. False: is set.")


@strawberry.input(description="Conditions on the status; all given ones hold together.")
class StatusFilter:
    """Sets of statuses."""

    eq: TaskStatus | None = strawberry.field(default=None, description="Exactly this one.")
    in_: list[TaskStatus] | None = strawberry.field(default=None, name="in", description="One of these.")
    not_in: list[TaskStatus] | None = strawberry.field(default=None, description="None of these.")


@strawberry.input(description="Conditions on the priority; all given ones hold together.")
class PriorityFilter:
    """Priorities are ordered."""

    eq: TaskPriority | None = strawberry.field(default=None, description="Exactly this one.")
    in_: list[TaskPriority] | None = strawberry.field(default=None, name="in", description="One of these.")
    gte: TaskPriority | None = strawberry.field(default=None, description="This one or more urgent.")
    lte: TaskPriority | None = strawberry.field(default=None, description="This one or less urgent.")


@strawberry.input(description="Conditions on the labels; all given ones hold together. Case matters.")
class LabelFilter:
    """Sets of labels."""

    has_any: list[str] | None = strawberry.field(default=None, description="At least one of these; at most 100.")
    has_all: list[str] | None = strawberry.field(default=None, description="Every one of these; at most 100.")
    has_none: list[str] | None = strawberry.field(default=None, description="None of these; at most 100.")


@strawberry.input(
    description="All given conditions hold together; `and`, `or`, `not` nest up to 4 levels, and hold at most 200 filters in all."
)
class TaskFilter:
    """A tree of conditions."""

    and_: "list[TaskFilter] | None" = strawberry.field(
        default=None, name="and", description="Every one of these holds; at most 100."
    )
    or_: "list[TaskFilter] | None" = strawberry.field(
        default=None, name="or", description="At least one of these holds; at most 100."
    )
    not_: "TaskFilter | None" = strawberry.field(default=None, name="not", description="This does not hold.")
    status: StatusFilter | None = strawberry.field(default=None, description="On the status.")
    priority: PriorityFilter | None = strawberry.field(default=None, description="On the priority.")
    labels: LabelFilter | None = strawberry.field(default=None, description="On the labels.")
    title: StringFilter | None = strawberry.field(default=None, description="On the title.")
    assignee_id: IDFilter | None = strawberry.field(default=None, description="On the assignee.")
    parent_id: IDFilter | None = strawberry.field(
        default=None, description="On the parent; isNull: true gives the tasks at the top."
    )
    due_date: DateTimeFilter | None = strawberry.field(default=None, description="On the due date.")
    created_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of creation.")
    updated_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of the last change.")
    completed_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of completion.")
    is_overdue: bool | None = strawberry.field(default=None, description="Due before now and neither DONE nor CANCELED, or not so.")
    is_blocked: bool | None = strawberry.field(default=None, description="Some blocker is open, or none is.")
    include_deleted: bool | None = strawberry.field(
        default=None, description="True: deleted tasks too. Only at the top level of a filter; they are left out otherwise."
    )


def order_of(order: TaskOrder | None) -> Order:
    """The order asked for; newest first when none was."""
    return order.order() if order else orders.NEWEST_FIRST


def criteria_of(given: TaskFilter | None, now: Callable[[], datetime]) -> Criteria:
    """The criteria a filter stands for at a time; BadUserInput when it is too large, too deep or names ids that are none."""
    if given is None:
        return criteria.PLAIN
    return Criteria(_condition(given, now, itertools.count(1), depth=0), include_deleted=bool(given.include_deleted))


def _condition(given: TaskFilter, now: Callable[[], datetime], numbers: Iterator[int], *, depth: int) -> Document:
    if depth > MAX_FILTER_DEPTH:
        raise BadUserInput(f"and, or and not nest at most {MAX_FILTER_DEPTH} levels deep.")
    # MongoDB tries each of them on each task: 9,000, a hundred times a hundred, took as long as it was given.
    if next(numbers) > MAX_FILTERS:
        raise BadUserInput(f"A filter holds at most {MAX_FILTERS} filters in and, or and not.")
    if depth > 0 and given.include_deleted is not None:
        raise BadUserInput("includeDeleted belongs to the top level of a filter.")

    def inner(nested: TaskFilter) -> Document:
        return _condition(nested, now, numbers, depth=depth + 1)

    return all_of(
        [
            *(inner(each) for each in bounded("and", given.and_ or ())),
            _when(given.or_, lambda some: criteria.any_of([inner(each) for each in bounded("or", some)])),
            _when(given.not_, lambda nested: criteria.none_of(inner(nested))),
            _status(given.status),
            _priority(given.priority),
            _labels(given.labels),
            _title(given.title),
            _ids("assigneeId", USER, "User", given.assignee_id),
            _ids("parentId", TASK, "Task", given.parent_id),
            _due(given.due_date),
            _time("createdAt", given.created_at),
            _time("updatedAt", given.updated_at),
            _time("completedAt", given.completed_at),
            _when(given.is_overdue, lambda wanted: criteria.is_overdue(now(), wanted=wanted)),
            _when(given.is_blocked, lambda wanted: criteria.is_blocked(wanted=wanted)),
        ]
    )


def _status(given: StatusFilter | None) -> Document:
    if given is None:
        return ANYTHING
    return all_of(
        [
            _when(given.eq, lambda eq: criteria.value_in("status", criteria.statuses([eq]))),
            _when(given.in_, lambda among: criteria.value_in("status", criteria.statuses(among))),
            _when(given.not_in, lambda among: criteria.value_not_in("status", criteria.statuses(among))),
        ]
    )


def _priority(given: PriorityFilter | None) -> Document:
    if given is None:
        return ANYTHING
    return all_of(
        [
            _when(given.eq, lambda eq: criteria.value_in("priority", criteria.priorities([eq]))),
            _when(given.in_, lambda among: criteria.value_in("priority", criteria.priorities(among))),
            _when(given.gte, lambda bound: criteria.value_between("priority", gte=bound.value)),
            _when(given.lte, lambda bound: criteria.value_between("priority", lte=bound.value)),
        ]
    )


def _labels(given: LabelFilter | None) -> Document:
    if given is None:
        return ANYTHING
    return all_of(
        [
            _when(given.has_any, lambda labels: criteria.labels_any(bounded("hasAny", labels))),
            _when(given.has_all, lambda labels: criteria.labels_all(bounded("hasAll", labels))),
            _when(given.has_none, lambda labels: criteria.labels_none(bounded("hasNone", labels))),
        ]
    )


def _title(given: StringFilter | None) -> Document:
    if given is None:
        return ANYTHING
    return all_of(
        [
            _when(given.eq, lambda text: criteria.value_in("title", [text])),
            _when(given.in_, lambda texts: criteria.value_in("title", bounded("in", texts))),
            _when(given.contains, lambda text: criteria.title_contains(_short("contains", text))),
            _when(given.starts_with, lambda text: criteria.title_starts_with(_short("startsWith", text))),
        ]
    )


def _ids(key: str, kind: str, type_name: str, given: IDFilter | None) -> Document:
    def parsed(texts: Sequence[str]) -> list[ObjectId]:
        return [expect_id_of(kind, type_name, text) for text in bounded("in", texts)]

    if given is None:
        return ANYTHING
    return all_of(
        [
            _when(given.eq, lambda text: criteria.ids_in(key, parsed([text]))),
            _when(given.in_, lambda texts: criteria.ids_in(key, parsed(texts))),
            _when(given.is_null, lambda wanted: criteria.is_null(key, wanted=wanted)),
        ]
    )


def _due(given: DateTimeFilter | None) -> Document:
    if given is None:
        return ANYTHING
    bounds = criteria.due_between(gt=given.gt, gte=given.gte, lt=given.lt, lte=given.lte)
    return all_of([bounds, _when(given.is_null, lambda wanted: criteria.has_due_date(wanted=not wanted))])


def _time(key: str, given: DateTimeFilter | None) -> Document:
    if given is None:
        return ANYTHING
    bounds = criteria.value_between(key, gt=given.gt, gte=given.gte, lt=given.lt, lte=given.lte)
    return all_of([bounds, _when(given.is_null, lambda wanted: criteria.is_null(key, wanted=wanted))])


def _when(value: Value | None, condition: Callable[[Value], Document]) -> Document:
    """The condition on a given value: in a filter, null is the same as left out."""
    return ANYTHING if value is None else condition(value)


def bounded(name: str, values: Sequence[Value]) -> Sequence[Value]:
    """The values, unless there are too many: BadUserInput."""
    if len(values) > MAX_VALUES:
        raise BadUserInput(f"{name} takes at most {MAX_VALUES} values.")
    return values


def _short(name: str, text: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise BadUserInput(f"{name} takes at most {MAX_TEXT_CHARACTERS} characters.")
    return text
