"""When completed tasks are purged: never, unless the operator says so. MongoDB's TTL index does it, so nothing has to be scheduled."""

from datetime import datetime, timedelta

from pymongo.errors import OperationFailure

from taskgraph.settings import Settings
from taskgraph.storage.mongo import Database
from taskgraph.tasks.model import TaskStatus

INDEX = "purge_completed"
INDEX_NOT_FOUND = 27
DAY_SECONDS = 24 * 3600


def expires_at(completed_at: datetime | None, settings: Settings) -> datetime | None:
    """When a task completed then is purged; None where that is off or the task is not completed."""
    days = settings.completed_task_retention_days
    return completed_at + timedelta(days=days) if days and completed_at else None


async def apply(db: Database, settings: Settings) -> None:
    """Makes the TTL index follow TASKGRAPH_COMPLETED_TASK_RETENTION_DAYS: made, changed or dropped. May be repeated."""
    tasks, seconds = db["tasks"], settings.completed_task_retention_days * DAY_SECONDS
    existing = (await tasks.index_information()).get(INDEX)
    if existing and not seconds:
        try:
            await tasks.drop_index(INDEX)
        except OperationFailure as error:
            # Another process that is starting may have been faster.
            if error.code != INDEX_NOT_FOUND:
                raise
    elif existing and existing["expireAfterSeconds"] != seconds:
        await db.raw.command({"collMod": "tasks", "index": {"name": INDEX, "expireAfterSeconds": seconds}})
    elif not existing and seconds:
        await tasks.create_index(
            "completedAt",
            name=INDEX,
            expireAfterSeconds=seconds,
            partialFilterExpression={"status": TaskStatus.DONE.value},
        )
