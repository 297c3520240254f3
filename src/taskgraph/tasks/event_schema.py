"""The event log of tasks at the root of the schema: live, and in pages."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any

import strawberry
from bson import ObjectId

from taskgraph.context import Info
from taskgraph.errors import Unauthenticated
from taskgraph.server.cost import FORWARD_PAGE, Cost
from taskgraph.server.relay import expect_id_of
from taskgraph.storage.event_hub import Checkpoint, EventHub, Gap
from taskgraph.storage.event_hub import Message as HubMessage
from taskgraph.storage.event_log import EventCursor, LoggedEvent
from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import page_size
from taskgraph.storage.stored_events import StoredEvents
from taskgraph.tasks.events import TaskAction
from taskgraph.tasks.filters import bounded
from taskgraph.tasks.model import TASK
from taskgraph.tasks.task_schema import TaskEvent, TaskEventConnection, shown_event


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


Filter = Annotated[TaskEventFilter | None, strawberry.argument(description="Which events; all when left out.")]


@strawberry.type
class Query:
    """The log at the root."""

    @strawberry.field(
        description="Changes of the tasks the viewer can see, oldest first: the pull form of the subscription, with the same cursors. "
        "`first` is 1..100; 20 when left out.",
        directives=[FORWARD_PAGE],
    )
    async def task_events(
        self,
        info: Info,
        after: Annotated[
            EventCursor | None,
            strawberry.argument(description="Only what comes behind this position; from the oldest kept when left out."),
        ] = None,
        filter: Filter = None,
        first: Annotated[int | None, strawberry.argument(description="How many: 1 to 100; 20 when left out.")] = None,
    ) -> TaskEventConnection:
        """Everything that was committed before the call."""
        info.context.is_repeatable = False
        stored, viewer, size = info.context.resources[StoredEvents], info.context.viewer, page_size(first, name="first")
        return TaskEventConnection(page=await stored.page(viewer.id, _condition(filter), after=after, size=size))

    @strawberry.field(
        description="A position that all data of the same answer is at least as new as: read it with the first page, then subscribe from it, and nothing is missed.",
        directives=[Cost(weight=1)],
    )
    async def latest_cursor(self, info: Info) -> EventCursor:
        """What this process has heard by now was committed before whatever is still to be read."""
        info.context.is_repeatable = False
        if info.context.viewer_or_none is None:
            raise Unauthenticated
        return await info.context.resources[EventHub].latest()


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
        filter: Filter = None,
    ) -> AsyncGenerator[TaskStreamMessage]:
        """Each event is shown with what the database holds at that moment."""
        hub, viewer = info.context.resources[EventHub], info.context.viewer
        # It leads to all that graphql-core has built for the start; a subscription may last for days.
        del info
        async with aclosing(hub.listen(viewer.id, after=after, wanted=_wanted(filter))) as messages:
            async for message in messages:
                yield _message(message)


def _message(message: HubMessage) -> TaskEvent | StreamCheckpoint | StreamGap:
    match message:
        case LoggedEvent():
            return shown_event(message)
        case Checkpoint(cursor, at):
            return StreamCheckpoint(cursor=cursor, at=at)
        case Gap(start, cursor, reason):
            return StreamGap(from_=start, cursor=cursor, reason=reason)


def _wanted(given: TaskEventFilter | None) -> Callable[[Document], bool]:
    """Whether an event meets the filter; BadUserInput for ids that are none and lists that are too long."""
    if given is None:
        return lambda _document: True
    task_ids, actions, excluded = _sets(given)
    return lambda document: (
        (task_ids is None or document["subjectId"] in task_ids)
        and (actions is None or document["action"] in actions)
        and document["causedBy"] not in excluded
    )


def _condition(given: TaskEventFilter | None) -> Mapping[str, Any]:
    """The same for MongoDB."""
    if given is None:
        return {}
    task_ids, actions, excluded = _sets(given)
    return {
        **({} if task_ids is None else {"subjectId": {"$in": list(task_ids)}}),
        **({} if actions is None else {"action": {"$in": list(actions)}}),
        **({"causedBy": {"$nin": list(excluded)}} if excluded else {}),
    }


def _sets(given: TaskEventFilter) -> tuple[set[ObjectId] | None, set[str] | None, set[str]]:
    task_ids = None if given.task_ids is None else {expect_id_of(TASK, "Task", text) for text in bounded("taskIds", given.task_ids)}
    actions = None if given.actions is None else {action.value for action in given.actions}
    return task_ids, actions, set(bounded("excludeCausedBy", given.exclude_caused_by or ()))
