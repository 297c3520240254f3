"""When completed tasks are purged: never, unless the operator says so."""

from datetime import datetime, timedelta

from taskgraph.settings import Settings
from taskgraph.storage import expiry
from taskgraph.storage.mongo import Database
from taskgraph.tasks.model import TaskStatus

INDEX = "purge_completed"


def expires_at(completed_at: datetime | None, settings: Settings) -> datetime | None:
    """When a task completed then is purged; None where that is off or the task is not completed."""
    days = settings.completed_task_retention_days
    return completed_at + timedelta(days=days) if days and completed_at else None


async def apply(db: Database, settings: Settings) -> None:
    """Makes purging follow TASKGRAPH_COMPLETED_TASK_RETENTION_DAYS. May be repeated."""
    seconds = settings.completed_task_retention_days * expiry.DAY_SECONDS
    done_only = {"status": TaskStatus.DONE.value}
    await expiry.apply(db, "tasks", "completedAt", name=INDEX, seconds=seconds, partialFilterExpression=done_only)
