"""Every error that taskgraph raises on purpose.

TaskgraphError
├── ConfigurationError      a setting, port or data folder is wrong: one line, the start is refused
├── RequestError            the operation cannot be answered; its `code` is the GraphQL error's extensions.code
│   ├── BadUserInput        an argument makes no sense: a malformed cursor, a page size of 0
│   ├── Unauthenticated     no valid access token where one is needed
│   ├── OperationTooExpensive  it costs more points than allowed
│   ├── RateLimited         in server/rate_limit.py: the caller has used a window up
│   └── Busy                try again in `retry_after_seconds`
└── Refused                 a rule of the domain says no; data for the caller in the payload's `errors`
    ├── InputRefused        one or more input members break their limits
    └── (facts of a domain: EmailTaken, TaskNotFound, ... beside the rule that raises them)

Anything else that escapes is a bug: traceback in the log, INTERNAL and a request id to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """Why a mutation was refused, for programs to branch on."""

    INVALID = "INVALID"
    REQUIRED = "REQUIRED"
    TOO_LONG = "TOO_LONG"
    NOT_FOUND = "NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    EMAIL_TAKEN = "EMAIL_TAKEN"
    BAD_CREDENTIALS = "BAD_CREDENTIALS"
    TOKEN_REUSED = "TOKEN_REUSED"  # noqa: S105 - the name of a problem
    VERSION_CONFLICT = "VERSION_CONFLICT"
    DEPENDENCY_CYCLE = "DEPENDENCY_CYCLE"
    BLOCKED = "BLOCKED"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    RATE_LIMITED = "RATE_LIMITED"


class TaskgraphError(Exception):
    """The root of the tree above."""


class ConfigurationError(TaskgraphError):
    """The message is one line that names the problem and the way out."""


class RequestError(TaskgraphError):
    """`code` is one of interface-level codes; the message is a plain sentence for the caller."""

    code: str
    retry_after_seconds: int | None = None

    @property
    def details(self) -> Mapping[str, Any]:
        """What else the error's extensions say."""
        return {} if self.retry_after_seconds is None else {"retryAfterSeconds": self.retry_after_seconds}


class BadUserInput(RequestError):
    """BAD_USER_INPUT."""

    code = "BAD_USER_INPUT"


class Unauthenticated(RequestError):
    """UNAUTHENTICATED; over HTTP also status 401."""

    code = "UNAUTHENTICATED"

    def __init__(self, message: str = "Sign in first: send a valid access token.") -> None:
        super().__init__(message)


class OperationTooExpensive(RequestError):
    """OPERATION_TOO_EXPENSIVE; nothing was run."""

    code = "OPERATION_TOO_EXPENSIVE"

    def __init__(self, message: str, *, cost: int, max_cost: int) -> None:
        super().__init__(message)
        self._cost = cost
        self._max_cost = max_cost

    @property
    def details(self) -> Mapping[str, Any]:
        """Both sides of the comparison."""
        return {"cost": self._cost, "maxCost": self._max_cost}


class Busy(RequestError):
    """BUSY; nothing was written. Over HTTP also a Retry-After header."""

    code = "BUSY"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of a payload's `errors`. `path` leads from the mutation's arguments to the member at fault."""

    code: ErrorCode
    message: str
    path: tuple[str, ...] | None = None
    retry_after_seconds: int | None = None


class Refused(TaskgraphError):
    """Nothing was written; `problems` says why, at least one."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems: Sequence[Problem] = problems


class InputRefused(Refused):
    """Members of the input break their limits; every broken one is listed."""
