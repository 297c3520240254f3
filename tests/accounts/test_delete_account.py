"""Erasing an account: nothing of it is left in any collection, and nothing of anybody else is lost."""

import asyncio
from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId

from taskgraph.accounts import reads, sessions
from taskgraph.server.relay import global_id
from taskgraph.storage import clock
from taskgraph.storage.mongo import Database
from taskgraph.tasks.model import NEVER, TASK, Task, TaskPriority, TaskStatus, title_key
from tests.accounts.asking import (
    RIGHT,
    WRONG,
    Documents,
    another_session,
    asked_over,
    codes,
    document_of,
    done,
    is_signed_in,
    nothing_written,
    object_id,
    problems,
    sent,
    session_id_of,
    websocket,
)
from tests.conftest import Server, Someone
from tests.people import Person
from tests.processes import eventually

CREATE = "mutation($input: CreateTaskInput!) { createTask(input: $input) { task { id } errors { code } } }"
UPDATE = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { task { version } errors { code } } }"
DELETE = "mutation($input: DeleteTaskInput!) { deleteTask(input: $input) { errors { code } } }"


def changed(person: Person, document: str, **members: object) -> dict[str, Any]:
    """The payload of a mutation of tasks, which must not be refused."""
    [payload] = person.ask(document, {"input": members})["data"].values()
    assert payload["errors"] == []
    return dict(payload)


def task_of(mongo: Documents, owner: Person, *, assignee: Person) -> ObjectId:
    """As when tasks could be shared, written without an event."""
    now = clock.now() - timedelta(days=1)
    task = Task(
        owner_id=object_id(owner.id),
        creator_id=object_id(owner.id),
        assignee_id=object_id(assignee.id),
        title="Shared work",
        title_key=title_key("Shared work"),
        description="",
        status=TaskStatus.TODO,
        priority=TaskPriority.LOW,
        due_date=None,
        due_order=NEVER,
        created_at=now,
        updated_at=now,
    )
    mongo["tasks"].insert_one(task.model_dump_doc())
    return task.id


def traces_of(mongo: Documents, person: Person) -> list[tuple[str, object]]:
    """Collection and id of every document that holds the person's id, as bytes or as text, or their address."""
    user_id = object_id(person.id)
    needles = (user_id.binary, str(user_id).encode(), person.id.encode(), person.email.encode())
    return [
        (name, document["_id"])
        for name in mongo.list_collection_names()
        for document in mongo[name].find()
        if any(needle in bson.encode(document) for needle in needles)
    ]


def task_global_id(task_id: ObjectId, owner: Person) -> str:
    return str(global_id(TASK, task_id, object_id(owner.id)))


def worked(person: Person) -> None:
    """Leaves three tasks (one in the trash, below another, which blocks the third), seven events, a second session and an ended one."""
    parent = changed(person, CREATE, title="Mine")["task"]["id"]
    child = changed(person, CREATE, title="Below", parent={"id": parent}, assigneeId=person.id)["task"]["id"]
    changed(person, UPDATE, id=parent, patch={"title": f"Ask {person.id}"[:20]})
    changed(person, UPDATE, id=child, patch={"parentId": None})
    changed(person, UPDATE, id=child, patch={"parentId": parent})
    changed(person, CREATE, title="Other", blockedBy=[{"id": parent}], idempotencyKey="key")
    changed(person, DELETE, id=child)
    another_session(person)
    done(another_session(person), "logout")


def test_a_scan_of_every_collection_finds_nothing_of_an_erased_account(server: Server, someone: Someone) -> None:
    ada, owner = someone(), someone()
    worked(ada)
    shared = task_of(server.mongo, owner, assignee=ada)
    taken_back = task_of(server.mongo, owner, assignee=ada)
    changed(owner, UPDATE, id=task_global_id(shared, owner), patch={"title": "Shared and changed"})
    changed(owner, UPDATE, id=task_global_id(taken_back, owner), patch={"assigneeId": None})
    assert {name for name, _ in traces_of(server.mongo, ada)} >= {
        *("users", "sessions", "tasks", "events", "graphs", "dependencies", "idempotency")
    }
    assert done(ada, "deleteAccount", password=RIGHT)["errors"] == []
    assert traces_of(server.mongo, ada) == []


