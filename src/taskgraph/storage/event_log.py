"""The stored events: one document per change, written in the transaction of the change, found again by position.

A position is the cluster time of the commit and the index of the event in its transaction: the same on every process, and in
commit order. It is known only after the commit, so event_positions adds it to the document a moment later. Events are generic
here; what a change means is its domain's business.
"""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId, Timestamp
from odmantic import Field, Model
from pymongo import ASCENDING, IndexModel

from taskgraph.errors import BadUserInput
from taskgraph.storage import base64url, clock
from taskgraph.storage.mongo import Database, Document, Session

COLLECTION = "events"
PURGE_INDEX = "purge"
NEVER_SECONDS = 2**31 - 1
# Which process wrote an event, so that one of them gives it its position and the others need not.
ORIGIN = ObjectId()
MAX_INDEX = 2**16 - 1
_PACKED = struct.Struct(">IIH")
POSITION_SECONDS = 2.0
POSITION_WAIT_SECONDS = 0.02


def _indexes() -> list[Any]:
    return [
        IndexModel([("ownerId", ASCENDING), ("subjectId", ASCENDING), ("version", ASCENDING)], name="subject_version"),
        IndexModel([("audience", ASCENDING), ("position", ASCENDING)], name="audience_position"),
        IndexModel([("position", ASCENDING)], name="position"),
        # Purges nothing until a server that starts has set the retention that its operator wants.
        IndexModel([("occurredAt", ASCENDING)], name=PURGE_INDEX, expireAfterSeconds=NEVER_SECONDS),
        IndexModel([("people", ASCENDING)], name="people"),
    ]


class Event(Model):
    """One change. `audience` was decided when it was written; `people` are all users named anywhere in it, for erasure.

    The stored document gets a `position`, a packed cursor, soon after it was written. Until then the first event of a write carries
    its `trail`, the entry for the audit log.
    """

    model_config = {"collection": COLLECTION, "indexes": _indexes}

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    owner_id: ObjectId = Field(key_name="ownerId")
    subject_id: ObjectId = Field(key_name="subjectId")
    audience: list[ObjectId]
    people: list[ObjectId]
    action: str
    version: int
    snapshot: dict[str, Any]
    changes: list[dict[str, Any]]
    actor_id: ObjectId | None = Field(default=None, key_name="actorId")
    occurred_at: datetime = Field(key_name="occurredAt")
    caused_by: str | None = Field(default=None, key_name="causedBy")
    origin: ObjectId = ORIGIN


@dataclass(frozen=True, slots=True, order=True)
class EventCursor:
    """A position in the log; totally ordered."""

    seconds: int
    increment: int
    index: int = 0

    @classmethod
    def at(cls, time: Timestamp, index: int = 0) -> "EventCursor":
        """The position of the event with this index in the transaction committed at `time`."""
        return cls(time.time, time.inc, index)

    @classmethod
    def before(cls, time: Timestamp) -> "EventCursor":
        """The last position before everything that was committed at `time`."""
        return cls(time.time, time.inc - 1, MAX_INDEX) if time.inc else cls(time.time - 1, 2**32 - 1, MAX_INDEX)

    def __str__(self) -> str:
        return base64url.encode(self.packed)

    @classmethod
    def parse(cls, text: str) -> "EventCursor":
        """The cursor written as `text`; BadUserInput when it is none."""
        try:
            return cls.unpacked(base64url.decode(text) or b"")
        except struct.error as error:
            raise BadUserInput("This is not an event cursor; pass one exactly as it was received.") from error

    @property
    def packed(self) -> bytes:
        """As it is stored: bytes, which MongoDB puts in the order of the cursors."""
        return _PACKED.pack(self.seconds, self.increment, self.index)

    @classmethod
    def unpacked(cls, packed: bytes) -> "EventCursor":
        """The other way round; struct.error."""
        return cls(*_PACKED.unpack(packed))


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A stored event with its position. `renderings` is for those who are handed this very object: what they have made of it."""

    cursor: EventCursor
    document: Document
    renderings: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)


async def cursor_of(db: Database, event_id: ObjectId) -> EventCursor | None:
    """The position of a stored event, once it is known: waits until the event is POSITION_SECONDS old, then None."""
    wait_seconds = POSITION_WAIT_SECONDS
    while True:
        stored = await db[COLLECTION].find_one({"_id": event_id}, {"position": 1, "occurredAt": 1})
        if stored is None:
            return None
        if (position := stored.get("position")) is not None:
            return EventCursor.unpacked(position)
        if clock.now() > stored["occurredAt"] + timedelta(seconds=POSITION_SECONDS):
            return None
        await asyncio.sleep(wait_seconds)
        wait_seconds *= 2


async def append(db: Database, session: Session, events: Sequence[Event], trail: Document | None = None) -> None:
    """Writes events in the caller's transaction; their order here is their order in the log."""
    for collection, documents in inserts(events, trail).items():
        await db[collection].insert_many(documents, session=session)


def inserts(events: Sequence[Event], trail: Document | None = None) -> dict[str, list[Document]]:
    """What to insert for them, in the transaction of the change and in this order."""
    documents = [event.model_dump_doc() for event in events]
    if trail is not None:
        # No member of the model, which would check it for longer than it takes to make.
        documents[0]["trail"] = trail
    return {COLLECTION: documents}
