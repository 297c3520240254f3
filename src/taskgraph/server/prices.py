"""What an operation costs: counted before it runs, from what fields say of themselves (server/cost.py) and from its variables.

When a document is prepared its selections become shapes, in which equal parts are one and a field asked for twice counts once, as
it runs once. A price for new sizes is a walk over the shapes; for sizes that came before it is a look-up.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLNonNull,
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
    is_composite_type,
    is_list_type,
    value_from_ast_untyped,
)
from strawberry.schema.schema_converter import GraphQLCoreConverter

from taskgraph.errors import OperationTooExpensive
from taskgraph.server.cost import SIGNS_IN, Cost, ListSize
from taskgraph.storage.paging import PAGE_MAX

# The whole schema, whatever is asked of it.
INTROSPECTION = 100
# Fragments can be woven so that what they unfold into has hardly any equal parts; nobody writes that by accident.
MAX_STEPS = 20_000
MAX_KNOWN = 64
MAX_LISTED = 1_000
DEAREST = 3
DIGITS = 12
BEYOND = 2**31 - 1

Variables = Mapping[str, Any]
Values = tuple[int, ...]
# What decides about a price: the size of a list, or whether a selection is included, 1 or 0.
Source = Callable[[Variables], int]


@dataclass(frozen=True, slots=True)
class FieldPrice:
    """The points of the field at one place of an operation, without what stands below it."""

    path: str
    cost: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one operation with its variables. `nodes` counts the objects that the answer may hold."""

    cost: int
    depth: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a caller owes for one operation: points, and how many root fields it runs, those that sign in among them."""

    cost: int
    fields: int
    sign_ins: int


@dataclass(frozen=True, slots=True)
class Tag:
    """What the schema says about the price of a field."""

    weight: int
    size: ListSize | None
    is_list: bool
    is_sign_in: bool = False
    # The weights of arguments that have one.
    arguments: Sequence[tuple[str, int]] = ()


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


class Prices:
    """Prices operations of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._schema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._tags: dict[tuple[str, str], Tag] = {}

    def price(self, document: DocumentNode, operation: OperationDefinitionNode) -> "Price":
        """Of an operation of a valid document."""
        writing = _Writing(self, document, operation)
        root = self._schema.get_root_type(operation.operation)
        assert root is not None  # noqa: S101 - the document is valid
        try:
            return Price(writing.shape(root, (operation.selection_set,)), writing.sources)
        except TooIntricate:
            return Price(None, ())

    def possible_types(self, kind: Any) -> Sequence[GraphQLObjectType]:
        """Of an object type, that itself."""
        return [kind] if isinstance(kind, GraphQLObjectType) else self._schema.get_possible_types(kind)

    def applies(self, condition: str, kind: GraphQLObjectType) -> bool:
        """Whether a fragment on `condition` is about objects of this type."""
        return condition == kind.name or kind in self.possible_types(self._schema.type_map[condition])

    def tag(self, kind: GraphQLObjectType, name: str) -> Tag:
        """Read from the schema once."""
        if (tag := self._tags.get((kind.name, name))) is None:
            tag = self._tags[kind.name, name] = _tag(kind, name)
        return tag


class Price:
    """The price of one operation as a function of its variables."""

    __slots__ = ("_known", "_root", "_sources")

    def __init__(self, root: Shape | None, sources: Sequence[Source]) -> None:
        self._root = root
        self._sources = tuple(sources)
        self._known: dict[Values, Charge] = {}

    def charge(self, variables: Variables) -> Charge:
        """With at most BEYOND points."""
        values = tuple([source(variables) for source in self._sources])
        charge = self._known.get(values)
        if charge is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            charge = self._known[values] = self._charge(values)
        return charge

    def affordable(self, variables: Variables, *, max_cost: int) -> Charge:
        """The charge, if its points are not above `max_cost`. OperationTooExpensive."""
        charge = self.charge(variables)
        if (cost := charge.cost) > max_cost:
            raise OperationTooExpensive(_too_expensive(cost, max_cost, self.fields(variables)), cost=cost, max_cost=max_cost)
        return charge

    def estimate(self, variables: Variables) -> Estimate:
        """Counted anew."""
        return self._estimate(self._values(variables))

    def fields(self, variables: Variables) -> list[FieldPrice]:
        """Each field that gives objects or costs something, at most MAX_LISTED, in the order of the document. Of an interface or
        union, what is selected of the dearest type that it may be.
        """
        if self._root is None:
            return []
        counting = _Counting(self._values(variables))
        found: list[FieldPrice] = []
        for each in counting.listed(self._root, "", 1, 1):
            found.append(each)
            if len(found) == MAX_LISTED:
                break
        return found

    def _charge(self, values: Values) -> Charge:
        roots = list(_Counting(values).entries(self._root)) if self._root else []
        return Charge(self._estimate(values).cost, len(roots), sum(entry.tag.is_sign_in for entry in roots))

    def _estimate(self, values: Values) -> Estimate:
        if self._root is None:
            return Estimate(BEYOND, BEYOND, BEYOND)
        sums = _Counting(values).below(self._root, 1)
        return Estimate(min(sums.cost, BEYOND), sums.depth, min(sums.nodes, BEYOND))

    def _values(self, variables: Variables) -> Values:
        return tuple([source(variables) for source in self._sources])


