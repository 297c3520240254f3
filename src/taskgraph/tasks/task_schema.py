"""Tasks and their events as the API shows them."""

import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import strawberry
from bson import ObjectId

from taskgraph.accounts import reads as accounts
from taskgraph.accounts.schema import USER, User
from taskgraph.context import Info, Viewer
from taskgraph.errors import Unauthenticated
from taskgraph.server.cost import CONDITION, FORWARD_PAGE, FREE, LINKED_PAGE, PAGE, Cost
from taskgraph.server.enums import described
from taskgraph.server.fields import Reading, batched, derived, stored, wrapped
from taskgraph.server.relay import Node, PageInfo, global_id
from taskgraph.server.scalars import JSON, rfc3339
from taskgraph.storage import clock, paging
from taskgraph.storage.event_log import EventCursor, LoggedEvent
from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import Order, Page, Window, encode_cursor
from taskgraph.storage.stored_events import LogPage
from taskgraph.tasks import history, neighbours, orders, reads, retention
from taskgraph.tasks.enums import TaskPriority, TaskStatus
from taskgraph.tasks.events import TaskAction
from taskgraph.tasks.filters import TaskFilter, TaskOrder, criteria_of, order_of
from taskgraph.tasks.history import HistoryKey, PointKey
from taskgraph.tasks.history_schema import SHOWN, TaskPoint, TaskSnapshot
from taskgraph.tasks.model import TASK, is_overdue
from taskgraph.tasks.neighbours import Neighbours, NeighboursKey, Side
from taskgraph.tasks.reads import SubtaskCountKey, SubtasksKey, TaskKey

EVENT = "E"
# No task is purged sooner after a change, so whether it is still there need not be asked for the latest events.
PURGED_AFTER = timedelta(days=1)
First = Annotated[
    int | None, strawberry.argument(description="How many from the start: 1 to 100; 20 when neither first nor last is given.")
]
Last = Annotated[int | None, strawberry.argument(description="How many from the end: 1 to 100. Not together with first.")]
After = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor of the same ordering.")]
Before = Annotated[str | None, strawberry.argument(description="Only what comes before this cursor of the same ordering.")]
LinkedFirst = Annotated[int | None, strawberry.argument(description="How many from the start: 1 to 100; 20 when left out.")]
LinkedAfter = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor of such a list.")]
OpenOnly = Annotated[bool | None, strawberry.argument(description="Only those that are TODO or IN_PROGRESS.")]
Filter = Annotated[
    TaskFilter | None,
    strawberry.argument(description="Which tasks; all that are not deleted when left out.", directives=[CONDITION]),
]
OrderBy = Annotated[TaskOrder | None, strawberry.argument(description="In which order; newest first when left out.")]


described(
    TaskAction,
    "What happened to a task.",
    CREATED="It was created.",
    UPDATED="Some of its fields changed.",
    DELETED="It was deleted; it can be restored for 30 days.",
    RESTORED="It was brought back.",
    DEPENDENCY_ADDED="It has to wait for another task, see `blockedBy` in the changes.",
    DEPENDENCY_REMOVED="It no longer waits for another task: the dependency was removed, or that task deleted.",
    ACCESS_LOST="The viewer can no longer see it. Never sent while nobody can share a task.",
)


@strawberry.type(description="How far the subtasks of a task are; deleted ones don't count.")
class SubtaskSummary:
    """Of one task."""

    total: int = strawberry.field(description="How many subtasks there are.")
    done: int = strawberry.field(description="How many of them are DONE.")


def _owner(_info: Info) -> Reading["Task"]:
    return Reading(accounts.users_by_id, lambda task: task.document["ownerId"], _existing_user)


def _creator(_info: Info) -> Reading["Task"]:
    return Reading(accounts.users_by_id, lambda task: task.document["creatorId"], _existing_user)


def _assignee(_info: Info) -> Reading["Task"]:
    return Reading(
        accounts.users_by_id, lambda task: task.document["assigneeId"], lambda _task, user: User(document=user) if user else None
    )


def _parent(_info: Info) -> Reading["Task"]:
    def key(task: "Task") -> TaskKey | None:
        return TaskKey(task.document["ownerId"], task.document["parentId"]) if task.document["parentId"] else None

    return Reading(reads.tasks_by_key, key, lambda _task, parent: Task(document=parent) if parent else None)


