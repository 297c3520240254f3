"""Random operations over the whole query side of the schema, mostly valid, for comparing two ways of executing them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)
from hypothesis import strategies as st

from taskgraph.storage.event_log import EventCursor

MAX_DEPTH = 5
VARIABLES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "n": ("Int = 2", st.sampled_from([1, 2, 3, 3, 0, None])),
    "yes": ("Boolean!", st.booleans()),
    "no": ("Boolean = false", st.sampled_from([True, False])),
    "status": ("TaskStatus = TODO", st.sampled_from(["TODO", "DONE", "CANCELED"])),
    "text": ("String", st.sampled_from(["a", "Plan", "", None])),
    "filter": (
        "TaskFilter",
        st.sampled_from([None, {}, {"status": {"in": ["TODO", "DONE"]}}, {"isOverdue": True}, {"parentId": {"isNull": True}}]),
    ),
    "order": ("TaskOrder", st.sampled_from([None, {}, {"field": "TITLE"}, {"field": "DUE_DATE", "direction": "ASC"}])),
}
FILTERS = [
    "{}",
    "{status: {eq: $status}}",
    "{or: [{status: {eq: $status}}, {title: {contains: $text}}]}",
    "{not: {priority: {gte: HIGH}}, labels: {hasAny: []}}",
    '{title: {startsWith: "p"}}',
    "{isOverdue: $yes}",
    "{isBlocked: $yes}",
    "{includeDeleted: true}",
    '{parentId: {eq: "nonsense"}}',
    "$filter",
    "null",
]
ORDERS = ["{field: PRIORITY}", "{direction: ASC}", "{field: DUE_DATE, direction: ASC}", "$order", "null"]
# By type: fields of events have arguments of the same names as others.
EVENT_VALUES = {
    "EventCursor": [f'"{EventCursor(2**31 - 60, 1)}"', '"nonsense"', "null"],
    "TaskEventFilter": ["{}", "{actions: [UPDATED]}", '{excludeCausedBy: ["key"]}', '{taskIds: ["nonsense"]}', "null"],
    "TaskPoint": ["{version: 1}", "{version: 2}", "{version: $n}", '{time: "2031-01-01T00:00:00Z"}', "{}"],
}
SIZES = ["1", "2", "3", "5", "$n", "0", "null"]


@dataclass
class Draft:
    """One document under way."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    schema: GraphQLSchema
    ids: list[str]
    used: set[str] = field(default_factory=set)
    fragments: list[str] = field(default_factory=list)
    aliases: int = 0

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == 1)

    def text(self, template: str) -> str:
        self.used |= set(re.findall(r"\$(\w+)", template))
        return template

    def selection_set(self, kind: GraphQLNamedType, depth: int) -> str:
        parts = [self.selection(kind, depth) for _ in range(self.draw(st.integers(1, 4)))]
        return "{ " + " ".join(parts) + " }"

    def selection(self, kind: GraphQLNamedType, depth: int) -> str:
        if self.chance(12):
            return f"__typename{self.directive()}"
        if depth > 1 and self.chance(8):
            return f"...{self.directive()} {self.selection_set(kind, depth - 1)}"
        if depth > 1 and self.chance(10):
            name = f"F{len(self.fragments)}"
            self.fragments.append("")
            self.fragments[int(name[1:])] = f"fragment {name} on {kind.name} {self.selection_set(kind, depth - 1)}"
            return f"...{name}{self.directive()}"
        if is_abstract_type(kind) and self.chance(2):
            possible = self.draw(st.sampled_from(sorted(self.schema.get_possible_types(kind), key=lambda each: each.name)))
            return f"... on {possible.name}{self.directive()} {self.selection_set(possible, depth - 1)}"
        return self.field_of(kind, depth)

    def field_of(self, kind: GraphQLNamedType, depth: int) -> str:
        fields: dict[str, GraphQLField] = getattr(kind, "fields", {})
        usable = [name for name, each in fields.items() if depth > 1 or is_leaf_type(get_named_type(each.type))]
        if not usable:
            return "__typename"
        name = self.draw(st.sampled_from(usable))
        inner = get_named_type(fields[name].type)
        arguments = self.arguments(fields[name])
        # With arguments or a selection of its own, an alias keeps two uses of a field from colliding.
        alias = ""
        if arguments or not is_leaf_type(inner) or self.chance(6):
            self.aliases += 1
            alias = f"a{self.aliases}: "
        below = "" if is_leaf_type(inner) else " " + self.selection_set(inner, depth - 1)
        return f"{alias}{name}{arguments}{self.directive()}{below}"

    def arguments(self, definition: GraphQLField) -> str:
        given = []
        for name, argument in definition.args.items():
            value = self.argument(name, get_named_type(argument.type).name)
            if value is not None:
                given.append(f"{name}: {self.text(value)}")
        return f"({', '.join(given)})" if given else ""

    def argument(self, name: str, kind: str) -> str | None:
        """A value for an argument, or None to leave it out. A new argument of the schema fails here until it has values."""
        if name == "id":
            return f'"{self.one_of(self.ids)}"'
        if name == "ids":
            return "[" + ", ".join(f'"{each}"' for each in self.draw(st.lists(st.sampled_from(self.ids), max_size=4))) + "]"
        if kind in EVENT_VALUES:
            return self.one_of(EVENT_VALUES[kind]) if kind == "TaskPoint" or self.chance(3) else None
        one_in, values = {
            "document": (1, ['"{ viewer { id } }"', '"{ tasks(first: 2) { nodes { owner { id } } } }"', '"{"', '"{ x }"']),
            "operationName": (6, ['"Q"', "null"]),
            "variables": (6, ["{}", "{n: $n}", "[]", "null"]),
            "query": (1, ['"plan"', '"write test"', '""']),
            "filter": (3, FILTERS),
            "orderBy": (3, ORDERS),
            "openOnly": (2, ["true", "$yes", "$no", "null"]),
            "first": (2, SIZES),
            "last": (6, SIZES),
            "after": (30, ['"nonsense"']),
            "before": (30, ['"nonsense"']),
        }[name]
        return self.one_of(values) if self.chance(one_in) else None

    def one_of(self, values: list[str]) -> str:
        return str(self.draw(st.sampled_from(values)))

    def directive(self) -> str:
        if not self.chance(8):
            return ""
        return self.text(
            self.draw(st.sampled_from([" @include(if: $yes)", " @skip(if: $no)", " @skip(if: true)", " @include(if: true)"]))
        )


