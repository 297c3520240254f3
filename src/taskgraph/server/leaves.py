"""How leaves are written: the usual Python type passes through, anything else is for graphql-core's own coercion to decide."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLEnumType, GraphQLLeafType, GraphQLOutputType, is_leaf_type, is_non_null_type

from taskgraph.server.plan import Deoptimised
from taskgraph.server.scalars import rfc3339

MAX_INT, MIN_INT = 2**31 - 1, -(2**31)
Serialise = Callable[[Any], Any]
# The Python types of which every value is written as it is.
WRITTEN_AS_IT_IS = {"String": str, "ID": str, "Boolean": bool}
# Whether a value is already what it would be coerced to, in either direction.
PASSING: dict[str, Callable[[Any], bool]] = {
    "String": lambda value: type(value) is str,
    "ID": lambda value: type(value) is str,
    "Boolean": lambda value: type(value) is bool,
    "Int": lambda value: type(value) is int and MIN_INT <= value <= MAX_INT,
    "Float": lambda value: type(value) is float and math.isfinite(value),
}


class StoredLeaves:
    """The fields of an object that are values of its document: most fields by far, so they are written in one loop."""

    def __init__(self) -> None:
        self._leaves: list[tuple[str, str, type, Serialise, bool]] = []

    def __len__(self) -> int:
        return len(self._leaves)

    def take(self, key: str, stored_key: str, kind: GraphQLOutputType) -> bool:
        """Adds a field, unless its type is no leaf."""
        present = kind.of_type if is_non_null_type(kind) else kind
        if is_leaf_type(present):
            as_it_is = WRITTEN_AS_IT_IS.get(present.name, type(...))
            self._leaves.append((key, stored_key, as_it_is, serialiser(present), present is kind))
        return is_leaf_type(present)

    def write(self, document: Mapping[str, Any], target: dict[str, Any]) -> None:
        """Into a target where they are None; Deoptimised, or the error of a scalar."""
        for key, stored_key, as_it_is, serialise, is_nullable in self._leaves:
            value = document[stored_key]
            if type(value) is as_it_is:
                target[key] = value
            elif value is not None:
                target[key] = serialise(value)
            elif not is_nullable:
                raise Deoptimised("null in a non-null place")


def serialiser(kind: GraphQLLeafType) -> Serialise:
    """What turns a value into output; Deoptimised for None and what else has no output, or the error of the scalar."""
    if isinstance(kind, GraphQLEnumType):
        return _enum_serialiser(kind)
    if kind.name == "DateTime":
        return rfc3339
    coerce: Serialise = kind.coerce_output_value

    def coerced(value: Any) -> Any:
        output = None if value is None else coerce(value)
        if output is None:
            raise Deoptimised("null in a non-null place")
        return output

    if kind.name in {"String", "ID"}:
        return lambda value: value if type(value) is str else coerced(value)
    passes = PASSING.get(kind.name)
    return coerced if passes is None else lambda value: value if passes(value) else coerced(value)


def _enum_serialiser(kind: GraphQLEnumType) -> Serialise:
    names = {value.value: name for name, value in kind.values.items()}

    def serialise(value: Any) -> Any:
        try:
            return names[value]
        except (KeyError, TypeError):
            raise Deoptimised("an unexpected enum value") from None

    return serialise
