"""Which version of the data an answer was made from: a mark for each owner, and one for all profiles.

A mark is replaced after a write is committed and before it is acknowledged, and it is read for each request after that has begun.
So what was made under the mark that a request finds is never older than any write acknowledged before the request.

The marks are in MongoDB, not in Redis: who can write can then also say so to every process. With Redis, a writer that has lost it
would have to wait until all the others have noticed. No two marks are ever the same, so none that was lost looks like another.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, PyMongoError

from taskgraph.storage import mongo
from taskgraph.storage.mongo import TRANSACTION_SECONDS, Database

PROFILES = "profiles"
RETRY_SECONDS = (0.1, 0.5, 1.0)
Marks = Mapping[Hashable, bytes]


class Versions:
    """One for each process. A name is an owner's id, or PROFILES for what users show of each other."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._reading = _Rounds(self._read)
        self._renewing = _Rounds(self._renew)

    async def current(self, names: Sequence[Hashable]) -> tuple[bytes | None, ...]:
        """The marks as they are at some moment after the call; None for what has never been written."""
        marks = await self._reading.join(names)
        return tuple(map(marks.get, names))

    async def renew(self, *names: Hashable) -> None:
        """Makes every answer about these outdated, in all processes, before it returns. PyMongo's errors: then the write that it was
        for is done all the same, and its caller cannot be told so; hence the patience, enough for a new primary.
        """
        for seconds in RETRY_SECONDS:
            try:
                await self._renewing.join(names)
            except PyMongoError as error:
                if not mongo.is_unavailable(error):
                    raise
                await asyncio.sleep(seconds)
            else:
                return
        await self._renewing.join(names)

    async def forget(self, name: Hashable) -> None:
        """Removes the mark of an owner who is gone; answers made before are outdated by that too."""
        await self._db["versions"].delete_one({"_id": name})

    async def _read(self, names: Sequence[Hashable]) -> Marks:
        with mongo.reading():
            found = await self._db["versions"].find({"_id": {"$in": names}}, batch_size=len(names) + 1).to_list()
        return {each["_id"]: each["mark"].binary for each in found}

    async def _renew(self, names: Sequence[Hashable]) -> Marks:
        versions, change = self._db["versions"], {"$set": {"mark": ObjectId()}}
        with pymongo.timeout(TRANSACTION_SECONDS):
            result = await versions.update_many({"_id": {"$in": names}}, change)
            if result.matched_count < len(names):
                try:
                    await versions.bulk_write([UpdateOne({"_id": name}, change, upsert=True) for name in names], ordered=False)
                except BulkWriteError:
                    # Another process has made one of them just now.
                    await versions.update_many({"_id": {"$in": names}}, change)
        return {}


class _Rounds:
    """Does for many callers at once what each asks for, one round at a time: who comes during a round is part of the next."""

    def __init__(self, work: Callable[[Sequence[Hashable]], Awaitable[Marks]]) -> None:
        self._work = work
        self._waiting: list[tuple[Sequence[Hashable], asyncio.Future[Marks]]] = []
        self._round: asyncio.Task[None] | None = None

    async def join(self, names: Sequence[Hashable]) -> Marks:
        """The result of a round that begins after the call."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Marks] = loop.create_future()
        self._waiting.append((names, answer))
        if len(self._waiting) == 1 and self._round is None:
            loop.call_soon(self._begin)
        return await answer

    def _begin(self, _ended: Any = None) -> None:
        self._round = None
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            # In a context of its own: the deadline of one caller must not end the others.
            self._round = asyncio.create_task(self._run(waiting), context=contextvars.Context())
            self._round.add_done_callback(self._begin)

    async def _run(self, waiting: Sequence[tuple[Sequence[Hashable], "asyncio.Future[Marks]"]]) -> None:
        try:
            marks = await self._work(list(dict.fromkeys(name for names, _ in waiting for name in names)))
        except Exception as error:  # noqa: BLE001 - it is raised again where it was asked for
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for _, answer in waiting:
            if not answer.done():
                answer.set_result(marks)
