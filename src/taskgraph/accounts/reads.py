"""Reading users. A user is found by their own id, or because a document the viewer may see names them."""

from collections.abc import Sequence

from bson import ObjectId

from taskgraph.accounts.model import IGNORING_CASE, email_key
from taskgraph.storage.mongo import Database, Document, Projection, only


async def users_by_id(db: Database, ids: Sequence[ObjectId], projection: Projection = None) -> list[Document | None]:
    """The users in the order of `ids`, None for who is gone; one query. The ids must come from documents the viewer may see."""
    wanted = list(set(ids))
    users = db["users"].find({"_id": {"$in": wanted}}, only(projection), batch_size=len(wanted) + 1)
    found = {user["_id"]: user for user in await users.to_list()}
    return [found.get(user_id) for user_id in ids]


async def user(db: Database, user_id: ObjectId) -> Document | None:
    """One user."""
    return await db["users"].find_one({"_id": user_id})


async def user_by_email(db: Database, email: str) -> Document | None:
    """The account with this address in any case; index email."""
    found = await db["users"].find_one({"email": email}, collation=IGNORING_CASE)
    # The collation also ignores invisible characters and width, which would give an account as many names to guess passwords under.
    return found if found is not None and email_key(found["email"]) == email_key(email) else None
