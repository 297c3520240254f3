"""revertTask: a former state as a new version."""

from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import nothing_written
from tests.tasks.operations import create, data, delete, done, mutate, problems, update


@pytest.fixture
def ada(someone: Someone) -> Person:
    return someone()


def revert(person: Person, task: Any, **given: Any) -> Any:
    return mutate(person, "revertTask", {"id": task["id"], **given})


def test_a_task_gets_the_fields_of_a_former_version_as_a_new_one(ada: Person) -> None:
    first = create(ada, "First", description="as it was", labels=["a"], priority="HIGH", dueDate="2031-01-01T00:00:00Z")
    update(ada, first, title="Second", description="", labels=["b"], priority="LOW", dueDate=None, status="DONE")
    reverted = done(revert(ada, first, to={"version": 1}))
    same = ("title", "description", "labels", "priority", "dueDate", "status", "completedAt")
    assert {name: reverted[name] for name in same} == {name: first[name] for name in same}
    assert reverted["version"] == 3
    again = done(revert(ada, first, to={"version": 2}))
    assert (again["title"], again["status"], again["version"]) == ("Second", "DONE", 4)
    assert again["completedAt"] is not None


def test_a_task_is_set_back_to_a_time(ada: Person) -> None:
    first = create(ada, "First")
    second = done(update(ada, first, title="Second"))
    done(update(ada, first, title="Third"))
    assert done(revert(ada, first, to={"time": second["updatedAt"]}))["title"] in {"Second", "Third"}
    with_nothing_to_do = revert(ada, first, to={"time": "2099-01-01T00:00:00Z"})
    assert with_nothing_to_do["errors"] == []
    assert with_nothing_to_do["cursor"] is None


def test_where_a_task_stands_is_not_reverted(ada: Person) -> None:
    parent, child = create(ada, "Parent"), create(ada, "Child")
    done(update(ada, child, parentId=parent["id"]))
    assert done(revert(ada, child, to={"version": 1}))["parent"] == {"id": parent["id"]}


def test_what_cannot_be_reverted_to_is_refused(server: Server, ada: Person, someone: Someone) -> None:
    task, gone = create(ada, "First"), create(ada, "Gone")
    done(delete(ada, gone))
    with nothing_written(server.mongo):
        assert problems(revert(ada, task, to={"version": 7})) == [("NOT_FOUND", ["input", "to"])]
        assert problems(revert(ada, task, to={"time": "2001-01-01T00:00:00Z"})) == [("NOT_FOUND", ["input", "to"])]
        assert problems(revert(ada, task, to={"version": 1}, expectedVersion=5)) == [
            ("VERSION_CONFLICT", ["input", "expectedVersion"])
        ]
        assert problems(revert(ada, gone, to={"version": 1})) == [("NOT_FOUND", ["input", "id"])]
        assert problems(revert(someone(), task, to={"version": 1})) == [("NOT_FOUND", ["input", "id"])]


def test_a_blocked_task_is_not_reverted_to_done(ada: Person) -> None:
    task, blocker = create(ada, "Task"), create(ada, "Blocker")
    done(update(ada, task, status="DONE"))
    done(update(ada, task, status="TODO"))
    add = "mutation($input: DependencyInput!) { addDependency(input: $input) { errors { code } } }"
    assert data(ada, add, {"input": {"blockerId": blocker["id"], "blockedId": task["id"]}})["addDependency"]["errors"] == []
    assert problems(revert(ada, task, to={"version": 2})) == [("BLOCKED", ["input", "to"])]
    done(update(ada, blocker, status="DONE"))
    assert done(revert(ada, task, to={"version": 2}))["status"] == "DONE"


def test_a_revert_with_a_key_is_done_once(ada: Person) -> None:
    task = create(ada, "First")
    done(update(ada, task, title="Second"))
    first, again = (revert(ada, task, to={"version": 1}, idempotencyKey="back") for _ in range(2))
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert first["task"] == again["task"]
    assert problems(revert(ada, task, to={"version": 2}, idempotencyKey="back")) == [
        ("IDEMPOTENCY_KEY_REUSED", ["input", "idempotencyKey"])
    ]


def test_the_anonymous_revert_nothing(anonymous: Person) -> None:
    answer = anonymous.ask('mutation { revertTask(input: {id: "x", to: {version: 1}}) { errors { code } } }')
    assert answer["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}
