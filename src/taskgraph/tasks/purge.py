"""What is left of tasks that MongoDB has purged: their dependencies, which every process removes when it hears of the purge."""

import asyncio

import structlog
from bson import ObjectId, Timestamp
from pymongo.errors import PyMongoError

from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.mongo import Database

TOGETHER = 1000
log = structlog.get_logger(__name__)


class PurgedEdges:
    """One for each process. What is missed, because all processes were down, stays: reads leave out who is not there."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._purged: list[ObjectId] = []
        self._removing: asyncio.Task[None] | None = None

    @property
    def subscription(self) -> Subscription:
        """What the change stream should report: tasks that are gone for good."""
        return Subscription("tasks", {"operationType": "delete"}, self._receive, self._restart)

    def _receive(self, change: Change) -> None:
        self._purged.append(change.detail["documentKey"]["_id"])
        if self._removing is None:
            self._removing = asyncio.create_task(self._remove())

    def _restart(self, _time: Timestamp) -> None:
        """Nothing is remembered that could be wrong."""

    async def _remove(self) -> None:
        try:
            while self._purged:
                gone, self._purged = self._purged[:TOGETHER], self._purged[TOGETHER:]
                touching = {"$or": [{"blockerId": {"$in": gone}}, {"blockedId": {"$in": gone}}]}
                await self._db["dependencies"].delete_many(touching)
        except PyMongoError as error:
            # Another process may have done it; if none has, nobody sees them.
            log.warning("dependencies of purged tasks are left", error=type(error).__name__)
        finally:
            self._removing = None
