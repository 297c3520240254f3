"""Turns a validated operation into one specialised function: the fast way to the answer that graphql-core would give.

The happy path only. Every field that the schema declares is compiled to a closure: stored fields read the document, batched ones
are loaded once per place in the operation, breadth first, not once per object. Whatever is not known beforehand (an error, a null
where none may be, a value of an unexpected type) raises `Deoptimised`, and the executor answers with graphql-core instead.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, cast

import strawberry
from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_argument_values,
    is_abstract_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.collect_fields import FieldDetailsList, FragmentDetails, GroupedFieldSet, collect_fields, collect_subfields
from graphql.execution.values import VariableValues
from graphql.pyutils import Path
from strawberry.schema.schema_converter import GraphQLCoreConverter, get_arguments
from strawberry.types.field import StrawberryField
from strawberry.types.fields.resolver import StrawberryResolver

from taskgraph.server.fields import BATCHED, STORED, Reading
from taskgraph.server.scalars import rfc3339

MAX_INT, MIN_INT = 2**31 - 1, -(2**31)


class Unsupported(Exception):
    """The operation cannot be compiled; the message says why."""


class Deoptimised(Exception):
    """The compiled function cannot answer this time; the message says why."""


@dataclass(slots=True)
class Run:
    """One execution. `roots` remembers what each root field gave, a result or an exception, so that none ever runs twice."""

    context: Any
    variables: VariableValues
    roots: dict[str, Any]
    waiting: "dict[Place, list[tuple[Any, dict[str, Any]]]]" = field(default_factory=dict)


Complete = Callable[[Any, Run], Any]
Fill = Callable[[Any, dict[str, Any], Run], None]


@dataclass(eq=False, slots=True)
class Place:
    """A field, at one place of the operation, whose values are awaited for all objects together."""

    key: str
    load: Callable[[Sequence[Any], Run], Awaitable[Sequence[Any]]]
    complete: Complete


@dataclass(frozen=True, slots=True)
class Root:
    """A root field: `resolve` gives its value or an awaitable of it."""

    key: str
    resolve: Callable[[Run], Any]
    complete: Complete


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled operation."""

    roots: Sequence[Root]
    constants: Mapping[str, str]
    keys: Sequence[str]
    is_serial: bool

    async def run(self, run: Run) -> dict[str, Any]:
        """The data of the answer. Deoptimised, or whatever a resolver raises; `run.roots` tells what has been run by then."""
        found: dict[str, Any] = dict(self.constants)
        if self.is_serial:
            for root in self.roots:
                await _resolve(root, run)
                found[root.key] = await _completed(root, run)
        else:
            await _resolve_all(self.roots, run)
            for root in self.roots:
                found[root.key] = root.complete(run.roots[root.key], run)
            await _fill_waiting(run)
        return {key: found[key] for key in self.keys}


async def _completed(root: Root, run: Run) -> Any:
    value = root.complete(run.roots[root.key], run)
    await _fill_waiting(run)
    return value


async def _resolve(root: Root, run: Run) -> None:
    try:
        value = root.resolve(run)
        run.roots[root.key] = await value if isawaitable(value) else value
    except Exception as error:
        run.roots[root.key] = error
        raise


async def _resolve_all(roots: Sequence[Root], run: Run) -> None:
    """Every root runs to its end, also when another fails: what has begun must be remembered."""
    if len(roots) == 1:
        await _resolve(roots[0], run)
        return
    results = await asyncio.gather(*(_resolve(root, run) for root in roots), return_exceptions=True)
    for result in results:
        if result is not None:
            raise result


async def _fill_waiting(run: Run) -> None:
    """Wave by wave: all places of a depth load at the same time, so that equal batches become one query."""
    while run.waiting:
        wave, run.waiting = run.waiting, {}
        loads = [place.load([source for source, _ in pairs], run) for place, pairs in wave.items()]
        loaded = await asyncio.gather(*loads) if len(loads) > 1 else [await loads[0]]
        for (place, pairs), values in zip(wave.items(), loaded, strict=True):
            for (_, target), value in zip(pairs, values, strict=True):
                target[place.key] = place.complete(value, run)


