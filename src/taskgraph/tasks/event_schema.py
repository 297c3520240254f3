"""Changes of tasks as the API shows them, live and one by one."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import strawberry
from bson import ObjectId

from taskgraph.accounts import reads as accounts
from taskgraph.accounts.schema import USER, User
from taskgraph.context import Info
from taskgraph.server.enums import described
from taskgraph.server.fields import Reading, batched, stored
from taskgraph.server.relay import Node, expect_id_of, global_id
from taskgraph.server.scalars import JSON, rfc3339
from taskgraph.storage.event_hub import Checkpoint, EventHub, Gap
from taskgraph.storage.event_hub import Message as HubMessage
from taskgraph.storage.event_log import EventCursor, LoggedEvent
from taskgraph.storage.mongo import Document
from taskgraph.tasks.events import TaskAction
from taskgraph.tasks.filters import TASK, bounded
from taskgraph.tasks.model import TaskPriority
from taskgraph.tasks.schema import Task

EVENT = "E"

described(
    TaskAction,
    "What happened to a task.",
    CREATED="It was created.",
    UPDATED="Some of its fields changed.",
    DELETED="It was deleted; it can be restored for 30 days.",
    RESTORED="It was brought back.",
    DEPENDENCY_ADDED="It has to wait for another task, see `blockedBy` in the changes.",
    DEPENDENCY_REMOVED="It no longer waits for another task: the dependency was removed, or that task deleted.",
)


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
        """From the change stream."""
        return self.position

    @strawberry.field(description="Global id of the task.")
    def task_id(self) -> strawberry.ID:
        """Also when the task is purged."""
        return global_id(TASK, self.document["subjectId"], self.document["ownerId"])

    @strawberry.field(description="The task as it was right after this event.")
    def task(self) -> Task | None:
        """From the event itself."""
        return Task(document=self.document["snapshot"])

    @strawberry.field(description="The fields that changed; of a new task, those that hold something.")
    def changes(self) -> list[FieldChange]:
        """In a fixed order of fields."""
        owner_id = self.document["ownerId"]
        return [
            FieldChange(
                field=change["field"],
                before=_json(change["field"], change["before"], owner_id),
                after=_json(change["field"], change["after"], owner_id),
            )
            for change in self.document["changes"]
        ]


@strawberry.type(
    description="Nothing new for this subscriber up to here; sent at the start and then at least every 30 s, so that an idle client can resume too."
)
class StreamCheckpoint:
    """A position without an event."""

    cursor: EventCursor = strawberry.field(description="Pass it as `after` to go on from here.")
    at: datetime = strawberry.field(description="When it was sent.")


@strawberry.type(
    description="Events after `from` can no longer be replayed in full: read anew, then go on from `cursor`. Loss is never silent."
)
class StreamGap:
    """What cannot be replayed."""

    from_: EventCursor | None = strawberry.field(name="from", description="The last position before the gap, as far as known.")
    cursor: EventCursor = strawberry.field(description="Where the stream goes on.")
    reason: str = strawberry.field(description="Why, in a plain English sentence.")


TaskStreamMessage = Annotated[
    TaskEvent | StreamCheckpoint | StreamGap,
    strawberry.union("TaskStreamMessage", description="What a subscriber to taskEvents receives."),
]


@strawberry.input(description="Which events; all given conditions hold together. Checkpoints and gaps always come.")
class TaskEventFilter:
    """Sets."""

    task_ids: list[strawberry.ID] | None = strawberry.field(default=None, description="Only of these tasks; at most 100.")
    actions: list[TaskAction] | None = strawberry.field(default=None, description="Only these actions.")
    exclude_caused_by: list[str] | None = strawberry.field(
        default=None, description="Not those caused by these idempotency keys; at most 100."
    )


@strawberry.type
class Subscription:
    """The live root fields of tasks."""

    @strawberry.subscription(
        description="Changes of the tasks the viewer can see. First a checkpoint (or a gap), then what happened after `after`, then live. "
        "Per task in order; de-duplicate by TaskEvent.id."
    )
    async def task_events(
        self,
        info: Info,
        after: Annotated[
            EventCursor | None, strawberry.argument(description="Go on behind this position; from now when left out.")
        ] = None,
        filter: Annotated[TaskEventFilter | None, strawberry.argument(description="Which events; all when left out.")] = None,
    ) -> AsyncGenerator[TaskStreamMessage]:
        """Each event is shown with what the database holds at that moment."""
        hub, viewer = info.context.resources[EventHub], info.context.viewer
        # It leads to all that graphql-core has built for the start; a subscription may last for days.
        del info
        async with aclosing(hub.listen(viewer.id, after=after, wanted=_wanted(filter))) as messages:
            async for message in messages:
                yield _shown(message)


def _shown(message: HubMessage) -> TaskEvent | StreamCheckpoint | StreamGap:
    match message:
        case LoggedEvent(cursor, document):
            return TaskEvent(document=document, position=cursor, renderings=message.renderings)
        case Checkpoint(cursor, at):
            return StreamCheckpoint(cursor=cursor, at=at)
        case Gap(start, cursor, reason):
            return StreamGap(from_=start, cursor=cursor, reason=reason)


def _wanted(given: TaskEventFilter | None) -> Callable[[Document], bool]:
    """Whether an event meets the filter; BadUserInput for ids that are none and lists that are too long."""
    if given is None:
        return lambda _document: True
    task_ids = None if given.task_ids is None else {expect_id_of(TASK, "Task", text) for text in bounded("taskIds", given.task_ids)}
    actions = None if given.actions is None else {action.value for action in given.actions}
    excluded = set(bounded("excludeCausedBy", given.exclude_caused_by or ()))
    return lambda document: (
        (task_ids is None or document["subjectId"] in task_ids)
        and (actions is None or document["action"] in actions)
        and document["causedBy"] not in excluded
    )


def _json(field: str, value: Any, owner_id: ObjectId) -> Any:
    """A stored value as the API shows it."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, ObjectId):
        return global_id(TASK, value, owner_id) if field in {"parentId", "blockedBy"} else global_id(USER, value)
    return TaskPriority(value).name if field == "priority" and value is not None else value
