"""Many tasks in one call, as the API takes and answers it."""

from dataclasses import replace
from typing import Annotated

import strawberry
from strawberry import UNSET

from taskgraph.context import Info
from taskgraph.errors import ErrorCode, Problem
from taskgraph.server.cost import FREE, Cost, ListSize
from taskgraph.server.payloads import INPUT, MutationPayload, UserError, refusals_as_errors, shown
from taskgraph.server.relay import parse_id_of
from taskgraph.tasks import bulk
from taskgraph.tasks.bulk import BulkWritten, How, Selected
from taskgraph.tasks.creation import Draft
from taskgraph.tasks.enums import BulkMode
from taskgraph.tasks.filters import TaskFilter, criteria_of
from taskgraph.tasks.inputs import KEY, CreateTaskInput, TaskPatch, key_of
from taskgraph.tasks.model import TASK
from taskgraph.tasks.task_schema import Task

MODE = "What happens to the other items when one cannot be done."
BULK_WRITE = Cost(weight=2)
SELECTED = ListSize(assumed_size=100, slicing_arguments=["input.where.ids"])
DRY_RUN = "Writes nothing: the results show what would be. The idempotency key is not used up."


@strawberry.input(one_of=True, description="Which tasks: at most 500.")
class TaskSelector:
    """By id or by filter."""

    ids: list[strawberry.ID] | None = strawberry.field(
        default=UNSET, description="These tasks, at most 500; results come in this order."
    )
    filter: TaskFilter | None = strawberry.field(
        default=UNSET, description="All that meet it; with more than 500 the call is refused. Results come newest first."
    )

    def selected(self, info: Info) -> Selected:
        """Ids that are none stay in their place."""
        if self.ids is not None and self.ids is not UNSET:
            return Selected(ids=[parse_id_of(TASK, each) for each in self.ids])
        return Selected(criteria=criteria_of(self.filter, lambda: info.context.now))


@strawberry.input(description="New tasks, at most 500, which may point to each other by `ref`.")
class BulkCreateTasksInput:
    """A whole plan."""

    tasks: list[CreateTaskInput] = strawberry.field(
        description="At most 500, in any order. An idempotency key belongs to the call, not to its items."
    )
    mode: BulkMode | None = strawberry.field(default=BulkMode.ALL_OR_NOTHING, description=MODE)
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)

    def drafts(self) -> list[Draft]:
        """Each with its place in the input."""
        return [_without_key(each, ("input", "tasks", str(number))) for number, each in enumerate(self.tasks)]


@strawberry.input(description="One change of many tasks.")
class BulkUpdateTasksInput:
    """Which, what, how."""

    where: TaskSelector = strawberry.field(description="Which tasks.")
    patch: TaskPatch = strawberry.field(description="What to change in each of them. DONE is refused where a blocker stays open.")
    mode: BulkMode | None = strawberry.field(default=BulkMode.ALL_OR_NOTHING, description=MODE)
    dry_run: bool | None = strawberry.field(default=False, description=DRY_RUN)
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


@strawberry.input(description="Many tasks to delete.")
class BulkDeleteTasksInput:
    """Which, how."""

    where: TaskSelector = strawberry.field(description="Which tasks.")
    mode: BulkMode | None = strawberry.field(default=BulkMode.ALL_OR_NOTHING, description=MODE)
    dry_run: bool | None = strawberry.field(default=False, description=DRY_RUN)
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


@strawberry.type(description="What became of one item of a bulk call.")
class BulkTaskResult:
    """In the place of the item."""

    index: int = strawberry.field(description="The place of the item in the call, from 0.")
    ref: str | None = strawberry.field(description="Its local name, if it was given one.")
    task: Task | None = strawberry.field(
        description="The task right after the call; null when this item or the whole call was refused.",
        directives=[FREE],
    )
    errors: list[UserError] = strawberry.field(
        description="What is wrong with this item; empty when that is nothing.", directives=[FREE]
    )


