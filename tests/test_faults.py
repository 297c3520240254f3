"""What clients notice when Valkey, MongoDB or a server process dies: little, and never that something acknowledged is gone."""

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from pymongo import MongoClient

from taskgraph.storage import embedded, mongo
from taskgraph.storage.child import Child
from taskgraph.storage.embedded import Servers
from tests.conftest import Documents, Launch, MakeSettings, migrated, served
from tests.live.sockets import Socket, connected
from tests.people import PASSWORD, Person, registered
from tests.processes import eventually

# One worker only: the servers below are the module's own, and nobody needs them twice.
pytestmark = pytest.mark.xdist_group("faults")
CREATE = "mutation($title: String!) { createTask(input: {title: $title}) { task { id } cursor errors { code } } }"
RENAME = """
mutation($id: ID!, $title: String!) { updateTask(input: {id: $id, patch: {title: $title}}) { cursor errors { code } } }
"""
LOGIN = """
mutation($email: String!, $password: String!) {
  login(input: {email: $email, password: $password}) { refreshToken errors { code } }
}
"""
REFRESH = "mutation($token: String!) { refreshSession(input: {refreshToken: $token}) { refreshToken errors { code } } }"
TASKS = "{ tasks(first: 100) { nodes { title } totalCount } }"
EVENTS = "subscription { taskEvents { ... on TaskEvent { cursor task { title } } } }"
VERSIONS_OF_TASKS: list[dict[str, Any]] = [
    {"$sort": {"version": 1}},
    {"$group": {"_id": "$subjectId", "versions": {"$push": "$version"}}},
]
# The promise of a dead or frozen Valkey: nobody waits for it.
UNNOTICED_SECONDS = 1.0
# MongoDB has 5 s to be found and a transaction 10 s in all; then the caller is told to come back.
BUSY_SECONDS = 12.0


@dataclass(frozen=True)
class Site:
    """A server on databases of its own, which may be killed."""

    url: str
    servers: Servers
    mongo: Documents

    @property
    def graphql_url(self) -> str:
        return f"{self.url}/graphql"

    @property
    def ws_url(self) -> str:
        return self.graphql_url.replace("http", "ws", 1)

    def status(self) -> str:
        return str(httpx.get(f"{self.url}/health", timeout=10).json()["status"])


@pytest.fixture(scope="module")
def site(settings: MakeSettings) -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="taskgraph-faults-") as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded.running(Path(folder))) as servers,
    ):
        made = settings(mongo_url=servers.mongo_url, redis_url=servers.redis_url)
        migrated(made)
        with served(made) as url, MongoClient[dict[str, Any]](servers.mongo_url, tz_aware=False) as client:
            yield Site(url, servers, client[made.mongo_database])


@pytest.fixture
def person(site: Site) -> Iterator[Person]:
    assert eventually(lambda: site.status() == "up", within_seconds=20), "a former fault is still there"
    with httpx.Client(timeout=30) as client:
        yield registered(client, site.graphql_url, name="Ada", email=None, password=PASSWORD)


@contextmanager
def killed(child: Child) -> Iterator[None]:
    """The server is dead inside the block; whoever keeps it alive starts it again only at the end."""
    start, is_over = child.start, threading.Event()

    async def start_later() -> None:
        while not is_over.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.02)
        await start()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "start", start_later)
        os.kill(child.pid, signal.SIGKILL)
        try:
            yield
        finally:
            is_over.set()


@contextmanager
def frozen(child: Child) -> Iterator[None]:
    """The server accepts connections inside the block and answers none."""
    os.kill(child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child.pid, signal.SIGCONT)


def valkey_of(site: Site) -> Child:
    assert site.servers.valkey is not None
    return site.servers.valkey


def mongod_of(site: Site) -> Child:
    assert site.servers.mongod is not None
    return site.servers.mongod


def done(person: Person, document: str, **variables: Any) -> dict[str, Any]:
    """The payload of a mutation, or the answer of a query, that went well."""
    answer = person.ask(document, variables)
    assert "errors" not in answer, answer
    (payload,) = answer["data"].values()
    assert payload.get("errors", []) == []
    shown: dict[str, Any] = payload
    return shown


def event(socket: Socket) -> dict[str, Any]:
    """The next message that is no checkpoint."""
    shown: dict[str, Any] = {}
    while not shown:
        shown = socket.next()["data"]["taskEvents"]
    return shown


