"""What the rules of tasks say no with; two of them have more to tell than a code."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage.mongo import Document

MAX_DEPTH = 50
MAX_DEPENDENCIES = 100


@dataclass(frozen=True, slots=True)
class StaleVersion(Problem):
    """VERSION_CONFLICT, with the task as it is now and the fields of the patch that have changed since the expected version."""

    current: Document = field(default_factory=dict)
    conflicting_fields: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Loop(Problem):
    """DEPENDENCY_CYCLE, with the tasks around the loop: each waits for the next, and the last is the first again."""

    cycle: Sequence[Document] = ()


class TaskNotFound(Refused):
    """Not there, not yours, or in the trash."""

    def __init__(self, message: str = "You have no such task.", path: tuple[str, ...] = ("input", "id")) -> None:
        super().__init__(Problem(ErrorCode.NOT_FOUND, message, path))


class AssigneeNotFound(Refused):
    """Only somebody the task is shared with can be assigned to it: for now, its owner."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.NOT_FOUND, "The assignee must be someone the task is shared with: its owner.", path))


class NoSuchPoint(Refused):
    """The task did not exist then, or what would tell how it stood is no longer kept."""

    def __init__(self) -> None:
        message = "There is no such version of this task, or it is no longer kept."
        super().__init__(Problem(ErrorCode.NOT_FOUND, message, ("input", "to")))


class VersionConflict(Refused):
    """The task is not at the version that the caller expected."""

    def __init__(self, current: Document, conflicting_fields: Sequence[str]) -> None:
        message = f"The task has changed meanwhile: it is at version {current['version']}. Read it again, then repeat the change."
        path = ("input", "expectedVersion")
        super().__init__(StaleVersion(ErrorCode.VERSION_CONFLICT, message, path, None, current, conflicting_fields))


class CycleClosed(Refused):
    """Parents and blockers would close a loop."""

    def __init__(self, cycle: Iterable[Document], path: tuple[str, ...]) -> None:
        message = "A task cannot wait for itself, by way of blockers, parents or subtasks."
        super().__init__(Loop(ErrorCode.DEPENDENCY_CYCLE, message, path, None, tuple(cycle)))


class TooDeep(Refused):
    """The tree of subtasks would be too deep."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.LIMIT_EXCEEDED, f"Subtasks nest at most {MAX_DEPTH} levels deep.", path))


class TooManyDependencies(Refused):
    """A task would have too many blockers, or block too many others."""

    def __init__(self, path: tuple[str, ...]) -> None:
        message = f"A task has at most {MAX_DEPENDENCIES} blockers and blocks at most {MAX_DEPENDENCIES} others."
        super().__init__(Problem(ErrorCode.LIMIT_EXCEEDED, message, path))


class TooTangled(Refused):
    """More tasks depend on one another than a search for loops may look at."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.LIMIT_EXCEEDED, "Too many tasks depend on one another here.", path))


class Blocked(Refused):
    """The task cannot be done while a blocker is open."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.BLOCKED, "The task waits for others that are still open.", path))
