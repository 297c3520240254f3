"""What of an operation decides about its price: its selections as shapes, in which equal parts are one and a field asked for twice
counts once, as it runs once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    value_from_ast_untyped,
)

from taskgraph.server.cost import ListSize
from taskgraph.server.price_tags import Tag, Tags
from taskgraph.storage.paging import PAGE_MAX

# The whole schema, whatever is asked of it.
INTROSPECTION = 100
# Fragments can be woven so that what they unfold into has hardly any equal parts; nobody writes that by accident.
MAX_STEPS = 20_000
DIGITS = 12

Variables = Mapping[str, Any]
# What decides about a price: the size of a list, or whether a selection is included, 1 or 0.
Source = Callable[[Variables], int]


@dataclass(eq=False, slots=True)
class Entry:
    """A field of a shape. `size` is a number or the place of one among the values; the field is there when for any of `conditions`
    all values are 1. `added` is what its arguments cost.
    """

    key: str
    tag: Tag
    size: "int | Place | None"
    conditions: Sequence[Sequence["Place"]]
    below: "Shape | None"
    added: "int | Place" = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands among those that decide about the price."""

    index: int


@dataclass(eq=False, slots=True)
class Shape:
    """What is selected of an object; of an interface or union, what is selected of each type that it may be."""

    entries: list[Entry] = field(default_factory=list)
    alternatives: list["Shape"] = field(default_factory=list)


class TooIntricate(Exception):
    """The operation unfolds into more than can be priced."""


