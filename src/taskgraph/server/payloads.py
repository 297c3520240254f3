"""How a mutation answers: the payload interface, problems as data, and the one place where a refusal becomes `errors` and where
every mutation comes by that goes into the audit log.
"""

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import strawberry

from taskgraph.errors import ErrorCode, Problem, Refused, RequestError
from taskgraph.server.cost import FREE
from taskgraph.server.enums import described
from taskgraph.server.fields import FieldInfo
from taskgraph.server.relay import parse_id
from taskgraph.storage.audit_log import AuditLog, AuditOutcome, Trail
from taskgraph.storage.event_log import EventCursor

# For the one argument that every mutation has.
INPUT = strawberry.argument(description="The members and their limits are described with the type.")
Arguments = ParamSpec("Arguments")
Payload = TypeVar("Payload", bound="MutationPayload")

described(
    ErrorCode,
    "Why a mutation was refused, for programs to branch on.",
    INVALID="A value is not allowed here.",
    REQUIRED="A value is missing, empty or null where one is needed.",
    TOO_LONG="A text has more characters than allowed.",
    NOT_FOUND="There is no such object, or the viewer may not see it.",
    FORBIDDEN="The viewer may see the object but not do this to it.",
    EMAIL_TAKEN="Another account has this e-mail address.",
    BAD_CREDENTIALS="The e-mail address, password or refresh token is wrong.",
    TOKEN_REUSED="A spent refresh token came back; its session has been ended.",  # noqa: S106 - a description
    VERSION_CONFLICT="The object changed since the expected version.",
    DEPENDENCY_CYCLE="The change would close a loop among tasks.",
    BLOCKED="The task waits for others.",
    IDEMPOTENCY_KEY_REUSED="The idempotency key was used before with another input.",
    LIMIT_EXCEEDED="There would be more of something than allowed.",
    RATE_LIMITED="Too many attempts; try again after `retryAfterSeconds`.",
)


@strawberry.interface(description="A problem the caller can act on. Problems never tell whether a hidden object exists.")
class UserError:
    """One problem."""

    code: ErrorCode = strawberry.field(description="For programs to branch on.")
    message: str = strawberry.field(description="A plain English sentence; may change, never branch on it.")
    path: list[str] | None = strawberry.field(
        description='From the mutation\'s arguments to the member at fault, such as ["input", "title"]; null when none is.'
    )


@strawberry.type(description="A problem that has nothing to add to its code.")
class GenericError(UserError):
    """One problem."""

    retry_after_seconds: int | None = strawberry.field(
        default=None, description="When it makes sense to try again; null when that changes nothing."
    )


@strawberry.interface(description="What every mutation answers.")
class MutationPayload:
    """Either it was done and `errors` is empty, or it was refused and nothing was written."""

    errors: list[UserError] = strawberry.field(
        default_factory=list, description="Why it was refused; empty when it was done.", directives=[FREE]
    )
    cursor: EventCursor | None = strawberry.field(
        default=None, description="Position of the write in the event log; null when no event was written."
    )
    replayed: bool = strawberry.field(
        default=False, description="True when an idempotency key answered with the first call's result."
    )


class Audited(Protocol):
    """What the context of a mutation has for the audit log."""

    @property
    def audit(self) -> AuditLog:
        """Takes what no write has taken along."""

    def begin_trail(self, action: str) -> Trail:
        """The trail of the mutation that runs from now on."""


Resolver = Callable[Concatenate[Any, FieldInfo[Any, None], Arguments], Awaitable[Payload]]


def refusals_as_errors(payload: type[Payload]) -> Callable[[Resolver[Arguments, Payload]], Resolver[Arguments, Payload]]:
    """Decorates a mutation's resolver: what the domain refuses becomes the payload's `errors`, and the audit log hears of all."""

    def decorate(resolver: Resolver[Arguments, Payload]) -> Resolver[Arguments, Payload]:
        async def answer(self: Any, info: FieldInfo[Any, None], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Payload:
            context: Audited = info.context
            trail = context.begin_trail(info.field_name)
            try:
                answered = await resolver(self, info, *args, **kwargs)
            except Refused as refused:
                note(context, trail, kwargs, AuditOutcome.REFUSED, refused.problems[0].code.value)
                return payload(errors=[shown(problem) for problem in refused.problems])
            except Exception as error:
                # Who is not signed in has done nothing and is nobody's business.
                if trail.user_id is not None:
                    note(context, trail, kwargs, AuditOutcome.FAILED, error.code if isinstance(error, RequestError) else "INTERNAL")
                raise
            if answered.errors:
                note(context, trail, kwargs, AuditOutcome.REFUSED, answered.errors[0].code.value)
            elif not trail.is_left:
                note(context, trail, kwargs, AuditOutcome.DONE)
            return answered

        functools.update_wrapper(answer, resolver)
        # Strawberry gives both by their names, which the type cannot say.
        return cast("Resolver[Arguments, Payload]", answer)

    return decorate


def note(context: Audited, trail: Trail, given: Mapping[str, object], outcome: AuditOutcome, code: str | None = None) -> None:
    """Tells the audit log of what no write has taken along, with what the input names."""
    if not trail.targets:
        named = [key for text in _ids(given.get("input")) if (key := parse_id(text))]
        # Whoever mixes kinds of ids in one input has made them up.
        if len({key.kind for key in named}) == 1:
            trail.kind, trail.targets = named[0].kind, [key.id for key in named]
    context.audit.note(trail, outcome, code=code)


def _ids(given: object) -> Iterator[str]:
    """The ids by which an input says what a mutation is about."""
    for name in ("id", "blocker_id", "blocked_id"):
        if isinstance(text := getattr(given, name, None), str):
            yield text
    yield from getattr(getattr(given, "where", None), "ids", None) or ()


@functools.singledispatch
def shown(problem: Problem) -> UserError:
    """A problem as data. A domain registers how it shows those of its problems that have more to tell."""
    return GenericError(
        code=problem.code,
        message=problem.message,
        path=None if problem.path is None else list(problem.path),
        retry_after_seconds=problem.retry_after_seconds,
    )
