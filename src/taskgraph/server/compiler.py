"""Turns a validated operation into a plan: one closure for each field, specialised to the schema and to the selection.

Stored fields read the document, batched ones are loaded once for each place in the operation, anything else is called as
graphql-core would call it. What cannot be expressed raises `Unsupported`; such an operation is graphql-core's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, cast

import strawberry
from graphql import (
    GraphQLAbstractType,
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    OperationDefinitionNode,
    OperationType,
    get_argument_values,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.collect_fields import (
    CollectedFields,
    FieldDetailsList,
    FragmentDetails,
    GroupedFieldSet,
    collect_fields,
    collect_subfields,
)
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from strawberry.schema.schema_converter import GraphQLCoreConverter, get_arguments
from strawberry.types.field import StrawberryField

from taskgraph.server.fields import BATCHED, STORED, Reading
from taskgraph.server.leaves import Serialise, serialiser
from taskgraph.server.plan import Complete, Deoptimised, Fill, Place, Plan, Root, Run


class Unsupported(Exception):
    """The operation cannot be compiled; the message says why."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A field at one place of the operation: where it stands, what the schema says of it, and what Strawberry made that of."""

    parent: GraphQLObjectType
    key: str
    details: FieldDetailsList
    definition: GraphQLField
    declared: StrawberryField

    @property
    def name(self) -> str:
        """Of the field, whatever its alias."""
        return self.details[0].node.name.value


def compile_operation(
    schema: strawberry.Schema,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDetails],
    variables: VariableValues,
) -> Plan:
    """The plan for an operation; `variables` decide its @skip and @include, and nothing else. Unsupported."""
    return Compilation(schema, operation, dict(fragments), variables).plan()


