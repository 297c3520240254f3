"""Erasing an account: each domain removes what it holds about a user; the user goes last, so that a crash half-way can be repeated.

The audit log keeps its entries: that something was done, but no longer by whom and from where.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bson import ObjectId

from taskgraph.storage.audit_log import AuditLog
from taskgraph.storage.mongo import Database
from taskgraph.storage.versions import PROFILES, Versions


@dataclass(frozen=True, slots=True)
class Removed:
    """How many documents an erasure removed."""

    sessions: int = 0
    tasks: int = 0
    events: int = 0

    def __add__(self, other: "Removed") -> "Removed":
        return Removed(self.sessions + other.sessions, self.tasks + other.tasks, self.events + other.events)


SETTLE_SECONDS = 0.3
Eraser = Callable[[Database, ObjectId], Awaitable[Removed]]


@dataclass(frozen=True, slots=True)
class Erasure:
    """The erasers of the other domains, in the order in which they run."""

    audit: AuditLog
    erasers: Sequence[Eraser] = ()

    async def erase(self, db: Database, versions: Versions, user_id: ObjectId) -> Removed:
        """Removes every document and reference of a user. May be repeated; not one transaction, as it may be millions of documents."""
        sessions = await db["sessions"].delete_many({"userId": user_id})
        removed = Removed(sessions=sessions.deleted_count)
        for eraser in self.erasers:
            removed += await eraser(db, user_id)
        await self.audit.forget(user_id)
        await db["users"].delete_one({"_id": user_id})
        # Writes that were under way when the sessions ended have landed by now: a transaction of ours takes milliseconds.
        await asyncio.sleep(SETTLE_SECONDS)
        for eraser in self.erasers:
            removed += await eraser(db, user_id)
        late = await db["sessions"].delete_many({"userId": user_id})
        await self.audit.forget(user_id)
        # In this order: without a mark of their own, what was kept for the user is outdated by that of profiles alone.
        await versions.forget(user_id)
        await versions.renew(PROFILES)
        return replace(removed, sessions=removed.sessions + late.deleted_count)