class Writing:
    """The making of one operation's shapes. What is collected for a key are fields with the conditions under which they are there."""

    def __init__(self, tags: Tags, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._tags = tags
        self._fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
        self._defaults = {
            each.variable.name.value: _untyped(each.default_value)
            for each in operation.variable_definitions or ()
            if each.default_value is not None
        }
        self._shapes: dict[tuple[str, frozenset[int]], Shape] = {}
        self._places: dict[str, Place] = {}
        self._steps = 0
        self.sources: list[Source] = []

    def shape(self, kind: Any, selected: Sequence[SelectionSetNode]) -> Shape:
        """Of these selections, on objects of a type, an interface or a union. TooIntricate."""
        key = kind.name, frozenset(map(id, selected))
        if (known := self._shapes.get(key)) is not None:
            return known
        shape = self._shapes[key] = Shape()
        if not isinstance(kind, GraphQLObjectType):
            shape.alternatives = [self.shape(each, selected) for each in self._tags.possible_types(kind)]
            return shape
        fields: dict[str, list[tuple[FieldNode, tuple[Place, ...]]]] = {}
        seen: set[tuple[str, tuple[Place, ...]]] = set()
        for each in selected:
            self._collect(kind, each, (), fields, seen)
        shape.entries = [self._entry(kind, key, found) for key, found in fields.items()]
        return shape

    def _collect(
        self,
        kind: GraphQLObjectType,
        selected: SelectionSetNode,
        above: tuple[Place, ...],
        fields: dict[str, list[tuple[FieldNode, tuple[Place, ...]]]],
        seen: set[tuple[str, tuple[Place, ...]]],
    ) -> None:
        for node in selected.selections:
            # Every condition is carried along.
            self._steps += 1 + len(above)
            if self._steps > MAX_STEPS:
                raise TooIntricate
            conditions = self._conditions(node)
            if conditions is None:
                continue
            conditions = tuple(dict.fromkeys((*above, *conditions)))
            if isinstance(node, FieldNode):
                if node.name.value != "__typename":
                    fields.setdefault(node.alias.value if node.alias else node.name.value, []).append((node, conditions))
                continue
            fragment: Any = node
            if isinstance(node, FragmentSpreadNode):
                if (node.name.value, conditions) in seen:
                    continue
                seen.add((node.name.value, conditions))
                fragment = self._fragments[node.name.value]
            assert isinstance(fragment, InlineFragmentNode | FragmentDefinitionNode)  # noqa: S101 - the grammar has no fourth kind
            if fragment.type_condition is None or self._tags.applies(fragment.type_condition.name.value, kind):
                self._collect(kind, fragment.selection_set, conditions, fields, seen)

    def _entry(self, kind: GraphQLObjectType, key: str, found: Sequence[tuple[FieldNode, tuple[Place, ...]]]) -> Entry:
        node, conditions = found[0][0], [places for _, places in found]
        if node.name.value.startswith("__"):
            return Entry("__schema", Tag(INTROSPECTION, None, is_list=False), None, conditions, None)
        tag = self._tags.tag(kind, node.name.value)
        inner = [each.selection_set for each, _ in found if each.selection_set is not None]
        below = self.shape(get_named_type(kind.fields[node.name.value].type), inner) if inner else None
        return Entry(key, tag, None if tag.size is None else self._size(node, tag.size), conditions, below, self._added(node, tag))

    def _conditions(self, node: Any) -> tuple[Place, ...] | None:
        """The variables of its @skip and @include; None where it is never there."""
        places = []
        for directive in node.directives or ():
            name, value = directive.name.value, directive.arguments[0].value if directive.arguments else None
            if name not in {"skip", "include"} or value is None:
                continue
            if isinstance(value, VariableNode):
                places.append(self._place(f"{name} {value.name.value}", self._included(name, value.name.value)))
            elif bool(getattr(value, "value", None)) is (name == "skip"):
                return None
        return tuple(places)

    def _included(self, directive: str, variable: str) -> Source:
        default = self._defaults.get(variable)
        return lambda variables: int(bool(variables.get(variable, default)) is (directive == "include"))

    def _added(self, node: FieldNode, tag: Tag) -> "int | Place":
        """The weights of arguments, for each value in them."""
        given = {argument.name.value: argument.value for argument in node.arguments or ()} if tag.arguments else {}
        added, varying = 0, list[tuple[int, str]]()
        for name, weight in tag.arguments:
            count, variables = _values_in(given[name]) if name in given else (0, [])
            added += weight * count
            varying += [(weight, each) for each in variables]
        if not varying:
            return added
        with_defaults = [(weight, each, self._defaults.get(each)) for weight, each in varying]
        return self._place(
            f"added {id(node)}",
            lambda variables: (
                added + sum(weight * _values_of(variables.get(each, default)) for weight, each, default in with_defaults)
            ),
        )

    def _size(self, node: FieldNode, size: ListSize) -> "int | Place":
        given = {argument.name.value: argument.value for argument in node.arguments or ()}
        counts: list[Callable[[Variables], int | None]] = []
        for argument in size.slicing_arguments or ():
            name, *path = argument.split(".")
            if name in given:
                count = self._count(given[name], path)
                if isinstance(count, int) and not counts:
                    return count
                if count is not None:
                    counts.append(count if callable(count) else _always(count))
        assumed = size.assumed_size or 1
        if not counts:
            return assumed

        def first_present(variables: Variables) -> int:
            for count in counts:
                if (found := count(variables)) is not None:
                    return found
            return assumed

        return self._place(f"size {id(node)}", first_present)

    def _count(self, value: ValueNode, path: Sequence[str]) -> int | Callable[[Variables], int | None] | None:
        """How many items an argument asks for, or what tells that of variables; None where it is null or left out."""
        if isinstance(value, VariableNode):
            name, default = value.name.value, self._defaults.get(value.name.value)
            return lambda variables: _counted(variables.get(name, default), path)
        if path:
            members = value.fields if isinstance(value, ObjectValueNode) else ()
            inner = next((each.value for each in members if each.name.value == path[0]), None)
            return None if inner is None else self._count(inner, path[1:])
        if isinstance(value, NullValueNode):
            return None
        if isinstance(value, ListValueNode):
            return max(1, len(value.values))
        return _counted(_untyped(value), ()) if isinstance(value, IntValueNode) else 1

    def _place(self, name: str, source: Source) -> Place:
        if name not in self._places:
            self._places[name] = Place(len(self.sources))
            self.sources.append(source)
        return self._places[name]


def _values_in(value: ValueNode) -> tuple[int, list[str]]:
    """How many values are written out in an argument, a list of them being one, and the variables that may hold more."""
    if isinstance(value, VariableNode):
        return 0, [value.name.value]
    if isinstance(value, ListValueNode):
        inner: list[ValueNode] = [each for each in value.values if isinstance(each, ObjectValueNode | ListValueNode | VariableNode)]
        if not inner:
            return 1, []
    elif isinstance(value, ObjectValueNode):
        inner = [each.value for each in value.fields]
    else:
        return int(not isinstance(value, NullValueNode)), []
    found = [_values_in(each) for each in inner]
    return sum(count for count, _ in found), [name for _, names in found for name in names]


def _values_of(value: Any) -> int:
    """The same of a value of JSON, which may be nested deeper than Python calls functions."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            waiting += each.values()
        elif type(each) is list and (inner := [item for item in each if type(item) is dict or type(item) is list]):
            waiting += inner
        elif each is not None:
            count += 1
    return count


def _untyped(value: ValueNode) -> Any:
    """As JSON. Of a number that is an id, so many digits as tell that it is large: Python refuses to read thousands."""
    if isinstance(value, IntValueNode):
        return int(value.value[:DIGITS])
    if isinstance(value, ListValueNode):
        return [_untyped(each) for each in value.values]
    if isinstance(value, ObjectValueNode):
        return {each.name.value: _untyped(each.value) for each in value.fields}
    return value_from_ast_untyped(value)


def _always(count: int) -> Callable[[Variables], int]:
    return lambda _variables: count


def _counted(value: Any, path: Sequence[str]) -> int | None:
    """How many items a value of JSON asks for. A page is never longer than PAGE_MAX: what asks for more is refused when it runs,
    and a value of another type before that.
    """
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return None
    if isinstance(value, list):
        return max(1, len(value))
    return int(min(max(value, 1), PAGE_MAX)) if isinstance(value, int | float) else 1
