"""The operations of accounts as clients send them, and what the database holds of accounts."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
from bson import ObjectId
from pymongo.database import Database
from websockets.sync.client import ClientConnection, connect

from taskgraph.server.relay import parse_id
from taskgraph.storage import clock
from tests.people import Person, unpriced

Documents = Database[dict[str, Any]]
RIGHT = "correct horse battery"
WRONG = "wrong horse battery"
VIEWER = "{ viewer { id } }"
SIGNED_IN = "accessToken accessTokenExpiresAt refreshToken viewer { id name email tier createdAt }"
SELECTED = {
    "register": SIGNED_IN,
    "login": SIGNED_IN,
    "refreshSession": SIGNED_IN,
    "logout": "",
    "revokeSession": "revokedCount",
    "revokeOtherSessions": "revokedCount",
    "changePassword": "viewer { id }",
    "updateProfile": "viewer { id name email }",
    "deleteAccount": "removed { sessions tasks events }",
}
ALWAYS = "cursor replayed errors { code message path ... on GenericError { retryAfterSeconds } }"


def document_of(mutation: str, *, has_input: bool = True) -> str:
    """The document that runs one mutation of accounts with a variable `input`."""
    selected = f"{{ {SELECTED[mutation]} {ALWAYS} }}"
    if not has_input:
        return f"mutation {{ {mutation} {selected} }}"
    return f"mutation($input: {mutation[0].upper()}{mutation[1:]}Input!) {{ {mutation}(input: $input) {selected} }}"


def sent(person: Person, mutation: str, *, headers: Mapping[str, str] | None = None, **members: object) -> httpx.Response:
    """The response to a mutation; `members` are those of its input."""
    document = document_of(mutation, has_input=bool(members))
    return person.post(document, {"input": members} if members else None, headers=headers)


def done(person: Person, mutation: str, *, headers: Mapping[str, str] | None = None, **members: object) -> dict[str, Any]:
    """The payload of a mutation, refused or not."""
    answer = sent(person, mutation, headers=headers, **members).json()
    assert "errors" not in answer, answer
    payload: dict[str, Any] = answer["data"][mutation]
    return payload


def problems(payload: Mapping[str, Any]) -> list[tuple[str, list[str] | None]]:
    """Code and path of each of the payload's errors."""
    return [(problem["code"], problem["path"]) for problem in payload["errors"]]


def is_signed_in(person: Person) -> bool:
    """Whether the person's access token is accepted; anything else must be a plain 401."""
    response = person.post(VIEWER)
    if response.status_code == 401:
        assert codes(response) == ["UNAUTHENTICATED"]
        return False
    assert unpriced(response) == {"data": {"viewer": {"id": person.id}}}
    return True


def codes(response: httpx.Response) -> list[str]:
    """extensions.code of each error of the response."""
    return [error["extensions"]["code"] for error in response.json()["errors"]]


def another_session(person: Person, *, headers: Mapping[str, str] | None = None) -> Person:
    """The same account, signed in once more. It shares the cookie jar."""
    payload = done(person, "login", email=person.email, password=person.password, headers=headers)
    assert payload["errors"] == []
    tokens = {"token": payload["accessToken"], "refresh_token": payload["refreshToken"]}
    return Person(person.client, person.graphql_url, id=person.id, email=person.email, password=person.password, **tokens)


def refreshed(person: Person, token: str | None = None) -> dict[str, Any]:
    """The payload for a refresh token, by default the person's, without any access token."""
    without_access = Person(person.client, person.graphql_url)
    return done(without_access, "refreshSession", refreshToken=person.refresh_token if token is None else token)


def session_id_of(person: Person) -> str:
    """The global id of the session behind the person's access token."""
    sessions = person.ask("{ sessions { id isCurrent } }")["data"]["sessions"]
    return str(next(each["id"] for each in sessions if each["isCurrent"]))


def object_id(global_id: str) -> ObjectId:
    """What is stored as _id."""
    key = parse_id(global_id)
    assert key is not None
    return key.id


def stored_user(mongo: Documents, person: Person) -> dict[str, Any]:
    """The person's document."""
    user = mongo["users"].find_one({"_id": object_id(person.id)})
    assert user is not None
    return user


def stored_session(mongo: Documents, person: Person) -> dict[str, Any]:
    """The document of the session behind the person's access token."""
    session = mongo["sessions"].find_one({"_id": object_id(session_id_of(person))})
    assert session is not None
    return session


def set_back(mongo: Documents, person: Person, **seconds: int) -> None:
    """Makes times of the person's session lie that many seconds in the past: lastUsedAt=11."""
    past = {name: clock.now() - timedelta(seconds=each) for name, each in seconds.items()}
    mongo["sessions"].update_one({"_id": stored_session(mongo, person)["_id"]}, {"$set": past})


def is_ended(mongo: Documents, session: dict[str, Any]) -> bool:
    """Whether the session was ended rather than removed."""
    found = mongo["sessions"].find_one({"_id": session["_id"]})
    assert found is not None
    return found["endedAt"] is not None


@contextmanager
def nothing_written(mongo: Documents) -> Iterator[None]:
    """Fails when the block added, changed or removed a user or a session."""
    before = _accounts(mongo)
    yield
    assert _accounts(mongo) == before


def _accounts(mongo: Documents) -> list[dict[str, Any]]:
    # What has expired may be removed by MongoDB at any moment.
    live = {"expiresAt": {"$gt": clock.now()}}
    return [*mongo["users"].find().sort("_id"), *mongo["sessions"].find(live).sort("_id")]


@contextmanager
def websocket(
    ws_url: str, *, token: str | None = None, headers: Mapping[str, str] | None = None
) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """A connection after connection_init, and the first answer to it."""
    with connect(ws_url, subprotocols=["graphql-transport-ws"], additional_headers=dict(headers or {})) as socket:  # type: ignore[list-item]
        payload = {} if token is None else {"payload": {"authorization": f"Bearer {token}"}}
        socket.send(json.dumps({"type": "connection_init", **payload}))
        yield socket, json.loads(socket.recv(timeout=10))


def asked_over(socket: ClientConnection, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer to one operation over the socket."""
    socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": document, "variables": variables}}))
    message: dict[str, Any] = json.loads(socket.recv(timeout=10))
    assert message["type"] == "next", message
    payload: dict[str, Any] = message["payload"]
    return payload
