"""The input types of tasks, and their way inside: ids, cursors and enums in, stored values and criteria out."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import strawberry
from bson import ObjectId
from strawberry import UNSET

from taskgraph.accounts.schema import USER
from taskgraph.errors import BadUserInput, ErrorCode
from taskgraph.server.enums import described
from taskgraph.server.relay import expect_id_of, parse_id_of
from taskgraph.storage import clock
from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import Order
from taskgraph.tasks import criteria, orders
from taskgraph.tasks.criteria import Criteria
from taskgraph.tasks.model import TaskPriority, TaskStatus
from taskgraph.tasks.orders import OrderDirection, TaskOrderField
from taskgraph.tasks.rules import Checklist
from taskgraph.tasks.writes import Patch

TASK = "T"
MAX_FILTER_DEPTH = 4
MAX_VALUES = 100
MAX_TEXT_CHARACTERS = 200
Value = TypeVar("Value")

described(
    TaskStatus,
    "Where the work stands.",
    TODO="Not begun.",
    IN_PROGRESS="Begun.",
    DONE="Finished; sets completedAt.",
    CANCELED="Will not be done.",
)
described(
    TaskPriority,
    "How much it matters; orders LOW < MEDIUM < HIGH < URGENT.",
    LOW="Some day.",
    MEDIUM="The ordinary case.",
    HIGH="Before the others.",
    URGENT="Now.",
)
described(
    TaskOrderField,
    "What to order tasks by; ties are broken by id.",
    CREATED_AT="When the task was created.",
    UPDATED_AT="When it was changed last.",
    DUE_DATE="When it is due; tasks without a due date come after all others when ascending, and first when descending.",
    PRIORITY="LOW < MEDIUM < HIGH < URGENT.",
    TITLE="By title, ignoring case.",
)
described(
    OrderDirection,
    "Which end comes first.",
    ASC="Smallest, earliest or first in the alphabet.",
    DESC="The reverse.",
)


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
    contains: str | None = strawberry.field(default=None, description="This text is somewhere in it, ignoring case; at most 200 characters.")
    starts_with: str | None = strawberry.field(default=None, description="It begins with this text, ignoring case; at most 200 characters.")


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


@strawberry.input(description="All given conditions hold together; `and`, `or`, `not` nest up to 4 levels.")
class TaskFilter:
    """A tree of conditions."""

    and_: "list[TaskFilter] | None" = strawberry.field(default=None, name="and", description="Every one of these holds; at most 100.")
    or_: "list[TaskFilter] | None" = strawberry.field(default=None, name="or", description="At least one of these holds; at most 100.")
    not_: "TaskFilter | None" = strawberry.field(default=None, name="not", description="This does not hold.")
    status: StatusFilter | None = strawberry.field(default=None, description="On the status.")
    priority: PriorityFilter | None = strawberry.field(default=None, description="On the priority.")
    labels: LabelFilter | None = strawberry.field(default=None, description="On the labels.")
    title: StringFilter | None = strawberry.field(default=None, description="On the title.")
    assignee_id: IDFilter | None = strawberry.field(default=None, description="On the assignee.")
    parent_id: IDFilter | None = strawberry.field(default=None, description="On the parent; isNull: true gives the tasks at the top.")
    due_date: DateTimeFilter | None = strawberry.field(default=None, description="On the due date.")
    created_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of creation.")
    updated_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of the last change.")
    completed_at: DateTimeFilter | None = strawberry.field(default=None, description="On the time of completion.")
    is_overdue: bool | None = strawberry.field(default=None, description="Due before now and neither DONE nor CANCELED, or not so.")
    include_deleted: bool | None = strawberry.field(
        default=None, description="True: deleted tasks too. Only at the top level of a filter; they are left out otherwise."
    )


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
    assignee_id: strawberry.ID | None = strawberry.field(default=None, description="Someone the task is shared with: for now, its owner.")
    parent: TaskRef | None = strawberry.field(default=None, description="The task of which this is a part; one of the viewer's own.")
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
    labels: list[str] | None = strawberry.field(default=UNSET, description="Replaces all labels: at most 20, each 1 to 50 characters.")
    add_labels: list[str] | None = strawberry.field(default=UNSET, description="Added behind the others, unless there already.")
    remove_labels: list[str] | None = strawberry.field(default=UNSET, description="Removed if there.")
    assignee_id: strawberry.ID | None = strawberry.field(default=UNSET, description="Someone the task is shared with: for now, its owner.")
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
    ignore_blockers: bool | None = strawberry.field(default=False, description="Has no effect while no task can be blocked by another.")
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


def order_of(order: TaskOrder | None) -> Order:
    """The order asked for; newest first when none was."""
    return order.order() if order else orders.NEWEST_FIRST


def criteria_of(given: TaskFilter | None) -> Criteria:
    """The criteria a filter stands for; BadUserInput when it is too large, too deep or names ids that are none."""
    if given is None:
        return Criteria()
    return Criteria(_condition(given, clock.now(), depth=0), include_deleted=bool(given.include_deleted))


def _condition(given: TaskFilter, now: datetime, *, depth: int) -> Document:
    if depth > MAX_FILTER_DEPTH:
        raise BadUserInput(f"and, or and not nest at most {MAX_FILTER_DEPTH} levels deep.")
    if depth > 0 and given.include_deleted is not None:
        raise BadUserInput("includeDeleted belongs to the top level of a filter.")

    def inner(nested: TaskFilter) -> Document:
        return _condition(nested, now, depth=depth + 1)

    return criteria.all_of(
        [
            *([inner(each) for each in bounded("and", given.and_)] if given.and_ is not None else []),
            criteria.any_of([inner(each) for each in bounded("or", given.or_)]) if given.or_ is not None else {},
            criteria.none_of(inner(given.not_)) if given.not_ is not None else {},
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
            criteria.is_overdue(now, wanted=given.is_overdue) if given.is_overdue is not None else {},
        ]
    )


def _status(given: StatusFilter | None) -> Document:
    return _conditions(
        given and (given.eq, lambda eq: criteria.value_in("status", [eq.value])),
        given and (given.in_, lambda among: criteria.value_in("status", criteria.statuses(among))),
        given and (given.not_in, lambda among: criteria.value_not_in("status", criteria.statuses(among))),
    )


def _priority(given: PriorityFilter | None) -> Document:
    return _conditions(
        given and (given.eq, lambda eq: criteria.value_in("priority", [eq.value])),
        given and (given.in_, lambda among: criteria.value_in("priority", criteria.priorities(among))),
        given and (given.gte, lambda bound: criteria.value_between("priority", gte=bound.value)),
        given and (given.lte, lambda bound: criteria.value_between("priority", lte=bound.value)),
    )


def _labels(given: LabelFilter | None) -> Document:
    return _conditions(
        given and (given.has_any, lambda labels: criteria.labels_any(bounded("hasAny", labels))),
        given and (given.has_all, lambda labels: criteria.labels_all(bounded("hasAll", labels))),
        given and (given.has_none, lambda labels: criteria.labels_none(bounded("hasNone", labels))),
    )


def _title(given: StringFilter | None) -> Document:
    return _conditions(
        given and (given.eq, lambda text: criteria.value_in("title", [text])),
        given and (given.in_, lambda texts: criteria.value_in("title", bounded("in", texts))),
        given and (given.contains, lambda text: criteria.title_contains(_short("contains", text))),
        given and (given.starts_with, lambda text: criteria.title_starts_with(_short("startsWith", text))),
    )


def _ids(key: str, kind: str, type_name: str, given: IDFilter | None) -> Document:
    def parsed(texts: Sequence[str]) -> list[ObjectId]:
        return [expect_id_of(kind, type_name, text) for text in bounded("in", texts)]

    return _conditions(
        given and (given.eq, lambda text: criteria.ids_in(key, parsed([text]))),
        given and (given.in_, lambda texts: criteria.ids_in(key, parsed(texts))),
        given and (given.is_null, lambda wanted: criteria.is_null(key, wanted=wanted)),
    )


def _due(given: DateTimeFilter | None) -> Document:
    if given is None:
        return {}
    bounds = criteria.due_between(gt=given.gt, gte=given.gte, lt=given.lt, lte=given.lte)
    null = {} if given.is_null is None else criteria.has_due_date(wanted=not given.is_null)
    return criteria.all_of([bounds, null])


def _time(key: str, given: DateTimeFilter | None) -> Document:
    if given is None:
        return {}
    bounds = criteria.value_between(key, gt=given.gt, gte=given.gte, lt=given.lt, lte=given.lte)
    null = {} if given.is_null is None else criteria.is_null(key, wanted=given.is_null)
    return criteria.all_of([bounds, null])


def _conditions(*given: "tuple[Value | None, Callable[[Value], Document]] | None") -> Document:
    """All conditions whose value was given: null and left out are the same in a filter."""
    return criteria.all_of([condition(value) for value, condition in filter(None, given) if value is not None])


def bounded(name: str, values: Sequence[Value]) -> Sequence[Value]:
    """The values, unless there are too many: BadUserInput."""
    if len(values) > MAX_VALUES:
        raise BadUserInput(f"{name} takes at most {MAX_VALUES} values.")
    return values


def _short(name: str, text: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise BadUserInput(f"{name} takes at most {MAX_TEXT_CHARACTERS} characters.")
    return text


def _reference(kind: str, text: Any, checklist: Checklist, *path: str) -> Any:
    """The object id of a reference; null and left out pass through."""
    if text is None or text is UNSET:
        return text
    found = parse_id_of(kind, text)
    if found is None:
        checklist.note(ErrorCode.NOT_FOUND, "There is no such object.", *path)
    return found