@strawberry.type(description="What became of all items of a bulk call.")
class BulkTasksPayload(MutationPayload):
    """With a result each."""

    results: list[BulkTaskResult] = strawberry.field(
        default_factory=list,
        description="One for each item, at most 500, in order. Empty when the call as a whole was refused.",
        directives=[FREE],
    )
    matched_count: int = strawberry.field(default=0, description="How many tasks were meant.")
    changed_count: int = strawberry.field(default=0, description="How many were made or changed, or would be in a dry run.")


@strawberry.type
class Mutation:
    """The root fields for many tasks."""

    @strawberry.mutation(
        description="Creates up to 500 tasks with their parents and blockers, in one transaction. With ALL_OR_NOTHING, `errors` holds what is "
        "wrong with any item, and then there are no tasks.",
        directives=[BULK_WRITE, ListSize(slicing_arguments=["input.tasks"])],
    )
    @refusals_as_errors(BulkTasksPayload)
    async def bulk_create_tasks(self, info: Info, input: Annotated[BulkCreateTasksInput, INPUT]) -> BulkTasksPayload:
        """One event for each task."""
        commits, viewer = info.context.commits, info.context.viewer
        key, mode = key_of(viewer.id, "bulkCreateTasks", input), input.mode or BulkMode.ALL_OR_NOTHING
        return _payload(info, await bulk.create_tasks(commits, viewer.id, input.drafts(), mode=mode, key=key))

    @strawberry.mutation(
        description="Applies one patch to up to 500 tasks, in one transaction. A task that it does not change gets no new version. Tasks that "
        "become DONE together need not wait for each other.",
        directives=[BULK_WRITE, SELECTED],
    )
    @refusals_as_errors(BulkTasksPayload)
    async def bulk_update_tasks(self, info: Info, input: Annotated[BulkUpdateTasksInput, INPUT]) -> BulkTasksPayload:
        """One event for each changed task."""
        commits, viewer = info.context.commits, info.context.viewer
        selected, patch = input.where.selected(info), input.patch.patch()
        key, how = key_of(viewer.id, "bulkUpdateTasks", input), _how(input)
        return _payload(info, await bulk.update_tasks(commits, viewer.id, selected, patch, how=how, key=key))

    @strawberry.mutation(
        description="Deletes up to 500 tasks, in one transaction; each can be restored for 30 days, without its dependencies.",
        directives=[BULK_WRITE, SELECTED],
    )
    @refusals_as_errors(BulkTasksPayload)
    async def bulk_delete_tasks(self, info: Info, input: Annotated[BulkDeleteTasksInput, INPUT]) -> BulkTasksPayload:
        """One event for each deleted task, and one for each that waited for some of them."""
        commits, viewer = info.context.commits, info.context.viewer
        key, how = key_of(viewer.id, "bulkDeleteTasks", input), _how(input)
        return _payload(info, await bulk.delete_tasks(commits, viewer.id, input.where.selected(info), how=how, key=key))


def _without_key(given: CreateTaskInput, path: tuple[str, ...]) -> Draft:
    draft = given.draft(*path)
    if given.idempotency_key is None:
        return draft
    message = "An idempotency key belongs to the whole call."
    return replace(draft, problems=[*draft.problems, Problem(ErrorCode.INVALID, message, (*path, "idempotencyKey"))])


def _how(given: BulkUpdateTasksInput | BulkDeleteTasksInput) -> How:
    return How(given.mode or BulkMode.ALL_OR_NOTHING, is_dry=bool(given.dry_run))


def _payload(info: Info, written: BulkWritten) -> BulkTasksPayload:
    # What was read before the write is older than the write.
    info.context.forget()
    results = [
        BulkTaskResult(
            index=number,
            ref=result.ref,
            task=Task(document=result.task) if result.task else None,
            errors=[shown(problem) for problem in result.problems],
        )
        for number, result in enumerate(written.results)
    ]
    return BulkTasksPayload(
        errors=[error for result in results for error in result.errors] if written.is_refused else [],
        cursor=written.cursor,
        replayed=written.replayed,
        results=results,
        matched_count=written.matched,
        changed_count=written.changed,
    )
