"""createTask: what a new task holds, what is refused, and the one event it writes."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from taskgraph.server.relay import global_id
from taskgraph.storage.event_log import EventCursor
from tests.conftest import Documents, MakeSettings, Server, Someone, migrated, served
from tests.people import Person
from tests.processes import eventually
from tests.tasks.documents import events_of, nothing_written, oid, tasks_of
from tests.tasks.operations import create, delete, done, mutate, mutation, problems, read, refusal, update

MILLISECONDS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def test_a_title_is_enough(ada: Person) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    task = create(ada, "Write the report")
    assert MILLISECONDS.match(task["createdAt"])
    assert before <= datetime.fromisoformat(task["createdAt"]) <= datetime.now(UTC)
    assert task == {
        "id": task["id"],
        "title": "Write the report",
        "description": "",
        "status": "TODO",
        "priority": "MEDIUM",
        "labels": [],
        "dueDate": None,
        "version": 1,
        "createdAt": task["createdAt"],
        "updatedAt": task["createdAt"],
        "completedAt": None,
        "deletedAt": None,
        "expiresAt": None,
        "isOverdue": False,
        "isBlocked": False,
        "viewerCanUpdate": True,
        "viewerCanDelete": True,
        "owner": {"id": ada.id},
        "creator": {"id": ada.id},
        "assignee": None,
        "parent": None,
    }
    assert read(ada, task) == task


def test_every_member_is_kept(ada: Person) -> None:
    parent = create(ada, "Parent")
    given = {
        "description": 'Two pages\n\twith "quotes" and \u0000 and 🦉',
        "status": "IN_PROGRESS",
        "priority": "URGENT",
        "labels": ["work", "Q4"],
        "dueDate": "2026-11-22T10:30:00.123456+01:00",
        "assigneeId": ada.id,
        "parent": {"id": parent["id"]},
    }
    task = create(ada, "  Write the report \n", **given)
    assert (task["title"], task["description"]) == ("Write the report", given["description"])
    assert (task["status"], task["priority"], task["labels"]) == ("IN_PROGRESS", "URGENT", ["work", "Q4"])
    assert task["dueDate"] == "2026-11-22T09:30:00.123Z"
    assert (task["assignee"], task["parent"]) == ({"id": ada.id}, {"id": parent["id"]})
    assert read(ada, task) == task


def test_null_members_are_as_if_left_out(ada: Person) -> None:
    names = ["description", "status", "priority", "labels", "dueDate", "assigneeId", "parent", "idempotencyKey"]
    task = create(ada, "Bare", **dict.fromkeys(names))
    assert (task["description"], task["status"], task["priority"], task["labels"]) == ("", "TODO", "MEDIUM", [])
    assert (task["dueDate"], task["assignee"], task["parent"]) == (None, None, None)


def test_a_task_created_as_done_is_completed_at_once(ada: Person) -> None:
    task = create(ada, status="DONE")
    assert task["completedAt"] == task["createdAt"]


def test_labels_are_trimmed_and_kept_once_in_order(ada: Person) -> None:
    assert create(ada, labels=[" b ", "a", "b", "B", "a "])["labels"] == ["b", "a", "B"]


def test_the_largest_allowed_values_are_kept_whole(ada: Person) -> None:
    labels = [f"{number:02}" + "ü" * 48 for number in range(20)]
    task = create(ada, " " + "🦉" * 200 + " ", description="ö" * 10_000, labels=labels, dueDate="9999-12-30T23:59:59.999Z")
    assert (task["title"], task["description"], task["labels"]) == ("🦉" * 200, "ö" * 10_000, labels)
    assert task["dueDate"] == "9999-12-30T23:59:59.999Z"
    assert create(ada, dueDate="0001-01-01T00:00:00Z")["dueDate"] == "0001-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        ({"title": ""}, "REQUIRED", ["title"]),
        ({"title": " \t\n\u2003"}, "REQUIRED", ["title"]),
        ({"title": "x" * 201}, "TOO_LONG", ["title"]),
        ({"title": "a\0b"}, "INVALID", ["title"]),
        ({"description": "x" * 10_001}, "TOO_LONG", ["description"]),
        ({"labels": ["ok", "x" * 51]}, "TOO_LONG", ["labels", "1"]),
        ({"labels": ["ok", " "]}, "REQUIRED", ["labels", "1"]),
        ({"labels": [str(number) for number in range(21)]}, "LIMIT_EXCEEDED", ["labels"]),
        ({"dueDate": "9999-12-31T00:00:00Z"}, "INVALID", ["dueDate"]),
        ({"idempotencyKey": ""}, "INVALID", ["idempotencyKey"]),
        ({"idempotencyKey": "x" * 201}, "INVALID", ["idempotencyKey"]),
        ({"assigneeId": "garbage"}, "NOT_FOUND", ["assigneeId"]),
        ({"parent": {"id": "garbage"}}, "NOT_FOUND", ["parent", "id"]),
    ],
)
def test_what_breaks_a_limit_is_refused_at_its_place(
    server: Server, ada: Person, given: dict[str, Any], code: str, path: list[str]
) -> None:
    with nothing_written(server.mongo):
        assert problems(mutate(ada, "createTask", {"title": "Fine"} | given)) == [(code, ["input", *path])]


def test_every_broken_limit_is_listed(server: Server, ada: Person) -> None:
    with nothing_written(server.mongo):
        refused = mutate(ada, "createTask", {"title": " ", "description": "x" * 10_001, "labels": ["", "x" * 51]})
    assert problems(refused) == [
        ("REQUIRED", ["input", "title"]),
        ("TOO_LONG", ["input", "description"]),
        ("REQUIRED", ["input", "labels", "0"]),
        ("TOO_LONG", ["input", "labels", "1"]),
    ]


def test_a_flood_of_labels_is_not_answered_by_a_flood_of_errors(server: Server, ada: Person) -> None:
    with nothing_written(server.mongo):
        refused = mutate(ada, "createTask", {"title": "Fine", "labels": [""] * 1_000})
    assert len(problems(refused)) <= 21


def test_a_member_that_is_no_member_is_refused(server: Server, ada: Person) -> None:
    with nothing_written(server.mongo):
        code, _ = refusal(ada, mutation("createTask"), {"input": {"title": "Fine", "ownerId": ada.id}})
    assert code == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    "due", ["tomorrow", "2026-11-22", "2026-11-22T09:30:00", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+10:00", 7]
)
def test_a_due_date_that_is_no_moment_is_refused(server: Server, ada: Person, due: Any) -> None:
    with nothing_written(server.mongo):
        code, _ = refusal(ada, mutation("createTask"), {"input": {"title": "Fine", "dueDate": due}})
    assert code == "BAD_USER_INPUT"


def test_only_the_owner_can_be_assigned(server: Server, ada: Person, someone: Someone) -> None:
    stranger, nobody = someone(), global_id("U", oid(create(ada)["id"]))
    with nothing_written(server.mongo):
        for assignee in (stranger.id, nobody):
            refused = mutate(ada, "createTask", {"title": "Fine", "assigneeId": assignee})
            assert problems(refused) == [("NOT_FOUND", ["input", "assigneeId"])]


def test_a_parent_must_be_ones_own_and_not_deleted(server: Server, ada: Person, someone: Someone) -> None:
    strangers, gone = create(someone()), create(ada)
    done(delete(ada, gone))
    with nothing_written(server.mongo):
        for parent in (strangers["id"], gone["id"], ada.id):
            refused = mutate(ada, "createTask", {"title": "Fine", "parent": {"id": parent}})
            assert problems(refused) == [("NOT_FOUND", ["input", "parent", "id"])]


@pytest.mark.parametrize("parent", [{}, {"id": None}])
def test_a_parent_reference_must_point_to_something(server: Server, ada: Person, parent: dict[str, None]) -> None:
    with nothing_written(server.mongo):
        code, _ = refusal(ada, mutation("createTask"), {"input": {"title": "Fine", "parent": parent}})
    assert code == "BAD_USER_INPUT"


def test_subtasks_nest_fifty_levels_and_no_more(server: Server, ada: Person) -> None:
    task = create(ada, "1")
    for level in range(2, 51):
        task = create(ada, str(level), parent={"id": task["id"]})
    with nothing_written(server.mongo):
        refused = mutate(ada, "createTask", {"title": "51", "parent": {"id": task["id"]}})
        assert problems(refused) == [("LIMIT_EXCEEDED", ["input", "parent", "id"])]


def test_the_anonymous_create_nothing(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        code, _ = refusal(anonymous, mutation("createTask"), {"input": {"title": "Fine"}})
    assert code == "UNAUTHENTICATED"


def test_a_new_task_writes_one_event(server: Server, ada: Person) -> None:
    payload = mutate(ada, "createTask", {"title": "Write", "labels": ["work"], "idempotencyKey": "laptop-1"})
    assert eventually(lambda: "position" in events_of(server.mongo, ada)[0])
    [stored], [event] = tasks_of(server.mongo, ada), events_of(server.mongo, ada)
    assert re.fullmatch(r"[\w-]{14}", payload["cursor"])
    assert event == {
        "_id": event["_id"],
        "ownerId": oid(ada.id),
        "subjectId": stored["_id"],
        "audience": [oid(ada.id)],
        "people": [oid(ada.id)],
        "action": "CREATED",
        "version": 1,
        "snapshot": stored,
        "changes": [
            {"field": "title", "before": None, "after": "Write"},
            {"field": "status", "before": None, "after": "TODO"},
            {"field": "priority", "before": None, "after": 2},
            {"field": "labels", "before": None, "after": ["work"]},
        ],
        "actorId": oid(ada.id),
        "occurredAt": stored["createdAt"],
        "causedBy": "laptop-1",
        "origin": event["origin"],
        "position": EventCursor.parse(payload["cursor"]).packed,
    }


def test_cursors_of_later_writes_are_greater(ada: Person) -> None:
    first = mutate(ada, "createTask", {"title": "First"})
    second = update(ada, first["task"], title="Second")
    # Base64 with - and _ does not sort as text, so they are compared as the log does.
    assert EventCursor.parse(first["cursor"]) < EventCursor.parse(second["cursor"])


@pytest.fixture
def fragile(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[tuple[str, Documents]]:
    """A server whose event log refuses a second event that has a key."""
    made = settings()
    migrated(made)
    mongo = mongo_client[made.mongo_database]
    mongo["events"].create_index("ownerId", unique=True, partialFilterExpression={"causedBy": {"$type": "string"}})
    with served(made) as url:
        yield url, mongo


def test_a_write_whose_event_fails_is_not_done(fragile: tuple[str, Documents], someone: Someone) -> None:
    url, mongo = fragile
    ada = someone(url=url)
    task = done(mutate(ada, "createTask", {"title": "First", "idempotencyKey": "once"}))
    trashed = done(delete(ada, create(ada, "Trashed")))
    [before, _] = tasks_of(mongo, ada)
    attempts = [
        ("createTask", {"title": "Second", "idempotencyKey": "a"}),
        ("createTask", {"title": "Third", "parent": {"id": task["id"]}, "idempotencyKey": "b"}),
        ("updateTask", {"id": task["id"], "patch": {"title": "Changed"}, "idempotencyKey": "c"}),
        ("deleteTask", {"id": task["id"], "idempotencyKey": "d"}),
        ("restoreTask", {"id": trashed["id"], "idempotencyKey": "e"}),
    ]
    with nothing_written(mongo):
        for field, given in attempts:
            code, message = refusal(ada, mutation(field), {"input": given})
            assert (field, code) == (field, "INTERNAL")
            assert "ownerId" not in message
    assert (before["title"], before["version"], before["isDeleted"]) == ("First", 1, False)
    assert len(events_of(mongo, ada)) == 3
