"""deleteTask and restoreTask: thirty days in the trash, and back unchanged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import events_of, nothing_written, oid, tasks_of
from tests.tasks.operations import create, data, delete, done, mutation, problems, read, refusal, restore, titles, update


def test_a_deleted_task_leaves_every_list(ada: Person) -> None:
    parent = create(ada, "Parent")
    child = create(ada, "Child zebra", parent={"id": parent["id"]}, status="DONE")
    done(delete(ada, child))
    assert titles(ada) == ["Parent"]
    shown = data(
        ada,
        """query($id: ID!) {
          task(id: $id) { subtasks { nodes { id } totalCount } subtaskSummary { total done } }
          searchTasks(query: "zebra") { nodes { id } totalCount }
          taskStats { total }
        }""",
        {"id": parent["id"]},
    )
    assert shown == {
        "task": {"subtasks": {"nodes": [], "totalCount": 0}, "subtaskSummary": {"total": 0, "done": 0}},
        "searchTasks": {"nodes": [], "totalCount": 0},
        "taskStats": {"total": 1},
    }


def test_a_deleted_task_is_shown_by_its_id_until_it_is_purged(ada: Person) -> None:
    created = create(ada, labels=["kept"])
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    deleted = done(delete(ada, created))
    assert before <= datetime.fromisoformat(deleted["deletedAt"]) <= datetime.now(UTC)
    hidden = {"viewerCanUpdate": False, "viewerCanDelete": False}
    assert deleted == created | hidden | {"version": 2, "updatedAt": deleted["updatedAt"], "deletedAt": deleted["deletedAt"]}
    assert read(ada, created) == deleted


def test_subtasks_of_a_deleted_task_stay(ada: Person) -> None:
    parent = create(ada, "Parent")
    child = create(ada, "Child", parent={"id": parent["id"]})
    done(delete(ada, parent))
    assert titles(ada) == ["Child"]
    assert read(ada, child) == child


def test_a_restored_task_is_as_it_was(ada: Person) -> None:
    created = create(ada, "Write", status="DONE", labels=["a"], dueDate="2030-01-01T00:00:00Z", description="Two pages")
    done(delete(ada, created))
    restored = done(restore(ada, created))
    assert restored == created | {"version": 3, "updatedAt": restored["updatedAt"]}
    assert titles(ada) == ["Write"]


def test_each_writes_one_event(server: Server, ada: Person) -> None:
    created = create(ada)
    deleted, restored = delete(ada, created, key="d"), restore(ada, created, key="r")
    [_, first, second] = events_of(server.mongo, ada)
    [stored] = tasks_of(server.mongo, ada)
    assert deleted["cursor"] not in {None, restored["cursor"]}
    assert (first["action"], first["version"], first["causedBy"], first["actorId"]) == ("DELETED", 2, "d", oid(ada.id))
    deleted_at = first["snapshot"]["deletedAt"]
    assert first["changes"] == [{"field": "deletedAt", "before": None, "after": deleted_at}]
    assert (second["action"], second["version"], second["causedBy"]) == ("RESTORED", 3, "r")
    assert second["changes"] == [{"field": "deletedAt", "before": deleted_at, "after": None}]
    assert second["snapshot"] == stored


def test_deleting_again_and_restoring_again_change_nothing(server: Server, ada: Person) -> None:
    created = create(ada)
    with nothing_written(server.mongo):
        assert restore(ada, created) == {"errors": [], "replayed": False, "cursor": None, "task": created}
    deleted = done(delete(ada, created))
    with nothing_written(server.mongo):
        assert delete(ada, created, version=2) == {"errors": [], "replayed": False, "cursor": None, "task": deleted}


def test_another_expected_version_is_a_conflict(server: Server, ada: Person) -> None:
    created = create(ada)
    done(update(ada, created, title="Changed"))
    with nothing_written(server.mongo):
        assert problems(delete(ada, created, version=1)) == [("VERSION_CONFLICT", ["input", "expectedVersion"])]
    assert done(delete(ada, created, version=2))["version"] == 3


def test_after_thirty_days_it_cannot_be_restored(server: Server, ada: Person) -> None:
    created = create(ada)
    done(delete(ada, created))
    [stored] = tasks_of(server.mongo, ada)

    def trashed_for(age: timedelta) -> None:
        deleted_at = datetime.now(UTC).replace(tzinfo=None) - age
        server.mongo["tasks"].update_one({"_id": stored["_id"]}, {"$set": {"deletedAt": deleted_at}})

    trashed_for(timedelta(days=30, seconds=-30))
    assert done(restore(ada, created))["deletedAt"] is None
    done(delete(ada, created))
    trashed_for(timedelta(days=30, seconds=1))
    with nothing_written(server.mongo):
        assert problems(restore(ada, created)) == [("NOT_FOUND", ["input", "id"])]


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_of_the_wrong_length_is_refused(server: Server, ada: Person, key: str) -> None:
    created, trashed = create(ada), create(ada)
    done(delete(ada, trashed))
    with nothing_written(server.mongo):
        assert problems(delete(ada, created, key=key)) == [("INVALID", ["input", "idempotencyKey"])]
        assert problems(restore(ada, trashed, key=key)) == [("INVALID", ["input", "idempotencyKey"])]


def test_someone_elses_task_is_not_found(server: Server, ada: Person, someone: Someone) -> None:
    stranger, created, trashed = someone(), create(ada), create(ada)
    done(delete(ada, trashed))
    with nothing_written(server.mongo):
        for other in (created, trashed, {"id": "garbage"}, {"id": stranger.id}):
            assert problems(delete(stranger, other)) == [("NOT_FOUND", ["input", "id"])]
            assert problems(restore(stranger, other)) == [("NOT_FOUND", ["input", "id"])]
        assert problems(delete(stranger, created, version=7)) == [("NOT_FOUND", ["input", "id"])]


@pytest.mark.parametrize("field", ["deleteTask", "restoreTask"])
def test_the_anonymous_neither_delete_nor_restore(server: Server, ada: Person, anonymous: Person, field: str) -> None:
    given: dict[str, Any] = {"input": {"id": create(ada)["id"]}}
    with nothing_written(server.mongo):
        code, _ = refusal(anonymous, mutation(field), given)
    assert code == "UNAUTHENTICATED"
