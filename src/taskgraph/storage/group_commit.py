"""New documents of many requests in one transaction, as databases themselves do it: what arrives while a commit is under way goes
into the next one together. A request alone is committed at once; under load a transaction costs little more for twenty than for one.

Only for inserts that no other write can conflict with, but for records of idempotency keys: where one is there already, the requests
of the group are committed one by one. Each request's documents are written together or not at all.
"""

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Timestamp

from taskgraph.errors import Busy
from taskgraph.storage import mongo
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.mongo import Database, Document, Session, transaction
from taskgraph.storage.versions import Versions

Inserts = Mapping[str, Sequence[Document]]

TRANSACTIONS = 2
GROUP = 50
WAITING = 1000
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Committed:
    """When the documents were committed; `first` is the place of the request's first document among those of its collection."""

    time: Timestamp
    first: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Waiting:
    inserts: Inserts
    answer: "asyncio.Future[Committed]"
    until: float


class GroupCommit:
    """One for each process; at most TRANSACTIONS at a time, of at most GROUP requests each.

    Whoever writes renews the `versions` of what is written once it is committed.
    """

    def __init__(self, db: Database, versions: Versions) -> None:
        self.db = db
        self.versions = versions
        self._waiting: list[_Waiting] = []
        self._running: set[asyncio.Task[None]] = set()

    async def insert(self, inserts: Inserts) -> Committed:
        """Writes documents by collection, in their order. PyMongo's errors, after mongo.TRANSACTION_SECONDS its timeout; Busy when so
        many or for so long wait that theirs has not begun.

        Who is cancelled while waiting has asked all the same: the documents may be written.
        """
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= WAITING:
            raise _busy()
        answer: asyncio.Future[Committed] = loop.create_future()
        self._waiting.append(_Waiting(inserts, answer, until=loop.time() + mongo.TRANSACTION_SECONDS))
        # Behind the other requests that have come in the same turn.
        loop.call_soon(self._start)
        return await answer

    def _start(self) -> None:
        if len(self._running) >= TRANSACTIONS:
            return
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0].until < now:
            late = self._waiting.pop(0)
            if not late.answer.done():
                late.answer.set_exception(_busy())
        if self._waiting:
            group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
            # In a context of its own: the deadline of one request must not end the others.
            task = asyncio.create_task(self._commit(group), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            committed = await self._insert([each.inserts for each in group])
        except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
            # Whose fault it was is not known. But when MongoDB is away, nobody's; and what may be written must not be written twice.
            if len(group) > 1 and not mongo.is_unavailable(error):
                for each in group:
                    await self._commit([each])
                return
            for each in group:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, mine in zip(group, committed, strict=True):
            if not each.answer.done():
                each.answer.set_result(mine)

    async def _insert(self, group: Sequence[Inserts]) -> list[Committed]:
        documents: dict[str, list[Document]] = {}
        places: list[dict[str, int]] = []
        for inserts in group:
            places.append({name: len(documents.get(name, ())) for name in inserts})
            for name, new in inserts.items():
                documents.setdefault(name, []).extend(new)

        async def write(session: Session) -> Any:
            for name, new in documents.items():
                await self.db[name].insert_many(new, session=session)

        _, time = await transaction(self.db, write)
        return [Committed(time, first) for first in places]


@dataclass(frozen=True, slots=True)
class Commits:
    """How one mutation writes: through the group commit of its process, and with which trail in the audit log."""

    group: GroupCommit
    trail: Trail | None = None

    @property
    def db(self) -> Database:
        """Where it is written."""
        return self.group.db

    @property
    def versions(self) -> Versions:
        """What the writer renews."""
        return self.group.versions


def _busy() -> Busy:
    return Busy("Too many writes wait for the database; try again shortly.", retry_after_seconds=RETRY_AFTER_SECONDS)
