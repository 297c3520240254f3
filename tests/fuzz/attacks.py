"""Every place for a value in the schema, arguments and members of inputs within them, each with every hostile value."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)

from tests.fuzz import values

# Stands for the hostile value within valid ones.
HOLE = object()
# Where the objects are found whose fields have arguments.
ENTRIES = {"Query": "query {}", "Mutation": "mutation {}", "Subscription": "subscription {}", "Task": "query {} task(id: {})"}
VALID = {"email": "nobody@example.com", "password": "not the right one", "newPassword": "another long password"}


@dataclass(frozen=True, slots=True)
class Known:
    """What a caller knows: a task of their own, and ids and positions that are forged, stolen or of another kind."""

    task_id: str
    forged: Sequence[str]


@dataclass(frozen=True, slots=True)
class Attack:
    """One request: the text of its document and that of its variables, which need not be JSON."""

    place: str
    document: str
    variables: str

    @property
    def is_mutation(self) -> bool:
        """Whether it may write."""
        return self.document.startswith("mutation")

    @property
    def is_subscription(self) -> bool:
        """Whether only a WebSocket can answer it."""
        return self.document.startswith("subscription")

    @property
    def body(self) -> bytes:
        """As it is sent."""
        return f'{{"query":{json.dumps(self.document)},"variables":{self.variables}}}'.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Place:
    """One argument, or a member of an input within it. `tree` is the argument's valid value with a HOLE."""

    name: str
    kind: str
    argument: str
    type_text: str
    tree: Any
    field: str

    def attack(self, task_id: str, text: str, *, is_literal: bool) -> Attack:
        """The request with `text` in the hole."""
        given = _written(self.tree, text, is_json=False) if is_literal else "$v"
        defined = "" if is_literal else f"($v: {self.type_text})"
        operation, _, entry = ENTRIES[self.kind].partition(" {}")
        field = self.field.replace("$hole", given, 1)
        document = f"{operation}{defined} {{ {field} }}"
        if entry:
            document = f"{operation}{defined} {{{entry.format(json.dumps(task_id))} {{ {field} }} }}"
        return Attack(self.name, document, "{}" if is_literal else f'{{"v":{_written(self.tree, text, is_json=True)}}}')


class Attacks:
    """All on one schema, in the same order each time."""

    def __init__(self, schema: GraphQLSchema, known: Known) -> None:
        self._known = known
        self.places = [
            place
            for kind in schema.type_map.values()
            if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__")
            for name in kind.fields
            for place in self._places(schema, kind, name)
        ]
        self._variables, self._literals = list(values.variables(known.forged)), list(values.literals(known.forged))

    @property
    def values(self) -> int:
        """How many there are for each place."""
        return len(self._variables) + len(self._literals)

    def __len__(self) -> int:
        return len(self.places) * self.values

    def __iter__(self) -> Iterator[Attack]:
        for place in self.places:
            for text in self._variables:
                yield place.attack(self._known.task_id, text, is_literal=False)
            for text in self._literals:
                yield place.attack(self._known.task_id, text, is_literal=True)

    def _places(self, schema: GraphQLSchema, kind: GraphQLObjectType, name: str) -> Iterator[Place]:
        definition = kind.fields[name]
        selected = selection(schema, definition.type, 1)
        for argument, hostile in definition.args.items():
            others = {
                other: self._valid(other, each.type)
                for other, each in definition.args.items()
                if other != argument and is_non_null_type(each.type)
            }
            given = "".join(f", {other}: {_written(value, '', is_json=False)}" for other, value in others.items())
            for path, tree in self._trees(hostile.type, ()):
                text = f"{name}({argument}: $hole{given}){selected}"
                yield Place(".".join((kind.name, name, argument, *path)), kind.name, argument, str(hostile.type), tree, text)

    def _trees(self, of_type: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        """The value as a whole, then each member of it; an input within itself is not looked into again."""
        yield (), HOLE
        kind = get_named_type(of_type)
        if not isinstance(kind, GraphQLInputObjectType) or kind.name in above:
            return
        for name, member in kind.fields.items():
            others = {} if kind.is_one_of else self._required(kind, but=name)
            for path, tree in self._trees(member.type, (*above, kind.name)):
                inner = {**others, name: tree}
                yield (name, *path), [inner] if is_list_type(get_nullable_type(of_type)) else inner

    def _required(self, kind: GraphQLInputObjectType, *, but: str = "") -> dict[str, Any]:
        return {
            name: self._valid(name, member.type)
            for name, member in kind.fields.items()
            if name != but and is_non_null_type(member.type) and member.default_value is Undefined
        }

    def _valid(self, name: str, of_type: Any) -> Any:
        inner = get_nullable_type(of_type)
        if is_list_type(inner):
            return [self._valid(name, inner.of_type)]
        if isinstance(inner, GraphQLInputObjectType):
            first = next(iter(inner.fields))
            return {first: self._valid(first, inner.fields[first].type)} if inner.is_one_of else self._required(inner)
        if isinstance(inner, GraphQLEnumType):
            return next(iter(inner.values))
        return {"ID": self._known.task_id, "Int": 1, "Boolean": True}.get(inner.name, VALID.get(name, "valid"))


def selection(schema: GraphQLSchema, of_type: Any, depth: int) -> str:
    """Everything below a field that needs no arguments, so deep."""
    kind = get_named_type(of_type)
    if is_leaf_type(kind):
        return ""
    if isinstance(kind, GraphQLObjectType):
        return f" {{ {' '.join(_fields(schema, kind, depth))} }}"
    kinds = schema.get_possible_types(kind)
    parts = [f"... on {each.name} {{ {' '.join(_fields(schema, each, depth, beside=kinds))} }}" for each in kinds]
    return f" {{ {' '.join(parts)} }}"


def _fields(
    schema: GraphQLSchema, kind: GraphQLObjectType, depth: int, *, beside: Sequence[GraphQLObjectType] = ()
) -> Iterator[str]:
    """Not those which have another type in objects that stand beside this one."""
    yield "__typename"
    for name, field in kind.fields.items():
        is_shallow = depth > 0 or is_leaf_type(get_named_type(field.type))
        is_alike = all(str(each.fields[name].type) == str(field.type) for each in beside if name in each.fields)
        if is_shallow and is_alike and not any(is_non_null_type(each.type) for each in field.args.values()):
            yield f"{name}{selection(schema, field.type, depth - 1)}"


def _written(tree: Any, hole: str, *, is_json: bool) -> str:
    """As JSON, or as a literal of GraphQL, where names of members and enum values have no quotes."""
    if tree is HOLE:
        return hole
    if isinstance(tree, dict):
        members = (
            f"{json.dumps(name) if is_json else name}: {_written(each, hole, is_json=is_json)}" for name, each in tree.items()
        )
        return f"{{{', '.join(members)}}}"
    if isinstance(tree, list):
        return f"[{', '.join(_written(each, hole, is_json=is_json) for each in tree)}]"
    is_enum = isinstance(tree, str) and tree.isupper() and tree.isidentifier()
    return tree if is_enum and not is_json else json.dumps(tree)
