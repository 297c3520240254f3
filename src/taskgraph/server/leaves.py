"""How leaves are written: the usual Python type passes through, anything else is for graphql-core's own coercion to decide."""

import math
from collections.abc import Callable
from typing import Any

import orjson
from graphql import GraphQLEnumType, GraphQLLeafType

from taskgraph.server.plan import Deoptimised
from taskgraph.server.scalars import rfc3339
from taskgraph.server.source import Source

MAX_INT, MIN_INT = 2**31 - 1, -(2**31)
# Whether a value is already what it would be coerced to, in either direction.
PASSING: dict[str, Callable[[Any], bool]] = {
    "String": lambda value: type(value) is str,
    "ID": lambda value: type(value) is str,
    "Boolean": lambda value: type(value) is bool,
    "Int": lambda value: type(value) is int and MIN_INT <= value <= MAX_INT,
    "Float": lambda value: type(value) is float and math.isfinite(value),
}
# The same as text, of a value called `it`, for the types that most leaves have.
PASSING_TEXTS = {
    "String": "type(it := {value}) is str",
    "ID": "type(it := {value}) is str",
    "Boolean": "type(it := {value}) is bool",
    "Int": f"type(it := {{value}}) is int and {MIN_INT} <= it <= {MAX_INT}",
}
# What rfc3339 does with most of them, without a call for each.
DATE_TIME_TEXT = "({dumps}(it)[1:24].decode() + 'Z' if (it := {value}).microsecond else {rfc3339}(it))"


def output(source: Source, kind: GraphQLLeafType, value: str) -> str:
    """An expression for the output of what the expression `value` gives. None, and what else has no output, is Deoptimised or
    another error.
    """
    if isinstance(kind, GraphQLEnumType):
        names = {member.value: name for name, member in kind.values.items()}
        return f"{source.name(names)}[{value}]"
    if kind.name == "DateTime":
        return DATE_TIME_TEXT.format(value=value, dumps=source.name(orjson.dumps), rfc3339=source.name(rfc3339))
    coerced = source.name(_coercion(kind))
    if (passes := PASSING_TEXTS.get(kind.name)) is not None:
        return f"(it if {passes.format(value=value)} else {coerced}(it))"
    return f"{coerced}({value})"


def _coercion(kind: GraphQLLeafType) -> Callable[[Any], Any]:
    coerce: Callable[[Any], Any] = kind.coerce_output_value

    def coerced(value: Any) -> Any:
        written = None if value is None else coerce(value)
        if written is None:
            raise Deoptimised("null in a non-null place")
        return written

    return coerced
