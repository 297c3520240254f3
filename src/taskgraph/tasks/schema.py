"""The root fields of tasks. A resolver takes arguments apart, calls one read or write and names the type."""

from typing import Annotated, TypeVar

import strawberry
from bson import ObjectId

from taskgraph.context import Context, Info
from taskgraph.errors import BadUserInput
from taskgraph.server.cost import FORWARD_PAGE, FREE, PAGE, SEARCH, WRITE, Cost
from taskgraph.server.fields import REPEATABLE
from taskgraph.server.payloads import INPUT, MutationPayload, refusals_as_errors
from taskgraph.server.relay import parse_id_of
from taskgraph.storage import paging
from taskgraph.storage.mongo import Projection
from taskgraph.storage.paging import Page, Window
from taskgraph.tasks import orders, reads, writes
from taskgraph.tasks.criteria import Criteria
from taskgraph.tasks.enums import TaskPriority, TaskStatus
from taskgraph.tasks.filters import MAX_TEXT_CHARACTERS, criteria_of, order_of
from taskgraph.tasks.history_schema import RevertTaskInput
from taskgraph.tasks.inputs import CreateTaskInput, DeleteTaskInput, RestoreTaskInput, UpdateTaskInput, key_of, task_id_of
from taskgraph.tasks.model import TASK
from taskgraph.tasks.reads import PageKey, TaskKey
from taskgraph.tasks.task_schema import After, Before, Filter, First, Last, OrderBy, Task, TaskConnection
from taskgraph.tasks.work import Written

Payload = TypeVar("Payload", bound="TaskPayload")


@strawberry.type(description="How many tasks have a status.")
class StatusCount:
    """One status."""

    status: TaskStatus = strawberry.field(description="One of the statuses.")
    count: int = strawberry.field(description="How many tasks have it.")


@strawberry.type(description="How many tasks have a priority.")
class PriorityCount:
    """One priority."""

    priority: TaskPriority = strawberry.field(description="One of the priorities.")
    count: int = strawberry.field(description="How many tasks have it.")


@strawberry.type(description="Counts of tasks.")
class TaskStats:
    """All counts come from one query."""

    total: int = strawberry.field(description="How many there are.")
    overdue: int = strawberry.field(description="How many are due before now and neither DONE nor CANCELED.")
    by_status: list[StatusCount] = strawberry.field(
        description="One entry for every status, in the order of the enum, zeros too.", directives=[FREE]
    )
    by_priority: list[PriorityCount] = strawberry.field(
        description="One entry for every priority, LOW first, zeros too.", directives=[FREE]
    )


@strawberry.interface(description="A change of one task.")
class TaskPayload(MutationPayload):
    """With the task."""

    task: Task | None = strawberry.field(default=None, description="The task as it is now; null when refused.", directives=[FREE])


@strawberry.type(description="The new task.")
class CreateTaskPayload(TaskPayload):
    """See TaskPayload."""


@strawberry.type(description="The changed task.")
class UpdateTaskPayload(TaskPayload):
    """See TaskPayload."""


@strawberry.type(description="The deleted task.")
class DeleteTaskPayload(TaskPayload):
    """See TaskPayload."""


@strawberry.type(description="The restored task.")
class RestoreTaskPayload(TaskPayload):
    """See TaskPayload."""


@strawberry.type(description="The task as it was.")
class RevertTaskPayload(TaskPayload):
    """See TaskPayload."""


