"""Documents made ready to run: text -> parsed, validated and limited, kept for the next time they come.

Good and failed documents have separate caches, so that a flood of broken ones cannot push the good ones out.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import strawberry
from graphql import (
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    OverlappingFieldsCanBeMergedRule,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from taskgraph.errors import RequestError
from taskgraph.server import limits
from taskgraph.server.limits import DocumentLimits
from taskgraph.server.plans import Compiled, compiled

Cached = TypeVar("Cached")

GOOD_DOCUMENTS = 1000
FAILED_DOCUMENTS = 200
# Longer texts are prepared each time: an ordinary operation is shorter, and a tree takes some 70 bytes for each character.
CACHED_CHARACTERS = 4_000
MAX_VALIDATION_ERRORS = 20


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
        names_one = f"The document has no operation named {name!r}."
        super().__init__("The document has several operations; say which by operationName." if name is None else names_one)


class DocumentRefused(Exception):
    """The document is no GraphQL (GRAPHQL_PARSE_FAILED) or does not fit the schema and its limits (GRAPHQL_VALIDATION_FAILED)."""

    def __init__(self, code: str, errors: Sequence[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


class Documents:
    """Prepares documents for one schema; two caches, each least recently used first out."""

    def __init__(self, schema: strawberry.Schema, document_limits: DocumentLimits, *, has_introspection: bool) -> None:
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._max_tokens = document_limits.max_tokens
        self._hide_suggestions = not has_introspection
        closed = () if has_introspection else (NoSchemaIntrospectionCustomRule,)
        specified = (limits.BoundedMerging if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules)
        self._rules = (*specified, MaybeNullValidationRule, OneOfInputValidationRule, limits.rule(document_limits), *closed)
        self._good: OrderedDict[str, Prepared] = OrderedDict()
        self._failed: OrderedDict[str, DocumentRefused] = OrderedDict()

    def prepare(self, text: str) -> Prepared:
        """The document, from the cache if it came before. DocumentRefused."""
        if (prepared := self._good.get(text)) is not None:
            self._good.move_to_end(text)
            return prepared
        if (refused := self._failed.get(text)) is not None:
            # A new one each time: raising the cached object again would lengthen its traceback for ever.
            raise DocumentRefused(refused.code, refused.errors)
        try:
            prepared = self._prepare(text)
        except DocumentRefused as error:
            _keep(self._failed, text, error, FAILED_DOCUMENTS)
            raise
        _keep(self._good, text, prepared, GOOD_DOCUMENTS)
        return prepared

    def _prepare(self, text: str) -> Prepared:
        try:
            document = parse(text, max_lexical_tokens=self._max_tokens)
        except GraphQLError as error:
            raise DocumentRefused("GRAPHQL_PARSE_FAILED", [error]) from error
        except RecursionError as error:
            raise DocumentRefused("GRAPHQL_PARSE_FAILED", [GraphQLError("The document is nested too deep.")]) from error
        errors = validate(
            self._schema, document, self._rules, max_errors=MAX_VALIDATION_ERRORS, hide_suggestions=self._hide_suggestions
        )
        if errors:
            raise DocumentRefused("GRAPHQL_VALIDATION_FAILED", [_in_our_words(error) for error in errors])
        operations = [compiled(document, each) for each in document.definitions if isinstance(each, OperationDefinitionNode)]
        return Prepared(document, operations)


def is_query(operation: OperationDefinitionNode) -> bool:
    """Whether it only reads."""
    return operation.operation is OperationType.QUERY


def _in_our_words(error: GraphQLError) -> GraphQLError:
    """Without the text of a Python exception, which graphql-core quotes when a value causes one: an Int of 5,000 digits does."""
    if error.original_error is None or isinstance(error.original_error, GraphQLError):
        return error
    if isinstance(error.original_error, RequestError):
        return GraphQLError(str(error.original_error), error.nodes)
    return GraphQLError("This value does not fit its type.", error.nodes)


def _keep(cache: OrderedDict[str, Cached], text: str, value: Cached, size: int) -> None:
    if len(text) <= CACHED_CHARACTERS:
        cache[text] = value
        if len(cache) > size:
            cache.popitem(last=False)