class Compiler:
    """Compiles operations of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._strawberry = schema
        self.schema: GraphQLSchema = schema._schema  # noqa: SLF001 - Strawberry has no public name for what it has built

    def compile(
        self, operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDetails], variables: VariableValues
    ) -> Plan:
        """The plan for one operation; `variables` decide its @skip and @include, and nothing else. Unsupported."""
        return _Operation(self._strawberry, self.schema, operation, dict(fragments), variables).plan()


class _Operation:
    """The state of one compilation."""

    def __init__(
        self,
        schema: strawberry.Schema,
        core: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDetails],
        variables: VariableValues,
    ) -> None:
        self._strawberry = schema
        self._core = core
        self._operation = operation
        self._fragments = fragments
        self._variables = variables

    def plan(self) -> Plan:
        root_type = self._core.get_root_type(self._operation.operation)
        if root_type is None or self._operation.operation is OperationType.SUBSCRIPTION:
            raise Unsupported("subscription")
        collected = collect_fields(self._core, self._fragments, self._variables, root_type, self._operation)
        roots, constants = [], {}
        for key, details in self._checked(collected).items():
            name = details[0].node.name.value
            if name == "__typename":
                constants[key] = root_type.name
            elif name.startswith("__"):
                raise Unsupported("introspection")
            else:
                roots.append(self._root(root_type, key, details))
        keys = list(collected.grouped_field_set)
        return Plan(roots, constants, keys, is_serial=self._operation.operation is OperationType.MUTATION)

    def _root(self, parent: GraphQLObjectType, key: str, details: FieldDetailsList) -> Root:
        definition, node = parent.fields[details[0].node.name.value], details[0].node
        resolver = definition.resolve
        if resolver is None:
            raise Unsupported(f"{parent.name}.{node.name.value} has no resolver")
        info_of = self._info(parent, definition, key, details)

        def resolve(run: Run) -> Any:
            return resolver(None, info_of(run), **get_argument_values(definition, node, run.variables))

        return Root(key, resolve, self._complete(definition.type, details))

    def _complete(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        """What makes the output of a resolved value."""
        if is_non_null_type(kind):
            inner = self._complete_nullable(kind.of_type, details)

            def complete(value: Any, run: Run) -> Any:
                if value is None:
                    raise Deoptimised("null in a non-null place")
                return inner(value, run)

            return complete
        nullable = self._complete_nullable(kind, details)
        return lambda value, run: None if value is None else nullable(value, run)

    def _complete_nullable(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        if is_list_type(kind):
            return self._complete_list(self._complete(kind.of_type, details))
        if is_leaf_type(kind):
            serialise = _serialiser(kind)
            return lambda value, _run: serialise(value)
        if is_abstract_type(kind):
            return self._complete_abstract(kind, details)
        if isinstance(kind, GraphQLObjectType):
            return self._complete_object(kind, details)
        raise Unsupported(f"type {kind}")

    @staticmethod
    def _complete_list(complete: Complete) -> Complete:
        def complete_list(values: Any, run: Run) -> list[Any]:
            if type(values) is not list and type(values) is not tuple:
                raise Deoptimised("a list of an unexpected type")
            return [complete(value, run) for value in values]

        return complete_list

    def _complete_abstract(self, kind: GraphQLAbstractType, details: FieldDetailsList) -> Complete:
        by_class = {
            _definition(possible).origin: self._complete_object(possible, details)
            for possible in self._core.get_possible_types(kind)
        }

        def complete(value: Any, run: Run) -> Any:
            if (known := by_class.get(type(value))) is None:
                raise Deoptimised("an object of an unexpected type")
            return known(value, run)

        return complete

    def _complete_object(self, kind: GraphQLObjectType, details: FieldDetailsList) -> Complete:
        origin = _definition(kind).origin
        collected = collect_subfields(self._core, self._fragments, self._variables, self._operation, kind, details)
        fills = [self._fill(kind, key, inner) for key, inner in self._checked(collected).items()]

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
        name = details[0].node.name.value
        if name == "__typename":
            type_name = parent.name

            def fill_typename(_source: Any, target: dict[str, Any], _run: Run) -> None:
                target[key] = type_name

            return fill_typename
        definition = parent.fields[name]
        declared: StrawberryField = definition.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
        if declared.extensions:
            raise Unsupported(f"{parent.name}.{name} has field extensions")
        if BATCHED in declared.metadata or declared.is_async:
            return self._fill_later(parent, key, details, definition, declared)
        kind = definition.type.of_type if is_non_null_type(definition.type) else definition.type
        if STORED in declared.metadata and is_leaf_type(kind):
            return _fill_stored_leaf(key, declared.metadata[STORED], _serialiser(kind), is_nullable=kind is definition.type)
        read = self._reader(parent, key, details, definition, declared)
        complete = self._complete(definition.type, details)

        def fill(source: Any, target: dict[str, Any], run: Run) -> None:
            target[key] = complete(read(source, run), run)

        return fill

    def _reader(
        self,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        definition: GraphQLField,
        declared: StrawberryField,
    ) -> Callable[[Any, Run], Any]:
        """What gives the value of a field without waiting."""
        if STORED in declared.metadata:
            stored_key = declared.metadata[STORED]
            return lambda source, _run: source.document[stored_key]
        resolver = declared.base_resolver
        if resolver is None:
            name = declared.python_name
            return lambda source, _run: getattr(source, name)
        function: Callable[..., Any] = _function(resolver)
        if resolver.info_parameter is None and not declared.arguments:
            return lambda source, _run: function(source)
        arguments_of = self._arguments(parent, key, details, definition, declared)
        return lambda source, run: function(source, **arguments_of(run))

    def _fill_later(
        self,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        definition: GraphQLField,
        declared: StrawberryField,
    ) -> Fill:
        arguments_of = self._arguments(parent, key, details, definition, declared)
        plan = declared.metadata.get(BATCHED)
        function = _function(declared.base_resolver) if declared.base_resolver else None

        async def load(sources: Sequence[Any], run: Run) -> Sequence[Any]:
            arguments = arguments_of(run)
            if plan is not None:
                return await _load(plan(**arguments), sources, run)
            assert function is not None  # noqa: S101 - what is async has a resolver
            return await asyncio.gather(*(function(source, **arguments) for source in sources))

        place = Place(key, load, self._complete(definition.type, details))

        def fill(source: Any, target: dict[str, Any], run: Run) -> None:
            target[key] = None  # Keeps the key's place among the others until the value is there.
            run.waiting.setdefault(place, []).append((source, target))

        return fill

    def _arguments(
        self,
        parent: GraphQLObjectType,
        key: str,
        details: FieldDetailsList,
        definition: GraphQLField,
        declared: StrawberryField,
    ) -> Callable[[Run], dict[str, Any]]:
        """The keyword arguments of a field's resolver, converted as Strawberry does it."""
        node, config, converter = details[0].node, self._strawberry.config, self._strawberry.schema_converter
        info_of = self._info(parent, definition, key, details)

        def arguments(run: Run) -> dict[str, Any]:
            info = config.info_class(_raw_info=info_of(run), _field=declared)
            given = get_argument_values(definition, node, run.variables)
            _, keywords = get_arguments(
                field=declared, source=None, info=info, kwargs=given, config=config, scalar_registry=converter.scalar_registry
            )
            return keywords

        return arguments

    def _info(
        self, parent: GraphQLObjectType, definition: GraphQLField, key: str, details: FieldDetailsList
    ) -> Callable[[Run], GraphQLResolveInfo[Any]]:
        """What resolvers are told. The path is that of the field's place in the operation, without positions in lists."""
        name, nodes, path = details[0].node.name.value, [each.node for each in details], Path(None, key, parent.name)
        fragments = {fragment: each.definition for fragment, each in self._fragments.items()}

        def info(run: Run) -> GraphQLResolveInfo[Any]:
            return GraphQLResolveInfo(
                field_name=name,
                field_nodes=nodes,
                return_type=definition.type,
                parent_type=parent,
                path=path,
                schema=self._core,
                fragments=fragments,
                root_value=None,
                operation=self._operation,
                variable_values=run.variables,
                context=run.context,
                is_awaitable=isawaitable,  # type: ignore[arg-type]  # a TypeIs is a TypeGuard, and more
                abort_signal=None,
                async_helpers=None,  # type: ignore[arg-type]  # no resolver of ours uses them
            )

        return info

    @staticmethod
    def _checked(collected: Any) -> GroupedFieldSet:
        if collected.new_defer_usages:
            raise Unsupported("@defer")
        grouped: GroupedFieldSet = collected.grouped_field_set
        return grouped


