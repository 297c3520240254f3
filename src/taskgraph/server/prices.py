"""What an operation costs: counted before it runs, from what fields say of themselves (server/cost.py) and from its variables.

A price for new sizes is a walk over the operation's shapes (price_shapes.py); for sizes that came before it is a look-up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import strawberry
from graphql import DocumentNode, OperationDefinitionNode

from taskgraph.errors import OperationTooExpensive
from taskgraph.server.price_shapes import Entry, Shape, Source, TooIntricate, Variables, Writing
from taskgraph.server.price_tags import Tags

MAX_KNOWN = 64
MAX_LISTED = 1_000
DEAREST = 3
BEYOND = 2**31 - 1

Values = tuple[int, ...]


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


class Prices:
    """Prices operations of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self._tags = Tags(schema)

    def price(self, document: DocumentNode, operation: OperationDefinitionNode) -> "Price":
        """Of an operation of a valid document."""
        writing = Writing(self._tags, document, operation)
        root = self._tags.schema.get_root_type(operation.operation)
        assert root is not None  # noqa: S101 - the document is valid
        try:
            return Price(writing.shape(root, (operation.selection_set,)), writing.sources)
        except TooIntricate:
            return Price(None, ())


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