@pytest.mark.parametrize("fault", [killed, frozen])
def test_without_valkey_every_operation_works_and_none_waits_for_it(
    site: Site, person: Person, fault: Callable[[Child], AbstractContextManager[None]]
) -> None:
    took: dict[str, list[float]] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took.setdefault(name, []).append(time.monotonic() - began)

    # Twice, because a busy machine may hold up anything once; each time the breaker finds out anew.
    for number in range(2):
        done(person, LOGIN, email=person.email, password=person.password)
        with fault(valkey_of(site)), connected(site.ws_url, person.token) as socket, httpx.Client(timeout=30) as client:
            socket.subscribe(EVENTS)
            assert socket.next() == {"data": {"taskEvents": {}}}
            with timed("register"):
                registered(client, site.graphql_url, name="Bea", email=None, password=PASSWORD)
            for attempt in range(3):
                with timed(f"login {attempt}"):
                    token = done(person, LOGIN, email=person.email, password=person.password)["refreshToken"]
            with timed("wrong password"):
                refused = person.ask(LOGIN, {"email": person.email, "password": "wrong horse battery"})
            assert refused["data"]["login"]["errors"] == [{"code": "BAD_CREDENTIALS"}]
            with timed("refresh"):
                done(person, REFRESH, token=token)
            with timed("create"):
                created = done(person, CREATE, title=f"unnoticed {number}")
            assert event(socket) == {"cursor": created["cursor"], "task": {"title": f"unnoticed {number}"}}
            with timed("rename"):
                done(person, RENAME, id=created["task"]["id"], title=f"still {number}")
            with timed("tasks"):
                assert done(person, TASKS)["nodes"][0] == {"title": f"still {number}"}
            with timed("search"):
                assert done(person, '{ searchTasks(query: "still") { totalCount } }') == {"totalCount": number + 1}
            assert httpx.get(f"{site.url}/readyz").status_code == 200
            assert site.status() == "degraded"
        assert eventually(lambda: site.status() == "up")
    assert {name: seconds for name, seconds in took.items() if min(seconds) > UNNOTICED_SECONDS} == {}


def test_while_mongodb_is_away_callers_are_asked_to_come_back(site: Site, person: Person) -> None:
    done(person, CREATE, title="before")
    # Believed for 10 s without a look at MongoDB; a session that is not known yet cannot be.
    with httpx.Client(timeout=30) as client:
        stranger = registered(client, site.graphql_url, name="Bea", email=None, password=PASSWORD)

        def ask(document: str) -> tuple[int, str | None, list[Any], float]:
            began = time.monotonic()
            answer = person.post(document)
            shown = [error["extensions"] for error in answer.json()["errors"]]
            return answer.status_code, answer.headers.get("retry-after"), shown, time.monotonic() - began

        documents = [
            TASKS,
            "{ taskStats { total } }",
            'mutation { createTask(input: {title: "during"}) { replayed } }',
            'mutation { login(input: {email: "a@example.com", password: "x"}) { replayed } }',
            'mutation { register(input: {name: "B", email: "b@example.com", password: "correct horse battery"}) { replayed } }',
        ]
        with killed(mongod_of(site)), ThreadPoolExecutor(len(documents)) as pool:
            for status, retry_after, shown, seconds in pool.map(ask, documents):
                assert (status, retry_after) == (503, "5")
                assert shown == [{"code": "BUSY", "retryAfterSeconds": 5}]
                assert seconds < BUSY_SECONDS
            assert httpx.get(f"{site.url}/livez").status_code == 200
            assert httpx.get(f"{site.url}/readyz").status_code == 503
            assert site.status() == "down"
            assert Person(client, site.graphql_url).ask("{ __typename }") == {"data": {"__typename": "Query"}}
        assert eventually(lambda: site.status() == "up", within_seconds=20)
        assert done(person, TASKS) == {"nodes": [{"title": "before"}], "totalCount": 1}
        assert done(stranger, TASKS)["totalCount"] == 0


@dataclass
class Writer:
    """Creates tasks one after the other until told to stop; remembers what was acknowledged and what was refused."""

    person: Person
    name: str
    stop: threading.Event
    acknowledged: dict[str, str] = field(default_factory=dict)
    refused: list[Any] = field(default_factory=list)

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            title, number = f"{self.name} {number}", number + 1
            answer = self.person.post(CREATE, {"title": title})
            body = answer.json()
            if answer.status_code == 200 and "errors" not in body:
                self.acknowledged[title] = body["data"]["createTask"]["cursor"]
            else:
                self.refused.append((answer.status_code, [error["extensions"] for error in body["errors"]]))