class Compilation:
    """The making of one plan."""

    def __init__(
        self,
        schema: strawberry.Schema,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDetails],
        variables: VariableValues,
    ) -> None:
        self._strawberry = schema
        self._core = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._operation = operation
        self._fragments = fragments
        self._variables = variables

    def plan(self) -> Plan:
        """From the root fields down."""
        root_type = self._core.get_root_type(self._operation.operation)
        if root_type is None:
            raise Unsupported("no root type")
        collected = _checked(collect_fields(self._core, self._fragments, self._variables, root_type, self._operation))
        roots, constants = [], {}
        for key, details in collected.items():
            name = details[0].node.name.value
            if name == "__typename":
                constants[key] = root_type.name
            elif name.startswith("__"):
                raise Unsupported("introspection")
            else:
                roots.append(self._root(_selected(root_type, key, details)))
        return Plan(roots, constants, list(collected), is_serial=self._operation.operation is OperationType.MUTATION)

    def _root(self, selected: Selected) -> Root:
        definition, node, resolver = selected.definition, selected.details[0].node, selected.definition.resolve
        if resolver is None:
            raise Unsupported(f"{selected.name} has no resolver")
        info_of = self._info(selected)

        def resolve(run: Run) -> Any:
            return resolver(run.source, info_of(run), **get_argument_values(definition, node, run.variables))

        return Root(selected.key, resolve, self._complete(definition.type, selected.details))

    def _complete(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        """What makes the output of a resolved value."""
        if is_non_null_type(kind):
            inner = self._complete_present(kind.of_type, details)

            def complete(value: Any, run: Run) -> Any:
                if value is None:
                    raise Deoptimised("null in a non-null place")
                return inner(value, run)

            return complete
        nullable = self._complete_present(kind, details)
        return lambda value, run: None if value is None else nullable(value, run)

    def _complete_present(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        """The same for a value that is not None."""
        if is_list_type(kind):
            return _complete_list(self._complete(kind.of_type, details))
        if is_leaf_type(kind):
            serialise = serialiser(kind)
            return lambda value, _run: serialise(value)
        if is_abstract_type(kind):
            return self._complete_abstract(kind, details)
        if isinstance(kind, GraphQLObjectType):
            return self._complete_object(kind, details)
        raise Unsupported(f"type {kind}")

    def _complete_abstract(self, kind: GraphQLAbstractType, details: FieldDetailsList) -> Complete:
        possible = self._core.get_possible_types(kind)
        by_class = {_origin(each): self._complete_object(each, details) for each in possible}

        def complete(value: Any, run: Run) -> Any:
            if (known := by_class.get(type(value))) is None:
                raise Deoptimised("an object of an unexpected type")
            return known(value, run)

        return complete

    def _complete_object(self, kind: GraphQLObjectType, details: FieldDetailsList) -> Complete:
        origin = _origin(kind)
        collected = collect_subfields(self._core, self._fragments, self._variables, self._operation, kind, details)
        fills = [self._fill(kind, key, inner) for key, inner in _checked(collected).items()]

        def complete(source: Any, run: Run) -> dict[str, Any]:
            if type(source) is not origin:
                raise Deoptimised("an object of an unexpected type")
            target: dict[str, Any] = {}
            for fill in fills:
                fill(source, target, run)
            return target

        return complete

    def _fill(self, parent: GraphQLObjectType, key: str, details: FieldDetailsList) -> Fill:
        """What puts one field of an object into the answer."""
        if details[0].node.name.value == "__typename":
            return _fill_constant(key, parent.name)
        selected = _selected(parent, key, details)
        if selected.declared.extensions:
            raise Unsupported(f"{parent.name}.{selected.name} has field extensions")
        if BATCHED in selected.declared.metadata or selected.declared.is_async:
            return self._fill_later(selected)
        kind, stored_key = selected.definition.type, selected.declared.metadata.get(STORED)
        present = kind.of_type if is_non_null_type(kind) else kind
        if stored_key is not None and is_leaf_type(present):
            return _fill_stored_leaf(key, stored_key, serialiser(present), is_nullable=present is kind)
        read, complete = self._reader(selected), self._complete(kind, details)

        def fill(source: Any, target: dict[str, Any], run: Run) -> None:
            target[key] = complete(read(source, run), run)

        return fill

    def _reader(self, selected: Selected) -> Callable[[Any, Run], Any]:
        """What gives the value of a field without waiting."""
        declared = selected.declared
        if STORED in declared.metadata:
            stored_key = declared.metadata[STORED]
            return lambda source, _run: source.document[stored_key]
        function = _function(declared)
        if function is None:
            name = declared.python_name
            return lambda source, _run: getattr(source, name)
        if declared.base_resolver and declared.base_resolver.info_parameter is None and not declared.arguments:
            return lambda source, _run: function(source)
        arguments_of = self._arguments(selected)
        return lambda source, run: function(source, **arguments_of(run))

    def _fill_later(self, selected: Selected) -> Fill:
        """The same for a field that is awaited for all objects together."""
        arguments_of, key = self._arguments(selected), selected.key
        plan, function = selected.declared.metadata.get(BATCHED), _function(selected.declared)

        async def load(sources: Sequence[Any], run: Run) -> Sequence[Any]:
            arguments = arguments_of(run)
            if plan is not None:
                return await _load(plan(**arguments), sources, run)
            assert function is not None  # noqa: S101 - what is async has a resolver
            return await asyncio.gather(*(function(source, **arguments) for source in sources))

        place = Place(key, load, self._complete(selected.definition.type, selected.details))

        def fill(source: Any, target: dict[str, Any], run: Run) -> None:
            target[key] = None  # Keeps the key's place among the others until the value is there.
            run.waiting.setdefault(place, []).append((source, target))

        return fill

    def _arguments(self, selected: Selected) -> Callable[[Run], dict[str, Any]]:
        """The keyword arguments of a field's resolver, converted as Strawberry does it."""
        definition, declared, node = selected.definition, selected.declared, selected.details[0].node
        config, scalars = self._strawberry.config, self._strawberry.schema_converter.scalar_registry
        info_of = self._info(selected)

        def arguments(run: Run) -> dict[str, Any]:
            info = config.info_class(_raw_info=info_of(run), _field=declared)
            given = get_argument_values(definition, node, run.variables)
            _, keywords = get_arguments(
                field=declared, source=None, info=info, kwargs=given, config=config, scalar_registry=scalars
            )
            return keywords

        return arguments

    def _info(self, selected: Selected) -> Callable[[Run], GraphQLResolveInfo[Any]]:
        """What resolvers are told. The path is that of the field's place in the operation, without positions in lists."""
        nodes, path = [each.node for each in selected.details], Path(None, selected.key, selected.parent.name)
        fragments = {fragment: each.definition for fragment, each in self._fragments.items()}

        def info(run: Run) -> GraphQLResolveInfo[Any]:
            return GraphQLResolveInfo(
                field_name=selected.name,
                field_nodes=nodes,
                return_type=selected.definition.type,
                parent_type=selected.parent,
                path=path,
                schema=self._core,
                fragments=fragments,
                root_value=run.source,
                operation=self._operation,
                variable_values=run.variables,
                context=run.context,
                is_awaitable=isawaitable,  # type: ignore[arg-type]  # a TypeIs is a TypeGuard, and more
                abort_signal=None,
                async_helpers=None,  # type: ignore[arg-type]  # no resolver of ours uses them
            )

        return info


async def _load(reading: Reading[Any], sources: Sequence[Any], run: Run) -> Sequence[Any]:
    keys = [reading.key(source) for source in sources]
    wanted = [key for key in keys if key is not None]
    loaded = iter(await run.context.load_many(reading.batch, wanted) if wanted else ())
    return [reading.show(source, None if key is None else next(loaded)) for source, key in zip(sources, keys, strict=True)]


def _complete_list(complete: Complete) -> Complete:
    def complete_list(values: Any, run: Run) -> list[Any]:
        if type(values) is not list and type(values) is not tuple:
            raise Deoptimised("a list of an unexpected type")
        return [complete(value, run) for value in values]

    return complete_list


def _fill_constant(key: str, constant: str) -> Fill:
    def fill(_source: Any, target: dict[str, Any], _run: Run) -> None:
        target[key] = constant

    return fill


def _fill_stored_leaf(key: str, stored_key: str, serialise: Serialise, *, is_nullable: bool) -> Fill:
    """The most frequent field by far, in one step instead of three."""

    def fill_nullable(source: Any, target: dict[str, Any], _run: Run) -> None:
        value = source.document[stored_key]
        target[key] = None if value is None else serialise(value)

    def fill(source: Any, target: dict[str, Any], _run: Run) -> None:
        value = source.document[stored_key]
        if value is None:
            raise Deoptimised("null in a non-null place")
        target[key] = serialise(value)

    return fill_nullable if is_nullable else fill


def _selected(parent: GraphQLObjectType, key: str, details: FieldDetailsList) -> Selected:
    definition = parent.fields[details[0].node.name.value]
    return Selected(parent, key, details, definition, definition.extensions[GraphQLCoreConverter.DEFINITION_BACKREF])


def _checked(collected: CollectedFields) -> GroupedFieldSet:
    if collected.new_defer_usages:
        raise Unsupported("@defer")
    return collected.grouped_field_set


def _origin(kind: GraphQLObjectType) -> type:
    """The class that was made into this type."""
    return cast("type", kind.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].origin)


def _function(declared: StrawberryField) -> Callable[..., Any] | None:
    """The resolver as it was written."""
    resolver: Any = declared.base_resolver
    return cast("Callable[..., Any]", resolver.wrapped_func) if resolver else None
