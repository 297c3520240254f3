"""No answer that was kept is older than a write acknowledged before the request began: readers and writers race over two processes."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from taskgraph.storage.embedded import Servers
from tests.conftest import Launch
from tests.people import PASSWORD, Person, registered
from tests.test_faults import killed

# Valkey is killed, which others on the same worker must not be in need of just then.
pytestmark = pytest.mark.xdist_group("faults")
# By hand with more: STALENESS_ROUNDS=10000.
ROUNDS = int(os.environ.get("STALENESS_ROUNDS", "200"))
TASK_WRITERS, READERS = 3, 8
PAGE = "{ tasks(first: 5) { nodes { id title owner { name } } } }"
RETITLE = "mutation($id: ID!, $text: String!) { updateTask(input: {id: $id, patch: {title: $text}}) { errors { code } } }"
RENAME = "mutation($text: String!) { updateProfile(input: {name: $text}) { errors { code } } }"
CREATE = 'mutation { createTask(input: {title: "0"}) { task { id } } }'


@dataclass
class Race:
    """What has been acknowledged so far, by the id of a task or "name", and what was read that is older."""

    acknowledged: dict[str, int]
    stale: list[str] = field(default_factory=list)
    reads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: threading.Event = field(default_factory=threading.Event)

    def write(self, processes: list[Person], of: str, rounds: int) -> None:
        for number in range(1, rounds + 1):
            document, extra = (RENAME, {}) if of == "name" else (RETITLE, {"id": of})
            answer = processes[number % 2].ask(document, {"text": str(number), **extra})
            assert [payload["errors"] for payload in answer["data"].values()] == [[]], answer
            self.acknowledged[of] = number

    def read(self, processes: list[Person]) -> None:
        count = 0
        while not self.is_over.is_set():
            least = dict(self.acknowledged)
            nodes = processes[count % 2].ask(PAGE)["data"]["tasks"]["nodes"]
            count += 1
            found = {node["id"]: int(node["title"]) for node in nodes} | {"name": int(nodes[0]["owner"]["name"])}
            self.stale += [f"{of}: {found[of]} after {number}" for of, number in least.items() if found[of] < number]
        with self.lock:
            self.reads += count


@dataclass
class Track:
    """Two processes on one database, and what the race runs on besides."""

    urls: list[str]
    servers: Servers
    mongo: MongoClient[dict[str, Any]]

    def run(self, rounds: int) -> Race:
        """So many rounds of every writer, with Valkey killed for a third of them; checks that answers were kept at all."""
        with ExitStack() as stack:
            client = stack.enter_context(httpx.Client(timeout=30))
            ada = registered(client, f"{self.urls[0]}/graphql", name="0", email=None, password=PASSWORD)

            def at_both() -> list[Person]:
                # Connections of their own for each thread.
                made = [stack.enter_context(httpx.Client(timeout=30)) for _ in self.urls]
                return [Person(client, f"{url}/graphql", token=ada.token) for client, url in zip(made, self.urls, strict=True)]

            tasks = [ada.ask(CREATE)["data"]["createTask"]["task"]["id"] for _ in range(TASK_WRITERS)]
            race = Race(dict.fromkeys([*tasks, "name"], 0))
            writers = [threading.Thread(target=race.write, args=(at_both(), of, rounds)) for of in race.acknowledged]
            readers = [threading.Thread(target=race.read, args=(at_both(),)) for _ in range(READERS)]
            asked_before = aggregates(self.mongo)
            for thread in (*readers, *writers):
                thread.start()
            until_written(race, rounds // 3)
            assert self.servers.valkey is not None
            with killed(self.servers.valkey):
                until_written(race, 2 * rounds // 3)
            for thread in writers:
                thread.join()
            time.sleep(0.2)
            race.is_over.set()
            for thread in readers:
                thread.join()
        assert set(race.acknowledged.values()) == {rounds}
        # Otherwise nothing was kept, and nothing was tried.
        assert aggregates(self.mongo) - asked_before < race.reads
        return race


@pytest.fixture
def track(launch: Launch, servers: Servers, mongo_client: MongoClient[dict[str, Any]]) -> Callable[..., Track]:
    def make(*without: str) -> Track:
        first = launch(without=without, RESPONSE_CACHE_SECONDS="30")
        second = launch(without=without, database=first.database, RESPONSE_CACHE_SECONDS="30")
        return Track([first.url, second.url], servers, mongo_client)

    return make


def test_no_reader_is_given_what_is_older_than_an_acknowledged_write(track: Callable[..., Track]) -> None:
    """Without the event stream, which would outdate most of it milliseconds later anyhow."""
    assert track("stream").run(ROUNDS // (TASK_WRITERS + 1)).stale == []


def test_the_race_notices_when_writers_leave_no_mark(track: Callable[..., Track]) -> None:
    assert track("stream", "marks").run(6).stale != []


def until_written(race: Race, number: int) -> None:
    while min(race.acknowledged.values()) < number:
        time.sleep(0.01)


def aggregates(mongo_client: MongoClient[dict[str, Any]]) -> int:
    """How many pages MongoDB has been asked for."""
    return int(mongo_client.admin.command("serverStatus")["metrics"]["commands"]["aggregate"]["total"])
