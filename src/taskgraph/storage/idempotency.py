"""Which writes were done already: one record for each idempotency key, written in the transaction of the change that it names.

So there is a record exactly when there is the change, whatever dies in between, and of two writes with one key the second finds
the record or a write conflict. A record holds what the first call answered as ids and versions; MongoDB forgets it after a day.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from bson import MaxKey, MinKey, ObjectId

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage.mongo import Database, Document, Session

COLLECTION = "idempotency"
KEPT_SECONDS = 24 * 3600


class KeyReused(Refused):
    """The key was used before, for another operation or another input."""

    def __init__(self) -> None:
        message = "This idempotency key was used before with another input; use a new key for a new write."
        super().__init__(Problem(ErrorCode.IDEMPOTENCY_KEY_REUSED, message, ("input", "idempotencyKey")))


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an owner. `digest` stands for what was asked for: only the same question gets the same answer."""

    owner_id: ObjectId
    text: str
    digest: bytes

    @property
    def id(self) -> Document:
        """The record's."""
        return {"ownerId": self.owner_id, "key": self.text}


def digest_of(operation: str, given: object) -> bytes:
    """Of an operation and its input, a tree of dataclasses; what is left out differs from what is null."""
    told = orjson.dumps([operation, given], default=lambda _left_out: {})
    return hashlib.sha256(told).digest()


async def first_result(db: Database, key: Key, session: Session | None = None) -> Document | None:
    """What the first write with this key answered; None when there was none. KeyReused when that was another write."""
    found = await db[COLLECTION].find_one({"_id": key.id}, session=session)
    if found is None:
        return None
    if found["digest"] != key.digest:
        raise KeyReused
    result: Document = found["result"]
    return result


def record(key: Key, result: Document, created_at: datetime) -> Document:
    """What to insert along with the change."""
    return {"_id": key.id, "digest": key.digest, "result": result, "createdAt": created_at}


async def forget(db: Database, owner_id: ObjectId) -> None:
    """Removes every record of an owner."""
    await db[COLLECTION].delete_many(of_owner(owner_id))


def of_owner(owner_id: ObjectId) -> dict[str, Any]:
    """The condition that the records of an owner meet; their ids begin with the owner."""
    return {"_id": {"$gte": {"ownerId": owner_id, "key": MinKey()}, "$lte": {"ownerId": owner_id, "key": MaxKey()}}}
