"""Runs prepared operations and shows their errors: what the caller can do something about, and nothing of our inside."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, cast

import orjson
import strawberry
import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    MiddlewareManager,
    OperationType,
    create_source_event_stream,
    execute,
)

from taskgraph.errors import Busy, RequestError
from taskgraph.server.documents import bounded, is_query
from taskgraph.server.gate import OperationContext
from taskgraph.server.plans import Compiled, Plans, remembering
from taskgraph.server.prices import Charge
from taskgraph.storage import mongo

RETRY_AFTER_SECONDS = 5
MAX_VARIABLE_ERRORS = 5
NOTHING = Charge(0, 0, 0)
# graphql-core quotes what does not fit, whole inputs included: a password beside a misspelled member would end up in error trackers.
QUOTED = re.compile(r"(cannot represent [\w -]*value): .*|, found: .*", re.DOTALL)
log = structlog.get_logger(__name__)


# Like all records that each request makes, not frozen: those take three times as long to make.
@dataclass(slots=True)
class Operation:
    """One operation of a prepared document with what the caller sent along, and what it is charged."""

    document: DocumentNode
    chosen: Compiled
    variables: Mapping[str, Any] | None
    charge: Charge = NOTHING

    @property
    def is_query(self) -> bool:
        """Whether it only reads."""
        return is_query(self.chosen.operation)

    @property
    def name(self) -> str | None:
        """Of an operation that has one."""
        name = self.chosen.operation.name
        return None if name is None else name.value


@dataclass(slots=True)
class Answer:
    """What is sent: `data` (absent when nothing was run) and shown errors. `was_run` tells a refused request from a failed field.

    Of an answer that was kept, `encoded` is all there is.
    """

    data: Any
    errors: Sequence[dict[str, Any]]
    was_run: bool = True
    encoded: bytes | None = None
    cost: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The response map of the specification."""
        shown = {"errors": list(self.errors)} if self.errors else {}
        return {**shown, "data": self.data, "extensions": {"cost": self.cost}} if self.was_run else shown

    def encode(self) -> bytes:
        """The response map as JSON."""
        return orjson.dumps(self.body) if self.encoded is None else self.encoded

    @property
    def codes(self) -> set[str]:
        """The extensions.code of every error."""
        return {error["extensions"]["code"] for error in self.errors}

    @property
    def retry_after_seconds(self) -> int | None:
        """The longest wait that an error asks for."""
        return max((error["extensions"].get("retryAfterSeconds", 0) for error in self.errors), default=0) or None


class Executor:
    """Executes against one Strawberry schema: the compiled way where there are plans and they can answer, else by graphql-core."""

    def __init__(self, schema: strawberry.Schema, plans: Plans | None, *, has_introspection: bool) -> None:
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._executor_class = schema.execution_context_class
        self._plans = plans
        self._hide_suggestions = not has_introspection
        # The event loop itself holds tasks weakly.
        self._finishing: set[asyncio.Task[Answer]] = set()

    async def run(self, operation: Operation, context: OperationContext, *, source: object = None) -> Answer:
        """One query or mutation, or one message of a subscription, which is then the `source`.

        What reads has mongo.READ_SECONDS, then it is BUSY; a mutation bounds its own transactions.
        """
        chosen = operation.chosen
        with nullcontext() if chosen.operation.operation is OperationType.MUTATION else mongo.reading():
            roots: Mapping[str, Any] = {}
            if self._plans is not None:
                outcome = await self._plans.run(chosen, operation.variables or {}, context, source=source)
                if outcome.data is not None:
                    return Answer(outcome.data, (), cost=operation.charge.cost)
                roots = outcome.roots
            result = execute(
                self._schema,
                operation.document,
                source,
                context,
                variable_values=dict(operation.variables or {}),
                executor_class=self._executor_class,
                middleware=MiddlewareManager(remembering(roots)) if roots else None,
                **self._options(operation),
            )
            return _answer(await result if isawaitable(result) else result, operation.charge.cost, context)

    async def finish(self, operation: Operation, context: OperationContext) -> Answer:
        """The same for who may be cancelled meanwhile: the operation goes on to its end."""
        task = asyncio.create_task(self.run(operation, context))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return await asyncio.shield(task)

    async def stream(self, operation: Operation, context: OperationContext) -> "AsyncGenerator[Any] | Answer":
        """The messages of a subscription, each still to be `run`; an answer with errors when it cannot begin."""
        executor = self._executor_class.build(
            self._schema,
            operation.document,
            context_value=context,
            raw_variable_values=dict(operation.variables or {}),
            **self._options(operation),
        )
        if isinstance(executor, list):
            return _answer(ExecutionResult(None, executor), operation.charge.cost, context)
        stream = create_source_event_stream(executor)
        stream = await stream if isawaitable(stream) else stream
        if isinstance(stream, ExecutionResult):
            return _answer(stream, operation.charge.cost, context)
        return cast("AsyncGenerator[Any]", stream)

    def _options(self, operation: Operation) -> dict[str, Any]:
        return {
            "operation_name": operation.name,
            "hide_suggestions": self._hide_suggestions or not can_be_guessed_at(operation.variables or {}),
            # Each quotes the value that it is about, and graphql-core writes all of that out before it cuts it.
            "max_coercion_errors": MAX_VARIABLE_ERRORS,
            "operation_extensions": {},
        }


