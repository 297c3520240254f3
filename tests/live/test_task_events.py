"""Changes of tasks as their owners hear of them: over sockets, on one process and on two."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.client_session import AsyncClientSession

from taskgraph.server.websocket import GraphQLOverWebSocket
from taskgraph.storage.event_hub import EventHub
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.stored_events import StoredEvents
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import Closed, Socket, connected, opened
from tests.metrics import numbers
from tests.people import PASSWORD, Person, registered
from tests.processes import eventually

CHECKPOINT_SECONDS = 0.2
SEND_SECONDS = 2.0
COMPLETED = 400
SUBSCRIBE = """
subscription($after: EventCursor, $filter: TaskEventFilter) {
  taskEvents(after: $after, filter: $filter) {
    kind: __typename
    ... on StreamCheckpoint { cursor at }
    ... on StreamGap { from cursor reason }
    ... on TaskEvent {
      id cursor action taskId version occurredAt causedBy
      task { id title status version }
      changes { field before after }
      actor { id name }
    }
  }
}
"""
PAYLOAD = "{ errors { code } cursor task { id version updatedAt } }"


def mutate(person: Person, field: str, **given: Any) -> dict[str, Any]:
    """The payload of a mutation that was done."""
    kind = f"{field[0].upper()}{field[1:]}Input"
    answer = person.ask(f"mutation($input: {kind}!) {{ {field}(input: $input) {PAYLOAD} }}", {"input": given})
    payload: dict[str, Any] = answer["data"][field]
    assert payload["errors"] == []
    return payload


def create(person: Person, title: str, **rest: Any) -> dict[str, Any]:
    return mutate(person, "createTask", title=title, **rest)


def rename(person: Person, task_id: str, title: str, **rest: Any) -> dict[str, Any]:
    return mutate(person, "updateTask", id=task_id, patch={"title": title}, **rest)


def message(socket: Socket, *, id: str = "1") -> dict[str, Any]:
    """The next message of a subscription."""
    payload = socket.next(id=id)
    assert payload.keys() == {"data"}, payload
    shown: dict[str, Any] = payload["data"]["taskEvents"]
    return shown


def listen(socket: Socket, *, after: str | None = None, filter: Mapping[str, Any] | None = None, id: str = "1") -> dict[str, Any]:
    """Subscribes; gives the first message, which tells where the stream begins."""
    socket.subscribe(SUBSCRIBE, {"after": after, "filter": filter}, id=id)
    return message(socket, id=id)


def titles(socket: Socket, count: int, *, id: str = "1") -> list[str]:
    """Of the tasks of the next messages, all of which must be events."""
    return [message(socket, id=id)["task"]["title"] for _ in range(count)]


@pytest.fixture
def person(someone: Someone) -> Person:
    return someone()


@pytest.fixture
def socket(server: Server, person: Person) -> Iterator[Socket]:
    with connected(server.ws_url, person.token) as signed_in:
        yield signed_in


@dataclass(frozen=True)
class Watched:
    """A server of its own, whose hub can be looked at and tells the quiet of every 0.2 s."""

    ws_url: str
    hub: EventHub
    person: Person


@pytest.fixture(scope="module")
def watched(settings: MakeSettings) -> Iterator[Watched]:
    made, hubs = settings(), []

    def begun(stored: StoredEvents) -> EventHub:
        hubs.append(EventHub(stored, checkpoint_seconds=CHECKPOINT_SECONDS))
        return hubs[0]

    migrated(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskgraph.app.EventHub", begun)
        patch.setattr("taskgraph.app.GraphQLOverWebSocket", partial(GraphQLOverWebSocket, send_seconds=SEND_SECONDS))
        with served(made) as url, httpx.Client(timeout=30) as client:
            person = registered(client, f"{url}/graphql", name="Ada", email=None, password=PASSWORD)
            yield Watched(f"{url.replace('http', 'ws', 1)}/graphql", hubs[0], person)


def test_the_first_message_says_from_where_to_go_on(server: Server, person: Person, socket: Socket) -> None:
    checkpoint = listen(socket)
    assert checkpoint.keys() == {"kind", "cursor", "at"}
    assert checkpoint["kind"] == "StreamCheckpoint"
    create(person, "while away")
    with connected(server.ws_url, person.token) as again:
        assert listen(again, after=checkpoint["cursor"])["cursor"] == checkpoint["cursor"]
        assert titles(again, 1) == ["while away"]


def test_a_new_task_is_told_with_all_that_it_holds(person: Person, socket: Socket) -> None:
    listen(socket)
    written = create(
        person,
        "Water the plants",
        labels=["home"],
        priority="HIGH",
        dueDate="2031-01-01T10:00:00+01:00",
        assigneeId=person.id,
        idempotencyKey="key 1",
    )
    event = message(socket)
    assert event.pop("id") != written["task"]["id"]
    assert event == {
        "kind": "TaskEvent",
        "cursor": written["cursor"],
        "action": "CREATED",
        "taskId": written["task"]["id"],
        "version": 1,
        "occurredAt": written["task"]["updatedAt"],
        "causedBy": "key 1",
        "task": {"id": written["task"]["id"], "title": "Water the plants", "status": "TODO", "version": 1},
        "changes": [
            {"field": "title", "before": None, "after": "Water the plants"},
            {"field": "status", "before": None, "after": "TODO"},
            {"field": "priority", "before": None, "after": "HIGH"},
            {"field": "labels", "before": None, "after": ["home"]},
            {"field": "dueDate", "before": None, "after": "2031-01-01T09:00:00.000Z"},
            {"field": "assigneeId", "before": None, "after": person.id},
        ],
        "actor": {"id": person.id, "name": "Ada"},
    }


def test_each_change_is_told_with_before_and_after(person: Person, socket: Socket) -> None:
    parent, created = create(person, "parent")["task"]["id"], create(person, "old", labels=["a"])
    task = created["task"]["id"]
    listen(socket, after=created["cursor"])
    patch = {"title": "new", "status": "DONE", "labels": None, "parentId": parent}
    done = mutate(person, "updateTask", id=task, patch=patch)
    updated = message(socket)
    assert (updated["action"], updated["version"], updated["cursor"], updated["causedBy"]) == ("UPDATED", 2, done["cursor"], None)
    assert updated["task"] == {"id": task, "title": "new", "status": "DONE", "version": 2}
    assert updated["changes"] == [
        {"field": "title", "before": "old", "after": "new"},
        {"field": "status", "before": "TODO", "after": "DONE"},
        {"field": "labels", "before": ["a"], "after": []},
        {"field": "parentId", "before": None, "after": parent},
        {"field": "completedAt", "before": None, "after": done["task"]["updatedAt"]},
    ]
    mutate(person, "deleteTask", id=task, idempotencyKey="away")
    deleted = message(socket)
    assert (deleted["action"], deleted["version"], deleted["causedBy"]) == ("DELETED", 3, "away")
    (change,) = deleted["changes"]
    assert (change["field"], change["before"], change["after"]) == ("deletedAt", None, deleted["occurredAt"])
    mutate(person, "restoreTask", id=task, idempotencyKey="back")
    restored = message(socket)
    assert (restored["action"], restored["version"], restored["causedBy"]) == ("RESTORED", 4, "back")
    assert restored["changes"] == [{"field": "deletedAt", "before": deleted["occurredAt"], "after": None}]


def test_what_changes_nothing_is_not_told(person: Person, socket: Socket) -> None:
    created = create(person, "same")
    task = created["task"]["id"]
    listen(socket, after=created["cursor"])
    assert rename(person, task, "same")["cursor"] is None
    assert mutate(person, "restoreTask", id=task)["cursor"] is None
    refused = person.ask('mutation { createTask(input: {title: ""}) { errors { code } cursor } }')
    assert refused["data"]["createTask"] == {"errors": [{"code": "REQUIRED"}], "cursor": None}
    create(person, "next")
    assert titles(socket, 1) == ["next"]


def test_a_replayed_task_is_as_it_was_then(server: Server, person: Person, socket: Socket) -> None:
    start = listen(socket)["cursor"]
    task = create(person, "first")["task"]["id"]
    rename(person, task, "second")
    mutate(person, "deleteTask", id=task)
    live = [message(socket) for _ in range(3)]
    with connected(server.ws_url, person.token) as again:
        listen(again, after=start)
        replayed = [message(again) for _ in range(3)]
    assert replayed == live
    assert [(event["task"]["title"], event["task"]["version"]) for event in replayed] == [
        ("first", 1),
        ("second", 2),
        ("second", 3),
    ]


def test_everything_after_a_position_is_replayed_in_order_then_live(person: Person, socket: Socket) -> None:
    cursors = [create(person, f"task {number}")["cursor"] for number in range(40)]
    assert listen(socket, after=cursors[9])["kind"] == "StreamCheckpoint"
    assert titles(socket, 30) == [f"task {number}" for number in range(10, 40)]
    create(person, "live")
    assert titles(socket, 1) == ["live"]
    assert listen(socket, after=cursors[-1], id="2")["cursor"] == cursors[-1]
    assert titles(socket, 1, id="2") == ["live"]


def test_a_commit_that_had_to_be_sent_twice_hides_nothing_that_came_between(
    person: Person, socket: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first may be lost with a primary; that to the second carries a later time than that of the commit."""
    commit, sent = AsyncClientSession.commit_transaction, threading.Event()

    async def commit_twice(session: AsyncClientSession) -> None:
        await commit(session)
        if not sent.is_set():
            sent.set()
            await asyncio.to_thread(create, person, "between")
            await commit(session)

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit_twice)
    written = create(person, "sent twice")["cursor"]
    create(person, "end")
    listen(socket, after=written)
    heard = [message(socket)["task"]["title"]]
    while heard[-1] != "end":
        heard.append(message(socket)["task"]["title"])
    assert heard[-2:] == ["between", "end"]


