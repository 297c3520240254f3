"""How much a caller may ask for: by address and by account, at both doors, in one process and in two, with Redis and without."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from taskgraph.storage import redis
from tests.accounts.test_login_throttle import own_valkey
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import connected
from tests.metrics import numbers
from tests.people import PASSWORD, Person, registered
from tests.tasks.documents import oid
from tests.tasks.operations import data

TYPENAME = "{ __typename }"
LIMITS = "{ rateLimit { cost maxCost windows { name limit remaining resetAt windowSeconds } } }"
TEN = "{ tasks(first: 10) { nodes { id } } }"
LOGIN = 'login(input: {email: "nobody@example.com", password: "wrong password"}) { errors { code } }'


@contextmanager
def limited(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], **given: object) -> Iterator[Server]:
    """A server of its own that limits; addresses of callers are what they say."""
    made = settings(**({"rate_limits": "on", "trusted_proxies": "127.0.0.1"} | given))
    migrated(made)
    with served(made) as url:
        yield Server(url, made, mongo_client[made.mongo_database])


@pytest.fixture
def few(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Server]:
    """Six anonymous operations, 100 points, 300 of them for premium accounts."""
    with limited(settings, mongo_client, rate_limit_anonymous=6, rate_limit_free=100, rate_limit_premium=300) as server:
        yield server


@pytest.fixture
def nobody(few: Server) -> Iterator[Person]:
    with httpx.Client(timeout=30, headers={"x-forwarded-for": address()}) as client:
        yield Person(client, f"{few.url}/graphql")


def address() -> str:
    """One that nobody has used: counters outlive a test."""
    return "10." + ".".join(str(each) for each in os.urandom(3))


def codes(response: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in response.json().get("errors", ())]


def expect_refused(response: httpx.Response) -> int:
    """429 with the time to wait, which is given back."""
    assert (response.status_code, codes(response)) == (429, ["RATE_LIMITED"])
    wait = int(response.headers["retry-after"])
    (error,) = response.json()["errors"]
    assert error["extensions"]["retryAfterSeconds"] == wait
    assert "data" not in response.json()
    return wait


def test_an_address_may_ask_so_often_and_then_has_to_wait(nobody: Person) -> None:
    for left in range(5, -1, -1):
        answer = nobody.post(TYPENAME)
        assert (answer.status_code, answer.headers["ratelimit-policy"]) == (200, '"anonymous";q=6;w=900')
        assert answer.headers["ratelimit"].startswith(f'"anonymous";r={left};t=')
    answer = nobody.post(TYPENAME)
    assert 0 < expect_refused(answer) <= 900
    assert answer.headers["ratelimit"].startswith('"anonymous";r=0;t=')
    assert nobody.post(TYPENAME, headers={"x-forwarded-for": address()}).status_code == 200


def test_the_window_ends_when_it_says(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> None:
    with (
        limited(settings, mongo_client, rate_limit_anonymous=2, rate_limit_window_seconds=2) as server,
        httpx.Client(headers={"x-forwarded-for": address()}) as client,
    ):
        person = Person(client, f"{server.url}/graphql")
        assert [person.post(TYPENAME).status_code for _ in range(3)] == [200, 200, 429]
        time.sleep(expect_refused(person.post(TYPENAME)))
        assert person.post(TYPENAME).headers["ratelimit"] == '"anonymous";r=1;t=2'


@pytest.mark.parametrize(
    "document",
    [
        "{ a: viewer { id } b: viewer { id } c: viewer { id } }",
        "{ ...F } fragment F on Query { a: viewer { id } b: viewer { id } c: viewer { id } }",
    ],
)
def test_an_alias_counts_like_an_operation(nobody: Person, document: str) -> None:
    assert [nobody.post(document).status_code for _ in range(3)] == [200, 200, 429]


def test_what_is_no_operation_counts_too(nobody: Person) -> None:
    refused = [
        nobody.post(document).status_code for document in ("{", "{ nothing }", "{ __typename ", "{ x }", "query", "{ ...X }")
    ]
    assert refused == [200] * 6
    expect_refused(nobody.post(TYPENAME))


def test_nothing_new_is_read_for_who_has_used_their_window_up(few: Server, nobody: Person) -> None:
    for _ in range(6):
        assert nobody.post(TYPENAME).status_code == 200
    before = numbers(few.url)
    for document in ("{ neverSentBefore }", "{", "{ new: __typename }"):
        expect_refused(nobody.post(document))
    after = numbers(few.url)
    read = [name for name in after if name.startswith("taskgraph_documents_total")]
    assert [after[name] for name in read] == [before[name] for name in read]
    assert after["taskgraph_rate_limited_total{window=anonymous}"] == before["taskgraph_rate_limited_total{window=anonymous}"] + 3


def test_signing_in_is_limited_more_strictly_and_by_field(nobody: Person) -> None:
    assert nobody.post(f"mutation {{ a: {LOGIN} b: {LOGIN} }}").status_code == 200
    answer = nobody.post(f"mutation {{ a: {LOGIN} b: {LOGIN} }}")
    expect_refused(answer)
    assert answer.headers["ratelimit"].startswith('"sign-in";r=1;t=')
    assert nobody.post(f"mutation {{ {LOGIN} }}").status_code == 200
    expect_refused(nobody.post("mutation { refreshSession { errors { code } } }"))
    assert nobody.post(TYPENAME).status_code == 200


def test_an_account_may_be_tried_so_often_from_wherever(nobody: Person) -> None:
    email = f"{os.urandom(8).hex()}@example.com"
    document = f'mutation {{ login(input: {{email: "{email}", password: "wrong password"}}) {{ errors {{ code ... on GenericError {{ retryAfterSeconds }} }} }} }}'
    said = [nobody.post(document, headers={"x-forwarded-for": address()}).json()["data"]["login"]["errors"] for _ in range(4)]
    assert [each["code"] for errors in said for each in errors] == ["BAD_CREDENTIALS"] * 3 + ["RATE_LIMITED"]
    assert 0 < said[3][0]["retryAfterSeconds"] <= 900


@contextmanager
def anybody(server: Server) -> Iterator[Person]:
    """With an account, registered from an address of their own."""
    with httpx.Client(timeout=30, headers={"x-forwarded-for": address()}) as client:
        yield registered(client, f"{server.url}/graphql", name="Ada", email=None, password=PASSWORD)


@pytest.fixture
def ada(few: Server) -> Iterator[Person]:
    with anybody(few) as person:
        yield person


def test_a_viewer_pays_in_points_whatever_the_address(ada: Person) -> None:
    for left in (90, 80, 70):
        answer = ada.post(TEN, headers={"x-forwarded-for": address()})
        assert (answer.status_code, answer.headers["ratelimit-policy"]) == (200, '"viewer";q=100;w=900')
        assert answer.headers["ratelimit"].startswith(f'"viewer";r={left};t=')
    assert ada.post(TYPENAME).headers["ratelimit"].startswith('"viewer";r=69;t=')


def test_what_does_not_fit_is_refused_and_what_fits_is_not(ada: Person) -> None:
    assert ada.post("{ tasks(first: 95) { nodes { id } } }").status_code == 200
    expect_refused(ada.post(TEN))
    assert ada.post("{ tasks(first: 4) { nodes { id } } }").status_code == 200
    assert ada.post(TYPENAME).status_code == 200
    expect_refused(ada.post(TYPENAME))


def test_aliases_are_paid_for(ada: Person) -> None:
    aliases = " ".join(f"a{number}: tasks(first: 5) {{ nodes {{ id }} }}" for number in range(11))
    assert ada.post(f"{{ {aliases} }}").status_code == 200
    expect_refused(ada.post(f"{{ {aliases} }}"))


REGISTER = 'register(input: {name: "Ada", email: "no address", password: "short"}) { errors { code } }'
REFRESH = 'refreshSession(input: {refreshToken: "none"}) { errors { code } }'


@pytest.mark.parametrize("field", [LOGIN, REFRESH])
@pytest.mark.parametrize("is_signed_in", [False, True])
def test_each_alias_of_a_sign_in_counts(nobody: Person, ada: Person, field: str, *, is_signed_in: bool) -> None:
    nobody.token = ada.token if is_signed_in else None
    expect_refused(nobody.post(f"mutation {{ a: {field} b: {field} c: {field} d: {field} }}"))
    if field is REFRESH:
        assert nobody.post(f"mutation {{ a: {field} b: {field} c: {field} }}").status_code == 200
        expect_refused(nobody.post(f"mutation {{ {field} }}"))


def test_each_alias_of_a_registration_counts(nobody: Person) -> None:
    assert nobody.post(f"mutation {{ a: {REGISTER} b: {REGISTER} c: {REGISTER} d: {REGISTER} e: {REGISTER} }}").status_code == 200
    expect_refused(nobody.post(f"mutation {{ a: {REGISTER} b: {REGISTER} }}"))
    assert nobody.post(f"mutation {{ {REGISTER} }}").status_code == 200
    expect_refused(nobody.post(f"mutation {{ {REGISTER} }}"))


def test_each_alias_is_a_try_at_the_account(nobody: Person) -> None:
    """From several addresses, as one alone may not sign in that often."""
    login = LOGIN.replace("nobody", os.urandom(8).hex())
    said = [
        nobody.post(f"mutation {{ a: {login} b: {login} }}", headers={"x-forwarded-for": address()}).json()["data"]
        for _ in range(2)
    ]
    given = [payload["errors"][0]["code"] for data in said for payload in data.values()]
    assert given == ["BAD_CREDENTIALS"] * 3 + ["RATE_LIMITED"]


def test_each_alias_is_a_try_at_the_session(nobody: Person, ada: Person) -> None:
    """The same token is the same session, wherever it comes from; within seconds it may be spent again."""
    field = f'refreshSession(input: {{refreshToken: "{ada.refresh_token}"}}) {{ errors {{ code }} }}'
    said = [
        nobody.post(f"mutation {{ a: {field} b: {field} }}", headers={"x-forwarded-for": address()}).json()["data"]
        for _ in range(2)
    ]
    given = [[error["code"] for error in payload["errors"]] for data in said for payload in data.values()]
    assert given == [[], [], [], ["RATE_LIMITED"]]


def test_each_alias_of_an_estimate_is_paid_for(ada: Person) -> None:
    aliases = " ".join(f'a{number}: estimateCost(document: "{{ a }}") {{ cost }}' for number in range(4))
    assert ada.post(f"{{ {aliases} }}").json()["extensions"]["cost"] >= 80
    expect_refused(ada.post(f"{{ {aliases} }}"))


def test_each_alias_of_a_wrong_password_is_a_failure(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> None:
    """LOGIN_FAILURES of them close the account to further tries, within one document, too."""
    change = 'changePassword(input: {currentPassword: "wrong", newPassword: "a new long password"}) { errors { code } }'
    aliases = " ".join(f"a{number}: {change}" for number in range(5))
    with limited(settings, mongo_client, login_failures=3) as server, anybody(server) as person:
        given = [payload["errors"][0]["code"] for payload in data(person, f"mutation {{ {aliases} }}").values()]
    assert given == ["BAD_CREDENTIALS"] * 3 + ["RATE_LIMITED"] * 2


def test_a_subscription_is_paid_for_each_time(few: Server, ada: Person) -> None:
    document = "subscription { taskEvents { ... on TaskEvent { task { owner { id } } } ... on StreamCheckpoint { cursor } } }"
    assert ada.post("{ tasks(first: 97) { nodes { id } } }").status_code == 200
    with connected(few.ws_url, ada.token) as socket:
        socket.subscribe(document, id="1")
        assert "cursor" in socket.next(id="1")["data"]["taskEvents"]
        socket.subscribe(document, id="2")
        (error,) = socket.error(id="2")
        assert error["extensions"]["code"] == "RATE_LIMITED"


def test_nothing_is_written_when_the_window_is_used_up(few: Server, ada: Person) -> None:
    assert ada.post("{ tasks(first: 97) { nodes { id } } }").status_code == 200
    expect_refused(ada.post('mutation { createTask(input: {title: "a"}) { task { id } } }'))
    assert few.mongo["tasks"].count_documents({"ownerId": oid(ada.id)}) == 0


def test_a_stranger_has_a_window_of_their_own(few: Server, ada: Person) -> None:
    assert ada.post("{ tasks(first: 100) { nodes { id } } }").status_code == 200
    expect_refused(ada.post(TYPENAME))
    with anybody(few) as stranger:
        assert stranger.post(TEN).status_code == 200


def test_all_sessions_of_an_account_spend_from_one_window(ada: Person, nobody: Person) -> None:
    assert ada.post("{ tasks(first: 100) { nodes { id } } }").status_code == 200
    given = {"email": ada.email, "password": PASSWORD}
    document = (
        "mutation($email: String!, $password: String!) { login(input: {email: $email, password: $password}) { accessToken } }"
    )
    nobody.token = data(nobody, document, given)["login"]["accessToken"]
    expect_refused(nobody.post(TYPENAME))


def test_a_premium_account_has_more(few: Server, ada: Person) -> None:
    few.mongo["users"].update_one({"_id": oid(ada.id)}, {"$set": {"tier": "PREMIUM"}})
    answer = ada.post(TEN)
    assert answer.headers["ratelimit-policy"] == '"viewer";q=300;w=900'
    assert answer.headers["ratelimit"].startswith('"viewer";r=290;t=')


def test_the_windows_can_be_looked_at(ada: Person) -> None:
    assert ada.post(TEN).status_code == 200
    found = data(ada, LIMITS)["rateLimit"]
    resets = [window.pop("resetAt") for window in found["windows"]]
    assert all(each.endswith("Z") for each in resets)
    assert found["cost"] == 1
    assert found["maxCost"] == 5000
    viewer, sign_in = found["windows"]
    assert viewer == {"name": "viewer", "limit": 100, "remaining": 89, "windowSeconds": 900}
    assert (sign_in["name"], sign_in["limit"]) == ("sign-in", 3)


def test_without_limits_there_are_no_windows_and_no_headers(someone: Someone) -> None:
    person = someone()
    answer = person.post(LIMITS)
    assert answer.json()["data"] == {"rateLimit": {"cost": 1, "maxCost": 5000, "windows": []}}
    assert [name for name in answer.headers if name.startswith("ratelimit")] == []


def test_nobody_in_particular_has_no_windows_to_look_at(nobody: Person) -> None:
    assert codes(nobody.post(LIMITS)) == ["UNAUTHENTICATED"]


def test_a_socket_pays_like_everybody(few: Server, ada: Person) -> None:
    with connected(few.ws_url, ada.token) as socket:
        socket.ask("{ tasks(first: 94) { nodes { id } } }")
        assert socket.ask(LIMITS)["data"]["rateLimit"]["windows"][0]["remaining"] == 5
        socket.subscribe(TEN)
        (error,) = socket.error()
        assert error["extensions"]["code"] == "RATE_LIMITED"
        assert 0 < error["extensions"]["retryAfterSeconds"] <= 900
        socket.subscribe("{ nothing }", id="2")
        assert socket.error(id="2")[0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
        assert socket.ask(LIMITS)["data"]["rateLimit"]["windows"][0]["remaining"] == 3
    assert ada.post(TYPENAME).headers["ratelimit"].startswith('"viewer";r=2;t=')


def test_an_anonymous_socket_pays_by_its_address(few: Server) -> None:
    with connected(few.ws_url, headers={"x-forwarded-for": address()}) as socket:
        for _ in range(6):
            socket.ask(TYPENAME)
        socket.subscribe(TYPENAME)
        assert socket.error()[0]["extensions"]["code"] == "RATE_LIMITED"


def volley(urls: list[str], count: int, *, headers: dict[str, str]) -> list[int]:
    """The status of each of so many operations, sent at once to the servers in turn."""

    def ask(number: int) -> int:
        return httpx.post(f"{urls[number % len(urls)]}/graphql", json={"query": TYPENAME}, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(count)))


def exactly(urls: list[str], limit: int) -> None:
    """Half as many again as the limit are sent, and the limit is admitted.

    A process that stands still for longer than it waits for Redis, as it may on a busy machine, decides by itself: then once more.
    """
    for _ in range(10):
        before = [numbers(url)["taskgraph_rate_limit_local_total"] for url in urls]
        statuses = volley(urls, limit * 3 // 2, headers={"x-forwarded-for": address()})
        if [numbers(url)["taskgraph_rate_limit_local_total"] for url in urls] == before:
            assert (statuses.count(200), statuses.count(429)) == (limit, limit // 2)
            return
    raise AssertionError("Redis never answered in time")


def test_two_processes_admit_exactly_the_limit(launch: Launch) -> None:
    one = launch(RATE_LIMITS="on", RATE_LIMIT_ANONYMOUS="40", TRUSTED_PROXIES="127.0.0.1")
    two = launch(database=one.database, RATE_LIMITS="on", RATE_LIMIT_ANONYMOUS="40", TRUSTED_PROXIES="127.0.0.1")
    exactly([one.url], 40)
    exactly([one.url, two.url], 40)


@pytest.mark.parametrize(("workers", "admitted"), [(1, {40}), (2, set(range(20, 41)))])
@pytest.mark.parametrize("is_configured", [True, False])
def test_without_redis_each_process_admits_its_share(
    launch: Launch, workers: int, admitted: set[int], *, is_configured: bool
) -> None:
    """Which of two takes a connection is a matter of luck; neither admits more than half."""
    with own_valkey() as valkey:
        one = launch(
            workers=workers,
            RATE_LIMITS="on",
            RATE_LIMIT_ANONYMOUS="40",
            TRUSTED_PROXIES="127.0.0.1",
            REDIS_URL=str(valkey.redis_url) if is_configured else "",
        )
        volley([one.url], 10, headers={"x-forwarded-for": address()})
    statuses = volley([one.url], 160, headers={"x-forwarded-for": address()})
    assert set(statuses) == {200, 429}
    assert statuses.count(200) in admitted
    found = numbers(one.url)
    assert (found["taskgraph_rate_limit_is_local"], found["taskgraph_rate_limit_processes"]) == (1, workers)
    assert found["taskgraph_rate_limit_local_total"] > 0


@pytest.mark.parametrize(
    "url", ["rediss://127.0.0.1:1/0", "unix:///nowhere.sock", "valkeys://127.0.0.1:1/0", "redis://127.0.0.1:1/0"]
)
def test_counting_goes_to_redis_by_the_same_kind_of_connection(settings: MakeSettings, url: str) -> None:
    cache = redis.connect(settings(redis_url=url))
    assert cache.client is not None
    assert cache.patient_pool().connection_class is cache.client.connection_pool.connection_class


def test_a_volley_from_one_socket_is_counted_in_redis(few: Server) -> None:
    """More at once than there are connections, which is no reason to leave Redis alone. On a busy machine: in one of ten tries."""
    for _ in range(10):
        before = numbers(few.url)["taskgraph_rate_limit_local_total"]
        with connected(few.ws_url, headers={"x-forwarded-for": address()}) as socket:
            for number in range(40):
                socket.subscribe(TYPENAME, id=str(number))
            ended: list[str] = []
            while len(ended) < 40:
                message = socket.receive()
                ended += [] if message["type"] == "next" else [message["type"]]
        if numbers(few.url)["taskgraph_rate_limit_local_total"] == before:
            assert (ended.count("complete"), ended.count("error")) == (6, 34)
            return
    raise AssertionError("Redis never answered in time")


def test_a_frozen_redis_delays_nobody_for_long(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> None:
    with own_valkey() as valkey, ExitStack() as stack:
        server = stack.enter_context(limited(settings, mongo_client, redis_url=valkey.redis_url, rate_limit_anonymous=30))
        assert valkey.valkey is not None
        os.kill(valkey.valkey.pid, signal.SIGSTOP)
        stack.callback(os.kill, valkey.valkey.pid, signal.SIGCONT)
        began = time.monotonic()
        statuses = volley([server.url], 60, headers={"x-forwarded-for": address()})
        assert time.monotonic() - began < 5
        assert (statuses.count(200), statuses.count(429)) == (30, 30)
        assert numbers(server.url)["taskgraph_rate_limited_total{window=anonymous}"] == 30
