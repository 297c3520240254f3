"""VersionConflict: what a client needs to merge its change with another's, and nothing lost when many do."""

from typing import Any

import pytest

from tests.conftest import Server
from tests.people import Person
from tests.tasks.documents import nothing_written, shown_id, task
from tests.tasks.operations import create, data, done, read, together, update

CONFLICT = """mutation($input: UpdateTaskInput!) { updateTask(input: $input) {
  task { version } errors { code path ... on VersionConflict { conflictingFields current { id title version description owner { id } } } }
} }"""
DELETE = """mutation($input: DeleteTaskInput!) { deleteTask(input: $input) {
  errors { code ... on VersionConflict { conflictingFields current { version } } }
} }"""


def conflict(person: Person, target: Any, version: int, **patch: Any) -> Any:
    """The only error of an update that was refused."""
    given = {"id": target["id"], "patch": patch, "expectedVersion": version}
    payload = data(person, CONFLICT, {"input": given})["updateTask"]
    assert payload["task"] is None
    [error] = payload["errors"]
    assert (error["code"], error["path"]) == ("VERSION_CONFLICT", ["input", "expectedVersion"])
    return error


def test_it_holds_the_task_as_it_is_now(server: Server, ada: Person) -> None:
    created = create(ada, "Mine")
    done(update(ada, created, title="Theirs", description="New"))
    with nothing_written(server.mongo):
        current = conflict(ada, created, 1, title="Mine again")["current"]
    assert current == {"id": created["id"], "title": "Theirs", "version": 2, "description": "New", "owner": {"id": ada.id}}


@pytest.mark.parametrize(
    ("patch", "fields"),
    [
        ({"title": "Mine"}, ["title"]),
        ({"title": "Mine", "priority": "LOW"}, ["title"]),
        ({"priority": "LOW", "status": "DONE"}, []),
        ({"addLabels": ["mine"]}, ["labels"]),
        ({"removeLabels": ["mine"], "dueDate": None}, ["labels"]),
        ({"labels": [], "title": "Mine"}, ["labels", "title"]),
        ({"parentId": None, "description": "Mine"}, ["parentId"]),
    ],
)
def test_only_the_fields_that_clash_are_told(ada: Person, patch: dict[str, Any], fields: list[str]) -> None:
    created, parent = create(ada), create(ada, "Parent")
    done(update(ada, created, title="Theirs"))
    done(update(ada, created, labels=["theirs"], parentId=parent["id"]))
    assert conflict(ada, created, 1, **patch)["conflictingFields"] == fields
    # Against a later version there is less that can clash.
    assert conflict(ada, created, 4, **patch)["conflictingFields"] == sorted(
        {"labels" if "abels" in name else name for name in patch}
    )


def test_what_changed_before_the_expected_version_does_not_clash(ada: Person) -> None:
    created = create(ada)
    done(update(ada, created, title="Second"))
    done(update(ada, created, description="Third"))
    assert conflict(ada, created, 2, title="Mine")["conflictingFields"] == []


def test_without_events_to_tell_every_field_may_clash(server: Server, ada: Person) -> None:
    stored = task(ada) | {"version": 3}
    server.mongo["tasks"].insert_one(stored)
    assert conflict(ada, {"id": shown_id(stored)}, 1, title="Mine", dueDate=None)["conflictingFields"] == ["dueDate", "title"]


def test_a_deletion_clashes_in_no_field(ada: Person) -> None:
    created = create(ada)
    done(update(ada, created, title="Theirs"))
    [error] = data(ada, DELETE, {"input": {"id": created["id"], "expectedVersion": 1}})["deleteTask"]["errors"]
    assert error == {"code": "VERSION_CONFLICT", "conflictingFields": [], "current": {"version": 2}}


def test_patches_of_different_fields_from_one_version_are_both_kept(ada: Person) -> None:
    created = create(ada, "Title")
    done(update(ada, created, version=1, title="Theirs"))
    error = conflict(ada, created, 1, description="Mine")
    assert error["conflictingFields"] == []
    done(update(ada, created, version=error["current"]["version"], description="Mine"))
    after = read(ada, created)
    assert (after["title"], after["description"], after["version"]) == ("Theirs", "Mine", 3)


def test_a_hundred_guarded_increments_at_once_are_all_kept(ada: Person) -> None:
    created = create(ada, "0")

    def increment() -> bool:
        current = created
        while True:
            given = {"id": current["id"], "patch": {"title": str(int(current["title"]) + 1)}, "expectedVersion": current["version"]}
            payload = data(ada, CONFLICT, {"input": given})["updateTask"]
            if not payload["errors"]:
                return True
            current = payload["errors"][0]["current"]

    together([lambda: all(increment() for _ in range(5)) for _ in range(20)])
    after = read(ada, created)
    assert (after["title"], after["version"]) == ("100", 101)
