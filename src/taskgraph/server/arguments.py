"""What a field's resolver is called with: arguments as the specification coerces them, then as Strawberry converts them.

Both are decided once for each place in an operation; a call only fills in the variables.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any

import strawberry
from graphql import (
    ArgumentNode,
    FieldNode,
    GraphQLArgument,
    GraphQLField,
    Undefined,
    VariableNode,
    Visitor,
    is_non_null_type,
    visit,
)
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_literal
from strawberry.relay.types import GlobalID
from strawberry.scalars import is_scalar
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, has_object_definition
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType

from taskgraph.server.plan import Deoptimised, Run, Unsupported

Convert = Callable[[Any], Any]
Source = Callable[[Run], Any]


def builder(
    conversions: "Conversions", declared: StrawberryField, definition: GraphQLField, node: FieldNode
) -> Callable[[Run], dict[str, Any]]:
    """What makes the keyword arguments of a resolver, all but `info`. Unsupported; when called, Deoptimised."""
    given = {argument.name.value: argument for argument in node.arguments or ()}
    parts = []
    for argument in declared.arguments:
        name = conversions.name_of(argument)
        source = _source(definition.args[name], given.get(name))
        if source is not None:
            parts.append((argument.python_name, source, conversions.of(argument.type)))

    def build(run: Run) -> dict[str, Any]:
        keywords = {}
        for name, source, convert in parts:
            value = source(run)
            if value is not Undefined:
                keywords[name] = convert(value)
        return keywords

    return build


def _source(definition: GraphQLArgument, argument: ArgumentNode | None) -> Source | None:
    """Where a coerced value comes from; None when there is none. It gives Undefined where a variable was left out."""
    default = coerce_default_value(definition)
    if argument is None:
        return None if default is Undefined else lambda _run: default
    node, kind = argument.value, definition.type
    if isinstance(node, VariableNode):
        return _variable(node.name.value, default, is_required=is_non_null_type(kind))
    names = _Variables()
    visit(node, names)
    if names.found:
        return lambda run: _defined(coerce_input_literal(node, kind, run.variables))
    constant = coerce_input_literal(node, kind)
    if constant is Undefined:
        raise Unsupported("a literal that does not fit")
    return lambda _run: constant


def _variable(name: str, default: Any, *, is_required: bool) -> Source:
    def read(run: Run) -> Any:
        value = run.variables.coerced.get(name, default)
        if is_required and (value is None or value is Undefined):
            raise Deoptimised("null for a required argument")
        return value

    return read


def _defined(value: Any) -> Any:
    if value is Undefined:
        raise Deoptimised("an argument does not fit")
    return value


class _Variables(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_variable(self, *_args: Any) -> None:
        self.found = True


class Conversions:
    """How Strawberry turns coerced values into what resolvers expect, made once for each input type of a schema.

    Input types contain themselves, so what is begun is remembered.
    """

    def __init__(self, schema: strawberry.Schema) -> None:
        self._config = schema.config
        self._scalars = schema.schema_converter.scalar_registry
        self._of_inputs: dict[Any, Convert] = {}

    def name_of(self, argument: StrawberryArgument) -> str:
        """As documents write it."""
        return self._config.name_converter.from_argument(argument)

    def of(self, kind: Any) -> Convert:
        """For a value that may be None."""
        if isinstance(kind, StrawberryMaybe):
            raise Unsupported("an argument of type Maybe")
        present = self._present(kind.of_type if isinstance(kind, StrawberryOptional) else kind)
        return lambda value: None if value is None else present(value)

    def _present(self, kind: Any) -> Convert:
        if isinstance(kind, LazyType):
            return self._present(kind.resolve_type())
        if isinstance(kind, StrawberryList):
            item = self.of(kind.of_type)
            return lambda values: [item(value) for value in values]
        if kind is not GlobalID and (
            is_scalar(kind, self._scalars) or isinstance(kind, StrawberryEnumDefinition) or has_enum_definition(kind)
        ):
            return lambda value: value
        if has_object_definition(kind):
            return self._input(kind)
        raise Unsupported(f"an argument of type {kind}")

    def _input(self, kind: Any) -> Convert:
        if kind in self._of_inputs:
            return self._of_inputs[kind]
        definition = kind.__strawberry_definition__
        if definition.from_input is not None:
            raise Unsupported(f"{definition.name} makes its own values")
        # For members of the same type, which are made before this is.
        self._of_inputs[kind] = lambda value: convert(value)  # noqa: PLW0108 - it is defined below
        members = [
            (
                self._config.name_converter.from_field(field),
                field.python_name,
                self.of(field.resolve_type(type_definition=definition)),
            )
            for field in definition.fields
        ]
        # As in Strawberry, a nullable member without a default of its own is None when it is left out.
        left_out = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }

        def convert(value: Mapping[str, Any]) -> Any:
            keywords: dict[str, Any] = dict(left_out)
            for name, python_name, convert_member in members:
                if name in value:
                    keywords[python_name] = convert_member(value[name])
            return kind(**keywords)

        self._of_inputs[kind] = convert
        return convert
