"""Dependencies between tasks, with their indexes, and the records of idempotency keys, which MongoDB forgets after a day.

Instant: both collections are new. Tasks need no change, as a counter that is missing is 0.
"""

from pymongo import ASCENDING, IndexModel

from taskgraph.storage.mongo import Database

DAY_SECONDS = 24 * 3600
INDEXES = {
    "dependencies": [
        IndexModel([("ownerId", ASCENDING), ("blockerId", ASCENDING), ("blockedId", ASCENDING)], name="edge", unique=True),
        IndexModel([("blockerId", ASCENDING), ("_id", ASCENDING)], name="blocker"),
        IndexModel([("blockedId", ASCENDING), ("_id", ASCENDING)], name="blocked"),
    ],
    "idempotency": [IndexModel([("createdAt", ASCENDING)], name="expired", expireAfterSeconds=DAY_SECONDS)],
}


async def up(db: Database) -> None:
    """Creating what is there already changes nothing."""
    existing = set(await db.raw.list_collection_names())
    for name, indexes in INDEXES.items():
        if name not in existing:
            await db.raw.create_collection(name, check_exists=False)
        await db[name].create_indexes(indexes)