@dataclass(frozen=True, slots=True)
class _Sums:
    cost: int
    depth: int
    nodes: int


class _Counting:
    """One walk with known sizes. `handed` is the size that a connection hands to the lists in it; equal parts are counted once."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._known: dict[tuple[Shape, int], _Sums] = {}

    def below(self, shape: Shape, handed: int) -> _Sums:
        known = self._known.get((shape, handed))
        if known is None:
            known = self._known[shape, handed] = self._sum(shape, handed)
        return known

    def listed(self, shape: Shape, above: str, times: int, handed: int) -> Iterator[FieldPrice]:
        for entry in self.entries(self._dearest(shape, handed)):
            size, path = self._size(entry, handed), f"{above}{entry.key}"
            cost = self._own_cost(entry, size)
            if entry.below is not None or cost:
                yield FieldPrice(path, min(times * cost, BEYOND))
            if entry.below is not None:
                inner, handed_on = self._inner(entry, size)
                yield from self.listed(entry.below, f"{path}.", times * inner, handed_on)

    def _sum(self, shape: Shape, handed: int) -> _Sums:
        if shape.alternatives:
            of_each = [self.below(each, handed) for each in shape.alternatives]
            return _Sums(*(max(getattr(each, name) for each in of_each) for name in ("cost", "depth", "nodes")))
        cost = depth = nodes = 0
        for entry in self.entries(shape):
            size = self._size(entry, handed)
            cost += self._own_cost(entry, size)
            below = _Sums(0, 0, 0)
            if entry.below is not None:
                inner, handed_on = self._inner(entry, size)
                below = self.below(entry.below, handed_on)
                cost += inner * below.cost
                nodes += inner * (1 + below.nodes)
            depth = max(depth, 0 if entry.key.startswith("__") else 1 + below.depth)
        return _Sums(cost, depth, nodes)

    def _dearest(self, shape: Shape, handed: int) -> Shape:
        return max(shape.alternatives, key=lambda each: self.below(each, handed).cost) if shape.alternatives else shape

    def entries(self, shape: Shape) -> Iterator[Entry]:
        """Those that are there."""
        for entry in shape.entries:
            if any(all(self._values[place.index] for place in places) for places in entry.conditions):
                yield entry

    def _own_cost(self, entry: Entry, size: int) -> int:
        added = entry.added if isinstance(entry.added, int) else self._values[entry.added.index]
        return size * entry.tag.weight + added

    def _size(self, entry: Entry, handed: int) -> int:
        if entry.size is None:
            return handed if entry.tag.is_list else 1
        return entry.size if isinstance(entry.size, int) else self._values[entry.size.index]

    @staticmethod
    def _inner(entry: Entry, size: int) -> tuple[int, int]:
        """How often what stands below is there, and the size that is handed on to it."""
        return (size, 1) if entry.tag.is_list else (1, size)


class _Writing:
    """The making of one operation's shapes. What is collected for a key are fields with the conditions under which they are there."""

    def __init__(self, prices: Prices, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._prices = prices
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
        key = kind.name, frozenset(map(id, selected))
        if (known := self._shapes.get(key)) is not None:
            return known
        shape = self._shapes[key] = Shape()
        if not isinstance(kind, GraphQLObjectType):
            shape.alternatives = [self.shape(each, selected) for each in self._prices.possible_types(kind)]
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
            if fragment.type_condition is None or self._prices.applies(fragment.type_condition.name.value, kind):
                self._collect(kind, fragment.selection_set, conditions, fields, seen)

    def _entry(self, kind: GraphQLObjectType, key: str, found: Sequence[tuple[FieldNode, tuple[Place, ...]]]) -> Entry:
        node, conditions = found[0][0], [places for _, places in found]
        if node.name.value.startswith("__"):
            return Entry("__schema", Tag(INTROSPECTION, None, is_list=False), None, conditions, None)
        tag = self._prices.tag(kind, node.name.value)
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


def _tag(kind: GraphQLObjectType, name: str) -> Tag:
    definition = kind.fields[name]
    declared = definition.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
    directives = declared.directives
    inner = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
    weight = next((each.weight for each in directives if isinstance(each, Cost)), int(is_composite_type(get_named_type(inner))))
    size = next((each for each in directives if isinstance(each, ListSize)), None)
    arguments = [
        (argument, each.weight)
        for argument, described in definition.args.items()
        for each in described.extensions[GraphQLCoreConverter.DEFINITION_BACKREF].directives
        if isinstance(each, Cost)
    ]
    return Tag(weight, size, is_list_type(inner), SIGNS_IN.items() <= declared.metadata.items(), arguments)


def _too_expensive(cost: int, max_cost: int, fields: Sequence[FieldPrice]) -> str:
    if cost == BEYOND:
        return (
            f"The operation's fragments unfold into more than can be priced; {max_cost} points are allowed. Ask for less at once."
        )
    dearest = sorted((each for each in fields if each.cost), key=lambda each: each.cost, reverse=True)[:DEAREST]
    named = ", ".join(f"{each.path} ({each.cost})" for each in dearest)
    return (
        f"The operation costs {cost} points; {max_cost} are allowed. The dearest fields: {named}. "
        "Ask for shorter pages or nest fewer of them; estimateCost shows the price of each field."
    )
