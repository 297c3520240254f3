"""What is run ends when nobody waits for it, or when it takes too long: here, and in MongoDB, where the work is done."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from pymongo import MongoClient

from taskgraph.storage import mongo
from taskgraph.storage.mongo import Database
from taskgraph.tasks import reads, writes
from tests.conftest import Server, Someone
from tests.live.sockets import connected
from tests.people import Person
from tests.processes import eventually

SLOW = "{ taskStats { total } }"
TYPENAME = "{ __typename }"
COMMENT = "slow, for a test"
# MongoDB looks after its clients about once in a second; by itself the read would take far longer.
SOON_SECONDS = 5.0
Running = Callable[[], int]


@pytest.fixture
def slow_reads(server: Server, mongo_client: MongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Running:
    """taskStats takes half a minute of MongoDB's time; gives how many are being read there just now."""

    async def stats(db: Database, *_: object, **__: object) -> Any:
        return await db["users"].find({"$where": "sleep(30000) || true"}, comment=COMMENT).to_list()

    def running() -> int:
        operations = mongo_client["admin"].aggregate(
            [
                {"$currentOp": {}},
                {"$match": {"command.comment": COMMENT, "ns": f"{server.settings.mongo_database}.users", "active": True}},
            ]
        )
        return len(list(operations))

    monkeypatch.setattr(reads, "stats", stats)
    return running


@contextmanager
def sent(server: Server, text: str) -> Iterator[socket.socket]:
    """A connection on which this request has been sent; it is closed without a word at the end."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(text.encode())
        yield connection


def by_post(person: Person, document: str) -> str:
    body = json.dumps({"query": document})
    return (
        f"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {person.token}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )


def by_get(person: Person, document: str) -> str:
    return (
        f"GET /graphql?{urlencode({'query': document})} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\n"
        f"authorization: Bearer {person.token}\r\n\r\n"
    )


@pytest.mark.parametrize("request_of", [by_post, by_get])
def test_a_query_ends_in_mongodb_when_its_client_hangs_up(
    server: Server, someone: Someone, slow_reads: Running, request_of: Callable[[Person, str], str]
) -> None:
    person = someone()
    with sent(server, request_of(person, SLOW)):
        assert eventually(lambda: slow_reads() == 1)
    assert eventually(lambda: slow_reads() == 0, within_seconds=SOON_SECONDS)
    assert person.ask(TYPENAME) == {"data": {"__typename": "Query"}}


def test_a_query_goes_on_while_its_client_waits(server: Server, someone: Someone, slow_reads: Running) -> None:
    person = someone()
    with sent(server, by_post(person, SLOW)):
        assert eventually(lambda: slow_reads() == 1)
        time.sleep(2)
        assert slow_reads() == 1


def test_the_clients_of_others_who_hang_up_are_answered(
    server: Server, someone: Someone, slow_reads: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "READ_SECONDS", 3)
    leaving, staying = someone(), someone()
    with sent(server, by_post(staying, SLOW)) as waiting:
        with sent(server, by_post(leaving, SLOW)):
            assert eventually(lambda: slow_reads() == 2)
        assert b"BUSY" in waiting.recv(10_000)


def test_a_mutation_is_finished_although_its_client_has_hung_up(
    server: Server, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long after the moment at which a query would be given up."""
    person, begun = someone(), []
    really = writes.create_task

    async def slowly(*given: Any, **named: Any) -> Any:
        begun.append(True)
        await asyncio.sleep(2)
        return await really(*given, **named)

    monkeypatch.setattr(writes, "create_task", slowly)
    with sent(server, by_post(person, 'mutation { createTask(input: {title: "once"}) { task { id } } }')):
        assert eventually(lambda: bool(begun))
    assert eventually(lambda: person.ask("{ tasks { nodes { title } } }") == {"data": {"tasks": {"nodes": [{"title": "once"}]}}})


@pytest.mark.parametrize("is_connection_kept", [True, False])
def test_a_query_over_a_websocket_ends_in_mongodb_when_its_client_completes_it_or_leaves(
    server: Server, someone: Someone, slow_reads: Running, *, is_connection_kept: bool
) -> None:
    with connected(server.ws_url, someone().token) as connection:
        connection.subscribe(SLOW)
        assert eventually(lambda: slow_reads() == 1)
        if is_connection_kept:
            connection.send("complete", id="1")
            assert eventually(lambda: slow_reads() == 0, within_seconds=SOON_SECONDS)
            connection.expect_nothing_before_a_pong()
    assert eventually(lambda: slow_reads() == 0, within_seconds=SOON_SECONDS)


@pytest.mark.parametrize("door", ["http", "websocket"])
def test_a_query_has_a_deadline_at_either_door(
    server: Server, someone: Someone, slow_reads: Running, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setattr(mongo, "READ_SECONDS", 1)
    person = someone()
    if door == "http":
        answer = person.ask(SLOW)
    else:
        with connected(server.ws_url, person.token) as connection:
            answer = connection.ask(SLOW)
    assert answer["data"] is None
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BUSY"]
    assert eventually(lambda: slow_reads() == 0, within_seconds=SOON_SECONDS)