def test_it_says_what_was_removed(someone: Someone) -> None:
    ada = someone()
    worked(ada)
    payload = done(ada, "deleteAccount", password=RIGHT)
    removed = {"sessions": 3, "tasks": 3, "events": 7}
    assert payload == {"removed": removed, "errors": [], "cursor": None, "replayed": False}


def test_an_account_without_anything_can_be_erased(server: Server, someone: Someone) -> None:
    ada = someone()
    assert done(ada, "deleteAccount", password=RIGHT)["removed"] == {"sessions": 1, "tasks": 0, "events": 0}
    assert traces_of(server.mongo, ada) == []


def test_everybody_else_keeps_everything_but_the_mention(server: Server, someone: Someone) -> None:
    ada, owner = someone(), someone()
    worked(owner)
    shared = task_of(server.mongo, owner, assignee=ada)
    changed(owner, UPDATE, id=task_global_id(shared, owner), patch={"title": "Changed"})
    changed(owner, UPDATE, id=task_global_id(shared, owner), patch={"assigneeId": None})
    of_owner = {
        "$or": [
            {"ownerId": object_id(owner.id)},
            {"userId": object_id(owner.id)},
            {"_id": object_id(owner.id)},
            {"_id.ownerId": object_id(owner.id)},
        ]
    }
    kept = ("users", "sessions", "tasks", "events", "graphs", "dependencies", "idempotency")
    # An event is given its position a moment after its write.
    unsettled = {"ownerId": object_id(owner.id), "position": None}
    assert eventually(lambda: server.mongo["events"].count_documents(unsettled) == 0)
    before = {name: server.mongo[name].find(of_owner).sort("_id").to_list() for name in kept}
    done(ada, "deleteAccount", password=RIGHT)
    ada_id = object_id(ada.id)
    for name in kept:
        assert server.mongo[name].find(of_owner).sort("_id").to_list() == [without(ada_id, each) for each in before[name]], name


def without(user_id: ObjectId, value: Any) -> Any:
    """The value with each mention of a user made null, or left out of a list."""
    if isinstance(value, dict):
        return {name: without(user_id, each) for name, each in value.items()}
    if isinstance(value, list):
        return [without(user_id, each) for each in value if each != user_id]
    return None if value == user_id else value


def test_a_wrong_password_removes_nothing(server: Server, someone: Someone) -> None:
    ada = someone()
    worked(ada)
    before = traces_of(server.mongo, ada)
    with nothing_written(server.mongo):
        payload = done(ada, "deleteAccount", password=WRONG)
    assert problems(payload) == [("BAD_CREDENTIALS", ["input", "password"])]
    assert payload["removed"] is None
    # The audit log may have grown meanwhile.
    after = traces_of(server.mongo, ada)
    assert [each for each in before if each not in after] == []
    assert is_signed_in(ada)


def test_nothing_of_the_account_works_afterwards(someone: Someone, anonymous: Person) -> None:
    ada = someone()
    phone = another_session(ada)
    assert done(ada, "deleteAccount", password=RIGHT)["errors"] == []
    for person in (ada, phone):
        assert not is_signed_in(person)
        assert codes(person.post(CREATE, {"input": {"title": "From beyond"}})) == ["UNAUTHENTICATED"]
        assert problems(done(anonymous, "refreshSession", refreshToken=person.refresh_token)) == [("BAD_CREDENTIALS", None)]
    assert problems(done(anonymous, "login", email=ada.email, password=RIGHT)) == [("BAD_CREDENTIALS", None)]


def test_its_address_can_be_registered_again_by_somebody_new(someone: Someone) -> None:
    ada = someone()
    done(ada, "deleteAccount", password=RIGHT)
    again = someone(email=ada.email)
    assert again.id != ada.id
    assert len(again.ask("{ sessions { id } }")["data"]["sessions"]) == 1


