"""Subscribers who are to be sent the same: one rendering for all of them, and never for anybody else."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import anyio.to_thread
import httpx
import pytest
from pymongo import MongoClient

from taskgraph.accounts import reads as accounts
from taskgraph.server.executor import Executor
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import Socket, connected
from tests.people import PASSWORD, Person, registered
from tests.tasks.watching import Watched, names, watched

EVENTS = (
    "subscription($after: EventCursor) { taskEvents(after: $after) { ... on TaskEvent { cursor task { title } actor { name } } } }"
)
CREATE = "mutation($title: String!) { createTask(input: {title: $title}) { cursor } }"
RENAME = "mutation($name: String!) { updateProfile(input: {name: $name}) { viewer { name } } }"
LOGIN = "mutation($email: String!, $password: String!) { login(input: {email: $email, password: $password}) { accessToken } }"


@pytest.fixture
def person(someone: Someone) -> Person:
    return someone()


@pytest.fixture
def sockets(server: Server, person: Person) -> Iterator[list[Socket]]:
    """Three connections of one session."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(server.ws_url, person.token)) for _ in range(3)]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the messages that were executed, in order."""
    kinds: list[str] = []
    run = Executor.run

    async def counted(executor: Executor, *args: Any, source: object = None) -> Any:
        if source is not None:
            kinds.append(type(source).__name__)
        return await run(executor, *args, source=source)

    monkeypatch.setattr(Executor, "run", counted)
    return kinds


def create(person: Person, title: str) -> str:
    """Gives the position of the event."""
    cursor: str = person.ask(CREATE, {"title": title})["data"]["createTask"]["cursor"]
    return cursor


def subscribe(socket: Socket, document: str = EVENTS, variables: Mapping[str, Any] | None = None, *, id: str = "1") -> None:
    """Starts a subscription and takes its first message."""
    socket.subscribe(document, variables, id=id)
    assert socket.next(id=id)["data"] is not None


def text(socket: Socket) -> str:
    """The next message as it came."""
    received = socket.connection.recv(timeout=10)
    assert isinstance(received, str)
    return received


def test_who_subscribes_to_the_same_is_sent_the_same_text_made_once(
    person: Person, sockets: list[Socket], rendered: list[str]
) -> None:
    for socket in sockets:
        subscribe(socket)
    subscribe(sockets[0], id='"2"')
    cursor = create(person, "shared")
    payload = f'{{"data":{{"taskEvents":{{"cursor":"{cursor}","task":{{"title":"shared"}},"actor":{{"name":"Ada"}}}}}},"extensions":{{"cost":2}}}}'
    assert sorted((text(sockets[0]), text(sockets[0]))) == [
        f'{{"type":"next","id":"1","payload":{payload}}}',
        f'{{"type":"next","id":"\\"2\\"","payload":{payload}}}',
    ]
    for socket in sockets[1:]:
        assert text(socket) == f'{{"type":"next","id":"1","payload":{payload}}}'
    assert rendered.count("TaskEvent") == 1


