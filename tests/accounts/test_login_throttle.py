"""How many wrong passwords an account and an address may send, with Valkey and without it.

Each test has client addresses and accounts of its own, so that it starts with empty windows.
"""

import ipaddress
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from pymongo import MongoClient
from redis import Redis

from taskgraph.storage import embedded
from taskgraph.storage.embedded import Servers
from tests.accounts.asking import RIGHT, WRONG, done, nothing_written, problems
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.people import Person

Outcome = list[tuple[str, list[str] | None]]
BAD_CREDENTIALS: Outcome = [("BAD_CREDENTIALS", None)]
RATE_LIMITED: Outcome = [("RATE_LIMITED", None)]
NOWHERE = "redis://127.0.0.1:1/0"
addresses = (str(address) for address in ipaddress.ip_network("10.0.0.0/8").hosts())


class Guessing:
    """Somebody at one address, who may try any account of a server."""

    def __init__(self, person: Person, address: str | None = None) -> None:
        self._person = person
        self._headers = {"x-forwarded-for": address or next(addresses)}

    def login(self, email: str, password: str) -> dict[str, Any]:
        return done(self._person, "login", email=email, password=password, headers=self._headers)

    def outcome(self, email: str, password: str = WRONG) -> Outcome:
        return problems(self.login(email, password))

    def fail(self, email: str, times: int) -> None:
        for _ in range(times):
            assert self.outcome(email) == BAD_CREDENTIALS


@contextmanager
def serving(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], **given: object) -> Iterator[Server]:
    """A server behind a proxy that it trusts, so that a test can choose its address."""
    made = settings(trusted_proxies="127.0.0.1", max_aliases=100, max_tokens=20_000, **given)
    migrated(made)
    with served(made) as url:
        yield Server(url, made, mongo_client[made.mongo_database])


@pytest.fixture(scope="module")
def guarded(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Server]:
    with serving(settings, mongo_client) as server:
        yield server


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture
def guessing(guarded: Server, client: httpx.Client) -> Guessing:
    return Guessing(Person(client, f"{guarded.url}/graphql"))


def wrong_logins_in_one_document(email: str, count: int) -> str:
    one = f'login(input: {{email: "{email}", password: "{WRONG}"}}) {{ accessToken errors {{ code }} }}'
    return f"mutation {{ {' '.join(f'a{number}: {one}' for number in range(count))} }}"


def test_after_five_failures_even_the_right_password_is_refused_for_a_while(
    guarded: Server, someone: Someone, guessing: Guessing
) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 5)
    with nothing_written(guarded.mongo):
        payload = guessing.login(ada.email, RIGHT)
    assert problems(payload) == RATE_LIMITED
    assert 890 < payload["errors"][0]["retryAfterSeconds"] <= 900
    assert payload["accessToken"] is None


def test_four_failures_leave_the_account_open(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 4)
    assert guessing.outcome(ada.email, RIGHT) == []


