"""Variables of an operation, checked and coerced by functions that are made once for each operation.

They know the usual forms of valid values. Whatever else comes is `Unusual`, and graphql-core has to judge it: it knows every rule
and says what is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLLeafType,
    GraphQLNamedInputType,
    GraphQLSchema,
    Undefined,
    VariableDefinitionNode,
    get_variable_values,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource
from graphql.utilities.coerce_input_value import coerce_default_value

from taskgraph.server.leaves import PASSING

Coerce = Callable[[Any], Any]
CoerceVariables = Callable[[Mapping[str, Any]], VariableValues]


USUAL_DEPTH = 20


class Unusual(Exception):
    """A value that only graphql-core can judge."""


def coercer(schema: GraphQLSchema, definitions: Sequence[VariableDefinitionNode]) -> CoerceVariables:
    """What makes the values of these variables from what was sent. Unusual, RecursionError for what is nested too deep."""
    steps = [_step(schema, definition) for definition in definitions]

    def coerce(sent: Mapping[str, Any]) -> VariableValues:
        values = VariableValues({}, {})
        for step in steps:
            step(sent, values)
        return values

    return coerce


def _step(schema: GraphQLSchema, definition: VariableDefinitionNode) -> Callable[[Mapping[str, Any], VariableValues], None]:
    signature = get_variable_signature(schema, definition)
    if isinstance(signature, GraphQLError):
        return _unusual
    name, of_type, is_required = signature.name, _Types().coercer(signature.type), is_non_null_type(signature.type)
    left_out = VariableValueSource(signature)
    default = get_variable_values(schema, [definition], {}) if definition.default_value else None

    def step(sent: Mapping[str, Any], values: VariableValues) -> None:
        if name in sent:
            values.sources[name] = VariableValueSource(signature, sent[name])
            values.coerced[name] = of_type(sent[name])
        elif isinstance(default, VariableValues):
            values.sources[name] = left_out
            values.coerced[name] = default.coerced[name]
        elif is_required or default is not None:
            raise Unusual
        else:
            values.sources[name] = left_out

    return step


def _unusual(*_any: Any) -> Any:
    raise Unusual


class _Types:
    """Makes coercers of types. Input objects contain themselves, so what is begun is remembered."""

    def __init__(self) -> None:
        self._of_objects: dict[str, Coerce] = {}
        self._depth = 0

    def coercer(self, kind: GraphQLInputType) -> Coerce:
        if is_non_null_type(kind):
            inner = self._present(kind.of_type)
            return lambda value: _unusual() if value is None else inner(value)
        nullable = self._present(kind)
        return lambda value: None if value is None else nullable(value)

    def _present(self, kind: Any) -> Coerce:
        """For a value that is not None."""
        if is_list_type(kind):
            item = self.coercer(kind.of_type)
            # A single value counts as a list of one: seldom enough to be graphql-core's.
            return lambda value: [item(each) for each in value] if type(value) is list else _unusual()
        if isinstance(kind, GraphQLInputObjectType):
            return self._object(kind)
        return _leaf(kind)

    def _object(self, kind: GraphQLInputObjectType) -> Coerce:
        if kind.name in self._of_objects:
            return self._of_objects[kind.name]
        # For members of the same type, which are made before this is.
        self._of_objects[kind.name] = lambda value: self._deeper(coerce, value)
        members = [self._member(name, member) for name, member in kind.fields.items()]
        names, is_one_of = frozenset(kind.fields), kind.is_one_of

        def coerce(value: Any) -> Any:
            if type(value) is not dict or not names >= value.keys():
                raise Unusual
            if is_one_of and (len(value) != 1 or None in value.values()):
                raise Unusual
            coerced: dict[str, Any] = {}
            for member in members:
                member(value, coerced)
            return kind.out_type(coerced)

        self._of_objects[kind.name] = coerce
        return coerce

    def _deeper(self, coerce: Coerce, value: Any) -> Any:
        """A value within one of its own type. How deep that may go is for graphql-core to say."""
        if self._depth >= USUAL_DEPTH:
            raise Unusual
        self._depth += 1
        try:
            return coerce(value)
        finally:
            self._depth -= 1

    def _member(self, name: str, member: Any) -> Callable[[Mapping[str, Any], dict[str, Any]], None]:
        of_type, out_name = self.coercer(member.type), member.out_name or name
        default = coerce_default_value(member)

        def take(value: Mapping[str, Any], coerced: dict[str, Any]) -> None:
            if name in value:
                coerced[out_name] = of_type(value[name])
            elif default is not Undefined:
                coerced[out_name] = default
            elif is_non_null_type(member.type):
                raise Unusual

        return take


def _leaf(kind: GraphQLNamedInputType) -> Coerce:
    if isinstance(kind, GraphQLEnumType):
        by_name = {name: kind.coerce_input_value(name) for name in kind.values}
        return lambda value: by_name[value] if type(value) is str and value in by_name else _unusual()
    if (passes := PASSING.get(kind.name)) is not None:
        return lambda value: value if passes(value) else _unusual()
    assert isinstance(kind, GraphQLLeafType)  # noqa: S101 - objects and lists are dealt with above
    coerce_leaf = kind.coerce_input_value

    def coerce(value: Any) -> Any:
        try:
            return coerce_leaf(value)
        except Exception as error:
            raise Unusual from error

    return coerce
