"""The MongoDB client with the guarantees everything else relies on, and transactions in bounded time.

PyMongo's own asyncio client runs every query; ODMantic models only define, validate and dump documents, because
ODMantic's engine needs Motor, which has reached its end of life.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pymongo
from bson import Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError as MongoConfigurationError
from pymongo.errors import ConnectionFailure, ExecutionTimeout, InvalidURI, PyMongoError, WaitQueueTimeoutError, WTimeoutError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from taskgraph.errors import ConfigurationError
from taskgraph.settings import Settings
from taskgraph.storage import cancelling

cancelling.mend()

Document = dict[str, Any]
Collection = AsyncCollection[Document]
Session = AsyncClientSession
Result = TypeVar("Result")
# The keys of documents that are wanted; None: all of them.
Projection = frozenset[str] | None

SERVER_SELECTION_SECONDS = 5
SOCKET_SECONDS = 45
POOL_WAIT_SECONDS = 2
# One read of the API, whatever it asks for; MongoDB gives up at the same time.
READ_SECONDS = 8
# PyMongo retries a conflicting transaction for up to 120 s by itself; a caller has gone long before.
TRANSACTION_SECONDS = 10
MAJORITY = WriteConcern("majority")
SNAPSHOT = ReadConcern("snapshot")


class Database:
    """One database and its client; `db["tasks"]` is a collection with majority writes, `raw` is for commands and change streams."""

    def __init__(self, client: AsyncMongoClient[Document], name: str) -> None:
        self.client = client
        self.name = name
        self.raw: AsyncDatabase[Document] = client.get_database(name, write_concern=MAJORITY)
        # PyMongo makes a new object at each access, which takes as long as packing a small query.
        self._collections: dict[str, Collection] = {}

    def __getitem__(self, name: str) -> Collection:
        collection = self._collections.get(name)
        if collection is None:
            collection = self._collections[name] = self.raw[name]
        return collection

    async def close(self) -> None:
        """Closes every connection of the pool."""
        await self.client.close()


def connect(settings: Settings) -> Database:
    """A client for TASKGRAPH_MONGO_URL; no connection is made yet. Durability is set here and cannot be weakened by the URL."""
    if settings.mongo_url is None:
        raise ConfigurationError(
            "TASKGRAPH_MONGO_URL is not set; give the address of a MongoDB replica set, or use `taskgraph dev`"
        )
    try:
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            settings.mongo_url.get_secret_value(),
            appname="taskgraph",
            maxPoolSize=settings.mongo_pool_max,
            minPoolSize=settings.mongo_pool_min,
            serverSelectionTimeoutMS=SERVER_SELECTION_SECONDS * 1000,
            connectTimeoutMS=SERVER_SELECTION_SECONDS * 1000,
            socketTimeoutMS=SOCKET_SECONDS * 1000,
            waitQueueTimeoutMS=POOL_WAIT_SECONDS * 1000,
            retryWrites=True,
            retryReads=True,
            w="majority",
            # Transactions need it, and a secondary could still show what has been revoked.
            readPreference="primary",
            document_class=dict,
            tz_aware=False,
        )
    except (InvalidURI, MongoConfigurationError, ValueError) as error:
        raise ConfigurationError(f"TASKGRAPH_MONGO_URL: {error}") from error
    return Database(client, settings.mongo_database)


async def transaction(db: Database, work: Callable[[Session], Awaitable[Result]]) -> tuple[Result, Timestamp]:
    """Runs `work` in one snapshot transaction with a majority commit; returns its result and the cluster time of the commit.

    `work` may run several times (write conflicts, failovers), so it must only touch the database. All of it
    happens within TRANSACTION_SECONDS, else PyMongo's timeout error; nothing is half-written.
    """
    before_commit: Timestamp | None = None

    async def noting_time(session: Session) -> Result:
        nonlocal before_commit
        result = await work(session)
        before_commit = session.operation_time
        return result

    with pymongo.timeout(TRANSACTION_SECONDS):
        async with db.client.start_session() as session:
            result = await session.with_transaction(noting_time, read_concern=SNAPSHOT, write_concern=MAJORITY)
            # The reply to the commit carries the time of the commit's own oplog entry, the same that a change stream reports. The
            # reply to a commit sent again carries a later time, and what was committed in between would be taken for seen: then
            # a time from before is right, whose only fault is that it shows this write once more.
            was_sent_again = session._transaction.attempt > 1  # noqa: SLF001 - PyMongo tells it nowhere else
            committed_at = before_commit if was_sent_again else session.operation_time
            # Every reply of a replica set has one; without any, nothing was asked for, and nothing written.
            return result, committed_at or Timestamp(0, 0)


def only(projection: Projection, *always: str) -> dict[str, int] | None:
    """The projection as MongoDB takes it, with some keys always in it; _id is there in any case."""
    return None if projection is None else dict.fromkeys((*projection, *always, "_id"), 1)


def reading() -> AbstractContextManager[None]:
    """Within the block every operation ends by READ_SECONDS from its beginning, here and in MongoDB."""
    return pymongo.timeout(READ_SECONDS)


def is_unavailable(error: BaseException) -> bool:
    """Whether MongoDB could not be reached or has no primary: a matter of waiting, not of the request."""
    return isinstance(error, ConnectionFailure | WTimeoutError | ExecutionTimeout | WaitQueueTimeoutError) or (
        isinstance(error, PyMongoError) and (error.timeout or error.has_error_label("TransientTransactionError"))
    )
