"""Keyset pagination: pages that never repeat or skip an untouched document while others come, go and move.

A page starts at a key, not at a position: the cursor holds the ordering, the sort key and the _id of one document, and the
next page is what sorts after that pair. Cursors carry a checksum, so a damaged one is refused instead of leading somewhere else;
they are no secret: who forges one that is well-formed only chooses where in their own documents they start.
"""

import itertools
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from bson import ObjectId

from taskgraph.errors import BadUserInput
from taskgraph.storage.mongo import Document

PAGE_DEFAULT = 20
PAGE_MAX = 100
ASCENDING, DESCENDING = 1, -1
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
# CRC-32 is against damage, not against forgery: it finds every change of up to 32 neighbouring bits, in a tenth of the time of a hash.
_CHECKSUM_BYTES = 4
_MAX_CURSOR_CHARACTERS = 3000
# The order's tag and the document's id, then the key: most keys are dates. Of those the days, seconds and milliseconds, as Python has
# them: to make one number of the three takes as long as to pack all.
_BARE, _DATED = struct.Struct(">B12s"), struct.Struct(">B12siIH")


class KeyType(Enum):
    """How a sort key is packed into a cursor."""

    DATE = "iIH"
    NUMBER = "i"
    SCORE = "d"
    TEXT = ""


_DATE = KeyType.DATE  # A member of an enum is looked up by a call of Python's.


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """A total order of documents: by `key`, ties by _id in the same direction. `tag` names it inside cursors: never reuse one.

    There is one object for each, so they are compared by identity: as parts of keys they are compared often.
    """

    tag: int
    key: str
    key_type: KeyType
    direction: int

    @property
    def sort(self) -> dict[str, int]:
        """As MongoDB takes it."""
        return {self.key: self.direction, "_id": self.direction}


# Named tuples, as these three are made for each request: a frozen dataclass takes twice as long.


class Position(NamedTuple):
    """Where in an order one document stands."""

    key: Any
    id: ObjectId


class Window(NamedTuple):
    """Which part of an ordered list is wanted: `size` documents from its start, or from its end when `is_backward`."""

    order: Order
    size: int
    is_backward: bool = False
    after: Position | None = None
    before: Position | None = None

    @property
    def direction(self) -> int:
        """1 or -1: how keys follow one another as they are read; a backward page is turned round afterwards."""
        return -self.order.direction if self.is_backward else self.order.direction

    @property
    def sort(self) -> dict[str, int]:
        """The order to read in, as MongoDB takes it."""
        direction = self.direction
        return {self.order.key: direction, "_id": direction}

    @property
    def limit(self) -> int:
        """One document more than wanted tells whether there is another page, without a count."""
        return self.size + 1


class Page(NamedTuple):
    """At most `window.size` documents in the window's order. A side where a cursor was given counts as having more."""

    window: Window
    documents: Sequence[Document]
    has_next: bool
    has_previous: bool

    @property
    def start_cursor(self) -> str | None:
        """Of the first document; None on an empty page."""
        return encode_cursor(self.window.order, self.documents[0]) if self.documents else None

    @property
    def end_cursor(self) -> str | None:
        """Of the last document; None on an empty page."""
        return encode_cursor(self.window.order, self.documents[-1]) if self.documents else None


def window(
    order: Order, *, first: int | None = None, after: str | None = None, last: int | None = None, before: str | None = None
) -> Window:
    """The window that the arguments of a connection ask for; BadUserInput when they make no sense."""
    if first is not None and last is not None:
        raise BadUserInput("Give first or last, not both.")
    return Window(
        order=order,
        size=page_size(first, name="first") if last is None else page_size(last, name="last"),
        is_backward=last is not None or (first is None and before is not None and after is None),
        after=None if after is None else decode_cursor(after, order, argument="after"),
        before=None if before is None else decode_cursor(before, order, argument="before"),
    )


def page_size(given: int | None, *, name: str) -> int:
    """How many are wanted; BadUserInput outside 1 to PAGE_MAX."""
    if given is not None and not 1 <= given <= PAGE_MAX:
        raise BadUserInput(f"{name} must be between 1 and {PAGE_MAX}.")
    return given or PAGE_DEFAULT


def stages(window: Window, conditions: Sequence[Mapping[str, Any]], *, collection: str, is_merged: bool = False) -> list[Document]:
    """A pipeline on the collection that reads up to `window.limit` documents of the window that meet all conditions, by index.
    `is_merged` says that the conditions allow several values where the index begins, so that MongoDB has to merge scans.

    Cursors cut an order into stretches that follow one another: the rest of a cursor's ties, then the other keys. MongoDB reads
    them one after another, each in the order of an index and the next only when the page is not full. So a page costs one key for
    each document, and at most `size` more where ties end within it. One $or of all stretches would be shorter, but MongoDB chooses
    indexes for its branches without regard to the order, and then sorts all that lies behind the cursor in memory.
    """
    # Among ties both sorts are the same. MongoDB can merge scans by the short one only; given that without need, it may walk the
    # index of _id instead, past the documents of others.
    sort, limit = window.sort, {"$limit": window.limit}
    ties_sort = {"_id": window.direction} if is_merged else sort
    pipelines: list[list[Document]] = [
        [{"$match": all_of([*conditions, where])}, {"$sort": ties_sort if is_ties else sort}, limit]
        for where, is_ties in _stretches(window)
    ]
    first, *others = pipelines
    if not others:
        return first
    return [*first, *({"$unionWith": {"coll": collection, "pipeline": each}} for each in others), limit]


