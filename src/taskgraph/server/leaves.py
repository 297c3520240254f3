"""How leaves are written: the usual Python type passes through, anything else is for graphql-core's own coercion to decide."""

import math
from collections.abc import Callable
from typing import Any

from graphql import GraphQLEnumType, GraphQLLeafType

from taskgraph.server.plan import Deoptimised
from taskgraph.server.scalars import rfc3339

MAX_INT, MIN_INT = 2**31 - 1, -(2**31)
Serialise = Callable[[Any], Any]


def serialiser(kind: GraphQLLeafType) -> Serialise:
    """What turns a value that is not None into output; Deoptimised, or the error of the scalar."""
    if isinstance(kind, GraphQLEnumType):
        return _enum_serialiser(kind)
    if kind.name == "DateTime":
        return rfc3339
    coerce: Serialise = kind.coerce_output_value
    if kind.name in {"String", "ID"}:
        return lambda value: value if type(value) is str else coerce(value)
    if (passes := PASSING.get(kind.name)) is not None:
        return lambda value: value if passes(value) else coerce(value)

    def serialise(value: Any) -> Any:
        output = coerce(value)
        if output is None:
            raise Deoptimised("a leaf without a value")
        return output

    return serialise


def _enum_serialiser(kind: GraphQLEnumType) -> Serialise:
    names = {value.value: name for name, value in kind.values.items()}

    def serialise(value: Any) -> Any:
        try:
            return names[value]
        except (KeyError, TypeError):
            raise Deoptimised("an unexpected enum value") from None

    return serialise


# Whether a value is already what it would be coerced to, in either direction.
PASSING: dict[str, Callable[[Any], bool]] = {
    "String": lambda value: type(value) is str,
    "ID": lambda value: type(value) is str,
    "Boolean": lambda value: type(value) is bool,
    "Int": lambda value: type(value) is int and MIN_INT <= value <= MAX_INT,
    "Float": lambda value: type(value) is float and math.isfinite(value),
}
