"""The log in pages, a task's history, and how it once stood."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from bson import ObjectId

from taskgraph.storage.event_log import EventCursor
from tests.conftest import Launch, Server, Someone
from tests.live.sockets import connected
from tests.live.test_task_events import create, listen, mutate, rename, titles
from tests.people import Person
from tests.processes import eventually

LOG = """
query($after: EventCursor, $filter: TaskEventFilter, $first: Int) {
  taskEvents(after: $after, filter: $filter, first: $first) {
    edges { cursor node { id cursor action version causedBy task { title } } }
    nodes { id }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
HISTORY = """
query($id: ID!, $first: Int, $after: EventCursor) {
  task(id: $id) {
    history(first: $first, after: $after) {
      nodes { id version action cursor changes { field before after } actor { id } task { title } }
      pageInfo { hasNextPage hasPreviousPage endCursor }
    }
  }
}
"""
AS_OF = """
query($id: ID!, $at: TaskPoint!) {
  task(id: $id) { asOf(at: $at) { version at title description status priority labels dueDate assignee { id } } }
}
"""


@pytest.fixture
def person(someone: Someone) -> Person:
    return someone()


def log(person: Person, **variables: Any) -> dict[str, Any]:
    answer = person.ask(LOG, variables)
    assert "errors" not in answer, answer
    page: dict[str, Any] = answer["data"]["taskEvents"]
    assert page["nodes"] == [{"id": edge["node"]["id"]} for edge in page["edges"]]
    assert [edge["cursor"] for edge in page["edges"]] == [edge["node"]["cursor"] for edge in page["edges"]]
    return page


def seen(page: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(edge["node"]["action"], edge["node"]["version"], edge["node"]["task"]["title"]) for edge in page["edges"]]


def history(person: Person, task_id: str, **variables: Any) -> dict[str, Any]:
    page: dict[str, Any] = person.ask(HISTORY, {"id": task_id, **variables})["data"]["task"]["history"]
    return page


def as_of(person: Person, task_id: str, **at: Any) -> dict[str, Any] | None:
    answer = person.ask(AS_OF, {"id": task_id, "at": at})
    assert "errors" not in answer, answer
    snapshot: dict[str, Any] | None = answer["data"]["task"]["asOf"]
    return snapshot


def test_the_log_tells_every_change_in_order_page_by_page(person: Person) -> None:
    first = create(person, "first")
    second = create(person, "second")
    renamed = rename(person, first["task"]["id"], "renamed", idempotencyKey="key")
    deleted = mutate(person, "deleteTask", id=second["task"]["id"])
    page = log(person, first=3)
    assert seen(page) == [("CREATED", 1, "first"), ("CREATED", 1, "second"), ("UPDATED", 2, "renamed")]
    assert [edge["cursor"] for edge in page["edges"]] == [first["cursor"], second["cursor"], renamed["cursor"]]
    assert [edge["node"]["causedBy"] for edge in page["edges"]] == [None, None, "key"]
    assert page["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["cursor"],
        "endCursor": renamed["cursor"],
    }
    rest = log(person, after=page["pageInfo"]["endCursor"])
    assert seen(rest) == [("DELETED", 2, "second")]
    assert rest["pageInfo"] == {
        "hasNextPage": False,
        "hasPreviousPage": True,
        "startCursor": deleted["cursor"],
        "endCursor": deleted["cursor"],
    }
    assert seen(log(person, after=deleted["cursor"])) == []


def test_the_log_takes_the_filter_of_the_subscription(person: Person) -> None:
    first, second = create(person, "first"), create(person, "second", idempotencyKey="mine")
    rename(person, first["task"]["id"], "renamed")
    assert seen(log(person, filter={"taskIds": [second["task"]["id"]]})) == [("CREATED", 1, "second")]
    assert seen(log(person, filter={"actions": ["UPDATED"]})) == [("UPDATED", 2, "renamed")]
    assert seen(log(person, filter={"excludeCausedBy": ["mine"]})) == [("CREATED", 1, "first"), ("UPDATED", 2, "renamed")]
    assert seen(log(person, filter={"taskIds": []})) == []


def test_what_is_acknowledged_is_in_the_log_at_once(person: Person) -> None:
    for number in range(30):
        cursor = create(person, f"task {number}")["cursor"]
        assert log(person, first=100)["pageInfo"]["endCursor"] == cursor


@pytest.mark.parametrize("first", [0, 101, -1])
def test_a_page_of_the_log_has_1_to_100_events(person: Person, first: int) -> None:
    (error,) = person.ask(LOG, {"first": first})["errors"]
    assert error["message"] == "first must be between 1 and 100."


def test_a_position_before_what_is_kept_is_refused(person: Person) -> None:
    (error,) = person.ask(LOG, {"after": str(EventCursor(1, 1))})["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    assert "no longer kept" in error["message"]


def test_the_log_of_one_is_nobody_elses(someone: Someone, person: Person, anonymous: Person) -> None:
    task = create(person, "private")["task"]["id"]
    stranger = someone()
    assert seen(log(stranger)) == []
    assert seen(log(stranger, filter={"taskIds": [task]})) == []
    event = log(person)["edges"][0]["node"]["id"]
    node = "query($id: ID!) { node(id: $id) { __typename ... on TaskEvent { version cursor task { title } } } }"
    assert stranger.ask(node, {"id": event})["data"]["node"] is None
    own = person.ask(node, {"id": event})["data"]["node"]
    assert own == {
        "__typename": "TaskEvent",
        "version": 1,
        "cursor": log(person)["edges"][0]["cursor"],
        "task": {"title": "private"},
    }
    for query in (LOG, "{ latestCursor }"):
        (error,) = anonymous.ask(query)["errors"]
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}


def test_from_the_latest_cursor_on_nothing_is_missed(server: Server, person: Person) -> None:
    create(person, "before")
    answer = person.ask("{ latestCursor tasks { nodes { title } } }")["data"]
    assert [task["title"] for task in answer["tasks"]["nodes"]] == ["before"]
    create(person, "between")
    with connected(server.ws_url, person.token) as socket:
        assert listen(socket, after=answer["latestCursor"])["kind"] == "StreamCheckpoint"
        heard = titles(socket, 1)
        assert heard[-1] == "between" or titles(socket, 1) == ["between"]


def test_the_history_of_a_task_says_what_happened_to_it_oldest_first(person: Person) -> None:
    task = create(person, "first")["task"]["id"]
    create(person, "another")
    rename(person, task, "second")
    mutate(person, "deleteTask", id=task)
    mutate(person, "restoreTask", id=task)
    nodes = history(person, task)["nodes"]
    assert [(each["action"], each["version"], each["task"]["title"]) for each in nodes] == [
        ("CREATED", 1, "first"),
        ("UPDATED", 2, "second"),
        ("DELETED", 3, "second"),
        ("RESTORED", 4, "second"),
    ]
    assert nodes[1]["changes"] == [{"field": "title", "before": "first", "after": "second"}]
    assert {each["actor"]["id"] for each in nodes} == {person.id}


def test_a_history_is_read_page_by_page(person: Person) -> None:
    task = create(person, "0")["task"]["id"]
    for number in range(1, 5):
        rename(person, task, str(number))
    page = history(person, task, first=2)
    assert [each["version"] for each in page["nodes"]] == [1, 2]
    assert (page["pageInfo"]["hasNextPage"], page["pageInfo"]["hasPreviousPage"]) == (True, False)
    page = history(person, task, first=3, after=page["pageInfo"]["endCursor"])
    assert [each["version"] for each in page["nodes"]] == [3, 4, 5]
    assert (page["pageInfo"]["hasNextPage"], page["pageInfo"]["hasPreviousPage"]) == (False, True)


def test_the_histories_of_a_page_of_tasks_are_their_own(person: Person) -> None:
    for number in range(5):
        rename(person, create(person, f"task {number}")["task"]["id"], f"renamed {number}")
    nodes = person.ask("{ tasks { nodes { title history { nodes { task { title } } } } } }")["data"]["tasks"]["nodes"]
    for number, task in enumerate(reversed(nodes)):
        assert [each["task"]["title"] for each in task["history"]["nodes"]] == [f"task {number}", f"renamed {number}"]


def test_a_task_can_be_seen_as_it_stood_at_a_version(person: Person) -> None:
    created = create(person, "first", labels=["a"], priority="HIGH", assigneeId=person.id)["task"]
    rename(person, created["id"], "second")
    assert as_of(person, created["id"], version=1) == {
        "version": 1,
        "at": created["updatedAt"],
        "title": "first",
        "description": "",
        "status": "TODO",
        "priority": "HIGH",
        "labels": ["a"],
        "dueDate": None,
        "assignee": {"id": person.id},
    }
    now = as_of(person, created["id"], version=2)
    assert now is not None
    assert now["title"] == "second"
    assert as_of(person, created["id"], version=3) is None
    assert as_of(person, created["id"], version=0) is None


def test_a_task_can_be_seen_as_it_stood_at_a_time(person: Person) -> None:
    created = create(person, "first")["task"]
    renamed = rename(person, created["id"], "second")["task"]
    then, now = as_of(person, created["id"], time=created["updatedAt"]), as_of(person, created["id"], time=renamed["updatedAt"])
    assert then is not None
    assert now is not None
    assert then["title"] in {"first", "second"}
    assert (now["version"], now["title"]) == (2, "second")
    assert as_of(person, created["id"], time="2001-01-01T00:00:00Z") is None
    later = as_of(person, created["id"], time="2099-01-01T00:00:00Z")
    assert later is not None
    assert later["version"] == 2


def test_what_is_purged_from_the_log_is_no_longer_told_but_the_task_as_it_is_still_is(server: Server, person: Person) -> None:
    task = create(person, "first")["task"]["id"]
    rename(person, task, "second")
    (event,) = log(person, first=1)["edges"]
    server.mongo["events"].delete_many({"ownerId": server.mongo["users"].find_one({"email": person.email})["_id"]})  # type: ignore[index]
    assert as_of(person, task, version=1) is None
    now = as_of(person, task, version=2)
    assert now is not None
    assert now["title"] == "second"
    assert person.ask("query($id: ID!) { node(id: $id) { id } }", {"id": event["node"]["id"]})["data"]["node"] is None


def test_a_purged_task_is_no_longer_shown_by_its_events(server: Server, person: Person) -> None:
    kept, purged = create(person, "kept"), create(person, "purged")
    long_ago = datetime.now(UTC) - timedelta(days=2)
    owner = server.mongo["users"].find_one({"email": person.email})
    assert owner is not None
    server.mongo["events"].update_many({"ownerId": owner["_id"]}, {"$set": {"occurredAt": long_ago}})
    server.mongo["tasks"].delete_one({"ownerId": owner["_id"], "title": "purged"})
    nodes = person.ask("{ taskEvents { nodes { taskId task { title } } } }")["data"]["taskEvents"]["nodes"]
    assert nodes == [
        {"taskId": kept["task"]["id"], "task": {"title": "kept"}},
        {"taskId": purged["task"]["id"], "task": None},
    ]


def test_events_of_a_process_that_died_before_it_gave_them_their_place_find_it(server: Server, person: Person) -> None:
    """As another process would have left it: written, but without a position."""
    create(person, "known")
    owner = server.mongo["users"].find_one({"email": person.email})
    assert owner is not None
    (event,) = server.mongo["events"].find({"ownerId": owner["_id"]})
    left = {name: value for name, value in event.items() if name != "position"} | {
        "_id": ObjectId(),
        "version": 2,
        "origin": ObjectId(),
    }
    server.mongo["events"].insert_one(left)
    assert eventually(lambda: (server.mongo["events"].find_one({"_id": left["_id"]}) or {}).get("position") is not None)
    assert [version for _, version, _ in seen(log(person))] == [1, 2]


def test_events_that_were_written_while_no_process_was_running_are_replayed_by_the_next(launch: Launch, someone: Someone) -> None:
    first = launch()
    person = someone(url=first.url)
    before = create(person, "before")["cursor"]
    (event,) = first.mongo["events"].find({})
    first.running.stop()
    left = {name: value for name, value in event.items() if name != "position"} | {"_id": ObjectId(), "origin": ObjectId()}
    first.mongo["events"].insert_one(left | {"snapshot": event["snapshot"] | {"title": "unwatched"}})
    second = launch(database=first.database)
    with connected(second.ws_url, person.token) as socket:
        assert eventually(lambda: first.mongo["events"].count_documents({"position": None}) == 0)
        assert listen(socket, after=before)["kind"] == "StreamCheckpoint"
        assert titles(socket, 1) == ["unwatched"]


def test_a_read_after_a_write_sees_it_on_another_process(launch: Launch, someone: Someone) -> None:
    left = launch()
    right = launch(database=left.database)
    person = someone(url=left.url)
    elsewhere = Person(person.client, f"{right.url}/graphql", person.token)
    for number in range(20):
        written = create(person, f"task {number}")
        query = "{ latestCursor tasks(first: 1) { nodes { title } } }"
        by_header = elsewhere.post(query, headers={"read-after": written["cursor"]}).json()["data"]
        by_extension = elsewhere.post(query, extensions={"readAfter": written["cursor"]}).json()["data"]
        for answer in (by_header, by_extension):
            assert answer["tasks"]["nodes"] == [{"title": f"task {number}"}]
            assert EventCursor.parse(answer["latestCursor"]) >= EventCursor.parse(written["cursor"])


def test_waiting_for_a_write_that_never_was_ends_and_says_so(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskgraph.accounts.gate.REACH_SECONDS", 0.2)
    answer: httpx.Response = person.post("{ viewer { id } }", headers={"read-after": str(EventCursor(2**31, 1))})
    assert answer.status_code == 503
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "BUSY"
    (error,) = person.post("{ viewer { id } }", headers={"read-after": "nonsense"}).json()["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    (error,) = person.post("{ viewer { id } }", extensions={"readAfter": 5}).json()["errors"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
