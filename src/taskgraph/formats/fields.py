"""Values of a file that nobody has checked: what is wrong with one is said in the file's own words."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from taskgraph.errors import TaskgraphError

SHOWN_CHARACTERS = 40
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


class BadField(TaskgraphError):
    """A field is not what it should be, or missing."""

    @classmethod
    def of(cls, name: str, value: Any, wanted: str) -> "BadField":
        """`due is "soon", not a time`."""
        return cls(f"{name} is {shown(value)}, not {wanted}")


def shown(value: Any) -> str:
    """A value on one line of bounded length."""
    match value:
        case dict():
            return "an object"
        case list():
            return "a list"
        case str() if len(value) > SHOWN_CHARACTERS:
            value = f"{value[:SHOWN_CHARACTERS]}…"
    plain = json.dumps(value, ensure_ascii=False)[: SHOWN_CHARACTERS * 2]
    return "".join(each if each.isprintable() else "?" for each in plain)


def text(given: Mapping[str, Any], name: str) -> str:
    """Empty when the field is missing or null."""
    value = given.get(name)
    return "" if value is None else as_text(name, value)


def as_text(name: str, value: Any) -> str:
    """The value, if it is text that can be stored: JSON can escape halves of characters."""
    if not isinstance(value, str):
        raise BadField.of(name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadField(f"{name} has half a character in it, such as \\ud800") from None
    return value


def needed(given: Mapping[str, Any], name: str) -> str:
    """Text that is there and not blank."""
    if given.get(name) is None:
        raise BadField(f"{name} is missing")
    value = text(given, name)
    if not value.strip():
        raise BadField(f"{name} is empty")
    return value


def listed(given: Mapping[str, Any], name: str) -> list[Any]:
    """Empty when the field is missing or null."""
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadField.of(name, value, "a list")
    return value


def an_object(name: str, value: Any) -> Mapping[str, Any]:
    """The value, if it has fields of its own."""
    if not isinstance(value, dict):
        raise BadField.of(name, value, "an object")
    return value


def one_of(name: str, value: str, wanted: Sequence[str]) -> str:
    """The one that is meant, whatever its case and whatever stands between its words."""
    plain = re.sub(r"[\s_-]+", "_", value.strip()).casefold()
    for each in wanted:
        if each.casefold() == plain:
            return each
    raise BadField.of(name, value, f"{', '.join(wanted[:-1])} or {wanted[-1]}")


def moment(name: str, value: str, example: str) -> datetime | None:
    """As stored, None for a blank; without an offset it is UTC."""
    if not value.strip():
        return None
    try:
        found = datetime.fromisoformat(value.strip())
        return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    # A time of the year 1 may lie before it in UTC.
    except (ValueError, OverflowError):
        raise BadField.of(name, value, f"a time such as {example}") from None


def uuid(name: str, value: str) -> str:
    """In lower case."""
    if not is_uuid(value):
        raise BadField.of(name, value, "a UUID")
    return value.strip().lower()


def is_uuid(value: str) -> bool:
    """Whether it is written as a UUID usually is."""
    return _UUID.fullmatch(value.strip()) is not None