@pytest.mark.parametrize("position", [EventCursor(1, 1), EventCursor(2**32 - 1, 1)], ids=["long ago", "of another database"])
def test_a_position_that_cannot_be_replayed_from_is_a_gap(person: Person, socket: Socket, position: EventCursor) -> None:
    gap = listen(socket, after=str(position))
    assert gap["kind"] == "StreamGap"
    assert gap["from"] == str(position)
    assert gap["reason"] == "The events after this cursor are no longer kept; read anew, then go on from cursor."
    create(person, "after the gap")
    assert titles(socket, 1) == ["after the gap"]
    assert listen(socket, after=gap["cursor"], id="2")["kind"] == "StreamCheckpoint"
    assert titles(socket, 1, id="2") == ["after the gap"]


@pytest.mark.parametrize("position", ["", "x", "AAAA", "äöü", "A" * 1000])
def test_a_position_that_is_none_is_refused(socket: Socket, position: str) -> None:
    socket.subscribe(SUBSCRIBE, {"after": position})
    (error,) = socket.error()
    assert error["extensions"] == {"code": "BAD_USER_INPUT"}
    assert "This is not an event cursor; pass one exactly as it was received." in error["message"]


def test_only_the_wanted_events_come(person: Person, socket: Socket) -> None:
    one, created = create(person, "one")["task"]["id"], create(person, "two")
    two, start = created["task"]["id"], created["cursor"]
    filters: dict[str, dict[str, Any]] = {
        "tasks": {"taskIds": [one]},
        "actions": {"actions": ["DELETED", "UPDATED"]},
        "echo": {"excludeCausedBy": ["mine", "too"]},
        "all of it": {"taskIds": [one, two], "actions": ["UPDATED"], "excludeCausedBy": ["mine"]},
        "nothing": {"taskIds": []},
        "everything": {},
    }
    rename(person, one, "one by me", idempotencyKey="mine")
    rename(person, two, "two by another", idempotencyKey="another")
    create(person, "three")
    mutate(person, "deleteTask", id=one)
    rename(person, two, "end", idempotencyKey="too")
    expected = {
        "tasks": ["one by me", "one by me"],
        "actions": ["one by me", "two by another", "one by me", "end"],
        "echo": ["two by another", "three", "one by me"],
        "all of it": ["two by another", "end"],
        "nothing": [],
        "everything": ["one by me", "two by another", "three", "one by me", "end"],
    }
    for name, given in filters.items():
        assert listen(socket, after=start, filter=given, id=name)["kind"] == "StreamCheckpoint"
        assert titles(socket, len(expected[name]), id=name) == expected[name]
        socket.expect_nothing_before_a_pong()


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"taskIds": ["x"]}, "'x' is not the id of a Task."),
        ({"taskIds": ["x"] * 101}, "taskIds takes at most 100 values."),
        ({"excludeCausedBy": ["x"] * 101}, "excludeCausedBy takes at most 100 values."),
    ],
)
def test_a_filter_beyond_its_limits_is_refused(socket: Socket, filter: dict[str, Any], said: str) -> None:
    socket.subscribe(SUBSCRIBE, {"filter": filter})
    (error,) = socket.error()
    assert (error["extensions"], error["message"]) == ({"code": "BAD_USER_INPUT"}, said)


