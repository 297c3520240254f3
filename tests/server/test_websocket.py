"""graphql-transport-ws, spoken by hand: which close code answers what, and what one connection can carry."""

import json
import time
from asyncio import CancelledError, Event, sleep
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import jwt
import pytest
from pymongo.errors import AutoReconnect
from structlog.testing import capture_logs

from taskgraph.accounts import sessions
from taskgraph.server.documents import Documents
from taskgraph.server.websocket import OPERATIONS, GraphQLOverWebSocket
from taskgraph.tasks import reads
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import PATIENCE_SECONDS, Closed, Socket, connected, opened
from tests.people import PASSWORD, Person, registered
from tests.processes import eventually

INIT_SECONDS = 0.3
TOKEN_SECONDS = 2
ORIGIN = "https://app.example.com"
TYPENAME = "{ __typename }"
VIEWER = "{ viewer { id name } }"
CREATE = "mutation($title: String!) { createTask(input: {title: $title}) { task { id } } }"
EVENTS = "subscription { taskEvents { ... on TaskEvent { task { title } actor { name } } } }"
CHECKPOINT: dict[str, Any] = {"data": {"taskEvents": {}}}
LOGIN = "mutation($email: String!, $password: String!) { login(input: {email: $email, password: $password}) { accessToken } }"
CHANGE = (
    "mutation($current: String!, $new: String!) "
    "{ changePassword(input: {currentPassword: $current, newPassword: $new}) { errors { code } } }"
)
LOGOUT = "mutation { logout { errors { code } } }"
RENAME = "mutation($name: String!) { updateProfile(input: {name: $name}) { viewer { name } } }"
# The session's end reaches another process within milliseconds; the promise is a second.
SOON_SECONDS = 2.0


@pytest.fixture
def socket(server: Server, person: Person) -> Iterator[Socket]:
    with connected(server.ws_url, person.token) as signed_in:
        yield signed_in


@pytest.fixture
def person(someone: Someone) -> Person:
    return someone()


@pytest.fixture(scope="module")
def hasty(settings: MakeSettings) -> Iterator[str]:
    """A server on which everything ends soon; gives its http://host:port."""
    made = settings(access_token_seconds=TOKEN_SECONDS, allowed_origins=ORIGIN)
    migrated(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taskgraph.app.GraphQLOverWebSocket", partial(GraphQLOverWebSocket, init_seconds=INIT_SECONDS))
        with served(made) as url:
            yield url


@pytest.fixture
def hasty_person(hasty: str) -> Iterator[Person]:
    with httpx.Client(timeout=30) as client:
        yield registered(client, f"{hasty}/graphql", name="Ada", email=None, password=PASSWORD)


def ws_of(url: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/graphql"


def codes(errors: list[dict[str, Any]]) -> list[str]:
    return [error["extensions"]["code"] for error in errors]


def event(title: str, actor: str = "Ada") -> dict[str, Any]:
    return {"data": {"taskEvents": {"task": {"title": title}, "actor": {"name": actor}}}}


def other_session(person: Person) -> str:
    """The access token of a second sign-in."""
    answer = person.ask(LOGIN, {"email": person.email, "password": person.password})
    return str(answer["data"]["login"]["accessToken"])


@pytest.mark.parametrize("protocols", [(), ("graphql-ws",), ("graphql-transport-ws2", "GRAPHQL-TRANSPORT-WS")])
def test_another_protocol_is_refused(server: Server, protocols: tuple[str, ...]) -> None:
    with opened(server.ws_url, protocols=protocols) as socket:
        assert socket.closed() == Closed(4406, "Subprotocol not acceptable")


def test_the_protocol_is_chosen_from_several(server: Server) -> None:
    with opened(server.ws_url, protocols=("graphql-ws", "graphql-transport-ws")) as socket:
        assert socket.connection.subprotocol == "graphql-transport-ws"
        socket.init()


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {}}, {"payload": {"authorization": None, "other": 1}}])
def test_without_a_token_the_caller_is_anonymous(server: Server, payload: dict[str, Any]) -> None:
    with opened(server.ws_url) as socket:
        socket.send("connection_init", **payload)
        assert socket.receive() == {"type": "connection_ack"}
        assert socket.ask(VIEWER) == {"data": {"viewer": None}}