def test_an_event_is_read_for_once_for_all(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> None:
    with watching(settings, mongo_client) as (application, person), ExitStack() as stack:
        ws_url = f"{application.url.replace('http', 'ws', 1)}/graphql"
        sockets = [stack.enter_context(connected(ws_url, person.token)) for _ in range(5)]
        for socket in sockets:
            subscribe(socket)
        with application.watch() as commands:
            create(person, "read once")
            assert {socket.next()["data"]["taskEvents"]["actor"]["name"] for socket in sockets} == {"Ada"}
        assert names(commands).count("find users") == 1


@contextmanager
def watching(settings: MakeSettings, client: MongoClient[dict[str, Any]]) -> Iterator[tuple[Watched, Person]]:
    with watched(settings, client) as application, httpx.Client(timeout=30) as http:
        yield application, registered(http, f"{application.url}/graphql", name="Ada", email=None, password=PASSWORD)


def test_where_a_subscription_began_does_not_keep_it_from_sharing(
    person: Person, sockets: list[Socket], rendered: list[str]
) -> None:
    for number, socket in enumerate(sockets):
        subscribe(socket, EVENTS, {"after": create(person, f"before {number}")})
        rendered.clear()
    create(person, "shared")
    # The later one began, the less it has missed.
    heard = [[socket.next()["data"]["taskEvents"]["task"]["title"] for _ in range(3 - n)] for n, socket in enumerate(sockets)]
    assert heard == [["before 1", "before 2", "shared"], ["before 2", "shared"], ["shared"]]
    assert rendered == ["TaskEvent"]


@pytest.mark.parametrize(
    ("document", "variables", "expected"),
    [
        ("subscription { taskEvents { ... on TaskEvent { other: cursor } } }", [{}], ["other"]),
        (
            "subscription($yes: Boolean!) { taskEvents { ... on TaskEvent { version @include(if: $yes) action } } }",
            [{"yes": True}, {"yes": False}],
            ["version", "action"],
        ),
    ],
)
def test_another_selection_is_not_mixed_up(
    person: Person, sockets: list[Socket], document: str, variables: list[dict[str, Any]], expected: list[str]
) -> None:
    subscribe(sockets[0])
    for number, given in enumerate(variables, start=1):
        subscribe(sockets[number], document, given)
    for title in ("one", "two"):
        create(person, title)
        assert list(sockets[0].next()["data"]["taskEvents"]) == ["cursor", "task", "actor"]
        for number in range(1, len(variables) + 1):
            assert list(sockets[number].next()["data"]["taskEvents"]) == expected[number - 1 :]


def test_variables_below_the_root_are_not_mixed_up(person: Person, sockets: list[Socket]) -> None:
    document = """
      subscription($n: Int) { taskEvents { ... on TaskEvent { task { subtasks(first: $n) { nodes { title } } } } } }
    """
    parent = person.ask('mutation { createTask(input: {title: "parent"}) { task { id } } }')["data"]["createTask"]["task"]["id"]
    for title in ("one", "two", "three"):
        person.ask(
            "mutation($input: CreateTaskInput!) { createTask(input: $input) { cursor } }",
            {"input": {"title": title, "parent": {"id": parent}}},
        )
    for number, socket in enumerate(sockets, start=1):
        subscribe(socket, document, {"n": number})
    person.ask('mutation($id: ID!) { updateTask(input: {id: $id, patch: {title: "new"}}) { cursor } }', {"id": parent})
    shown = [socket.next()["data"]["taskEvents"]["task"]["subtasks"]["nodes"] for socket in sockets]
    assert [len(each) for each in shown] == [1, 2, 3]


def test_another_session_of_the_same_user_hears_the_same(server: Server, person: Person, sockets: list[Socket]) -> None:
    token = person.ask(LOGIN, {"email": person.email, "password": person.password})["data"]["login"]["accessToken"]
    with connected(server.ws_url, token) as other:
        subscribe(other)
        subscribe(sockets[0])
        create(person, "shared")
        assert text(other) == text(sockets[0])


def test_a_stranger_with_the_same_operation_hears_nothing(
    server: Server, person: Person, sockets: list[Socket], someone: Someone
) -> None:
    stranger = someone(name="Bea")
    with connected(server.ws_url, stranger.token) as theirs:
        subscribe(theirs)
        subscribe(sockets[0])
        create(person, "secret")
        assert sockets[0].next()["data"]["taskEvents"]["task"] == {"title": "secret"}
        theirs.expect_nothing_before_a_pong()
        create(stranger, "own")
        assert theirs.next()["data"]["taskEvents"]["actor"] == {"name": "Bea"}
    sockets[0].expect_nothing_before_a_pong()


def test_an_event_after_a_change_of_the_name_shows_the_new_name_to_all(person: Person, sockets: list[Socket]) -> None:
    for socket in sockets:
        subscribe(socket)
    create(person, "by Ada")
    assert [socket.next()["data"]["taskEvents"]["actor"]["name"] for socket in sockets] == ["Ada"] * 3
    person.ask(RENAME, {"name": "Bea"})
    create(person, "by Bea")
    assert [socket.next()["data"]["taskEvents"]["actor"]["name"] for socket in sockets] == ["Bea"] * 3


def test_a_replay_shows_what_the_database_holds_now(person: Person, sockets: list[Socket]) -> None:
    start = create(person, "start")
    for socket in sockets[:2]:
        subscribe(socket)
    create(person, "by Ada")
    assert [socket.next()["data"]["taskEvents"]["actor"]["name"] for socket in sockets[:2]] == ["Ada"] * 2
    for name in ("Bea", "Cleo"):
        person.ask(RENAME, {"name": name})
        subscribe(sockets[2], EVENTS, {"after": start}, id=name)
        assert sockets[2].next(id=name)["data"]["taskEvents"]["actor"]["name"] == name


@pytest.mark.parametrize("compiled_execution", ["on", "off"])
def test_a_resolver_that_fails_is_told_to_all_as_graphql_core_tells_it(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, compiled_execution: str
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("the secret of line 7")

    made = settings(compiled_execution=compiled_execution)
    migrated(made)
    with served(made) as url, httpx.Client(timeout=30) as client, ExitStack() as stack:
        person = registered(client, f"{url}/graphql", name="Ada", email=None, password=PASSWORD)
        ws_url = f"{url.replace('http', 'ws', 1)}/graphql"
        sockets = [stack.enter_context(connected(ws_url, person.token)) for _ in range(2)]
        for socket in sockets:
            subscribe(socket)
        with monkeypatch.context() as patch:
            patch.setattr(accounts, "users_by_id", fails)
            cursor = create(person, "broken")
            first, second = (socket.next() for socket in sockets)
        assert first == second
        (error,) = first["errors"]
        assert error["extensions"].pop("requestId")
        assert error == {
            "message": "Something went wrong on our side. Please report the requestId.",
            "locations": [{"line": 1, "column": 106}],
            "path": ["taskEvents", "actor"],
            "extensions": {"code": "INTERNAL"},
        }
        assert first["data"] == {"taskEvents": {"cursor": cursor, "task": {"title": "broken"}, "actor": None}}
        create(person, "mended")
        assert [socket.next()["data"]["taskEvents"]["actor"] for socket in sockets] == [{"name": "Ada"}] * 2


def test_who_leaves_while_an_event_is_being_shown_does_not_take_it_from_the_others(
    person: Person, sockets: list[Socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    users_by_id, asked, go_on = accounts.users_by_id, Event(), Event()

    async def held_up(*args: Any) -> Any:
        asked.set()
        await anyio.to_thread.run_sync(go_on.wait, 10)
        return await users_by_id(*args)

    monkeypatch.setattr(accounts, "users_by_id", held_up)
    for socket in sockets:
        subscribe(socket)
    create(person, "shared")
    assert asked.wait(10)
    # Whichever of them was the first to ask, the third is left.
    for socket in sockets[:2]:
        socket.send("complete", id="1")
        socket.expect_nothing_before_a_pong()
    go_on.set()
    assert sockets[2].next()["data"]["taskEvents"]["task"] == {"title": "shared"}