@strawberry.type
class Query:
    """The root fields of tasks."""

    @strawberry.field(
        description="One of the viewer's tasks, a deleted one too (see deletedAt); null when there is none with this id.",
        metadata=REPEATABLE,
    )
    async def task(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="A task's global id.")]
    ) -> Task | None:
        """Batched, so that aliases share one query."""
        viewer, task_id = info.context.viewer, parse_id_of(TASK, id)
        return await find_task(info.context, TaskKey(viewer.id, task_id), info.projection) if task_id else None

    @strawberry.field(
        description="Tasks the viewer can see, newest first. `first` or `last` is 1..100; 20 when neither is given.",
        metadata=REPEATABLE,
        directives=[PAGE],
    )
    async def tasks(
        self,
        info: Info,
        filter: Filter = None,
        order_by: OrderBy = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> TaskConnection:
        """One query, and one more for totalCount."""
        db, viewer_id, criteria = info.context.db, info.context.viewer.id, criteria_of(filter, lambda: info.context.now)
        window = paging.window(order_of(order_by), first=first, after=after, last=last, before=before)
        return TaskConnection(
            page=await _page(info, viewer_id, criteria, window), count=lambda: reads.count(db, viewer_id, criteria=criteria)
        )

    @strawberry.field(
        description="Full-text search, best match first: a hit in the title weighs 10, in the description 5. "
        'Finds whole words; any of them matches, "quoted phrases" must match, -words must not.',
        metadata=REPEATABLE,
        directives=[Cost(weight=2), FORWARD_PAGE],
    )
    async def search_tasks(
        self,
        info: Info,
        query: Annotated[str, strawberry.argument(description="1 to 200 characters.", directives=[SEARCH])],
        filter: Filter = None,
        first: First = None,
        after: After = None,
    ) -> TaskConnection:
        """One query, and one more for totalCount."""
        if not query.strip() or len(query) > MAX_TEXT_CHARACTERS:
            raise BadUserInput(f"query must have 1 to {MAX_TEXT_CHARACTERS} characters.")
        db, viewer_id, criteria = info.context.db, info.context.viewer.id, criteria_of(filter, lambda: info.context.now)
        window = paging.window(orders.BEST_MATCH, first=first, after=after)
        page = await reads.search(db, viewer_id, query, criteria=criteria, window=window, projection=info.projection)
        return TaskConnection(page=page, count=lambda: reads.search_count(db, viewer_id, query, criteria=criteria))

    @strawberry.field(description="Counts of the viewer's tasks by status and priority.", directives=[Cost(weight=10)])
    async def task_stats(self, info: Info, filter: Filter = None) -> TaskStats:
        """One query."""
        stats = await reads.stats(
            info.context.db, info.context.viewer.id, criteria=criteria_of(filter, lambda: info.context.now), at=info.context.now
        )
        return TaskStats(
            total=stats.total,
            overdue=stats.overdue,
            by_status=[StatusCount(status=each, count=stats.by_status.get(each.value, 0)) for each in TaskStatus],
            by_priority=[PriorityCount(priority=each, count=stats.by_priority.get(each.value, 0)) for each in TaskPriority],
        )


@strawberry.type
class Mutation:
    """The root fields of tasks."""

    @strawberry.mutation(description="Creates a task of the viewer.", directives=[WRITE])
    @refusals_as_errors(CreateTaskPayload)
    async def create_task(self, info: Info, input: Annotated[CreateTaskInput, INPUT]) -> CreateTaskPayload:
        """One transaction: task and event."""
        commits, viewer, draft = info.context.commits, info.context.viewer, input.draft("input")
        written = await writes.create_task(commits, viewer.id, draft, key=key_of(viewer.id, "createTask", input))
        return _payload(info, CreateTaskPayload, written)

    @strawberry.mutation(
        description="Changes a task: a field left out of the patch is kept, null clears it. A patch that changes nothing makes no new version.",
        directives=[WRITE],
    )
    @refusals_as_errors(UpdateTaskPayload)
    async def update_task(self, info: Info, input: Annotated[UpdateTaskInput, INPUT]) -> UpdateTaskPayload:
        """One transaction: task and event."""
        viewer = info.context.viewer
        written = await writes.update_task(
            info.context.commits,
            viewer.id,
            task_id_of(input.id),
            input.patch.patch(),
            expected_version=input.expected_version,
            ignore_blockers=bool(input.ignore_blockers),
            key=key_of(viewer.id, "updateTask", input),
        )
        return _payload(info, UpdateTaskPayload, written)

    @strawberry.mutation(
        description="Deletes a task; it can be restored for 30 days, without its dependencies. Its subtasks stay. Deleting it again changes nothing.",
        directives=[WRITE],
    )
    @refusals_as_errors(DeleteTaskPayload)
    async def delete_task(self, info: Info, input: Annotated[DeleteTaskInput, INPUT]) -> DeleteTaskPayload:
        """One transaction: task and event."""
        viewer = info.context.viewer
        written = await writes.delete_task(
            info.context.commits,
            viewer.id,
            task_id_of(input.id),
            expected_version=input.expected_version,
            key=key_of(viewer.id, "deleteTask", input),
        )
        return _payload(info, DeleteTaskPayload, written)

    @strawberry.mutation(description="Brings a deleted task back. Changes nothing when it is not deleted.", directives=[WRITE])
    @refusals_as_errors(RestoreTaskPayload)
    async def restore_task(self, info: Info, input: Annotated[RestoreTaskInput, INPUT]) -> RestoreTaskPayload:
        """One transaction: task and event."""
        commits, viewer, task_id = info.context.commits, info.context.viewer, task_id_of(input.id)
        written = await writes.restore_task(commits, viewer.id, task_id, key=key_of(viewer.id, "restoreTask", input))
        return _payload(info, RestoreTaskPayload, written)

    @strawberry.mutation(
        description="Gives a task the fields that it had at some point, as a new version that can itself be reverted. "
        "Its parent, its subtasks and its dependencies stay.",
        directives=[WRITE],
    )
    @refusals_as_errors(RevertTaskPayload)
    async def revert_task(self, info: Info, input: Annotated[RevertTaskInput, INPUT]) -> RevertTaskPayload:
        """One transaction: task and event."""
        viewer = info.context.viewer
        written = await writes.revert_task(
            info.context.commits,
            viewer.id,
            task_id_of(input.id),
            input.to.point(),
            expected_version=input.expected_version,
            key=key_of(viewer.id, "revertTask", input),
        )
        return _payload(info, RevertTaskPayload, written)


async def _page(info: Info, viewer_id: ObjectId, criteria: Criteria, window: Window) -> Page:
    if criteria.is_plain:
        return await info.context.loader.load(reads.pages, PageKey(viewer_id, window), info.projection)
    return await reads.page(info.context.db, viewer_id, criteria=criteria, window=window, projection=info.projection)


async def find_task(context: Context, key: TaskKey, projection: Projection = None) -> Task | None:
    """The task, deleted or not; None when it is not there or not this owner's."""
    document = await context.loader.load(reads.tasks_by_key, key, projection)
    return Task(document=document) if document else None


def _payload(info: Info, payload: type[Payload], written: Written) -> Payload:
    # What was read before the write is older than the write.
    info.context.forget()
    (task,) = written.tasks
    return payload(task=Task(document=task) if task else None, cursor=written.cursor, replayed=written.replayed)