def test_successes_are_not_counted(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    for _ in range(6):
        assert guessing.outcome(ada.email, RIGHT) == []
    guessing.fail(ada.email, 4)
    assert guessing.outcome(ada.email, RIGHT) == []


def test_a_success_does_not_forgive_the_failures_before_it(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 4)
    assert guessing.outcome(ada.email, RIGHT) == []
    guessing.fail(ada.email, 1)
    assert guessing.outcome(ada.email, RIGHT) == RATE_LIMITED


def test_refused_attempts_are_not_counted_as_failures(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 5)
    first = guessing.login(ada.email, WRONG)["errors"][0]["retryAfterSeconds"]
    for _ in range(5):
        assert guessing.outcome(ada.email) == RATE_LIMITED
    assert guessing.login(ada.email, WRONG)["errors"][0]["retryAfterSeconds"] <= first


def test_an_unknown_address_is_closed_like_a_known_one(guessing: Guessing) -> None:
    guessing.fail("unknown.and.guessed@example.com", 5)
    assert guessing.outcome("unknown.and.guessed@example.com") == RATE_LIMITED


def test_failures_from_several_addresses_close_one_account(guarded: Server, someone: Someone, client: httpx.Client) -> None:
    ada, anybody = someone(url=guarded.url), Person(client, f"{guarded.url}/graphql")
    for _ in range(5):
        Guessing(anybody).fail(ada.email, 1)
    assert Guessing(anybody).outcome(ada.email, RIGHT) == RATE_LIMITED


def test_other_accounts_stay_open(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada, grace = someone(url=guarded.url), someone(url=guarded.url)
    guessing.fail(ada.email, 5)
    assert guessing.outcome(grace.email, RIGHT) == []


def test_spelling_the_address_anew_gives_no_further_tries(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    for spelled in (ada.email, ada.email.upper(), ada.email.title(), f" {ada.email}", f"{ada.email}\n"):
        assert guessing.outcome(spelled) == BAD_CREDENTIALS
    assert guessing.outcome(ada.email.swapcase(), RIGHT) == RATE_LIMITED


@pytest.mark.parametrize("invisible", ["\u00ad", "\u200b", "\0"])
def test_invisible_characters_in_the_address_give_no_further_tries(
    guarded: Server, someone: Someone, guessing: Guessing, invisible: str
) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 5)
    with nothing_written(guarded.mongo):
        assert guessing.outcome(f"{invisible}{ada.email}", RIGHT) == BAD_CREDENTIALS


def test_a_session_is_not_ended_by_the_failures_of_others(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 5)
    assert done(ada, "refreshSession", refreshToken=ada.refresh_token)["errors"] == []


@pytest.mark.parametrize("account", ["known", "unknown"])
def test_a_hundred_aliased_logins_in_one_document_count_one_by_one(
    guarded: Server, someone: Someone, client: httpx.Client, account: str
) -> None:
    email = someone(url=guarded.url).email if account == "known" else "aliased.unknown@example.com"
    anybody = Person(client, f"{guarded.url}/graphql")
    with nothing_written(guarded.mongo):
        response = anybody.post(wrong_logins_in_one_document(email, 100), headers={"x-forwarded-for": next(addresses)})
    outcomes = [payload["errors"][0]["code"] for payload in response.json()["data"].values()]
    assert outcomes == ["BAD_CREDENTIALS"] * 5 + ["RATE_LIMITED"] * 95


def test_a_volley_of_thirty_wrong_logins_admits_five(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    with nothing_written(guarded.mongo), ThreadPoolExecutor(30) as threads:
        outcomes = list(threads.map(guessing.outcome, [ada.email] * 30))
    assert outcomes.count(BAD_CREDENTIALS) == 5
    assert outcomes.count(RATE_LIMITED) == 25


def test_wrong_passwords_of_the_signed_in_count_as_failed_logins(guarded: Server, someone: Someone, guessing: Guessing) -> None:
    ada = someone(url=guarded.url)
    for _ in range(3):
        payload = done(ada, "changePassword", currentPassword=WRONG, newPassword="another good password")
        assert problems(payload) == [("BAD_CREDENTIALS", ["input", "currentPassword"])]
    for _ in range(2):
        assert problems(done(ada, "deleteAccount", password=WRONG)) == [("BAD_CREDENTIALS", ["input", "password"])]
    with nothing_written(guarded.mongo):
        assert problems(done(ada, "changePassword", currentPassword=RIGHT, newPassword="another good password")) == RATE_LIMITED
        assert problems(done(ada, "deleteAccount", password=RIGHT)) == RATE_LIMITED
        assert guessing.outcome(ada.email, RIGHT) == RATE_LIMITED


def test_an_address_has_twenty_times_the_failures_of_an_account(
    settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], someone: Someone, client: httpx.Client
) -> None:
    with serving(settings, mongo_client, login_failures=1) as server:
        ada, anybody = someone(url=server.url), Person(client, f"{server.url}/graphql")
        here, elsewhere = Guessing(anybody), Guessing(anybody)
        for number in range(20):
            here.fail(f"guess{number}@example.com", 1)
        with nothing_written(server.mongo):
            refused = here.login(ada.email, RIGHT)
        assert problems(refused) == RATE_LIMITED
        assert 890 < refused["errors"][0]["retryAfterSeconds"] <= 900
        assert elsewhere.outcome(ada.email, RIGHT) == []


def test_all_addresses_of_an_ipv6_network_count_as_one(
    settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], client: httpx.Client
) -> None:
    with serving(settings, mongo_client, login_failures=1) as server:
        anybody = Person(client, f"{server.url}/graphql")
        for number in range(20):
            Guessing(anybody, f"2001:db8:1:2:{number:x}::1").fail(f"six{number}@example.com", 1)
        assert Guessing(anybody, "2001:db8:1:2:ffff::1").outcome("six.more@example.com") == RATE_LIMITED
        assert Guessing(anybody, "2001:db8:1:3::1").outcome("six.more@example.com") == BAD_CREDENTIALS


def test_processes_share_the_count_through_valkey(
    guarded: Server, launch: Launch, someone: Someone, guessing: Guessing, client: httpx.Client
) -> None:
    other = launch(database=guarded.mongo.name, TRUSTED_PROXIES="127.0.0.1")
    there = Guessing(Person(client, f"{other.url}/graphql"))
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 3)
    there.fail(ada.email, 2)
    for place in (guessing, there):
        assert place.outcome(ada.email, RIGHT) == RATE_LIMITED


