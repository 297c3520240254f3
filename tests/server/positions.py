"""Positions of events where no change stream gives them any."""

from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.mongo import Database


async def give_positions(db: Database) -> None:
    """In the order of the writes, at times of long ago."""
    for number, event in enumerate(await db["events"].find({}, {"_id": 1}).sort("_id").to_list(), start=1):
        await db["events"].update_one({"_id": event["_id"]}, {"$set": {"position": EventCursor(number, 1).packed}})
