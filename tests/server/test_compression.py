"""Large answers travel packed to whom can unpack them; small ones, and those of mutations, as they are."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from taskgraph.server import compression
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.people import PASSWORD, Person
from tests.server.test_persisted import automatic

CREATE = "mutation($input: BulkCreateTasksInput!) { bulkCreateTasks(input: $input) { errors { code } } }"
ALL = "{ tasks(first: 100) { nodes { id title description } } }"
JSON = {"content-type": "application/json"}


@pytest.fixture
def writer(someone: Someone) -> Person:
    """Has 40 tasks with much to say."""
    ada = someone()
    tasks = [{"title": f"Task {number}", "description": "All that there is to say of it. " * 30} for number in range(40)]
    assert ada.ask(CREATE, {"input": {"tasks": tasks}})["data"]["bulkCreateTasks"]["errors"] == []
    return ada


def raw(
    person: Person, document: str, accept_encoding: str | None, method: str = "POST", **body: Any
) -> tuple[httpx.Response, bytes]:
    """The response and its bytes as they came."""
    headers = {"authorization": f"Bearer {person.token}", "accept-encoding": accept_encoding or "identity"}
    sent = {"query": document, **body}
    with httpx.Client(timeout=30) as client:
        given: dict[str, Any] = {"json": sent}
        if method == "GET":
            given = {"params": {name: value if isinstance(value, str) else json.dumps(value) for name, value in sent.items()}}
        with client.stream(method, person.graphql_url, headers=headers, **given) as response:
            return response, b"".join(response.iter_raw())


@pytest.mark.parametrize("accept_encoding", ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.8, *;q=0.1"])
def test_a_large_answer_is_packed(writer: Person, accept_encoding: str) -> None:
    response, body = raw(writer, ALL, accept_encoding)
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-length"] == str(len(body))
    assert "accept-encoding" in response.headers["vary"].lower()
    unpacked = gzip.decompress(body)
    assert len(body) < len(unpacked) / 4
    assert json.loads(unpacked)["data"] == writer.ask(ALL)["data"]


@pytest.mark.parametrize("accept_encoding", [None, "br", "gzip;q=0", "identity, gzip; q=0.000", "gzipped", "*;q=0"])
def test_a_client_that_cannot_unpack_it_gets_it_plain(writer: Person, accept_encoding: str | None) -> None:
    response, body = raw(writer, ALL, accept_encoding)
    assert "content-encoding" not in response.headers
    assert json.loads(body)["data"] == writer.ask(ALL)["data"]


def test_a_small_answer_is_not_worth_it(writer: Person) -> None:
    response, body = raw(writer, "{ tasks(first: 5) { nodes { title } } }", "gzip")
    assert "content-encoding" not in response.headers
    assert len(json.loads(body)["data"]["tasks"]["nodes"]) == 5


def test_a_very_large_answer_is_packed_beside_the_loop(writer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "THREAD_BYTES", 20_000)
    response, body = raw(writer, ALL, "gzip")
    assert response.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["data"] == writer.ask(ALL)["data"]


def test_a_packed_answer_has_the_etag_of_the_plain_one(writer: Person) -> None:
    packed, plain = (raw(writer, ALL, each, "GET", **automatic(ALL))[0] for each in ("gzip", None))
    assert (packed.headers["content-encoding"], "content-encoding" in plain.headers) == ("gzip", False)
    assert packed.headers["etag"] == plain.headers["etag"]
    assert "accept-encoding" in plain.headers["vary"].lower()


@pytest.fixture(scope="module")
def lenient(settings: MakeSettings) -> Iterator[str]:
    made = settings(max_aliases=1000, max_tokens=10_000)
    migrated(made)
    with served(made) as url:
        yield url


def test_an_answer_with_secrets_is_never_packed(lenient: str, someone: Someone) -> None:
    """Its length would tell whether a guess that the client repeats in it is right."""
    ada = someone(url=lenient)
    often = " ".join(f"a{number}: accessToken b{number}: refreshToken" for number in range(100))
    login = f'login(input: {{email: "{ada.email}", password: "{PASSWORD}"}})'
    register = f'register(input: {{name: "A", email: "b{ada.email}", password: "{PASSWORD}"}})'
    refresh = f'refreshSession(input: {{refreshToken: "{ada.refresh_token}"}})'
    for field in (login, register, refresh):
        response, body = raw(ada, f"mutation {{ {field} {{ {often} errors {{ code }} }} }}", "gzip")
        (payload,) = json.loads(body)["data"].values()
        assert (payload["errors"], len(body) > compression.MIN_BYTES) == ([], True)
        assert payload["a0"]
        assert "content-encoding" not in response.headers


def test_the_page_is_packed_by_its_build(server: Server) -> None:
    answer = httpx.get(f"{server.url}/graphql", headers={"accept": "text/html", "accept-encoding": "gzip"})
    assert (answer.status_code, answer.headers.get("content-encoding")) in {(200, "gzip"), (503, None)}