def test_somebody_elses_id_in_a_filter_tells_nothing(someone: Someone, person: Person, socket: Socket) -> None:
    other = someone()
    theirs = create(other, "theirs")["task"]["id"]
    listen(socket, filter={"taskIds": [theirs]})
    rename(other, theirs, "changed")
    listen(socket, id="2")
    create(person, "mine")
    assert titles(socket, 1, id="2") == ["mine"]
    socket.expect_nothing_before_a_pong()


def test_a_stranger_hears_nothing(someone: Someone, server: Server, person: Person) -> None:
    stranger = someone()
    with connected(server.ws_url, stranger.token) as socket:
        start = listen(socket)["cursor"]
        task = create(person, "secret")["task"]["id"]
        rename(person, task, "secret too")
        create(stranger, "own")
        assert titles(socket, 1) == ["own"]
        listen(socket, after=start, id="2")
        assert titles(socket, 1, id="2") == ["own"]
        socket.expect_nothing_before_a_pong()


def test_the_anonymous_may_not_listen(server: Server) -> None:
    with connected(server.ws_url) as socket:
        socket.subscribe(SUBSCRIBE)
        (error,) = socket.error()
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}


def test_all_sockets_of_an_owner_hear_the_same(server: Server, person: Person, socket: Socket) -> None:
    with connected(server.ws_url, person.token) as second:
        listen(socket)
        listen(second)
        listen(second, id="2")
        create(person, "shared")
        first = message(socket)
        assert sorted((second.receive()["id"], second.receive()["id"])) == ["1", "2"]
    assert first["task"]["title"] == "shared"


