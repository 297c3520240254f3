"""Reading the audit log: each only what is about their own account."""

from collections.abc import Sequence

from bson import ObjectId

from taskgraph.storage import paging, stored_events
from taskgraph.storage.audit_log import COLLECTION, AuditLog
from taskgraph.storage.mongo import Database, Document, Projection
from taskgraph.storage.paging import DESCENDING, KeyType, Order, Page, Window

NEWEST_FIRST = Order(110, "at", KeyType.DATE, DESCENDING)


async def page(db: Database, log: AuditLog, user_id: ObjectId, window: Window) -> Page:
    """A page of a user's entries, newest first, with all that was answered before by this process, or has changed anything."""
    await log.flush()
    # What has changed a task is told by its event until that has its position.
    await stored_events.settle(db, {"audience": user_id})
    cursor = await db[COLLECTION].aggregate(paging.stages(window, [{"userId": user_id}], collection=COLLECTION))
    return paging.page_of(window, await cursor.to_list())


async def entries_by_key(
    db: Database, keys: Sequence[tuple[ObjectId, ObjectId]], _projection: Projection = None
) -> list[Document | None]:
    """The entries for pairs of user and entry id; one query, None for what is not there or not about this user."""
    wanted = {"_id": {"$in": [entry_id for _, entry_id in keys]}}
    found = {(each["userId"], each["_id"]): each for each in await db[COLLECTION].find(wanted).to_list()}
    return [found.get(key) for key in keys]
