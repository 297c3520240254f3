"""Dependencies as the API changes them. How they are read stands with Task."""

from typing import Annotated

import strawberry

from taskgraph.context import Info
from taskgraph.server.cost import FREE, WRITE
from taskgraph.server.payloads import INPUT, MutationPayload, refusals_as_errors
from taskgraph.tasks import dependencies
from taskgraph.tasks.inputs import KEY, key_of, task_id_of
from taskgraph.tasks.task_schema import Task
from taskgraph.tasks.work import Written


@strawberry.input(description="One task waits for another of the same owner.")
class DependencyInput:
    """An edge."""

    blocker_id: strawberry.ID = strawberry.field(description="The task to be done first; one of the viewer's, not deleted.")
    blocked_id: strawberry.ID = strawberry.field(description="The task that has to wait; one of the viewer's, not deleted.")
    idempotency_key: str | None = strawberry.field(default=None, description=KEY)


@strawberry.type(description="Both ends of a dependency.")
class DependencyPayload(MutationPayload):
    """After the change."""

    blocker: Task | None = strawberry.field(
        default=None, description="The task to be done first; null when refused.", directives=[FREE]
    )
    blocked: Task | None = strawberry.field(
        default=None, description="The task that has to wait; null when refused.", directives=[FREE]
    )


@strawberry.type
class Mutation:
    """The root fields of dependencies."""

    @strawberry.mutation(
        description="Makes a task wait for another. Adding what is there changes nothing. Parents and blockers form one graph without loops: "
        "what would close one is refused with DependencyCycle. A task has at most 100 blockers, and blocks at most 100 others.",
        directives=[WRITE],
    )
    @refusals_as_errors(DependencyPayload)
    async def add_dependency(self, info: Info, input: Annotated[DependencyInput, INPUT]) -> DependencyPayload:
        """One transaction: edge, counters, event."""
        written = await dependencies.add_dependency(
            info.context.commits,
            info.context.viewer.id,
            blocker_id=task_id_of(input.blocker_id, dependencies.BLOCKER),
            blocked_id=task_id_of(input.blocked_id, dependencies.BLOCKED),
            key=key_of(info.context.viewer.id, "addDependency", input),
        )
        return _payload(info, written)

    @strawberry.mutation(
        description="Lets a task no longer wait for another. Removing what is not there changes nothing.", directives=[WRITE]
    )
    @refusals_as_errors(DependencyPayload)
    async def remove_dependency(self, info: Info, input: Annotated[DependencyInput, INPUT]) -> DependencyPayload:
        """One transaction: edge, counters, event."""
        written = await dependencies.remove_dependency(
            info.context.commits,
            info.context.viewer.id,
            blocker_id=task_id_of(input.blocker_id, dependencies.BLOCKER),
            blocked_id=task_id_of(input.blocked_id, dependencies.BLOCKED),
            key=key_of(info.context.viewer.id, "removeDependency", input),
        )
        return _payload(info, written)


def _payload(info: Info, written: Written) -> DependencyPayload:
    # What was read before the write is older than the write.
    info.context.forget()
    blocker, blocked = (Task(document=task) if task else None for task in written.tasks)
    return DependencyPayload(blocker=blocker, blocked=blocked, cursor=written.cursor, replayed=written.replayed)
