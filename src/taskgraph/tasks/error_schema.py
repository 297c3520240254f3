"""The problems of tasks that have more to tell than a code."""

import strawberry

from taskgraph.server.cost import FREE, ListSize
from taskgraph.server.payloads import UserError, shown
from taskgraph.tasks.refusals import Loop, StaleVersion
from taskgraph.tasks.task_schema import Task


@strawberry.type(description="The task moved on since `expectedVersion`; `current` lets the client merge and retry.")
class VersionConflict(UserError):
    """Of one task."""

    current: Task = strawberry.field(description="The task as it is now.", directives=[FREE])
    conflicting_fields: list[str] = strawberry.field(
        description="Those fields of the patch, at most all of them, that have changed since `expectedVersion`. When there are none, the same "
        "patch can be applied to the current version without loss."
    )


@strawberry.type(description="A task would wait for itself, by way of blockers, parents or subtasks.")
class DependencyCycle(UserError):
    """With the way around."""

    cycle: list[Task] = strawberry.field(
        description="The loop in order: each task waits for the next, first and last are the same; at most 10,000. Of a bulk call, also tasks "
        "that were not made.",
        directives=[FREE, ListSize(assumed_size=10)],
    )


@shown.register
def _stale_version(problem: StaleVersion) -> VersionConflict:
    return VersionConflict(
        code=problem.code,
        message=problem.message,
        path=None if problem.path is None else list(problem.path),
        current=Task(document=problem.current),
        conflicting_fields=list(problem.conflicting_fields),
    )


@shown.register
def _loop(problem: Loop) -> DependencyCycle:
    return DependencyCycle(
        code=problem.code,
        message=problem.message,
        path=None if problem.path is None else list(problem.path),
        cycle=[Task(document=task) for task in problem.cycle],
    )
