"""The collections and indexes of users, sessions, tasks, events and the locks of task graphs.

Instant on an empty database. On a filled one MongoDB builds each index in the background, about a minute per ten million tasks.
"""

from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel
from pymongo.collation import Collation

from taskgraph.storage.mongo import Database

THIRTY_DAYS_SECONDS = 30 * 24 * 3600


def within_owner(name: str, *keys: tuple[str, int]) -> IndexModel:
    """An order of one owner's tasks, deleted ones apart, ties broken by _id in the same direction."""
    return IndexModel([("ownerId", ASCENDING), ("isDeleted", ASCENDING), *keys, ("_id", keys[-1][1])], name=name)


INDEXES = {
    "users": [IndexModel([("email", ASCENDING)], name="email", unique=True, collation=Collation(locale="en", strength=2))],
    "sessions": [
        IndexModel([("handle", ASCENDING)], name="handle", unique=True),
        IndexModel([("userId", ASCENDING), ("lastUsedAt", DESCENDING)], name="user"),
        IndexModel([("expiresAt", ASCENDING)], name="expired", expireAfterSeconds=0),
    ],
    "tasks": [
        within_owner("owner_created", ("createdAt", DESCENDING)),
        within_owner("owner_updated", ("updatedAt", DESCENDING)),
        within_owner("owner_due", ("dueOrder", ASCENDING)),
        within_owner("owner_priority", ("priority", ASCENDING)),
        within_owner("owner_title", ("titleKey", ASCENDING)),
        within_owner("owner_status_created", ("status", ASCENDING), ("createdAt", DESCENDING)),
        within_owner("owner_priority_created", ("priority", ASCENDING), ("createdAt", DESCENDING)),
        within_owner("owner_parent_created", ("parentId", ASCENDING), ("createdAt", DESCENDING)),
        IndexModel([("assigneeId", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)], name="assignee_created"),
        IndexModel(
            [("ownerId", ASCENDING), ("title", TEXT), ("description", TEXT)],
            name="owner_text",
            weights={"title": 10, "description": 5},
            default_language="none",
        ),
        IndexModel(
            [("deletedAt", ASCENDING)],
            name="purge_deleted",
            expireAfterSeconds=THIRTY_DAYS_SECONDS,
            partialFilterExpression={"deletedAt": {"$type": "date"}},
        ),
    ],
    "events": [
        IndexModel([("ownerId", ASCENDING), ("subjectId", ASCENDING), ("_id", ASCENDING)], name="subject"),
        IndexModel([("audience", ASCENDING), ("_id", DESCENDING)], name="audience"),
        IndexModel([("people", ASCENDING)], name="people"),
    ],
    # Made here, because a collection that a transaction has to make locks the database meanwhile.
    "graphs": [],
}


async def up(db: Database) -> None:
    """Creating what is there already changes nothing."""
    existing = set(await db.raw.list_collection_names())
    for name, indexes in INDEXES.items():
        if name not in existing:
            await db.raw.create_collection(name, check_exists=False)
        if indexes:
            await db[name].create_indexes(indexes)