def can_be_guessed_at(variables: Mapping[str, Any]) -> bool:
    """Whether graphql-core may say what was perhaps meant: some letters become two in lower case, and its search fails at them."""
    try:
        return orjson.dumps(variables).isascii()
    except TypeError:  # Nested too deep to be looked at.
        return False


def refusal(error: Exception) -> Answer:
    """The answer when a request is turned away, or fails, before anything runs."""
    return Answer(None, [_shown(GraphQLError(str(error), original_error=error))], was_run=False)


def refused_document(code: str, errors: Sequence[GraphQLError]) -> Answer:
    """The answer to a document that may not run."""
    return Answer(None, [_with_code(error, code) for error in errors], was_run=False)


def _answer(result: ExecutionResult, cost: int, context: OperationContext) -> Answer:
    errors = [_shown(error, context) for error in result.errors or ()]
    # graphql-core found the variables not to fit before it ran anything.
    was_run = result.data is not None or any("path" in error for error in errors)
    return Answer(result.data, errors, was_run=was_run, cost=cost)


def _shown(error: GraphQLError, context: OperationContext | None = None) -> dict[str, Any]:
    """An error for the caller. Expected ones keep their sentence; a bug is logged under an id, and only the id is shown."""
    original = _original(error)
    if original is None:
        return _with_code(error, "BAD_USER_INPUT")
    if mongo.is_unavailable(original):
        log.warning("database unavailable", error=type(original).__name__)
        busy = Busy("The database is busy or cannot be reached; try again shortly.", retry_after_seconds=RETRY_AFTER_SECONDS)
        return _refused(error, busy, str(busy))
    if isinstance(original, RequestError):
        # graphql-core's message is the same, or says in front of it which variable is meant.
        return _refused(error, original, error.message)
    # The same as in the audit log, where the operation had begun.
    request_id = uuid.uuid4().hex if context is None else context.request_id
    log.error("internal error", request_id=request_id, path=error.path, exc_info=original)
    message = "Something went wrong on our side. Please report the requestId."
    return _formatted(error, message, {"code": "INTERNAL", "requestId": request_id})


def _refused(error: GraphQLError, reason: RequestError, message: str) -> dict[str, Any]:
    log.info("refused", code=reason.code, path=error.path)
    return _formatted(error, message, {"code": reason.code, **reason.details})


def _original(error: GraphQLError) -> BaseException | None:
    """The exception behind the GraphQL errors that wrap it; None when a GraphQLError is all there is."""
    inner: BaseException | None = error
    while isinstance(inner, GraphQLError):
        inner = inner.original_error
    return inner


def _with_code(error: GraphQLError, code: str) -> dict[str, Any]:
    return _formatted(error, _unquoted(error.message), {"code": code})


def _unquoted(message: str) -> str:
    """A message of graphql-core without the value that it is about."""
    return QUOTED.sub(lambda cut: f"{cut[1] or ''}.", message)


def _formatted(error: GraphQLError, message: str, extensions: dict[str, Any]) -> dict[str, Any]:
    shown = error.formatted
    return {**shown, "message": bounded(message), "extensions": extensions}
