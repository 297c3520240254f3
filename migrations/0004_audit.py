"""The audit log with its indexes.

Instant: the collection is new. What was done before is in no entry.
"""

from pymongo import ASCENDING, DESCENDING, IndexModel

from taskgraph.storage.mongo import Database

NEVER_SECONDS = 2**31 - 1
INDEXES = {
    "audit": [
        IndexModel([("userId", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)], name="user_at"),
        # Purges nothing until a server that starts has set the retention that its operator wants.
        IndexModel([("at", ASCENDING)], name="purge", expireAfterSeconds=NEVER_SECONDS),
    ]
}


async def up(db: Database) -> None:
    """Creating what is there already changes nothing."""
    existing = set(await db.raw.list_collection_names())
    for name, indexes in INDEXES.items():
        if name not in existing:
            await db.raw.create_collection(name, check_exists=False)
        await db[name].create_indexes(indexes)