def matching(window: Window, conditions: Sequence[Mapping[str, Any]]) -> Document:
    """A filter for the documents of the window that meet all conditions, for lists that are read whole and ordered afterwards."""
    ahead = _beyond(window.order, window.after, window.order.direction)
    behind = _beyond(window.order, window.before, -window.order.direction)
    branches = [all_of([*conditions, *pair]) for pair in itertools.product(ahead, behind)]
    return branches[0] if len(branches) == 1 else {"$or": branches}


def page_of(window: Window, documents: Sequence[Document]) -> Page:
    """The page, given up to `window.limit` documents read in `window.sort`."""
    has_more = len(documents) > window.size
    kept = documents[: window.size]
    if window.is_backward:
        return Page(window, kept[::-1], has_next=window.before is not None, has_previous=has_more)
    return Page(window, kept, has_next=has_more, has_previous=window.after is not None)


def encode_cursor(order: Order, document: Mapping[str, Any]) -> str:
    """The opaque cursor of one document in an order."""
    node_id, key = document["_id"].binary, document[order.key]
    if order.key_type is _DATE:
        since = key - _EPOCH
        body = _DATED.pack(order.tag, node_id, since.days, since.seconds, since.microseconds // 1000)
    elif order.key_type is KeyType.TEXT:
        body = _BARE.pack(order.tag, node_id) + str(key).encode("utf-8", "surrogatepass")
    else:
        body = _BARE.pack(order.tag, node_id) + struct.pack(f">{order.key_type.value}", key)
    # A page has a cursor for each document: base64 would be shorter by a third, and take four times as long.
    return (zlib.crc32(body).to_bytes(_CHECKSUM_BYTES, "big") + body).hex()


def decode_cursor(text: str, order: Order, *, argument: str) -> Position:
    """The position a cursor stands for; BadUserInput when it is damaged or belongs to another order."""
    damaged = BadUserInput(f"{argument} is not a cursor of this API; pass one exactly as it was received.")
    try:
        raw = bytes.fromhex(text) if len(text) <= _MAX_CURSOR_CHARACTERS else b""
    except ValueError:
        raise damaged from None
    body = raw[_CHECKSUM_BYTES:]
    # The last test refuses other spellings of the same bytes, with capitals or spaces.
    if len(body) < 1 + 12 or int.from_bytes(raw[:_CHECKSUM_BYTES], "big") != zlib.crc32(body) or raw.hex() != text:
        raise damaged
    if body[0] != order.tag:
        raise BadUserInput(f"{argument} is a cursor of another ordering; start again from the first page of this one.")
    try:
        return Position(key=_unpack(order.key_type, body[13:]), id=ObjectId(body[1:13]))
    except (struct.error, OverflowError, UnicodeDecodeError) as error:
        raise damaged from error


def _stretches(window: Window) -> list[tuple[Document, bool]]:
    """Conditions of the parts of a window in the order of reading, and whether a part is ties. They have no document in common."""
    key = window.order.key
    start, end = (window.before, window.after) if window.is_backward else (window.after, window.before)
    if start is None and end is None:
        return [({}, False)]
    past, short_of = ("$gt", "$lt") if window.direction == ASCENDING else ("$lt", "$gt")
    if start and end and start.key == end.key:
        return [({key: start.key, "_id": {past: start.id, short_of: end.id}}, True)]
    from_start = {past: start.key} if start else {}
    to_end = {short_of: end.key} if end else {}
    # The bound of the other side empties the ties of cursors that have changed places.
    before = [({key: {"$eq": start.key, **to_end}, "_id": {past: start.id}}, True)] if start else []
    after = [({key: {"$eq": end.key, **from_start}, "_id": {short_of: end.id}}, True)] if end else []
    return [*before, ({key: from_start | to_end}, False), *after]


def _beyond(order: Order, position: Position | None, direction: int) -> list[Document]:
    """What lies past a position: the rest of its ties, then the other keys."""
    if position is None:
        return [{}]
    comparison = "$gt" if direction == ASCENDING else "$lt"
    return [{order.key: position.key, "_id": {comparison: position.id}}, {order.key: {comparison: position.key}}]


def all_of(conditions: Sequence[Mapping[str, Any]]) -> Document:
    """One condition that holds where all of these hold; an empty one always does."""
    present = [condition for condition in conditions if condition]
    if len(present) <= 1:
        return dict(present[0]) if present else {}
    return {"$and": present}


def _unpack(key_type: KeyType, packed: bytes) -> Any:
    if key_type is KeyType.TEXT:
        # Strictly: MongoDB takes no lone surrogates, and a forged cursor must not get as far as a query.
        return packed.decode()
    numbers = struct.unpack(f">{key_type.value}", packed)
    if key_type is KeyType.DATE:
        days, seconds, milliseconds = numbers
        return _EPOCH + timedelta(days=days, seconds=seconds, milliseconds=milliseconds)
    return numbers[0]
