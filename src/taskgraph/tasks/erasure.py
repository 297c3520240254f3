"""What an erased account leaves behind among tasks and events: nothing."""

from bson import ObjectId

from taskgraph.accounts.erasure import Removed
from taskgraph.storage import idempotency, stored_events
from taskgraph.storage.mongo import Database


async def erase(db: Database, user_id: ObjectId) -> Removed:
    """Removes the user's tasks and events, and every mention of the user in other people's. May be repeated."""
    # Until an event has its position it carries an entry for the audit log.
    await stored_events.settle(db, {"audience": user_id})
    tasks = await db["tasks"].delete_many({"ownerId": user_id})
    events = await db["events"].delete_many({"ownerId": user_id})
    await db["dependencies"].delete_many({"ownerId": user_id})
    await db["graphs"].delete_one({"_id": user_id})
    await idempotency.forget(db, user_id)
    await db["tasks"].update_many({"assigneeId": user_id}, {"$set": {"assigneeId": None}})
    await _scrub_events(db, user_id)
    return Removed(tasks=tasks.deleted_count, events=events.deleted_count)


async def _scrub_events(db: Database, user_id: ObjectId) -> None:
    """Other people's events keep their place and meaning; whoever is gone becomes null in them."""

    def without_user(path: str) -> dict[str, object]:
        return {"$cond": [{"$eq": [path, user_id]}, None, path]}

    scrubbed_changes = {
        "$map": {
            "input": "$changes",
            "as": "change",
            "in": {
                "$mergeObjects": [
                    "$$change",
                    {"before": without_user("$$change.before"), "after": without_user("$$change.after")},
                ]
            },
        }
    }
    scrub = {
        "actorId": without_user("$actorId"),
        "snapshot.assigneeId": without_user("$snapshot.assigneeId"),
        "changes": scrubbed_changes,
        "people": {"$setDifference": ["$people", [user_id]]},
        "audience": {"$setDifference": ["$audience", [user_id]]},
    }
    await db["events"].update_many({"people": user_id}, [{"$set": scrub}])
