"""Documents made ready to run: text -> parsed, validated and limited, kept for the next time they come.

Good and failed documents have separate caches, so that a flood of broken ones cannot push the good ones out; nor can a flood of
good ones that come once each. Both are bounded by an estimate of the memory that they take, compiled plans included.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import strawberry
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule

from taskgraph.errors import Busy, RequestError
from taskgraph.server import limits
from taskgraph.server.limits import DocumentLimits
from taskgraph.server.one_of import OneOfVariables
from taskgraph.server.plans import Compiled, compiled
from taskgraph.server.prices import Prices
from taskgraph.server.two_part_cache import TwoPartCache

GOOD_BYTES = 64 * 1024 * 1024
FAILED_BYTES = 4 * 1024 * 1024
# Measured with tracemalloc: rather more than documents and plans of all kinds take, besides their texts.
DOCUMENT_BYTES, TOKEN_BYTES = 12_000, 550
PLAN_BYTES, FIELD_BYTES = 10_000, 2_500
ERROR_BYTES = 2_000
MAX_VALIDATION_ERRORS = 20
# The worst of this length takes 10 ms; the worst of all, 50.
SHORT_CHARACTERS = 1_000
MAX_WAITING = 1_000
RETRY_AFTER_SECONDS = 5
# graphql-core quotes names and values, however long, in each of its errors.
MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document that may run."""

    document: DocumentNode
    operations: Sequence[Compiled]

    def operation(self, name: str | None) -> Compiled:
        """The operation to run; OperationUnknown when the name doesn't say which."""
        if name is None and len(self.operations) == 1:
            return self.operations[0]
        for each in self.operations:
            if name is not None and each.operation.name is not None and each.operation.name.value == name:
                return each
        raise OperationUnknown(name)


class OperationUnknown(Exception):
    """The document has several operations and none was named, or has none of this name."""

    def __init__(self, name: str | None) -> None:
        names_one = f"The document has no operation named {(name or '')[:MESSAGE_CHARACTERS]!r}."
        super().__init__("The document has several operations; say which by operationName." if name is None else names_one)