@pytest.mark.parametrize("name", ["authorization", "Authorization"])
def test_a_token_signs_the_connection_in(server: Server, person: Person, name: str) -> None:
    with opened(server.ws_url) as socket:
        socket.send("connection_init", payload={name: f"Bearer {person.token}"})
        assert socket.receive() == {"type": "connection_ack"}
        assert socket.ask(VIEWER) == {"data": {"viewer": {"id": person.id, "name": "Ada"}}}


def test_a_silent_client_is_not_waited_for(hasty: str) -> None:
    with opened(ws_of(hasty)) as socket:
        assert socket.closed(within_seconds=INIT_SECONDS + 2) == Closed(4408, "Connection initialisation timeout")


def test_pings_do_not_put_off_the_initialisation(hasty: str) -> None:
    with opened(ws_of(hasty)) as socket:
        began = time.monotonic()
        while time.monotonic() < began + INIT_SECONDS * 0.8:
            socket.send("ping")
            assert socket.receive() == {"type": "pong"}
        assert socket.closed(within_seconds=2) == Closed(4408, "Connection initialisation timeout")


@pytest.mark.parametrize(
    "message", [{"type": "subscribe", "id": "1", "payload": {"query": TYPENAME}}, {"type": "complete", "id": "1"}]
)
def test_nothing_runs_before_the_initialisation(server: Server, message: dict[str, Any]) -> None:
    with opened(server.ws_url) as socket:
        socket.send(**message)
        assert socket.closed() == Closed(4401, "Unauthorized")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("Bearer x", "The access token is not valid; sign in again."),
        ("Bearer a.b.c", "The access token is not valid; sign in again."),
        ("Basic YTpi", "Send the access token as Authorization: Bearer <token>."),
        ("x", "Send the access token as Authorization: Bearer <token>."),
    ],
)
def test_a_bad_token_is_forbidden_and_told_why(server: Server, authorization: str, reason: str) -> None:
    with opened(server.ws_url) as socket:
        socket.send("connection_init", payload={"authorization": authorization})
        assert socket.closed() == Closed(4403, reason)


def test_the_token_of_an_ended_session_is_forbidden(server: Server, person: Person) -> None:
    person.ask(LOGOUT)
    with opened(server.ws_url) as socket:
        socket.send("connection_init", payload={"authorization": f"Bearer {person.token}"})
        assert socket.closed() == Closed(4403, "The session has ended; sign in again.")


def test_a_second_initialisation_is_one_too_many(socket: Socket) -> None:
    socket.send("connection_init")
    assert socket.closed() == Closed(4429, "Too many initialisation requests")


def test_an_id_that_is_in_use_is_not_given_twice(socket: Socket) -> None:
    socket.subscribe(EVENTS)
    assert socket.next() == CHECKPOINT
    socket.subscribe(TYPENAME)
    assert socket.closed() == Closed(4409, "Subscriber for 1 already exists")


def test_a_reason_that_quotes_the_client_fits_into_the_close_frame(server: Server, socket: Socket) -> None:
    with connected(server.ws_url) as other:
        other.send("\U0001f980" * 200)
        assert other.closed() == Closed(4400, "Unknown message type '" + "\U0001f980" * 25)
    long_id = "x" * 200
    socket.subscribe(EVENTS, id=long_id)
    assert socket.next(id=long_id) == CHECKPOINT
    socket.subscribe(EVENTS, id=long_id)
    assert socket.closed() == Closed(4409, f"Subscriber for {'x' * 108}")


