"""What MongoDB removes by itself: deleted tasks after 30 days, completed ones only where the operator says so, ended sessions."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from odmantic import Model
from pymongo import IndexModel, MongoClient

from taskgraph.accounts.model import Session, User
from taskgraph.storage.event_log import Event
from taskgraph.tasks.model import Dependency, Task
from tests.conftest import Documents, MakeSettings, Someone, migrated, served
from tests.tasks.operations import create, done, read, update

pytestmark = pytest.mark.xdist_group("retention")

DAY = timedelta(days=1)
PURGE_COMPLETED = {"name": "purge_completed", "v": 2, "key": {"completedAt": 1}, "partialFilterExpression": {"status": "DONE"}}


@pytest.fixture
def database(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Documents:
    """A migrated one that nothing serves yet."""
    made = settings()
    migrated(made)
    return mongo_client[made.mongo_database]


@pytest.fixture
def start(settings: MakeSettings, database: Documents) -> Callable[[int], Any]:
    """Serves the database with a retention of so many days."""
    return lambda days: served(settings(mongo_database=database.name, completed_task_retention_days=days))


def index(database: Documents, collection: str, name: str) -> dict[str, Any] | None:
    """As MongoDB lists it."""
    return next((dict(each) for each in database[collection].list_indexes() if each["name"] == name), None)


def test_deleted_tasks_are_purged_after_thirty_days_and_sessions_when_they_end(database: Documents) -> None:
    assert index(database, "tasks", "purge_deleted") == {
        "v": 2,
        "name": "purge_deleted",
        "key": {"deletedAt": 1},
        "expireAfterSeconds": 2_592_000,
        "partialFilterExpression": {"deletedAt": {"$type": "date"}},
    }
    assert index(database, "sessions", "expired") == {
        "v": 2,
        "name": "expired",
        "key": {"expiresAt": 1},
        "expireAfterSeconds": 0,
    }


def test_migrations_alone_purge_no_completed_task(database: Documents) -> None:
    assert index(database, "tasks", "purge_completed") is None


def test_the_purge_of_completed_tasks_follows_the_setting(database: Documents, start: Callable[[int], Any]) -> None:
    for days in (90, 90, 30):
        with start(days):
            assert index(database, "tasks", "purge_completed") == PURGE_COMPLETED | {"expireAfterSeconds": days * 86_400}
    for _ in range(2):
        with start(0):
            assert index(database, "tasks", "purge_completed") is None


def test_expires_at_is_ninety_days_after_completion_where_that_is_on(start: Callable[[int], Any], someone: Someone) -> None:
    with start(90) as url:
        ada = someone(url=url)
        task = create(ada)
        assert task["expiresAt"] is None
        completed = done(update(ada, task, status="DONE"))
        expected = datetime.fromisoformat(completed["completedAt"]) + 90 * DAY
        assert datetime.fromisoformat(completed["expiresAt"]) == expected
        assert read(ada, task)["expiresAt"] == completed["expiresAt"]
        assert done(update(ada, task, status="CANCELED"))["expiresAt"] is None


def test_expires_at_is_null_where_completed_tasks_are_kept(someone: Someone) -> None:
    task = create(someone(), status="DONE")
    assert (task["completedAt"] is None, task["expiresAt"]) == (False, None)


@pytest.mark.parametrize("model", [User, Session, Task, Dependency, Event])
def test_the_declared_indexes_are_those_that_migrations_make(database: Documents, model: type[Model]) -> None:
    name = model.__collection__
    declared = database[f"{name}_as_declared"]
    declared.create_indexes([each for each in model.__indexes__() if isinstance(each, IndexModel)])
    assert declared.index_information() == database[name].index_information()
