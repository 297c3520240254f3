"""Indexes for reading stored events: by their position in the log, and by the versions of a task.

Instant on an empty database; about a minute per ten million events. Events that have no position yet are given theirs by the next
server that starts.
"""

from pymongo import ASCENDING, IndexModel
from pymongo.errors import OperationFailure

from taskgraph.storage.mongo import Database

NEVER_SECONDS = 2**31 - 1
INDEXES = {
    "events": [
        IndexModel([("ownerId", ASCENDING), ("subjectId", ASCENDING), ("version", ASCENDING)], name="subject_version"),
        IndexModel([("audience", ASCENDING), ("position", ASCENDING)], name="audience_position"),
        IndexModel([("position", ASCENDING)], name="position"),
        # Purges nothing until a server that starts has set the retention that its operator wants.
        IndexModel([("occurredAt", ASCENDING)], name="purge", expireAfterSeconds=NEVER_SECONDS),
    ]
}
DROPPED = {"events": ["subject", "audience"]}
INDEX_NOT_FOUND = 27


async def up(db: Database) -> None:
    """The new ones first, so that no read is ever without an index."""
    for collection, indexes in INDEXES.items():
        await db[collection].create_indexes(indexes)
    for collection, names in DROPPED.items():
        for name in names:
            try:
                await db[collection].drop_index(name)
            except OperationFailure as error:
                if error.code != INDEX_NOT_FOUND:
                    raise
