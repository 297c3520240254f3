"""The audit log: who did what, from where, with which outcome. Entries are added and never changed, but for erasure.

What a write has done is told along with it: in its transaction, or, where it has events, as the `trail` of the first of them, from
where event_positions copies it. So there is an entry exactly when there is the change, whatever dies in between. What has changed
nothing, refusals above all, is written in batches a moment later. No entry holds anything that was typed.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import pymongo
import structlog
from bson import ObjectId
from odmantic import Field, Model
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError, PyMongoError

from taskgraph.settings import Settings
from taskgraph.storage import clock, expiry
from taskgraph.storage.mongo import Database, Document, Session

COLLECTION = "audit"
PURGE_INDEX = "purge"
NEVER_SECONDS = 2**31 - 1
MAX_TARGETS = 500
BATCH = 1000
BATCH_SECONDS = 0.05
RETRY_SECONDS = 1.0
# While MongoDB is away; what comes first then goes first.
WAITING = 10_000
FORGOTTEN = 100
FLUSH_SECONDS = 2.0
DUPLICATE_KEY = 11000
# By which operators, and tests, tell these commands from those of requests.
COMMENT = "audit log"
log = structlog.get_logger(__name__)


class AuditOutcome(StrEnum):
    """How a mutation ended."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    FAILED = "FAILED"


class Entry(Model):
    """One mutation. `user_id` is whose account it is about, None where there is none; after an erasure it leads to nobody."""

    model_config = {
        "collection": COLLECTION,
        "indexes": lambda: [
            IndexModel([("userId", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)], name="user_at"),
            # Purges nothing until a server that starts has set the retention that its operator wants.
            IndexModel([("at", ASCENDING)], name=PURGE_INDEX, expireAfterSeconds=NEVER_SECONDS),
        ],
    }

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    user_id: ObjectId | None = Field(key_name="userId")
    session_id: ObjectId | None = Field(key_name="sessionId")
    address: str | None
    request_id: str = Field(key_name="requestId")
    at: datetime
    action: str
    outcome: str
    code: str | None
    target_kind: str | None = Field(key_name="targetKind")
    target_ids: list[ObjectId] = Field(key_name="targetIds")


@dataclass(slots=True)
class Trail:
    """What one mutation will have left: `action` is the name of its field, `targets` what it is about, all of one kind as in global
    ids. `is_left` is set once an entry is stored.
    """

    action: str
    user_id: ObjectId | None
    session_id: ObjectId | None
    address: str | None
    request_id: str
    kind: str | None = None
    targets: Sequence[ObjectId] = field(default_factory=list)
    is_left: bool = False
    entry_id: ObjectId = field(default_factory=ObjectId)

    def told(self, outcome: AuditOutcome = AuditOutcome.DONE, *, code: str | None = None, at: datetime | None = None) -> Document:
        """The entry but for its id. Not made by the model, which would cost as much as the rest of a write's bookkeeping."""
        return {
            "userId": self.user_id,
            "sessionId": self.session_id,
            "address": self.address,
            "requestId": self.request_id,
            "at": at or clock.now(),
            "action": self.action,
            "outcome": outcome.value,
            "code": code,
            "targetKind": self.kind,
            "targetIds": list(self.targets[:MAX_TARGETS]),
        }

    async def leave(self, db: Database, session: Session | None = None) -> None:
        """Stores that it was done, in the caller's transaction, which may have to be repeated, or by itself."""
        await db[COLLECTION].insert_one({"_id": self.entry_id, **self.told()}, session=session)
        self.is_left = session is None

    async def take_back(self, db: Database) -> None:
        """For what was left before it was certain, and then did not come to pass."""
        await db[COLLECTION].delete_one({"_id": self.entry_id})
        self.is_left = False


class AuditLog:
    """The log of one deployment, as this process writes it; `run` until cancelled, then `flush`. `dropped` counts what was lost."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._retention_days = settings.audit_retention_days
        self.dropped = 0
        # Who is being signed in while they are erased would be told of afterwards.
        self._forgotten: deque[ObjectId] = deque(maxlen=FORGOTTEN)
        self._waiting: deque[Document] = deque()
        self._has_some = asyncio.Event()
        self._turn = asyncio.Lock()

    def note(self, trail: Trail, outcome: AuditOutcome, *, code: str | None = None) -> None:
        """Writes an entry soon: for what has changed nothing."""
        if trail.user_id in self._forgotten:
            trail.user_id = trail.session_id = None
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.dropped += 1
            log.warning("an audit entry was dropped: the database has been away for too long")
        self._waiting.append({"_id": ObjectId(), **trail.told(outcome, code=code)})
        self._has_some.set()

    async def run(self) -> None:
        """Goes on for ever, in batches."""
        while True:
            await self._has_some.wait()
            # What comes together is written together.
            await asyncio.sleep(BATCH_SECONDS)
            try:
                await self._write_waiting()
            # This task is a process edge: if it ended, nothing more would be told.
            except Exception as error:
                if not isinstance(error, PyMongoError):
                    log.exception("audit entries could not be written")
                log.warning("audit entries wait for the database", error=type(error).__name__, waiting=len(self._waiting))
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """Writes what waits, or gives up after FLUSH_SECONDS."""
        # Both: another may be writing, for longer than this one would.
        with suppress(PyMongoError, TimeoutError), pymongo.timeout(FLUSH_SECONDS):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._write_waiting()

    async def forget(self, user_id: ObjectId) -> None:
        """Cuts the link between a user and their entries, which stay, all under one new id that leads to nobody. May be repeated."""
        self._forgotten.append(user_id)
        await self.flush()
        nobody = {"userId": ObjectId(), "sessionId": None, "address": None}
        # Whoever sends a made-up id can make themselves a target.
        await self._db[COLLECTION].update_many({"userId": user_id}, {"$set": nobody, "$pull": {"targetIds": user_id}})

    async def apply_retention(self) -> None:
        """Makes MongoDB purge what is older than TASKGRAPH_AUDIT_RETENTION_DAYS. May be repeated."""
        await expiry.apply(self._db, COLLECTION, "at", name=PURGE_INDEX, seconds=self._retention_days * expiry.DAY_SECONDS)

    async def _write_waiting(self) -> None:
        async with self._turn:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    await add(self._db, batch)
                except BaseException:
                    self._waiting.extendleft(reversed(batch))
                    raise
            self._has_some.clear()


async def add(db: Database, entries: Sequence[Document]) -> None:
    """Stores entries; those that are there already are left alone, so it may be repeated."""
    try:
        await db[COLLECTION].insert_many(entries, ordered=False, comment=COMMENT)
    except BulkWriteError as error:
        # Not on a majority yet, a failover could undo it.
        if error.details["writeConcernErrors"] or any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
            raise