def test_two_processes_hear_each_other(launch: Launch, someone: Someone) -> None:
    left = launch()
    right = launch(database=left.database)
    person = someone(url=left.url)
    with connected(left.ws_url, person.token) as at_left, connected(right.ws_url, person.token) as at_right:
        listen(at_left)
        listen(at_right)
        on_the_right = Person(person.client, f"{right.url}/graphql", person.token)
        written = [create(person, "left")["cursor"], create(on_the_right, "right")["cursor"]]
        heard_left = [message(at_left) for _ in range(2)]
        heard_right = [message(at_right) for _ in range(2)]
        assert heard_left == heard_right
        assert [event["cursor"] for event in heard_left] == written
        # A position is good on every process.
        listen(at_right, after=heard_left[0]["cursor"], id="2")
        assert titles(at_right, 1, id="2") == ["right"]


def test_what_happened_before_a_process_began_is_replayed_there(server: Server, person: Person, launch: Launch) -> None:
    written = create(person, "before it began")["cursor"]
    create(person, "missed")
    later = launch(database=server.settings.mongo_database)
    with connected(later.ws_url, person.token) as socket:
        assert listen(socket, after=written)["kind"] == "StreamCheckpoint"
        assert titles(socket, 1) == ["missed"]
        create(person, "live")
        assert titles(socket, 1) == ["live"]


def test_a_server_that_stops_says_so_and_its_subscribers_go_on_elsewhere(launch: Launch, someone: Someone) -> None:
    first = launch()
    second = launch(database=first.database)
    person = someone(url=first.url)
    with connected(first.ws_url, person.token) as socket:
        cursor = listen(socket)["cursor"]
        first.running.process.send_signal(signal.SIGTERM)
        assert socket.closed().code == 1012
    on_the_other = Person(person.client, f"{second.url}/graphql", person.token)
    create(on_the_other, "meanwhile")
    with connected(second.ws_url, person.token) as socket:
        assert listen(socket, after=cursor)["cursor"] == cursor
        assert titles(socket, 1) == ["meanwhile"]


def test_events_of_many_writers_come_once_and_in_the_order_of_their_commits(person: Person, socket: Socket) -> None:
    created = [create(person, f"task {number}") for number in range(10)]
    tasks = [payload["task"]["id"] for payload in created]
    listen(socket, after=created[-1]["cursor"])
    with ThreadPoolExecutor(50) as pool:
        written = list(pool.map(lambda number: rename(person, tasks[number % 10], f"by {number}"), range(50)))
    events = [message(socket) for _ in range(50)]
    socket.expect_nothing_before_a_pong()
    assert len({event["id"] for event in events}) == 50
    assert sorted(event["cursor"] for event in events) == sorted(payload["cursor"] for payload in written)
    positions = [EventCursor.parse(event["cursor"]) for event in events]
    assert positions == sorted(positions)
    for task in tasks:
        assert [event["version"] for event in events if event["taskId"] == task] == [2, 3, 4, 5, 6]