class DocumentRefused(Exception):
    """The document is no GraphQL (GRAPHQL_PARSE_FAILED) or does not fit the schema and its limits (GRAPHQL_VALIDATION_FAILED)."""

    def __init__(self, code: str, errors: Sequence[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


class Documents:
    """Prepares documents for one schema. `hits` counts those that were at hand, `misses` the others, `failures` those refused, each time."""

    def __init__(self, schema: strawberry.Schema, document_limits: DocumentLimits, *, has_introspection: bool) -> None:
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._prices = Prices(schema)
        self._max_tokens = document_limits.max_tokens
        self.hides_suggestions = not has_introspection
        closed = () if has_introspection else (NoSchemaIntrospectionCustomRule,)
        specified = (limits.BOUNDED.get(rule, rule) for rule in specified_rules)
        self._unlimited = (*specified, MaybeNullValidationRule, OneOfVariables, *closed)
        self._rules = (*self._unlimited, limits.rule(document_limits))
        self._good = TwoPartCache[str, Prepared](GOOD_BYTES)
        self._failed = TwoPartCache[str, DocumentRefused](FAILED_BYTES)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.hits = self.misses = self.failures = 0

    def prepare(self, text: str) -> Prepared:
        """The document, from the cache if it came before. DocumentRefused."""
        return self.known(text) or self._noted(text, self._judged(text))

    def known(self, text: str) -> Prepared | None:
        """The document if it came before. DocumentRefused, again, if it was then."""
        if (prepared := self._good.get(text)) is not None:
            self.hits += 1
            return prepared
        if len(text) > limits.DOCUMENT_CHARACTERS:
            # Not kept: refusing it again costs less.
            self.failures += 1
            raise _too_long()
        if (refused := self._failed.get(text)) is not None:
            self.failures += 1
            # A new one each time: raising the cached object again would lengthen its traceback for ever.
            raise DocumentRefused(refused.code, refused.errors)
        return None

    def knows(self, text: str) -> bool:
        """Whether the document came before."""
        return text in self._good or text in self._failed

    async def prepare_aside(self, text: str) -> Prepared:
        """The same; but a long one that is new is judged by a thread, one at a time, while others are answered. Busy."""
        if (known := self.known(text)) is not None:
            return known
        if len(text) <= SHORT_CHARACTERS:
            return self._noted(text, self._judged(text))
        if self._waiting >= MAX_WAITING:
            raise Busy("Too many new documents came at once; try again shortly.", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            async with self._turn:
                if (known := self.known(text)) is not None:
                    return known
                judged = await asyncio.to_thread(self._judged, text)
        finally:
            self._waiting -= 1
        # Meanwhile it may have come by the other way.
        return self.known(text) or self._noted(text, judged)

    def without_limits(self, text: str) -> Prepared | None:
        """A document that need not keep within the limits on its shape, to be looked at and not run; None when it is not even valid."""
        if len(text) > limits.DOCUMENT_CHARACTERS:
            return None
        try:
            return self._prepare(text, self._unlimited)
        except DocumentRefused:
            return None

    @property
    def kept(self) -> int:
        """Documents at hand, good and failed."""
        return len(self._good) + len(self._failed)

    @property
    def kept_bytes(self) -> int:
        """What they take in memory, about; at most GOOD_BYTES + FAILED_BYTES."""
        return self._good.weight + self._failed.weight

    def _judged(self, text: str) -> "Prepared | DocumentRefused":
        try:
            return self._prepare(text, self._rules)
        except DocumentRefused as error:
            return error

    def _noted(self, text: str, judged: "Prepared | DocumentRefused") -> Prepared:
        """Kept for the next time."""
        if isinstance(judged, DocumentRefused):
            self.failures += 1
            size_bytes = sys.getsizeof(text) + sum(map(_error_bytes, judged.errors))
            self._failed.keep(text, DocumentRefused(judged.code, judged.errors), size_bytes)
            raise judged
        self.misses += 1
        for operation in judged.operations:
            operation.has_grown = partial(self._weigh, text, judged)
        self._good.keep(text, judged, _size_bytes(text, judged))
        return judged

    def _weigh(self, text: str, prepared: Prepared) -> None:
        self._good.reweigh(text, prepared, _size_bytes(text, prepared))

    def _prepare(self, text: str, rules: Sequence[type[ASTValidationRule]]) -> Prepared:
        try:
            document = parse(text, max_lexical_tokens=self._max_tokens)
        except GraphQLError as error:
            raise DocumentRefused("GRAPHQL_PARSE_FAILED", [_light(error)]) from error
        except RecursionError as error:
            raise DocumentRefused("GRAPHQL_PARSE_FAILED", [GraphQLError("The document is nested too deep.")]) from error
        if len(document.definitions) > limits.OPERATIONS:
            operations = sum(isinstance(each, OperationDefinitionNode) for each in document.definitions)
            if operations > limits.OPERATIONS:
                message = f"The document has {operations} operations; {limits.OPERATIONS} are allowed."
                raise DocumentRefused("GRAPHQL_VALIDATION_FAILED", [GraphQLError(message)])
        errors = validate(self._schema, document, rules, max_errors=MAX_VALIDATION_ERRORS, hide_suggestions=self.hides_suggestions)
        if errors:
            raise DocumentRefused("GRAPHQL_VALIDATION_FAILED", [_light(in_our_words(error)) for error in errors])
        return Prepared(document, compiled(document, partial(self._prices.price, document)))


def is_query(operation: OperationDefinitionNode) -> bool:
    """Whether it only reads."""
    return operation.operation is OperationType.QUERY


def _too_long() -> DocumentRefused:
    message = f"The document has more than {limits.DOCUMENT_CHARACTERS} characters; send values as variables."
    return DocumentRefused("GRAPHQL_PARSE_FAILED", [GraphQLError(message)])


def bounded(message: str) -> str:
    """Messages quote what was sent, however long that is."""
    return message if len(message) <= MESSAGE_CHARACTERS else f"{message[:MESSAGE_CHARACTERS]}…"


def in_our_words(error: GraphQLError) -> GraphQLError:
    """Without the text of a Python exception, which graphql-core quotes when a value causes one: an Int of 5,000 digits does."""
    if error.original_error is None or isinstance(error.original_error, GraphQLError):
        return error
    if isinstance(error.original_error, RequestError):
        return GraphQLError(str(error.original_error), error.nodes)
    return GraphQLError("This value does not fit its type.", error.nodes)


def _light(error: GraphQLError) -> GraphQLError:
    """Without the tree, the text and the frames behind it, which are many times its size; its locations are known already."""
    error.nodes = error.source = error.original_error = None
    error.message = bounded(error.message)
    return error.with_traceback(None)


def _size_bytes(text: str, prepared: Prepared) -> int:
    """What both take in memory, about: the text twice, as its strings and comments stand in the tokens again."""
    plans = [plan for each in prepared.operations for plan in each.variants.values() if plan is not None]
    fields = sum(plan.fields for plan in plans)
    tree_bytes = DOCUMENT_BYTES + TOKEN_BYTES * _tokens(prepared.document)
    return 2 * sys.getsizeof(text) + tree_bytes + PLAN_BYTES * len(plans) + FIELD_BYTES * fields


def _error_bytes(error: GraphQLError) -> int:
    return ERROR_BYTES + sys.getsizeof(error.message)


def _tokens(document: DocumentNode) -> int:
    """Of the text, comments included, which the tree keeps too."""
    count, token = 0, document.loc.start_token if document.loc else None
    while token is not None:
        count, token = count + 1, token.next
    return count