@pytest.mark.parametrize("is_initialised", [True, False])
@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "Messages must be JSON"),
        ("garbage", "Messages must be JSON"),
        ('{"type": "ping"', "Messages must be JSON"),
        ("[" * 100_000, "Messages must be JSON"),
        (b'{"type": "ping"}', "Messages must be text"),
        (b"\xff\x00", "Messages must be text"),
        ("[1,2]", "Messages must be objects with a type"),
        ('[{"type": "ping"}]', "Messages must be objects with a type"),
        ("null", "Messages must be objects with a type"),
        ("7", "Messages must be objects with a type"),
        ('"ping"', "Messages must be objects with a type"),
        ("{}", "Messages must be objects with a type"),
        ('{"type": 7}', "Messages must be objects with a type"),
    ],
)
def test_what_is_no_message_ends_the_connection(server: Server, message: str | bytes, reason: str, *, is_initialised: bool) -> None:
    with opened(server.ws_url) as socket:
        if is_initialised:
            socket.init()
        socket.connection.send(message)
        assert socket.closed() == Closed(4400, reason)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "shout"}, "Unknown message type 'shout'"),
        ({"type": "start", "id": "1"}, "Unknown message type 'start'"),
        ({"type": "next", "id": "1", "payload": {}}, "Unknown message type 'next'"),
        ({"type": "connection_ack"}, "Unknown message type 'connection_ack'"),
        ({"type": "x" * 1000}, f"Unknown message type '{'x' * 40}'"),
        ({"type": "subscribe", "payload": {"query": TYPENAME}}, "id must be a short, non-empty string"),
        ({"type": "subscribe", "id": "", "payload": {"query": TYPENAME}}, "id must be a short, non-empty string"),
        ({"type": "subscribe", "id": 1, "payload": {"query": TYPENAME}}, "id must be a short, non-empty string"),
        ({"type": "subscribe", "id": "x" * 201, "payload": {"query": TYPENAME}}, "id must be a short, non-empty string"),
        ({"type": "complete"}, "id must be a short, non-empty string"),
        ({"type": "complete", "id": ["1"]}, "id must be a short, non-empty string"),
    ],
)
def test_a_message_that_makes_no_sense_ends_the_connection(socket: Socket, message: dict[str, Any], reason: str) -> None:
    socket.send(**message)
    assert socket.closed() == Closed(4400, reason)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("token", "The payload of connection_init must be an object"),
        (["token"], "The payload of connection_init must be an object"),
        ({"authorization": 7}, "authorization must be a string"),
        ({"authorization": ["Bearer"]}, "authorization must be a string"),
    ],
)
def test_an_initialisation_of_another_shape_ends_the_connection(server: Server, payload: object, reason: str) -> None:
    with opened(server.ws_url) as socket:
        socket.send("connection_init", payload=payload)
        assert socket.closed() == Closed(4400, reason)


def test_a_message_has_the_limit_of_a_body(server: Server) -> None:
    limit = server.settings.max_body_bytes
    with connected(server.ws_url) as socket:
        socket.connection.send('{"type": "ping"}'.ljust(limit))
        assert socket.receive() == {"type": "pong"}
        socket.connection.send('{"type": "ping"}'.ljust(limit + 1))
        assert socket.closed() == Closed(4400, f"Messages may have at most {limit} bytes")


def test_a_message_far_above_the_limit_is_not_even_read(server: Server) -> None:
    with connected(server.ws_url) as socket:
        socket.connection.send(" " * (4 * server.settings.max_body_bytes + 1))
        assert socket.closed().code == 1009


@pytest.mark.parametrize("payload", [{}, {"payload": None}, {"payload": {"at": 1}}, {"payload": [1, "two"]}])
def test_a_pong_returns_what_the_ping_brought(server: Server, payload: dict[str, Any]) -> None:
    with opened(server.ws_url) as socket:
        socket.send("ping", **payload)
        assert socket.receive() == {"type": "pong", **payload}
        socket.init()
        socket.send("pong", **payload)
        socket.send("ping", **payload)
        assert socket.receive() == {"type": "pong", **payload}


def test_queries_and_mutations_run_too(socket: Socket) -> None:
    created = socket.ask(CREATE, {"title": "over a socket"})["data"]["createTask"]["task"]
    found = socket.ask("query($id: ID!) { task(id: $id) { title } }", {"id": created["id"]})
    assert found == {"data": {"task": {"title": "over a socket"}}}


