"""The audit log: every mutation leaves an entry that its subject can read and nobody else, and that holds nothing that was typed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId

from taskgraph.server.relay import global_id, parse_id
from taskgraph.storage import clock
from taskgraph.storage.audit_log import Entry, Trail
from taskgraph.storage.mongo import Document
from tests.accounts.asking import (
    RIGHT,
    WRONG,
    Documents,
    another_session,
    asked_over,
    codes,
    document_of,
    done,
    object_id,
    refreshed,
    session_id_of,
    websocket,
)
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.people import Person
from tests.processes import eventually
from tests.tasks.operations import bulk, create, data, delete, edge, mutate, restore, update

PAGE = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
ENTRY = "id at action outcome code address requestId sessionId targetIds"
LOG = f"query($first: Int, $after: String) {{ auditLog(first: $first, after: $after) {{ nodes {{ {ENTRY} }} {PAGE} }} }}"


def log_of(person: Person) -> list[dict[str, Any]]:
    """The latest entries, oldest first."""
    nodes: list[dict[str, Any]] = data(person, LOG, {"first": 100})["auditLog"]["nodes"]
    return nodes[::-1]


def told(person: Person) -> list[tuple[str, str, str | None]]:
    """Action, outcome and code of each."""
    return [(each["action"], each["outcome"], each["code"]) for each in log_of(person)]


def stored(mongo: Documents, **condition: object) -> list[Document]:
    return mongo["audit"].find(condition).sort("_id").to_list()


def test_every_mutation_of_an_account_is_told_with_its_outcome(someone: Someone, anonymous: Person) -> None:
    ada = someone()
    done(anonymous, "login", email=ada.email, password=WRONG)
    phone = another_session(ada)
    assert refreshed(phone)["errors"] == []
    done(ada, "updateProfile", name="Ada L.")
    done(ada, "updateProfile", name="")
    done(ada, "changePassword", currentPassword=WRONG, newPassword="another horse battery")
    done(ada, "changePassword", currentPassword=RIGHT, newPassword="another horse battery")
    done(ada, "revokeSession", id="nonsense")
    done(ada, "revokeOtherSessions")
    expected: list[tuple[str, str, str | None]] = [
        ("register", "DONE", None),
        ("login", "REFUSED", "BAD_CREDENTIALS"),
        ("login", "DONE", None),
        ("refreshSession", "DONE", None),
        ("updateProfile", "DONE", None),
        ("updateProfile", "REFUSED", "REQUIRED"),
        ("changePassword", "REFUSED", "BAD_CREDENTIALS"),
        ("changePassword", "DONE", None),
        ("revokeSession", "REFUSED", "NOT_FOUND"),
        ("revokeOtherSessions", "DONE", None),
    ]
    assert sorted(told(ada), key=str) == sorted(expected, key=str)


def test_every_mutation_of_tasks_is_told_with_what_it_was_about(someone: Someone) -> None:
    ada = someone()
    first, second = create(ada, "First"), create(ada, "Second")
    update(ada, first, title="Changed")
    update(ada, first, title="Changed")
    update(ada, first, version=9, title="Late")
    edge(ada, "addDependency", first, second)
    edge(ada, "addDependency", second, first)
    edge(ada, "removeDependency", first, second)
    restore(ada, delete(ada, first)["task"])
    data(ada, "mutation($id: ID!) { revertTask(input: {id: $id, to: {version: 1}}) { errors { code } } }", {"id": first["id"]})
    made = bulk(ada, "bulkCreateTasks", {"tasks": [{"title": "Third"}, {"title": "Fourth"}]})
    ids = [each["task"]["id"] for each in made["results"]]
    bulk(ada, "bulkUpdateTasks", {"where": {"ids": ids}, "patch": {"title": "Both"}, "dryRun": True})
    bulk(ada, "bulkDeleteTasks", {"where": {"filter": {"title": {"in": ["Third", "Fourth"]}}}})
    one, two = first["id"], second["id"]
    expected = [
        ("createTask", "DONE", None, [one]),
        ("createTask", "DONE", None, [two]),
        ("updateTask", "DONE", None, [one]),
        ("updateTask", "DONE", None, [one]),
        ("updateTask", "REFUSED", "VERSION_CONFLICT", [one]),
        ("addDependency", "DONE", None, [two]),
        ("addDependency", "REFUSED", "DEPENDENCY_CYCLE", sorted([one, two])),
        ("removeDependency", "DONE", None, [two]),
        ("deleteTask", "DONE", None, [one]),
        ("restoreTask", "DONE", None, [one]),
        ("revertTask", "DONE", None, [one]),
        ("bulkCreateTasks", "DONE", None, sorted(ids)),
        ("bulkUpdateTasks", "DONE", None, sorted(ids)),
        ("bulkDeleteTasks", "DONE", None, sorted(ids)),
    ]
    found = [(each["action"], each["outcome"], each["code"], sorted(each["targetIds"])) for each in log_of(ada)[1:]]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_an_entry_says_who_from_where_and_when(server: Server, someone: Someone) -> None:
    ada = someone()
    began = clock.now()
    create(ada)
    _, entry = log_of(ada)
    assert (entry["address"], entry["sessionId"]) == ("127.0.0.1", session_id_of(ada))
    (kept,) = stored(server.mongo, userId=object_id(ada.id), action="createTask")
    assert began - timedelta(seconds=1) < kept["at"] < clock.now() + timedelta(seconds=1)
    assert kept["requestId"] == entry["requestId"]


def test_what_one_request_does_has_one_request_id(someone: Someone) -> None:
    ada = someone()
    data(ada, 'mutation { a: createTask(input: {title: "A"}) { cursor } b: createTask(input: {title: ""}) { cursor } }')
    data(ada, 'mutation { createTask(input: {title: "C"}) { cursor } }')
    by_request: dict[str, list[str]] = {}
    for each in log_of(ada):
        by_request.setdefault(each["requestId"], []).append(each["outcome"])
    assert sorted(sorted(each) for each in by_request.values()) == [["DONE"], ["DONE"], ["DONE", "REFUSED"]]


def test_the_log_is_the_same_over_a_socket(server: Server, someone: Someone) -> None:
    ada = someone()
    with websocket(server.ws_url, token=ada.token) as (socket, _):
        asked_over(socket, document_of("updateProfile"), {"input": {"name": "Ada L."}})
        socket.recv(timeout=10)
        answer = asked_over(socket, LOG, {"first": 1})
    (entry,) = answer["data"]["auditLog"]["nodes"]
    assert (entry["action"], entry["outcome"], entry["address"]) == ("updateProfile", "DONE", "127.0.0.1")


def test_a_mutation_of_tasks_that_fails_is_told_too(someone: Someone, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = someone()

    async def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("taskgraph.tasks.writes.create_task", broken)
    ada.ask('mutation { createTask(input: {title: "A"}) { cursor } }')
    assert told(ada)[-1] == ("createTask", "FAILED", "INTERNAL")


def test_the_anonymous_leave_entries_only_where_they_try_to_sign_in(server: Server, anonymous: Person) -> None:
    before = server.mongo["audit"].count_documents({"userId": None})
    assert codes(anonymous.post('mutation { createTask(input: {title: "A"}) { cursor } }')) == ["UNAUTHENTICATED"]
    done(anonymous, "login", email="nobody@example.com", password=WRONG)
    assert eventually(lambda: server.mongo["audit"].count_documents({"userId": None}) == before + 1)


def test_reading_it_needs_a_viewer(anonymous: Person) -> None:
    response = anonymous.post(LOG)
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])


def test_a_stranger_sees_only_their_own(someone: Someone) -> None:
    ada, stranger = someone(), someone()
    create(ada)
    assert told(stranger) == [("register", "DONE", None)]
    entry = log_of(ada)[-1]["id"]
    node = "query($id: ID!) { node(id: $id) { id ... on AuditEntry { action } } }"
    assert data(stranger, node, {"id": entry}) == {"node": None}
    assert data(ada, node, {"id": entry}) == {"node": {"id": entry, "action": "createTask"}}


def test_somebody_elses_task_is_no_way_into_their_log(someone: Someone) -> None:
    ada, stranger = someone(), someone()
    task = create(ada)
    assert mutate(stranger, "updateTask", {"id": task["id"], "patch": {"title": "Mine"}})["errors"] != []
    assert [each[0] for each in told(ada)] == ["register", "createTask"]


def test_pages_follow_one_another_newest_first(someone: Someone) -> None:
    ada = someone()
    for number in range(7):
        create(ada, str(number))
    pages: list[list[str]] = []
    after = None
    while after is not None or not pages:
        page = data(ada, LOG, {"first": 3, "after": after})["auditLog"]
        pages.append([each["id"] for each in page["nodes"]])
        after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None
    assert [len(each) for each in pages] == [3, 3, 2]
    assert [each for page in pages for each in page] == [each["id"] for each in log_of(ada)][::-1]


@pytest.mark.parametrize("arguments", ["first: 0", "first: 101", 'after: "nonsense"'])
def test_arguments_that_make_no_sense_are_refused(someone: Someone, arguments: str) -> None:
    response = someone().post(f"{{ auditLog({arguments}) {{ nodes {{ id }} }} }}")
    assert codes(response) == ["BAD_USER_INPUT"]


def test_no_entry_holds_what_was_typed(server: Server, someone: Someone) -> None:
    marked = "Zq7marked"
    ada = someone(name=f"{marked} name", email=f"{marked}@example.com", password=f"{marked} horse battery")
    task = create(ada, f"{marked} title", description=f"{marked} text", labels=[marked], idempotencyKey=marked)
    update(ada, task, title=f"{marked} {'x' * 300}")
    done(ada, "login", email=f"{marked}@example.com", password=f"{marked} wrong password")
    done(ada, "revokeSession", id=marked)
    assert len(log_of(ada)) == 5
    assert [each for each in stored(server.mongo) if marked.lower().encode() in bson.encode(each).lower()] == []


def test_a_killed_process_loses_no_entry_of_what_it_has_done(launch: Launch, someone: Someone) -> None:
    """The event of a write carries its entry until that is copied; the next process finds it."""
    server = launch()
    ada = someone(url=server.url)
    ids = [create(ada, str(number))["id"] for number in range(5)]
    server.stop(signal.SIGKILL)
    # As if the process had been killed before it could copy anything.
    moved = {each["_id"]: each for each in stored(server.mongo, userId=object_id(ada.id), action="createTask")}
    for event in server.mongo["events"].find():
        trail = event.get("trail") or {name: value for name, value in moved[event["_id"]].items() if name != "_id"}
        server.mongo["events"].update_one({"_id": event["_id"]}, {"$set": {"trail": trail}, "$unset": {"position": ""}})
    server.mongo["audit"].delete_many({"action": "createTask"})
    launch(database=server.database)
    assert eventually(lambda: len(stored(server.mongo, action="createTask")) == len(ids), within_seconds=20)
    told = stored(server.mongo, userId=object_id(ada.id), action="createTask")
    assert {global_id("T", target, object_id(ada.id)) for each in told for target in each["targetIds"]} == set(ids)
    assert server.mongo["events"].count_documents({"trail": {"$ne": None}}) == 0


def test_a_stopped_process_writes_what_waits(launch: Launch, someone: Someone) -> None:
    server = launch()
    ada = someone(url=server.url)
    done(ada, "updateProfile", name="")
    assert server.stop() == 0
    assert [each["outcome"] for each in stored(server.mongo, action="updateProfile")] == ["REFUSED"]


def test_an_erased_account_leaves_entries_that_lead_to_nobody(server: Server, someone: Someone, anonymous: Person) -> None:
    ada = someone()
    task = create(ada)
    update(ada, {"id": ada.id}, title="Myself")
    done(anonymous, "login", email=ada.email, password=WRONG)
    task_id = parse_id(task["id"])
    assert task_id is not None
    assert done(ada, "deleteAccount", password=RIGHT)["errors"] == []
    (kept,) = stored(server.mongo, targetIds=task_id.id)
    entries = stored(server.mongo, userId=kept["userId"])
    assert sorted(each["action"] for each in entries) == ["createTask", "deleteAccount", "login", "register", "updateTask"]
    assert {(each["address"], each["sessionId"]) for each in entries} == {(None, None)}
    assert server.mongo["users"].find_one({"_id": kept["userId"]}) is None
    assert [each for each in stored(server.mongo) if object_id(ada.id).binary in bson.encode(each)] == []


@contextmanager
def kept_for(settings: MakeSettings, days: int, database: str | None = None) -> Iterator[str]:
    given = {"audit_retention_days": days} | ({} if database is None else {"mongo_database": database})
    made = settings(**given)
    migrated(made)
    with served(made):
        yield made.mongo_database


def test_entries_are_kept_for_as_long_as_the_setting_says(settings: MakeSettings, server: Server) -> None:
    def seconds(database: str) -> int:
        return int(server.mongo.client[database]["audit"].index_information()["purge"]["expireAfterSeconds"])

    assert seconds(server.settings.mongo_database) == 90 * 24 * 3600
    with kept_for(settings, 7) as database:
        assert seconds(database) == 7 * 24 * 3600
    with kept_for(settings, 365, database):
        assert seconds(database) == 365 * 24 * 3600


def test_entries_have_the_members_of_their_model() -> None:
    trail = Trail("login", ObjectId(), ObjectId(), "127.0.0.1", "id", "S", [ObjectId()])
    told = {"_id": ObjectId(), **trail.told()}
    assert Entry.model_validate_doc(told).model_dump_doc() == told
