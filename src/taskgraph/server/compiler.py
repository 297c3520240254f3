"""Turns a validated operation into a plan: a function for what each root field and each batched field gives, written for the
schema and the selection.

Stored fields read the document, batched ones are loaded once for each place in the operation, anything else is called as
graphql-core would call it. What cannot be expressed raises `Unsupported`; such an operation is graphql-core's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, cast

from graphql import (
    GraphQLAbstractType,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    get_named_type,
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
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from taskgraph.server import arguments, leaves
from taskgraph.server.arguments import Conversions
from taskgraph.server.fields import BATCHED, DERIVED, READS, STORED, WRAPPED, FieldInfo, Reading
from taskgraph.server.plan import Complete, Deoptimised, Place, Plan, Root, Run, Unsupported
from taskgraph.server.source import Lines, Source, indented
from taskgraph.storage.mongo import Projection

# A fragment is written once and compiled wherever it is spread, so a short document could make a plan of any size.
MAX_FIELDS = 1_000


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
    schema: GraphQLSchema,
    conversions: Conversions,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDetails],
    variables: VariableValues,
) -> Plan:
    """The plan for an operation; `variables` decide its @skip and @include, and nothing else. Unsupported."""
    return Compilation(schema, conversions, operation, dict(fragments), variables).plan()


class Compilation:
    """The making of one plan."""

    def __init__(
        self,
        schema: GraphQLSchema,
        conversions: Conversions,
        operation: OperationDefinitionNode,
        fragments: dict[str, FragmentDetails],
        variables: VariableValues,
    ) -> None:
        self._core = schema
        self._conversions = conversions
        self._operation = operation
        self._fragments = fragments
        self._variables = variables
        self._projections: dict[str, Projection] = {}
        self._fields = 0

    def plan(self) -> Plan:
        """From the root fields down."""
        root_type = self._core.get_root_type(self._operation.operation)
        if root_type is None:
            raise Unsupported("no root type")
        collected = _checked(collect_fields(self._core, self._fragments, self._variables, root_type, self._operation))
        self._count(collected)
        roots, constants = [], {}
        for key, details in collected.items():
            name = details[0].node.name.value
            if name == "__typename":
                constants[key] = root_type.name
            elif name.startswith("__"):
                raise Unsupported("introspection")
            else:
                roots.append(self._root(_selected(root_type, key, details)))
        is_serial = self._operation.operation is OperationType.MUTATION
        return Plan(roots, constants, list(collected), is_serial=is_serial, fields=self._fields)

    def _count(self, fields: GroupedFieldSet) -> None:
        self._fields += len(fields)
        if self._fields > MAX_FIELDS:
            raise Unsupported("too many fields")

    def _root(self, selected: Selected) -> Root:
        if self._operation.operation is OperationType.SUBSCRIPTION:
            # The root field has run when the stream began; what it gives for a message is the message.
            return Root(selected.key, lambda run: run.source, self._complete(selected.definition.type, selected.details))
        function, arguments_of = _function(selected.declared), self._arguments(selected)
        if function is None or selected.declared.extensions:
            raise Unsupported(f"{selected.name} has no plain resolver")

        def resolve(run: Run) -> Any:
            return function(None, **arguments_of(run))

        return Root(selected.key, resolve, self._complete(selected.definition.type, selected.details))

    def _complete(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Complete:
        """What makes the output of a resolved value."""
        source = Source()
        body: Lines = []
        output = self._output(source, body, kind, details, "value")
        return source.function("value, run", [*body, f"return {output}"])

    def _output(self, source: Source, body: Lines, kind: GraphQLOutputType, details: FieldDetailsList, value: str) -> str:
        """An expression for the output of what the expression `value` gives, which is evaluated once. What has to be done before
        is added to `body`.
        """
        if is_non_null_type(kind):
            return self._output_present(source, body, kind.of_type, details, value)
        if is_leaf_type(kind):
            return f"(None if (found := {value}) is None else {leaves.output(source, kind, 'found')})"
        found, output = source.variable(), source.variable()
        inner: Lines = []
        present = self._output_present(source, inner, kind, details, found)
        body += [f"{found} = {value}", f"if {found} is None:", f" {output} = None", "else:"]
        body += indented([*inner, f"{output} = {present}"])
        return output

    def _output_present(self, source: Source, body: Lines, kind: GraphQLOutputType, details: FieldDetailsList, value: str) -> str:
        """The same where None is not allowed: each kind takes it, like any other value that is not its own, for a surprise."""
        if is_leaf_type(kind):
            return leaves.output(source, kind, value)
        if is_list_type(kind):
            return self._output_list(source, body, kind.of_type, details, value)
        if isinstance(kind, GraphQLObjectType):
            return self._output_object(source, body, kind, details, value)
        if is_abstract_type(kind):
            return f"{source.name(self._complete_abstract(kind, details))}({value}, run)"
        raise Unsupported(f"type {kind}")

    def _output_list(self, source: Source, body: Lines, kind: GraphQLOutputType, details: FieldDetailsList, value: str) -> str:
        each = source.variable()
        inner: Lines = []
        item = self._output(source, inner, kind, details, each)
        values = f"{source.name(_listed)}({value})"
        if not inner:
            return f"[{item} for {each} in {values}]"
        output = source.variable()
        body += [f"{output} = []", f"for {each} in {values}:", *indented([*inner, f"{output}.append({item})"])]
        return output

    def _complete_abstract(self, kind: GraphQLAbstractType, details: FieldDetailsList) -> Complete:
        by_class = {_origin(each): self._complete(GraphQLNonNull(each), details) for each in self._core.get_possible_types(kind)}

        def complete(value: Any, run: Run) -> Any:
            if (known := by_class.get(type(value))) is None:
                raise Deoptimised("an object of an unexpected type")
            return known(value, run)

        return complete

    def _output_object(self, source: Source, body: Lines, kind: GraphQLObjectType, details: FieldDetailsList, value: str) -> str:
        it = source.variable()
        body += [
            f"{it} = {value}",
            f"if type({it}) is not {source.name(_origin(kind))}:",
            f" raise {source.name(Deoptimised)}('an object of an unexpected type')",
        ]
        return self._output_fields(source, body, kind, details, it)

    def _output_fields(self, source: Source, body: Lines, kind: GraphQLObjectType, details: FieldDetailsList, it: str) -> str:
        """The same for the object of that name."""
        entries, waits = [], []
        subfields = self._subfields(kind, details)
        self._count(subfields)
        document, target = source.variable(), source.variable()
        for key, inner in subfields.items():
            if inner[0].node.name.value == "__typename":
                output = repr(kind.name)
            elif self._is_awaited(selected := _selected(kind, key, inner)):
                # The key has its place in the answer already, in whatever order the values come.
                output = "None"
                waits.append(f"run.waiting[{source.name(self._place(selected))}].append(({it}, {target}))")
            elif WRAPPED in selected.declared.metadata and self._stay(selected):
                output = self._output_wrapped(source, body, selected, it)
            elif STORED in selected.declared.metadata:
                if (read := f"{document} = {it}.document") not in body:
                    body.append(read)
                value = f"{document}[{selected.declared.metadata[STORED]!r}]"
                output = self._output(source, body, selected.definition.type, inner, value)
            else:
                output = self._output(source, body, selected.definition.type, inner, self._value(source, selected, it))
            entries.append(f"{key!r}: {output}")
        made = f"{{{', '.join(entries)}}}"
        if not waits:
            return made
        body += [f"{target} = {made}", *waits]
        return target

    def _output_wrapped(self, source: Source, body: Lines, selected: Selected, it: str) -> str:
        """For objects around documents that nobody keeps: one object, which each of the documents is put into."""
        kind, wrapped = cast("GraphQLObjectType", get_named_type(selected.definition.type)), selected.declared.metadata[WRAPPED]
        wrapper, inner = source.variable(), cast("Lines", [])
        item = self._output_fields(source, inner, kind, selected.details, wrapper)
        if wrapped.documents is None:
            source.first(f"{wrapper} = {source.name(wrapped.wrap)}(None, None)")
            body += [f"{wrapper}.document = {it}.document", *inner]
            return item
        output = source.variable()
        body += [
            f"{output} = []",
            f"{wrapper} = {source.name(wrapped.wrap)}({it}, None)",
            f"for {wrapper}.document in {source.name(wrapped.documents)}({it}):",
            *indented([*inner, f"{output}.append({item})"]),
        ]
        return output

    def _stay(self, selected: Selected) -> bool:
        """Whether nothing keeps the objects that a field gives: whoever awaits something for an object does, and any resolver may."""
        kind = get_named_type(selected.definition.type)
        assert isinstance(kind, GraphQLObjectType)  # noqa: S101 - so it is declared
        fields = [
            _selected(kind, key, inner).declared
            for key, inner in self._subfields(kind, selected.details).items()
            if inner[0].node.name.value != "__typename"
        ]
        return all(not each.is_async and each.metadata.keys() & {STORED, DERIVED, WRAPPED} for each in fields)

    def _is_awaited(self, selected: Selected) -> bool:
        """Whether the field is loaded for all objects together, or alone but not at once."""
        if selected.declared.extensions:
            raise Unsupported(f"{selected.parent.name}.{selected.name} has field extensions")
        return BATCHED in selected.declared.metadata or selected.declared.is_async

    def _value(self, source: Source, selected: Selected, it: str) -> str:
        """An expression for what a field of the object of that name gives at once."""
        declared, resolver = selected.declared, selected.declared.base_resolver
        if resolver is None:
            return f"{it}.{declared.python_name}"
        function = source.name(_function(declared))
        if declared.arguments or resolver.info_parameter:
            return f"{function}({it}, **{source.name(self._arguments(selected))}(run))"
        return f"{function}({it})"

    def _place(self, selected: Selected) -> Place:
        """Where the objects wait for a field's values."""
        arguments_of = self._arguments(selected)
        plan, function = selected.declared.metadata.get(BATCHED), _function(selected.declared)
        projection = self._projection_of(selected)

        async def load(sources: Sequence[Any], run: Run) -> Sequence[Any]:
            keywords = arguments_of(run)
            if plan is not None:
                return await _load(plan(**keywords), sources, run, projection())
            assert function is not None  # noqa: S101 - what is async has a resolver
            return await asyncio.gather(*(function(source, **keywords) for source in sources))

        return Place(selected.key, load, self._complete(selected.definition.type, selected.details))

    def _projection_of(self, selected: Selected) -> Callable[[], Projection]:
        """What to read for a field. It is the same wherever the operation has a field of this type, so that what was read at one
        place serves the others; so it can be asked only when everything is compiled.
        """
        kind, keys = get_named_type(selected.definition.type).name, self._keys(selected.definition.type, selected.details)
        known = self._projections.setdefault(kind, keys)
        self._projections[kind] = None if known is None or keys is None else known | keys
        return lambda: self._projections[kind]

    def _keys(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Projection:
        """The keys that the selection reads of the documents behind a value of this type; None where it cannot be told."""
        named = get_named_type(kind)
        if not isinstance(named, GraphQLObjectType):
            return None
        keys: set[str] = set()
        for key, inner in self._subfields(named, details).items():
            if inner[0].node.name.value == "__typename":
                continue
            selected = _selected(named, key, inner)
            reads = selected.declared.metadata.get(READS)
            if reads is None:
                reads = self._keys(selected.definition.type, inner)
            if reads is None:
                return None
            keys |= reads
        return frozenset(keys)

    def _subfields(self, kind: GraphQLObjectType, details: FieldDetailsList) -> GroupedFieldSet:
        return _checked(collect_subfields(self._core, self._fragments, self._variables, self._operation, kind, details))

    def _arguments(self, selected: Selected) -> Callable[[Run], dict[str, Any]]:
        """The keyword arguments of a field's resolver, `info` among them where it asks for that."""
        declared, resolver = selected.declared, selected.declared.base_resolver
        build = arguments.builder(self._conversions, declared, selected.definition, selected.details[0].node)
        if resolver is None or resolver.info_parameter is None:
            return build
        info_name, info_of = resolver.info_parameter.name, self._info(selected)
        projection = self._projection_of(selected)

        def build_with_info(run: Run) -> dict[str, Any]:
            keywords = build(run)
            keywords[info_name] = FieldInfo(info_of(run), declared, projection())
            return keywords

        return build_with_info

    def _info(self, selected: Selected) -> Callable[[Run], GraphQLResolveInfo[Any]]:
        """What resolvers are told. The path is that of the field's place in the operation, without positions in lists."""
        nodes, path = [each.node for each in selected.details], Path(None, selected.key, selected.parent.name)
        fragments = {fragment: each.definition for fragment, each in self._fragments.items()}
        of_field = (selected.name, nodes, selected.definition.type, selected.parent, path, self._core, fragments)
        operation = self._operation

        def info(run: Run) -> GraphQLResolveInfo[Any]:
            # By position, which takes half the time.
            return GraphQLResolveInfo(
                *of_field,
                run.source,
                operation,
                run.variables,
                run.context,
                isawaitable,  # type: ignore[arg-type]  # a TypeIs is a TypeGuard, and more
                None,  # no signal to abort
                None,  # type: ignore[arg-type]  # no resolver of ours uses the asynchronous helpers
            )

        return info


async def _load(reading: Reading[Any], sources: Sequence[Any], run: Run, projection: Projection) -> Sequence[Any]:
    keys = [reading.key(source) for source in sources]
    wanted = [key for key in keys if key is not None]
    loaded = iter(await run.context.loader.load_many(reading.batch, wanted, projection) if wanted else ())
    return [reading.show(source, None if key is None else next(loaded)) for source, key in zip(sources, keys, strict=True)]


def _listed(values: Any) -> Sequence[Any]:
    if type(values) is list or type(values) is tuple:
        return values
    raise Deoptimised("a list of an unexpected type")


def _selected(parent: GraphQLObjectType, key: str, details: FieldDetailsList) -> Selected:
    definition = parent.fields[details[0].node.name.value]
    return Selected(parent, key, details, definition, definition.extensions[GraphQLCoreConverter.DEFINITION_BACKREF])


def _checked(collected: CollectedFields) -> GroupedFieldSet:
    if collected.new_defer_usages:
        raise Unsupported("@defer")
    return collected.grouped_field_set


def _origin(kind: GraphQLObjectType) -> Any:
    """The class that was made into this type."""
    return kind.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].origin


def _function(declared: StrawberryField) -> Callable[..., Any] | None:
    """The resolver as it was written."""
    resolver: Any = declared.base_resolver
    return cast("Callable[..., Any]", resolver.wrapped_func) if resolver else None