def test_a_stranger_erases_only_themselves(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    worked(ada)
    before = traces_of(server.mongo, ada)
    assert done(stranger, "deleteAccount", password=RIGHT)["removed"] == {"sessions": 1, "tasks": 0, "events": 0}
    # The audit log may have grown meanwhile.
    after = traces_of(server.mongo, ada)
    assert [each for each in before if each not in after] == []


def test_erasing_needs_a_viewer(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, "deleteAccount", password=RIGHT)
    assert (response.status_code, codes(response), response.json()["data"]) == (401, ["UNAUTHENTICATED"], None)


def test_a_login_that_the_erasure_overtakes_opens_nothing(
    server: Server, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = someone()
    open_session = sessions.open_session

    async def overtaken(*args: Any, **kwargs: Any) -> sessions.Granted:
        # The password has been checked; the session is not yet written.
        erased = await asyncio.to_thread(done, ada, "deleteAccount", password=RIGHT)
        assert erased["errors"] == []
        return await open_session(*args, **kwargs)

    monkeypatch.setattr(sessions, "open_session", overtaken)
    payload = done(Person(ada.client, ada.graphql_url), "login", email=ada.email, password=RIGHT)
    assert (problems(payload), payload["accessToken"]) == ([("BAD_CREDENTIALS", None)], None)
    assert traces_of(server.mongo, ada) == []


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_login_that_is_stored_when_the_erasure_comes_leaves_nothing(
    server: Server, someone: Someone, monkeypatch: pytest.MonkeyPatch, *, is_seen: bool
) -> None:
    """Whether or not the account is seen once more when the session and its entry are written."""
    ada = someone()
    read, is_erased = reads.user, False

    async def overtaken(db: Database, user_id: ObjectId) -> Any:
        nonlocal is_erased
        user = await read(db, user_id)
        if not is_erased:
            is_erased = True
            erased = await asyncio.to_thread(done, ada, "deleteAccount", password=RIGHT)
            assert erased["errors"] == []
        return user if is_seen else await read(db, user_id)

    monkeypatch.setattr(reads, "user", overtaken)
    logins = {"action": "login", "outcome": "DONE"}
    before = server.mongo["audit"].count_documents(logins)
    payload = done(Person(ada.client, ada.graphql_url), "login", email=ada.email, password=RIGHT)
    assert traces_of(server.mongo, ada) == []
    if not is_seen:
        assert (problems(payload), payload["accessToken"]) == ([("BAD_CREDENTIALS", None)], None)
        assert server.mongo["audit"].count_documents(logins) == before


def test_sockets_of_the_account_are_closed(server: Server, someone: Someone) -> None:
    ada = someone()
    with websocket(server.ws_url, token=ada.token) as (socket, _):
        done(ada, "deleteAccount", password=RIGHT)
        assert eventually(lambda: socket.close_code == 4410)


def test_over_a_socket_it_erases_everything_and_says_so(server: Server, someone: Someone) -> None:
    ada = someone()
    worked(ada)
    with websocket(server.ws_url, token=ada.token) as (socket, _):
        answer = asked_over(socket, document_of("deleteAccount"), {"input": {"password": RIGHT}})
        assert answer["data"]["deleteAccount"]["removed"] == {"sessions": 3, "tasks": 3, "events": 7}
        assert traces_of(server.mongo, ada) == []
        assert eventually(lambda: socket.close_code == 4410)


@pytest.mark.parametrize("mutation", ["logout", "revokeSession"])
def test_over_a_socket_the_end_of_its_own_session_is_answered(server: Server, someone: Someone, mutation: str) -> None:
    ada = someone()
    members = {"id": session_id_of(ada)} if mutation == "revokeSession" else {}
    with websocket(server.ws_url, token=ada.token) as (socket, _):
        answer = asked_over(socket, document_of(mutation, has_input=bool(members)), {"input": members} if members else None)
        assert answer["data"][mutation]["errors"] == []
        assert eventually(lambda: socket.close_code == 4410)