async def _load(reading: Reading[Any], sources: Sequence[Any], run: Run) -> Sequence[Any]:
    keys = [reading.key(source) for source in sources]
    wanted = [key for key in keys if key is not None]
    loaded = iter(await run.context.load_many(reading.batch, wanted) if wanted else ())
    return [reading.show(source, None if key is None else next(loaded)) for source, key in zip(sources, keys, strict=True)]


def _fill_stored_leaf(key: str, stored_key: str, serialise: Callable[[Any], Any], *, is_nullable: bool) -> Fill:
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


def _function(resolver: StrawberryResolver[Any]) -> Callable[..., Any]:
    function: Any = resolver.wrapped_func
    return cast("Callable[..., Any]", function)


def _definition(kind: GraphQLObjectType) -> Any:
    return kind.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]


def _serialiser(kind: GraphQLLeafType) -> Callable[[Any], Any]:
    """The output of a leaf: the usual Python type passes through, anything else is graphql-core's to decide."""
    if isinstance(kind, GraphQLEnumType):
        names = {value.value: name for name, value in kind.values.items()}

        def serialise_enum(value: Any) -> Any:
            try:
                return names[value]
            except (KeyError, TypeError):
                raise Deoptimised("an unexpected enum value") from None

        return serialise_enum
    if kind.name == "DateTime":
        return rfc3339
    if kind.name in _PASSING:
        passes, coerce = _PASSING[kind.name], kind.coerce_output_value
        return lambda value: value if passes(value) else coerce(value)
    coerce = kind.coerce_output_value

    def serialise(value: Any) -> Any:
        output = coerce(value)
        if output is None:
            raise Deoptimised("a leaf without a value")
        return output

    return serialise


_PASSING: dict[str, Callable[[Any], bool]] = {
    "String": lambda value: type(value) is str,
    "ID": lambda value: type(value) is str,
    "Boolean": lambda value: type(value) is bool,
    "Int": lambda value: type(value) is int and MIN_INT <= value <= MAX_INT,
    "Float": lambda value: type(value) is float and math.isfinite(value),
}