def _subtasks(
    info: Info,
    filter: Filter = None,
    order_by: OrderBy = None,
    first: First = None,
    after: After = None,
    last: Last = None,
    before: Before = None,
) -> Reading["Task"]:
    criteria = criteria_of(filter, lambda: info.context.now)
    window = paging.window(order_of(order_by), first=first, after=after, last=last, before=before)

    def show(task: "Task", page: Page) -> TaskConnection:
        count = functools.partial(info.context.loader.load, reads.subtask_counts, SubtaskCountKey(task.key, criteria))
        return TaskConnection(page=page, count=count)

    return Reading(reads.subtasks, lambda task: SubtasksKey(task.key, criteria, window), show)


def _subtask_summary(_info: Info) -> Reading["Task"]:
    return Reading(
        reads.subtask_summaries,
        lambda task: task.key,
        lambda _task, summary: SubtaskSummary(total=summary.total, done=summary.done),
    )


def _history(
    _info: Info,
    first: Annotated[int | None, strawberry.argument(description="How many: 1 to 100; 20 when left out.")] = None,
    after: Annotated[EventCursor | None, strawberry.argument(description="Only what comes behind this position.")] = None,
) -> Reading["Task"]:
    size = paging.page_size(first, name="first")
    return Reading(
        history.pages, lambda task: HistoryKey(task.key, after, size), lambda _task, page: TaskEventConnection(page=page)
    )


def _as_of(_info: Info, at: Annotated[TaskPoint, strawberry.argument(description="A version or a time.")]) -> Reading["Task"]:
    point = at.point()

    def show(task: "Task", snapshot: Document | None) -> TaskSnapshot | None:
        standing = task.document if point.is_now(task.document) else snapshot
        return TaskSnapshot(document=standing) if standing else None

    return Reading(history.snapshots, lambda task: PointKey(task.key, point), show)


def _blocked_by(
    _info: Info, *, open_only: OpenOnly = False, first: LinkedFirst = None, after: LinkedAfter = None
) -> Reading["Task"]:
    return _neighbours(
        Side.BLOCKERS, open_only=bool(open_only), window=paging.window(orders.LINKED_FIRST, first=first, after=after)
    )


def _blocks(_info: Info, *, open_only: OpenOnly = False, first: LinkedFirst = None, after: LinkedAfter = None) -> Reading["Task"]:
    return _neighbours(Side.BLOCKED, open_only=bool(open_only), window=paging.window(orders.LINKED_FIRST, first=first, after=after))


def _neighbours(side: Side, *, open_only: bool, window: Window) -> Reading["Task"]:
    def show(_task: "Task", found: Neighbours) -> TaskConnection:
        async def total() -> int:
            return found.total

        return TaskConnection(page=found.page, count=total)

    return Reading(neighbours.neighbours, lambda task: NeighboursKey(task.key, side, open_only, window), show)


def _existing_user(_task: "Task", document: Document | None) -> User:
    if document is None:
        raise Unauthenticated("The account that holds this task is gone.")
    return User(document=document)


