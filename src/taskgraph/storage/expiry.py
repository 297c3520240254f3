"""TTL indexes that follow a setting: MongoDB does the purging, so nothing has to be scheduled."""

from typing import Any

from pymongo.errors import OperationFailure

from taskgraph.storage.mongo import Database

INDEX_NOT_FOUND = 27
DAY_SECONDS = 24 * 3600


async def current_seconds(db: Database, collection: str, name: str) -> int | None:
    """After how long the index of this name lets documents expire; None when there is none."""
    index = (await db[collection].index_information()).get(name)
    return None if index is None else int(index["expireAfterSeconds"])


async def apply(db: Database, collection: str, key: str, *, name: str, seconds: int, **options: Any) -> None:
    """Makes documents expire so long after the date under `key`, or never for 0: the index is made, changed or dropped. May be repeated."""
    existing = await current_seconds(db, collection, name)
    if existing is None and seconds:
        await db[collection].create_index(key, name=name, expireAfterSeconds=seconds, **options)
    elif existing is not None and not seconds:
        try:
            await db[collection].drop_index(name)
        except OperationFailure as error:
            # Another process that is starting may have been faster.
            if error.code != INDEX_NOT_FOUND:
                raise
    elif existing is not None and existing != seconds:
        await db.raw.command({"collMod": collection, "index": {"name": name, "expireAfterSeconds": seconds}})
