"""The one change stream of this process: follows the database and hands each change to whoever registered for its collection.

It survives everything MongoDB does: after an error it resumes behind the last change it handed on. Only when the oplog no longer
reaches back that far is something lost, and then the handlers are told.
"""

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog
from bson import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from taskgraph.storage.mongo import Database, Document

AWAIT_MILLISECONDS = 1000
RETRY_SECONDS = 0.2
RETRY_MAX_SECONDS = 2.0
# ChangeStreamHistoryLost, ChangeStreamFatalError, CappedPositionLost, and a resume token that a restored database doesn't know.
LOST_HISTORY_CODES = frozenset({136, 260, 280, 286})
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: when it was committed, which change of its transaction it is (from 0, per collection), and what MongoDB says of it."""

    cluster_time: Timestamp
    index: int
    detail: Document


@dataclass(frozen=True, slots=True)
class Subscription:
    """What one handler wants: changes of `collection` that meet `condition`, which is the same for all handlers of a collection.

    `restart` is told when the tail begins anew at a time: at the start, and whenever changes before it may have been missed;
    `advance` while nothing happens: everything before that time has been handed on.
    """

    collection: str
    condition: Document
    handle: Callable[[Change], None]
    restart: Callable[[Timestamp], None]
    advance: Callable[[Timestamp], None] | None = None


class ChangeTail:
    """Runs until cancelled. Handlers are called in commit order and must not block; if one fails, all are told to restart."""

    def __init__(self, db: Database, subscriptions: list[Subscription]) -> None:
        self._db = db
        self._by_collection: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            self._by_collection[subscription.collection].append(subscription)
        self._resume_token: Mapping[str, Any] | None = None
        self._start_at: Timestamp | None = None
        self._same_commit: tuple[str, Timestamp, int] = ("", Timestamp(0, 0), 0)
        self.is_live = asyncio.Event()

    async def run(self) -> None:
        """Follows the database for ever. `is_live` is set while changes flow."""
        delay = RETRY_SECONDS
        while True:
            try:
                if self._start_at is None:
                    await self._begin_now()
                async with aclosing(self._changes()) as changes:
                    async for change in changes:
                        delay = RETRY_SECONDS
                        self._hand_on(change)
            # This task is a process edge: ending it would be silence for ever.
            except Exception as error:
                self.is_live.clear()
                if not isinstance(error, PyMongoError):
                    # A change that cannot be read or handled would fail again and again: begin behind it, which handlers are told.
                    log.exception("change stream failed")
                    self._start_at = self._resume_token = None
                if isinstance(error, OperationFailure) and error.code in LOST_HISTORY_CODES:
                    log.error("change stream history lost", code=error.code)  # noqa: TRY400 - the code says it all
                    self._start_at = self._resume_token = None
                log.warning("change stream interrupted", error=type(error).__name__, retry_seconds=round(delay, 2))
                await asyncio.sleep(delay * random.uniform(0.5, 1))
                delay = min(delay * 2, RETRY_MAX_SECONDS)

    async def _changes(self) -> AsyncGenerator[Document]:
        position = {"resume_after": self._resume_token} if self._resume_token else {"start_at_operation_time": self._start_at}
        async with await self._db.raw.watch(self._pipeline(), max_await_time_ms=AWAIT_MILLISECONDS, **position) as stream:
            self.is_live.set()
            while stream.alive:
                change = await stream.try_next()
                self._resume_token = stream.resume_token or self._resume_token
                if change is not None:
                    yield change
                else:
                    self._advance(time_of(stream.resume_token))

    def _pipeline(self) -> list[Document]:
        wanted = [{"$and": [{"ns.coll": name}, each[0].condition]} for name, each in self._by_collection.items()]
        return [{"$match": {"$or": wanted}}]

    def _hand_on(self, detail: Document) -> None:
        collection, time = detail["ns"]["coll"], detail["clusterTime"]
        same_collection, same_time, count = self._same_commit
        index = count if (collection, time) == (same_collection, same_time) else 0
        self._same_commit = (collection, time, index + 1)
        for subscription in self._by_collection[collection]:
            subscription.handle(Change(time, index, detail))

    def _advance(self, time: Timestamp) -> None:
        for subscription in itertools.chain.from_iterable(self._by_collection.values()):
            if subscription.advance is not None:
                subscription.advance(time)

    async def _begin_now(self) -> None:
        reply = await self._db.raw.command("ping")
        self._start_at = reply["operationTime"]
        for subscription in itertools.chain.from_iterable(self._by_collection.values()):
            subscription.restart(self._start_at)


def time_of(resume_token: Mapping[str, Any] | None) -> Timestamp:
    """The cluster time that a change stream has reached. A token is a hexadecimal text: a byte that says "time", then eight of it."""
    raw = bytes.fromhex(resume_token["_data"][2:18]) if resume_token else bytes(8)
    return Timestamp(int.from_bytes(raw[:4], "big"), int.from_bytes(raw[4:], "big"))