@strawberry.type(description="Something to be done.")
class Task(Node):
    """Wraps a stored task, or one as it was in an event."""

    title: str = stored("title", "1 to 200 characters.")
    description: str = stored("description", "0 to 10,000 characters.")
    status: TaskStatus = stored("status", "Where the work stands.")
    priority: TaskPriority = stored("priority", "How much it matters.")
    labels: list[str] = stored("labels", "At most 20, each 1 to 50 characters, in order, none twice.")
    due_date: datetime | None = stored("dueDate", "When it should be done.")
    version: int = stored("version", "Starts at 1 and rises by one with every change.")
    created_at: datetime = stored("createdAt", "When it was created.")
    updated_at: datetime = stored("updatedAt", "When it was changed last.")
    completed_at: datetime | None = stored("completedAt", "Set when status becomes DONE, cleared when it leaves DONE.")
    deleted_at: datetime | None = stored("deletedAt", "When it was deleted; it can be restored for 30 days from then.")

    @derived("ownerId", description="Opaque global id.")
    def id(self) -> strawberry.ID:
        """Holds the owner, which every query needs."""
        return global_id(TASK, self.document["_id"], self.document["ownerId"])

    @derived("completedAt", description="When a completed task is purged, where the deployment does that; null otherwise.")
    def expires_at(self, info: Info) -> datetime | None:
        """Follows from completedAt and a setting."""
        return retention.expires_at(self.document["completedAt"], info.context.settings)

    owner: User = batched(_owner, "The account that holds the task.", reads=["ownerId"])
    creator: User = batched(_creator, "Who created it.", reads=["creatorId"])
    assignee: User | None = batched(_assignee, "Who is to do it; null again once that account is gone.", reads=["assigneeId"])
    parent: "Task | None" = batched(
        _parent, "The task of which this is a part; null again once that is purged.", reads=["ownerId", "parentId"]
    )
    subtasks: "TaskConnection" = batched(
        _subtasks,
        "The tasks that are parts of this one, newest first unless ordered otherwise. `first` or `last` is 1..100; 20 when neither is given.",
        reads=["ownerId"],
        directives=[PAGE],
    )
    subtask_summary: SubtaskSummary = batched(
        _subtask_summary, "How many subtasks there are and how many are done.", reads=["ownerId"], directives=[Cost(weight=2)]
    )

    history: "TaskEventConnection" = batched(
        _history,
        "Its changes, oldest first, as far back as events are kept. `first` is 1..100; 20 when left out.",
        reads=["ownerId"],
        directives=[FORWARD_PAGE],
    )
    as_of: TaskSnapshot | None = batched(
        _as_of,
        "How it stood at that point; null before it existed, and where the events that would tell are no longer kept.",
        reads=["ownerId", *SHOWN],
        directives=[Cost(weight=2)],
    )

    blocked_by: "TaskConnection" = batched(
        _blocked_by,
        "The tasks that this one waits for, at most 100, in the order in which they were added.",
        reads=["ownerId"],
        directives=[LINKED_PAGE],
    )
    blocks: "TaskConnection" = batched(
        _blocks,
        "The tasks that wait for this one, at most 100, in the order in which they were added.",
        reads=["ownerId"],
        directives=[LINKED_PAGE],
    )

    @derived("openBlockers", description="Whether it waits for a task that is TODO or IN_PROGRESS.")
    def is_blocked(self) -> bool:
        """Tasks from before there were dependencies have no counter."""
        return bool(self.document.get("openBlockers"))

    @derived("dueDate", "status", description="Whether it is due before now and neither DONE nor CANCELED.")
    def is_overdue(self, info: Info) -> bool:
        """By this server's clock."""
        return is_overdue(self.document, info.context.now)

    @derived("ownerId", "isDeleted", description="Whether the viewer may change it.")
    def viewer_can_update(self, info: Info) -> bool:
        """Deleted tasks must be restored first."""
        return self._is_open_to(info.context.viewer)

    @derived("ownerId", "isDeleted", description="Whether the viewer may delete it.")
    def viewer_can_delete(self, info: Info) -> bool:
        """The owner may."""
        return self._is_open_to(info.context.viewer)

    @property
    def key(self) -> TaskKey:
        """What its relatives are found by."""
        return TaskKey(self.document["ownerId"], self.document["_id"])

    def _is_open_to(self, viewer: Viewer) -> bool:
        return bool(self.document["ownerId"] == viewer.id) and not self.document["isDeleted"]


def _task(_edge_or_connection: object, document: Document) -> Task:
    return Task(document=document)


@strawberry.type(description="A task in a list.")
class TaskEdge:
    """With its place."""

    order: strawberry.Private[Order]
    document: strawberry.Private[Document]

    @derived(description="Where the task stands in this ordering; pass it as `after` or `before`.")
    def cursor(self) -> str:
        """Made only when selected."""
        return encode_cursor(self.order, self.document)

    node: Task = wrapped(_task, "The task.", directives=[FREE])

    @derived(description="How well it matches; search results only.")
    def score(self) -> float | None:
        """MongoDB's text score."""
        return self.document.get("score")


def _edge(connection: "TaskConnection", document: Document) -> TaskEdge:
    return TaskEdge(order=connection.page.window.order, document=document)


def _documents(connection: "TaskConnection") -> Sequence[Document]:
    return connection.page.documents


@strawberry.type(
    description="A page of tasks. Keyset pagination: a page never repeats or skips an untouched task while others are inserted, changed or deleted."
)
class TaskConnection:
    """Wraps a page; `count` runs only when totalCount is selected."""

    page: strawberry.Private[Page]
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    edges: list[TaskEdge] = wrapped(_edge, "The tasks of this page with their cursors.", documents=_documents, directives=[FREE])
    nodes: list[Task] = wrapped(_task, "The tasks of this page without cursors.", documents=_documents, directives=[FREE])

    @strawberry.field(description="Where this page stands in the list.", directives=[FREE])
    def page_info(self) -> PageInfo:
        """Of this page."""
        return PageInfo(page=self.page)

    @derived(description="How many tasks the whole list has; counted only when selected.", directives=[Cost(weight=10)])
    async def total_count(self) -> int:
        """One more query."""
        return await self.count()


