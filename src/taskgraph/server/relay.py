"""What Relay asks of every schema: global ids, the Node interface, connections' PageInfo.

A global id is opaque text that holds the type, the object's id and, for what belongs to somebody, the owner's id: the shard key,
so that finding a node never asks every shard.
"""

from dataclasses import dataclass
from typing import Protocol

import strawberry
from bson import ObjectId

from taskgraph.errors import BadUserInput
from taskgraph.server.fields import derived
from taskgraph.storage import base64url
from taskgraph.storage.mongo import Document

OID_BYTES = 12
MAX_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A parsed global id. `kind` is one ASCII letter per type; `owner_id` is None for what belongs to nobody."""

    kind: str
    id: ObjectId
    owner_id: ObjectId | None = None


def global_id(kind: str, node_id: ObjectId, owner_id: ObjectId | None = None) -> strawberry.ID:
    """The opaque id of an object."""
    raw = kind.encode() + node_id.binary
    # An ID is text to everybody but the type checker, so it is not called: this runs once for each object that is shown.
    return base64url.encode(raw + owner_id.binary if owner_id else raw)  # type: ignore[return-value]


def parse_id(text: str) -> NodeKey | None:
    """The key behind a global id; None for any other text."""
    if len(text) > MAX_CHARACTERS:
        return None
    raw = base64url.decode(text)
    if raw is None or len(raw) not in {1 + OID_BYTES, 1 + 2 * OID_BYTES} or not raw[:1].isalpha():
        return None
    owner = raw[1 + OID_BYTES :]
    return NodeKey(raw[:1].decode(), ObjectId(raw[1 : 1 + OID_BYTES]), ObjectId(owner) if owner else None)


def parse_id_of(kind: str, text: str) -> ObjectId | None:
    """The object id in a global id of one type; None for any other text."""
    key = parse_id(text)
    return key.id if key is not None and key.kind == kind else None


def expect_id_of(kind: str, type_name: str, text: str) -> ObjectId:
    """The same, but other text is BadUserInput: for filters, where a typing error should not look like an empty result."""
    found = parse_id_of(kind, text)
    if found is None:
        raise BadUserInput(f"{text[:MAX_CHARACTERS]!r} is not the id of a {type_name}.")
    return found


@strawberry.interface(description="An object with a global id, to be read again by `node`.")
class Node:
    """Implemented by what has a `document` and can be found again."""

    document: strawberry.Private[Document]

    @strawberry.field(description="Opaque global id; unique among all types.")
    def id(self) -> strawberry.ID:
        """Each type has its own letter and parts."""
        raise NotImplementedError


class Paged(Protocol):
    """A page of anything."""

    @property
    def has_next(self) -> bool:
        """Whether more follows."""

    @property
    def has_previous(self) -> bool:
        """Whether more precedes."""

    @property
    def start_cursor(self) -> str | None:
        """Of the first edge; None on an empty page."""

    @property
    def end_cursor(self) -> str | None:
        """Of the last edge; None on an empty page."""


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    """Of one page."""

    page: strawberry.Private[Paged]

    @derived(description="Whether more follows: exact when paging forward; when paging backward, whether `before` was given.")
    def has_next_page(self) -> bool:
        """One document more than asked for was read to know this."""
        return self.page.has_next

    @derived(description="Whether more precedes: exact when paging backward; when paging forward, whether `after` was given.")
    def has_previous_page(self) -> bool:
        """See has_next_page."""
        return self.page.has_previous

    @derived(description="Cursor of the first edge; null on an empty page.")
    def start_cursor(self) -> str | None:
        """Made only when selected."""
        return self.page.start_cursor

    @derived(description="Cursor of the last edge; null on an empty page.")
    def end_cursor(self) -> str | None:
        """Made only when selected."""
        return self.page.end_cursor