def test_a_killed_mongodb_comes_back_with_everything_that_was_acknowledged(site: Site, person: Person) -> None:
    stop = threading.Event()
    writers = [Writer(person, f"writer {number}", stop) for number in range(4)]
    with connected(site.ws_url, person.token) as socket, ThreadPoolExecutor(len(writers)) as pool:
        socket.subscribe(EVENTS)
        assert socket.next() == {"data": {"taskEvents": {}}}
        running = [pool.submit(writer.run) for writer in writers]
        try:
            assert eventually(lambda: all(len(writer.acknowledged) >= 5 for writer in writers))
            before = mongod_of(site).pid
            os.kill(before, signal.SIGKILL)
            assert eventually(lambda: mongod_of(site).pid != before and site.status() == "up", within_seconds=30)
            so_far = [len(writer.acknowledged) for writer in writers]
            assert eventually(
                lambda: all(len(writer.acknowledged) > count for writer, count in zip(writers, so_far, strict=True)),
                within_seconds=20,
            )
        finally:
            stop.set()
        for each in running:
            each.result(timeout=30)
        last = done(person, CREATE, title="last")
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["cursor"] != last["cursor"]:
            heard.append(event(socket))
    acknowledged = {title for writer in writers for title in writer.acknowledged} | {"last"}
    # What was refused may have been written all the same, but nothing is told twice.
    assert len({each["cursor"] for each in heard}) == len(heard)
    assert {each["task"]["title"] for each in heard} >= acknowledged
    assert set(titles(person)) >= acknowledged
    for writer in writers:
        for status, shown in writer.refused:
            assert (status, shown) == (503, [{"code": "BUSY", "retryAfterSeconds": 5}])


def titles(person: Person) -> list[str]:
    """Of all tasks, read page by page."""
    page = "query($after: String) { tasks(first: 100, after: $after) { nodes { title } pageInfo { hasNextPage endCursor } } }"
    found: list[str] = []
    after = None
    while True:
        shown = done(person, page, after=after)
        found += [task["title"] for task in shown["nodes"]]
        if not shown["pageInfo"]["hasNextPage"]:
            return found
        after = shown["pageInfo"]["endCursor"]


def test_a_transaction_left_open_by_a_dead_server_blocks_its_tasks_only_briefly(site: Site) -> None:
    """MongoDB does not end it with the connection; until it does by itself, every change of the same tasks is BUSY."""
    lifetime = site.mongo.client.admin.command("getParameter", transactionLifetimeLimitSeconds=True)
    assert mongo.TRANSACTION_SECONDS < lifetime["transactionLifetimeLimitSeconds"] <= 15


def test_a_killed_server_leaves_each_write_whole(launch: Launch, site: Site) -> None:
    """It runs on the module's own MongoDB, where the transactions it leaves open stand in nobody's way."""
    mongo_url = str(site.servers.mongo_url)
    launched = launch(MONGO_URL=mongo_url, MONGO_DATABASE=site.mongo.name)
    acknowledged: dict[str, int] = {}
    with httpx.Client(timeout=30) as client:
        person = registered(client, f"{launched.url}/graphql", name="Ada", email=None, password=PASSWORD)

        def write(writer: int) -> None:
            """Creates and renames until the server is gone; an answer is the acknowledgement."""
            try:
                for number in range(10_000):
                    name = f"{writer}.{number}"
                    task = done(person, CREATE, title=name)["task"]["id"]
                    acknowledged[name] = 1
                    done(person, RENAME, id=task, title=f"{name} again")
                    acknowledged[name] = 2
            except httpx.TransportError:
                return

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(write, number) for number in range(4)]
            assert eventually(lambda: len(acknowledged) >= 40, within_seconds=20)
            assert launched.stop(signal.SIGKILL) == -signal.SIGKILL
            for each in running:
                each.result(timeout=30)
        found = titles(Person(client, f"{launch(MONGO_URL=mongo_url, MONGO_DATABASE=site.mongo.name).url}/graphql", person.token))
    for name, version in acknowledged.items():
        kept = [title for title in found if title.removesuffix(" again") == name]
        assert len(kept) == 1
        assert version == 1 or kept == [f"{name} again"]
    versions = {task["_id"]: task["version"] for task in site.mongo["tasks"].find()}
    events = {each["_id"]: each["versions"] for each in site.mongo["events"].aggregate(VERSIONS_OF_TASKS)}
    assert events == {task_id: list(range(1, version + 1)) for task_id, version in versions.items()}