@strawberry.type(description="What a change did to one field.")
class FieldChange:
    """Values as the API shows them."""

    field: str = strawberry.field(
        description="Name of the task's field; assigneeId, parentId and blockedBy hold global ids. A change of blockedBy is about one blocker."
    )
    before: JSON | None = strawberry.field(description="The value before; null for a new task.")
    after: JSON | None = strawberry.field(description="The value after.")


def _actor(_info: Info) -> Reading["TaskEvent"]:
    return Reading(
        accounts.users_by_id, lambda event: event.document["actorId"], lambda _event, user: User(document=user) if user else None
    )


def _task_then(_info: Info) -> Reading["TaskEvent"]:
    purgeable_before = clock.now() - PURGED_AFTER

    def key(event: "TaskEvent") -> TaskKey | None:
        is_certain = event.document["occurredAt"] > purgeable_before
        return None if is_certain else TaskKey(event.document["ownerId"], event.document["subjectId"])

    def show(event: "TaskEvent", present: Document | None) -> Task | None:
        return Task(document=event.document["snapshot"]) if present or key(event) is None else None

    return Reading(reads.tasks_by_key, key, show)


@strawberry.type(description="One change of one task.")
class TaskEvent(Node):
    """Wraps a stored event; its position is known to who reads it from the log. What it is shown as is shared by its hearers."""

    position: strawberry.Private[EventCursor]
    renderings: strawberry.Private[dict[Any, Any]]
    action: TaskAction = stored("action", "What happened.")
    version: int = stored("version", "The task's version right after.")
    occurred_at: datetime = stored("occurredAt", "When it happened.")
    caused_by: str | None = stored("causedBy", "The idempotency key of the write, so that its author can drop the echo.")

    actor: User | None = batched(_actor, "Who did it; null when that account is gone.", reads=["actorId"])

    @strawberry.field(description="Opaque global id; the same event always has the same.")
    def id(self) -> strawberry.ID:
        """Holds the owner, which every query needs."""
        return global_id(EVENT, self.document["_id"], self.document["ownerId"])

    @strawberry.field(description="Position in the event log: pass it as `after` to go on from here.")
    def cursor(self) -> EventCursor:
        """Given by whoever read it from the log."""
        return self.position

    @strawberry.field(description="Global id of the task.")
    def task_id(self) -> strawberry.ID:
        """Also when the task is purged."""
        return global_id(TASK, self.document["subjectId"], self.document["ownerId"])

    task: Task | None = batched(
        _task_then,
        "The task as it was right after this event; null once it is purged.",
        reads=["ownerId", "subjectId", "occurredAt", "snapshot"],
        directives=[FREE],
    )

    @strawberry.field(description="The fields that changed; of a new task, those that hold something.", directives=[FREE])
    def changes(self) -> list[FieldChange]:
        """In a fixed order of fields."""
        owner_id = self.document["ownerId"]
        return [
            FieldChange(
                field=change["field"],
                before=shown_value(change["field"], change["before"], owner_id),
                after=shown_value(change["field"], change["after"], owner_id),
            )
            for change in self.document["changes"]
        ]


@strawberry.type(description="An event in a page of the log.")
class TaskEventEdge:
    """With its place."""

    node: TaskEvent = strawberry.field(description="The event.", directives=[FREE])

    @strawberry.field(description="Its position in the log; pass it as `after`.")
    def cursor(self) -> EventCursor:
        """The event's own."""
        return self.node.position


@strawberry.type(description="A page of the event log, oldest first.")
class TaskEventConnection:
    """Wraps a page."""

    page: strawberry.Private[LogPage]

    @strawberry.field(description="The events of this page with their cursors.", directives=[FREE])
    def edges(self) -> list[TaskEventEdge]:
        """In order."""
        return [TaskEventEdge(node=shown_event(event)) for event in self.page.events]

    @strawberry.field(description="The events of this page.", directives=[FREE])
    def nodes(self) -> list[TaskEvent]:
        """In order."""
        return [shown_event(event) for event in self.page.events]

    @strawberry.field(description="Where this page stands in the log.", directives=[FREE])
    def page_info(self) -> PageInfo:
        """Its cursors are event cursors."""
        return PageInfo(page=self.page)


def shown_event(event: LoggedEvent) -> TaskEvent:
    """An event as the API shows it."""
    return TaskEvent(document=event.document, position=event.cursor, renderings=event.renderings)


def shown_value(field: str, value: Any, owner_id: ObjectId) -> Any:
    """A stored value as the API shows it."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, ObjectId):
        return global_id(TASK, value, owner_id) if field in {"parentId", "blockedBy"} else global_id(USER, value)
    return TaskPriority(value).name if field == "priority" and value is not None else value