def test_without_valkey_the_gate_is_neither_open_nor_closed(
    settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], someone: Someone, client: httpx.Client
) -> None:
    for redis_url in (None, NOWHERE):
        with serving(settings, mongo_client, redis_url=redis_url) as server:
            ada, grace = someone(url=server.url), someone(url=server.url)
            guessing = Guessing(Person(client, f"{server.url}/graphql"))
            guessing.fail(ada.email, 5)
            assert guessing.outcome(ada.email, RIGHT) == RATE_LIMITED
            assert guessing.outcome(grace.email, RIGHT) == []


def test_a_valkey_that_dies_takes_no_failure_with_it(
    settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], someone: Someone, client: httpx.Client
) -> None:
    with own_valkey() as valkey, serving(settings, mongo_client, redis_url=valkey.redis_url) as server:
        ada, grace = someone(url=server.url), someone(url=server.url)
        guessing = Guessing(Person(client, f"{server.url}/graphql"))
        guessing.fail(ada.email, 3)
        assert valkey.valkey is not None
        os.kill(valkey.valkey.pid, signal.SIGKILL)
        guessing.fail(ada.email, 2)
        assert guessing.outcome(ada.email, RIGHT) == RATE_LIMITED
        assert guessing.outcome(grace.email, RIGHT) == []


def test_a_valkey_that_hangs_delays_nobody_for_long(
    settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], someone: Someone, client: httpx.Client
) -> None:
    with own_valkey() as valkey, serving(settings, mongo_client, redis_url=valkey.redis_url) as server, ExitStack() as stack:
        ada, grace = someone(url=server.url), someone(url=server.url)
        guessing = Guessing(Person(client, f"{server.url}/graphql"))
        guessing.fail(ada.email, 1)
        assert valkey.valkey is not None
        os.kill(valkey.valkey.pid, signal.SIGSTOP)
        stack.callback(os.kill, valkey.valkey.pid, signal.SIGCONT)
        client.timeout = httpx.Timeout(3)
        guessing.fail(ada.email, 4)
        assert guessing.outcome(ada.email, RIGHT) == RATE_LIMITED
        assert guessing.outcome(grace.email, RIGHT) == []


def test_valkey_is_told_no_address(guarded: Server, someone: Someone, guessing: Guessing, servers: Servers) -> None:
    ada = someone(url=guarded.url)
    guessing.fail(ada.email, 1)
    with Redis.from_url(str(servers.redis_url)) as redis:
        keys = b" ".join(redis.scan_iter(count=1000))
    assert b"login-account" in keys
    assert ada.email.partition("@")[0].encode() not in keys


@contextmanager
def own_valkey() -> Iterator[Servers]:
    """A Valkey that a test may treat badly."""
    with (
        tempfile.TemporaryDirectory(prefix="taskgraph-valkey-") as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded.running(Path(folder), mongo=False)) as running,
    ):
        yield running