def test_a_quiet_stream_says_from_where_to_go_on(watched: Watched) -> None:
    with connected(watched.ws_url, watched.person.token) as socket:
        listen(socket)
        assert message(socket)["kind"] == "StreamCheckpoint"
        written = create(watched.person, "noise")["cursor"]
        assert eventually(lambda: message(socket)["kind"] == "TaskEvent")
        checkpoint = message(socket)
        assert checkpoint["kind"] == "StreamCheckpoint"
        assert EventCursor.parse(checkpoint["cursor"]) >= EventCursor.parse(written)


def test_whoever_stops_listening_is_forgotten(watched: Watched) -> None:
    with connected(watched.ws_url, watched.person.token) as socket:
        listen(socket, id="1")
        assert eventually(lambda: sum(map(len, watched.hub._listeners.values())) == 1)
        socket.send("complete", id="1")
        assert eventually(lambda: watched.hub._listeners == {})
        listen(socket, id="2")
    assert eventually(lambda: watched.hub._listeners == {})


def test_a_client_that_vanishes_is_forgotten(watched: Watched) -> None:
    with connected(watched.ws_url, watched.person.token) as socket:
        listen(socket)
        socket.connection.socket.close()
        assert eventually(lambda: watched.hub._listeners == {})


def stuff(person: Person) -> int:
    """Thirty new tasks of 10,000 characters each; how many."""
    many = " ".join(f't{number}: createTask(input: {{title: "{number}", description: $text}}) {{ cursor }}' for number in range(30))
    answer = person.ask(f"mutation($text: String!) {{ {many} }}", {"text": "x" * 10_000})
    assert "errors" not in answer
    return 30


def gorge(socket: Socket, person: Person, watched: Watched) -> None:
    """Subscribes to 300,000 characters for each event of `stuff`."""
    socket.init(person.token)
    descriptions = " ".join(f"d{number}: description" for number in range(30))
    socket.subscribe(f"subscription {{ taskEvents {{ ... on TaskEvent {{ task {{ {descriptions} }} }} }} }}")
    assert socket.next() == {"data": {"taskEvents": {}}}
    assert eventually(lambda: watched.hub._listeners != {})


def test_a_client_that_lags_behind_is_told_to_come_back_and_others_never_notice(watched: Watched) -> None:
    person = watched.person
    with connected(watched.ws_url, person.token) as other, opened(watched.ws_url, max_queue=1) as slow:
        other.subscribe("subscription { taskEvents { ... on TaskEvent { task { title } } } }")
        gorge(slow, person, watched)
        expected = sum(stuff(person) for _ in range(12))
        seen: list[str] = []
        while len(seen) < expected:
            shown = other.next()["data"]["taskEvents"]
            seen += [shown["task"]["title"]] if shown else []
        assert seen == [str(number) for number in range(30)] * 12
        assert slow.closed() == Closed(4411, "Slow consumer: resume from the last cursor")
        create(person, "afterwards")
        assert eventually(lambda: other.next() == {"data": {"taskEvents": {"task": {"title": "afterwards"}}}})
    assert eventually(lambda: watched.hub._listeners == {})


def test_a_client_that_takes_nothing_at_all_is_given_up(watched: Watched) -> None:
    with opened(watched.ws_url, max_queue=1) as dead:
        gorge(dead, watched.person, watched)
        for _ in range(3):
            stuff(watched.person)
        assert watched.hub._listeners
        assert eventually(lambda: watched.hub._listeners == {}, within_seconds=2 * SEND_SECONDS)


def test_a_subscription_that_is_completed_while_it_reads_the_log_ends(server: Server, person: Person) -> None:
    """Wherever it stands just then: in Python 3.11 a cancellation gets lost now and then where PyMongo is being answered."""
    an_hour_ago = EventCursor(int(time.time()) - 3600, 1)
    before = numbers(server.url)["taskgraph_subscriptions"]
    with connected(server.ws_url, person.token) as socket:
        for number in range(COMPLETED):
            socket.subscribe(SUBSCRIBE, {"after": str(an_hour_ago)}, id=str(number))
            time.sleep(number / COMPLETED * 0.01)
            socket.send("complete", id=str(number))
        assert eventually(lambda: numbers(server.url)["taskgraph_subscriptions"] == before)