def test_of_several_operations_the_named_one_runs(socket: Socket) -> None:
    two = "query A { a: __typename } query B { b: __typename }"
    socket.send("subscribe", id="1", payload={"query": two, "operationName": "B"})
    assert socket.next() == {"data": {"b": "Query"}}
    assert socket.receive() == {"type": "complete", "id": "1"}


@pytest.mark.parametrize(
    ("payload", "code", "message"),
    [
        ({"query": "{ viewer {"}, "GRAPHQL_PARSE_FAILED", "Syntax Error: Expected Name, found <EOF>."),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED", "Cannot query field 'nothing' on type 'Query'."),
        (
            {"query": "subscription { nothing }"},
            "GRAPHQL_VALIDATION_FAILED",
            "Cannot query field 'nothing' on type 'Subscription'.",
        ),
        ({"query": TYPENAME, "operationName": "A"}, "BAD_USER_INPUT", "The document has no operation named 'A'."),
        ({"query": TYPENAME, "variables": [1]}, "BAD_USER_INPUT", "variables must be an object or null."),
        ({"query": TYPENAME, "extensions": 1}, "BAD_USER_INPUT", "extensions must be an object or null."),
        ({"query": 7}, "BAD_USER_INPUT", "query must be a GraphQL document in a string."),
        ({}, "BAD_USER_INPUT", "query must be a GraphQL document in a string."),
        ([], "BAD_USER_INPUT", "Batches are not supported: send one operation per request."),
        (None, "BAD_USER_INPUT", "The request must be a JSON object with a query."),
        (
            {"query": "query($first: Int!) { tasks(first: $first) { totalCount } }"},
            "BAD_USER_INPUT",
            "Variable '$first' has invalid value: Expected a value of non-null type 'Int!' to be provided.",
        ),
        (
            {
                "query": "subscription($after: EventCursor) { taskEvents(after: $after) { __typename } }",
                "variables": {"after": "x"},
            },
            "BAD_USER_INPUT",
            (
                "Variable '$after' has invalid value: Expected value of type 'EventCursor', but encountered error "
                "'This is not an event cursor; pass one exactly as it was received.'; found: 'x'."
            ),
        ),
        (
            {"query": 'subscription { taskEvents(filter: {taskIds: ["x"]}) { __typename } }'},
            "BAD_USER_INPUT",
            "'x' is not the id of a Task.",
        ),
    ],
)
def test_a_bad_operation_ends_alone(socket: Socket, person: Person, payload: object, code: str, message: str) -> None:
    socket.subscribe(EVENTS, id="live")
    assert socket.next(id="live") == CHECKPOINT
    socket.send("subscribe", id="1", payload=payload)
    (error,) = socket.error()
    assert (error["extensions"], error["message"]) == ({"code": code}, message)
    assert socket.ask(TYPENAME, id="1") == {"data": {"__typename": "Query"}}
    person.ask(CREATE, {"title": "still there"})
    assert socket.next(id="live") == event("still there")


def test_the_anonymous_are_told_to_sign_in(server: Server) -> None:
    with connected(server.ws_url) as socket:
        socket.subscribe(EVENTS)
        (error,) = socket.error()
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}
        assert codes(socket.ask("{ tasks { totalCount } }")["errors"]) == ["UNAUTHENTICATED"]


