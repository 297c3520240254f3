"""What the schema says about prices: of each field, and of which types stand behind which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import GraphQLNonNull, GraphQLObjectType, GraphQLSchema, get_named_type, is_composite_type, is_list_type
from strawberry.schema.schema_converter import GraphQLCoreConverter

from taskgraph.server.cost import SIGNS_IN, Cost, ListSize


@dataclass(frozen=True, slots=True)
class Tag:
    """What the schema says about the price of a field."""

    weight: int
    size: ListSize | None
    is_list: bool
    is_sign_in: bool = False
    # The weights of arguments that have one.
    arguments: Sequence[tuple[str, int]] = ()


class Tags:
    """Of one schema."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self.schema: GraphQLSchema = schema._schema  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        self._tags: dict[tuple[str, str], Tag] = {}

    def possible_types(self, kind: Any) -> Sequence[GraphQLObjectType]:
        """Of an object type, that itself."""
        return [kind] if isinstance(kind, GraphQLObjectType) else self.schema.get_possible_types(kind)

    def applies(self, condition: str, kind: GraphQLObjectType) -> bool:
        """Whether a fragment on `condition` is about objects of this type."""
        return condition == kind.name or kind in self.possible_types(self.schema.type_map[condition])

    def tag(self, kind: GraphQLObjectType, name: str) -> Tag:
        """Read from the schema once."""
        if (tag := self._tags.get((kind.name, name))) is None:
            tag = self._tags[kind.name, name] = _tag(kind, name)
        return tag


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
