"""Tasks and events as they are stored: put there directly when the API would not let a test choose a time, and looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bson import ObjectId

from taskgraph.server.relay import global_id, parse_id
from taskgraph.tasks.model import NEVER, Task, TaskPriority, TaskStatus, title_key
from tests.conftest import Documents
from tests.people import Person
from tests.processes import eventually

LONG_AGO = datetime(2026, 1, 1)  # noqa: DTZ001 - as stored


def oid(text: str) -> ObjectId:
    """The _id behind a global id."""
    key = parse_id(text)
    assert key is not None
    return key.id


def shown_id(document: dict[str, Any]) -> str:
    """The global id of a stored task."""
    return global_id("T", document["_id"], document["ownerId"])


def task(
    owner: Person | ObjectId,
    title: str = "Stored",
    *,
    status: str = "TODO",
    priority: str = "MEDIUM",
    due: datetime | None = None,
    created: datetime = LONG_AGO,
    updated: datetime | None = None,
    deleted: datetime | None = None,
    **given: Any,
) -> dict[str, Any]:
    """A document as createTask would have written it, with times of choice; `given` in the names of the model."""
    owner_id = owner if isinstance(owner, ObjectId) else oid(owner.id)
    return Task(
        owner_id=owner_id,
        creator_id=owner_id,
        title=title,
        title_key=title_key(title),
        status=TaskStatus(status),
        priority=TaskPriority[priority],
        due_date=due,
        due_order=due or NEVER,
        created_at=created,
        updated_at=updated or created,
        completed_at=created if status == "DONE" else None,
        deleted_at=deleted,
        is_deleted=deleted is not None,
        **given,
    ).model_dump_doc()


def tasks_of(mongo: Documents, person: Person) -> list[dict[str, Any]]:
    """All, in the order of their creation."""
    return list(mongo["tasks"].find({"ownerId": oid(person.id)}).sort("_id"))


def events_of(mongo: Documents, person: Person) -> list[dict[str, Any]]:
    """All, in the order of their creation."""
    return list(mongo["events"].find({"ownerId": oid(person.id)}).sort("_id"))


@contextmanager
def nothing_written(mongo: Documents) -> Iterator[None]:
    """Fails when any task, event, dependency or key of anybody is there, gone or different afterwards."""
    collections = ["tasks", "events", "graphs", "dependencies", "idempotency"]

    def digest() -> Any:
        # An event is written once more, with its position, shortly after the write that it tells of.
        assert eventually(lambda: mongo["events"].count_documents({"position": None}) == 0)
        return mongo.command("dbHash", collections=collections)["collections"]

    before = digest()
    yield
    assert digest() == before