def test_a_bug_in_one_operation_ends_that_one(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of line 7")

    monkeypatch.setattr(reads, "stats", broken)
    with capture_logs() as logged:
        (error,) = socket.ask("{ taskStats { total } }")["errors"]
    assert error["extensions"].keys() == {"code", "requestId"}
    assert [each.get("request_id") for each in logged if each["event"] == "internal error"] == [error["extensions"]["requestId"]]
    assert error["message"] == "Something went wrong on our side. Please report the requestId."
    assert socket.ask(TYPENAME) == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("length", [125, 126, 127, 65_535, 65_536, 200_000])
def test_a_message_of_any_length_arrives_whole(socket: Socket, length: int) -> None:
    """Where the length of its frame is written in one, three and nine bytes."""
    uses = length // 10_000 + 1

    def answer(size: int, padding: int) -> str:
        shown = " ".join(f"d{number}: description" for number in range(uses))
        create = f'createTask(input: {{title: "t", description: $text}}) {{ task {{ {shown} {"p" * padding}: __typename }} }}'
        socket.subscribe(f"mutation($text: String!) {{ {create} }}", {"text": "x" * size})
        text = socket.connection.recv(timeout=PATIENCE_SECONDS)
        assert socket.receive() == {"type": "complete", "id": "1"}
        return str(text)

    more = length - len(answer(1, 1))
    text = answer(1 + more // uses, 1 + more % uses)
    assert len(text) == length
    assert json.loads(text)["payload"]["data"]["createTask"]["task"]["d0"] == "x" * (1 + more // uses)


def test_a_bug_before_an_operation_runs_ends_that_one(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of line 7")

    with monkeypatch.context() as patch:
        patch.setattr(Documents, "known", broken)
        socket.subscribe(TYPENAME)
        (error,) = socket.error()
    assert error["extensions"].keys() == {"code", "requestId"}
    assert error["extensions"]["code"] == "INTERNAL"
    assert "secret" not in json.dumps(error)
    assert socket.ask(TYPENAME) == {"data": {"__typename": "Query"}}


def test_while_the_database_is_away_clients_are_asked_to_come_back(
    server: Server, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1013 is a code after which the clients people use try again by themselves."""

    async def unreachable(*_: object) -> None:
        raise AutoReconnect("connection refused")

    monkeypatch.setattr("taskgraph.accounts.live_sessions.BELIEVED_SECONDS", -1.0)
    monkeypatch.setattr(sessions, "live_sessions", unreachable)
    with opened(server.ws_url) as socket:
        socket.send("connection_init", payload={"authorization": f"Bearer {person.token}"})
        assert socket.closed() == Closed(1013, "Try again later")


def test_a_completed_subscription_is_silent(socket: Socket) -> None:
    for number in ("1", "2"):
        socket.subscribe(EVENTS, id=number)
        assert socket.next(id=number) == CHECKPOINT
    socket.send("complete", id="1")
    for title in ("first", "second"):
        socket.subscribe(CREATE, {"title": title}, id="create")
        seen = [socket.receive() for _ in range(3)]
        assert sorted((message["type"], message["id"]) for message in seen) == [
            ("complete", "create"),
            ("next", "2"),
            ("next", "create"),
        ]
    socket.expect_nothing_before_a_pong()


def test_a_completed_query_is_stopped(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    async def endless(*_: object, **__: object) -> None:
        happened.append("started")
        try:
            await Event().wait()
        except CancelledError:
            happened.append("stopped")
            raise

    monkeypatch.setattr(reads, "stats", endless)
    socket.subscribe("{ taskStats { total } }")
    assert eventually(lambda: happened == ["started"])
    socket.send("complete", id="1")
    assert eventually(lambda: happened == ["started", "stopped"])
    socket.expect_nothing_before_a_pong()


@pytest.mark.parametrize("leaves", [False, True])
def test_a_mutation_is_finished_although_its_client_completes_it_or_leaves(
    server: Server, someone: Someone, monkeypatch: pytest.MonkeyPatch, *, leaves: bool
) -> None:
    """Otherwise the password could be another one already, and the sessions of who knew the old one still alive."""
    person = someone()
    other = person.ask(LOGIN, {"email": person.email, "password": PASSWORD})["data"]["login"]["accessToken"]
    steps: list[str] = []
    end_other_sessions = sessions.end_other_sessions

    async def slowly(*given: Any, **named: Any) -> int:
        steps.append("password changed")
        await sleep(0.2)
        return await end_other_sessions(*given, **named)

    monkeypatch.setattr(sessions, "end_other_sessions", slowly)

    def is_over() -> bool:
        answer = httpx.post(person.graphql_url, json={"query": TYPENAME}, headers={"authorization": f"Bearer {other}"})
        return answer.status_code == 401

    with connected(server.ws_url, person.token) as socket:
        socket.subscribe(CHANGE, {"current": PASSWORD, "new": "another one altogether"})
        assert eventually(lambda: bool(steps))
        if not leaves:
            socket.send("complete", id="1")
            assert eventually(is_over)
    assert eventually(is_over)


def test_completing_what_is_not_running_changes_nothing(socket: Socket) -> None:
    socket.send("complete", id="never")
    socket.ask(TYPENAME, id="over")
    socket.send("complete", id="over")
    assert socket.ask(TYPENAME) == {"data": {"__typename": "Query"}}


def test_an_id_is_free_again_after_its_end(socket: Socket) -> None:
    for _ in range(2):
        assert socket.ask(TYPENAME, id="1") == {"data": {"__typename": "Query"}}
        socket.subscribe("{ nothing }", id="1")
        socket.error()
        socket.subscribe(EVENTS, id="1")
        assert socket.next() == CHECKPOINT
        socket.send("complete", id="1")


def test_one_connection_has_a_bound_of_operations(socket: Socket) -> None:
    for number in range(OPERATIONS):
        socket.subscribe(EVENTS, id=str(number))
        assert socket.next(id=str(number)) == CHECKPOINT
    socket.subscribe(EVENTS, id="one more")
    assert socket.closed() == Closed(4400, f"More than {OPERATIONS} operations at once")


def test_answers_come_as_they_are_ready(socket: Socket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(*_: object, **__: object) -> None:
        await Event().wait()

    monkeypatch.setattr(reads, "stats", endless)
    socket.subscribe("{ taskStats { total } }", id="slow")
    assert socket.ask(TYPENAME, id="fast") == {"data": {"__typename": "Query"}}


def test_each_operation_reads_anew(socket: Socket, person: Person) -> None:
    for name in ("Bea", "Cleo"):
        person.ask(RENAME, {"name": name})
        assert socket.ask(VIEWER) == {"data": {"viewer": {"id": person.id, "name": name}}}


def test_each_event_reads_anew(socket: Socket, person: Person) -> None:
    socket.subscribe(EVENTS)
    assert socket.next() == CHECKPOINT
    for name in ("Bea", "Cleo"):
        person.ask(RENAME, {"name": name})
        person.ask(CREATE, {"title": f"by {name}"})
        assert socket.next() == event(f"by {name}", name)


def test_the_session_cookie_counts_on_an_allowed_origin_only(hasty: str, hasty_person: Person) -> None:
    cookie = {"cookie": f"taskgraph_session={hasty_person.refresh_token}"}
    for origin, viewer in (
        (ORIGIN, {"id": hasty_person.id, "name": "Ada"}),
        (hasty, {"id": hasty_person.id, "name": "Ada"}),
        (None, None),
    ):
        with connected(ws_of(hasty), headers=cookie, origin=origin) as socket:
            assert socket.ask(VIEWER) == {"data": {"viewer": viewer}}
    for origin in ("https://evil.example.com", "null", "http://app.example.com"):
        with opened(ws_of(hasty), headers=cookie, origin=origin) as socket:
            socket.send("connection_init")
            assert socket.closed() == Closed(4403, "Pages of this origin may not use the session cookie.")


def test_a_token_counts_on_any_origin(hasty: str, hasty_person: Person) -> None:
    """No browser sends it by itself."""
    cookie = {"cookie": f"taskgraph_session={hasty_person.refresh_token}"}
    with connected(ws_of(hasty), hasty_person.token, headers=cookie, origin="https://evil.example.com") as socket:
        assert socket.ask(VIEWER) == {"data": {"viewer": {"id": hasty_person.id, "name": "Ada"}}}


@pytest.mark.parametrize("cookie", ["taskgraph_session=", "taskgraph_session=x", f"taskgraph_session={'A' * 64}", "other=1"])
def test_a_cookie_that_is_no_session_is_anonymous(hasty: str, cookie: str) -> None:
    with connected(ws_of(hasty), headers={"cookie": cookie}, origin=ORIGIN) as socket:
        assert socket.ask(VIEWER) == {"data": {"viewer": None}}


def test_a_socket_of_a_cookie_ends_with_its_session_not_with_a_token(hasty: str, hasty_person: Person) -> None:
    cookie = {"cookie": f"taskgraph_session={hasty_person.refresh_token}"}
    with connected(ws_of(hasty), headers=cookie, origin=ORIGIN) as socket:
        socket.subscribe(EVENTS)
        assert socket.next() == CHECKPOINT
        assert eventually(lambda: expiry_of(hasty_person) < time.time())
        socket.expect_nothing_before_a_pong()
        assert socket.ask(LOGOUT) == {"data": {"logout": {"errors": []}}}
        assert socket.closed(SOON_SECONDS) == Closed(4410, "Session ended")


def expiry_of(person: Person) -> float:
    assert person.token is not None
    return float(jwt.decode(person.token, options={"verify_signature": False})["exp"])


def test_an_expired_token_ends_the_connection(hasty: str, hasty_person: Person) -> None:
    with connected(ws_of(hasty), hasty_person.token) as socket:
        socket.subscribe(EVENTS)
        assert socket.next() == CHECKPOINT
        assert socket.closed(TOKEN_SECONDS + SOON_SECONDS) == Closed(4410, "Session ended")
        assert 0 <= time.time() - expiry_of(hasty_person) < SOON_SECONDS


def test_a_logout_ends_the_connection(socket: Socket, person: Person) -> None:
    socket.subscribe(EVENTS)
    assert socket.next() == CHECKPOINT
    person.ask(LOGOUT)
    assert socket.closed(SOON_SECONDS) == Closed(4410, "Session ended")


def test_a_logout_over_the_connection_itself_is_answered_first(socket: Socket) -> None:
    socket.subscribe(EVENTS, id="live")
    assert socket.next(id="live") == CHECKPOINT
    assert socket.ask(LOGOUT) == {"data": {"logout": {"errors": []}}}
    assert socket.closed(SOON_SECONDS) == Closed(4410, "Session ended")


def test_an_id_used_again_at_once_does_not_hold_up_the_end(socket: Socket, person: Person) -> None:
    """The first subscription is still being cancelled while the second begins."""
    socket.subscribe(EVENTS)
    assert socket.next() == CHECKPOINT
    for _ in range(5):
        socket.send("complete", id="1")
        socket.subscribe(EVENTS)
    socket.send("ping")
    assert eventually(lambda: socket.receive() == {"type": "pong"})
    person.ask(LOGOUT)
    assert socket.closed(SOON_SECONDS) == Closed(4410, "Session ended")


def test_revoking_other_sessions_ends_their_connections_and_not_ones_own(server: Server, socket: Socket, person: Person) -> None:
    with connected(server.ws_url, other_session(person)) as other:
        assert socket.ask("mutation { revokeOtherSessions { revokedCount } }") == {
            "data": {"revokeOtherSessions": {"revokedCount": 1}}
        }
        assert other.closed(SOON_SECONDS) == Closed(4410, "Session ended")
    assert socket.ask(VIEWER)["data"]["viewer"]["id"] == person.id


def test_a_session_ended_in_another_process_ends_its_connections(server: Server, someone: Someone, launch: Launch) -> None:
    elsewhere = launch(database=server.settings.mongo_database)
    here, there = someone(), someone(url=elsewhere.url)
    with connected(elsewhere.ws_url, here.token) as socket, connected(server.ws_url, there.token) as other:
        other.subscribe(EVENTS)
        assert other.next() == CHECKPOINT
        here.ask(LOGOUT)
        assert socket.closed(SOON_SECONDS) == Closed(4410, "Session ended")
        there.ask(LOGOUT)
        assert other.closed(SOON_SECONDS) == Closed(4410, "Session ended")