@st.composite
def operations(draw: Any, schema: GraphQLSchema, ids: list[str]) -> tuple[str, dict[str, Any]]:
    """A query document and its variables."""
    draft = Draft(draw, schema, ids)
    query_type = schema.query_type
    assert isinstance(query_type, GraphQLObjectType)
    body = draft.selection_set(query_type, MAX_DEPTH)
    header, variables = drawn_variables(draft)
    document = f"query Q{f'({header})' if header else ''} {body} {' '.join(draft.fragments)}"
    return document, variables


@st.composite
def subscriptions(draw: Any, schema: GraphQLSchema) -> tuple[str, dict[str, Any]]:
    """A document that subscribes to events after `$after`, and its other variables."""
    draft = Draft(draw, schema, [])
    body = draft.selection_set(schema.type_map["TaskStreamMessage"], MAX_DEPTH)
    header, variables = drawn_variables(draft)
    name = draw(st.sampled_from(["taskEvents", "heard: taskEvents"]))
    document = f"subscription S($after: EventCursor {header}) {{ {name}(after: $after) {body} }} {' '.join(draft.fragments)}"
    return document, variables


def drawn_variables(draft: Draft) -> tuple[str, dict[str, Any]]:
    """The definitions of the variables that a draft uses, and values for most of them."""
    header = ", ".join(f"${name}: {VARIABLES[name][0]}" for name in sorted(draft.used))
    given = [name for name in sorted(draft.used) if not draft.chance(8) or name == "yes"]
    return header, {name: draft.draw(VARIABLES[name][1]) for name in given}
