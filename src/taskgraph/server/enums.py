"""Showing an enum of a domain in the schema, with a description of every value."""

from enum import Enum
from typing import TypeVar

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition

Shown = TypeVar("Shown", bound=type[Enum])


def described(enum: Shown, description: str, **values: str) -> Shown:
    """The enum, registered under its own name; `values` describes each member."""
    strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = enum.__strawberry_definition__  # type: ignore[attr-defined]  # set by the line above
    for value in definition.values:
        value.description = values[value.name]
    return enum
