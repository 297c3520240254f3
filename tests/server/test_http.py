"""GraphQL over HTTP: what is refused and how, in both media types, and what a refusal tells."""

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pymongo.errors import AutoReconnect
from structlog.testing import capture_logs

from taskgraph.accounts import sessions
from taskgraph.server import page
from taskgraph.tasks import reads
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import connected
from tests.people import Person, unpriced
from tests.processes import eventually

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
TYPENAME = "{ __typename }"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CREATE = 'mutation { createTask(input: {title: "once"}) { task { title } } }'
TITLES = "{ tasks { nodes { title } } }"
ESTIMATE = (
    "query($document: String!, $variables: JSON) { estimateCost(document: $document, variables: $variables) { rejectedBecause } }"
)
TWO = "query A { a: __typename } query B { b: __typename }"


def post(person: Person, content: bytes, **headers: str) -> httpx.Response:
    """These very bytes."""
    sent = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
    return person.client.post(person.graphql_url, content=content, headers=sent)


def get(person: Person, parameters: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> httpx.Response:
    signed_in = {} if person.token is None else {"authorization": f"Bearer {person.token}"}
    return person.client.get(person.graphql_url, params=parameters, headers=signed_in | dict(headers or {}))


def codes(answer: httpx.Response) -> list[str]:
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


def message(answer: httpx.Response) -> str:
    (error,) = answer.json()["errors"]
    return str(error["message"])


@pytest.fixture(scope="module")
def production(settings: MakeSettings) -> Iterator[str]:
    """A server as the public would meet it."""
    made = settings(environment="production", allowed_origins="https://app.example.com")
    migrated(made)
    with served(made) as url:
        yield f"{url}/graphql"


@pytest.fixture
def public(production: str) -> Iterator[Person]:
    with httpx.Client(timeout=30) as client:
        yield Person(client, production)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (JSON, JSON),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("", JSON),
        (f"{JSON}; charset=utf-8", JSON),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
        (f"{JSON};q=0.9, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"{JSON}, {GRAPHQL_JSON}", JSON),
        (f"{GRAPHQL_JSON};q=0, {JSON}", JSON),
        (f"text/html, {GRAPHQL_JSON.upper()}", GRAPHQL_JSON),
        (BROWSER, JSON),
    ],
)
def test_the_answer_comes_in_the_media_type_that_the_client_likes_best(anonymous: Person, accept: str, answered: str) -> None:
    answer = anonymous.post(TYPENAME, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{answered}; charset=utf-8"
    assert unpriced(answer) == {"data": {"__typename": "Query"}}


def test_an_answer_is_nobody_elses_to_keep(anonymous: Person) -> None:
    headers = anonymous.post(TYPENAME).headers
    assert headers["cache-control"] == "no-store"
    assert headers["vary"] == "Accept, Authorization, Cookie"
    read = anonymous.client.get(anonymous.graphql_url, params={"query": TYPENAME})
    assert read.headers["vary"] == "Accept, Authorization, Cookie, Origin"


@pytest.mark.parametrize("accept", ["text/plain", "text/html", "image/png, text/*", f"{JSON};q=0", f"{GRAPHQL_JSON};q=0.000"])
def test_a_media_type_we_do_not_speak_is_not_acceptable(anonymous: Person, accept: str) -> None:
    answer = anonymous.post(TYPENAME, headers={"accept": accept})
    assert answer.status_code == 406
    assert message(answer) == f"Answers come as {GRAPHQL_JSON} or {JSON}."


@pytest.mark.parametrize("content_type", [JSON, "application/JSON", f"{JSON}; charset=utf-8", f'{JSON};charset="UTF-8"'])
def test_json_in_utf8_is_understood_however_it_is_announced(anonymous: Person, content_type: str) -> None:
    answer = post(anonymous, b'{"query": "{ __typename }"}', content_type=content_type)
    assert unpriced(answer) == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        f"{JSON}; charset=latin-1",
    ],
)
def test_a_body_of_another_type_is_refused_unread(anonymous: Person, content_type: str) -> None:
    """Among them all that a foreign page may send without asking first."""
    answer = post(anonymous, b'{"query": "{ __typename }"}', content_type=content_type)
    assert answer.status_code == 415
    assert answer.headers["accept"] == JSON
    assert codes(answer) == ["BAD_USER_INPUT"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"query",
        b'{"query": "\xff"}',
        b'\xef\xbb\xbf{"query": "{ __typename }"}',
        b'{"query": "\\ud800"}',
        b'{"query": "{ __typename }", "variables": {"a": NaN}}',
        b'{"query": "{ __typename }", "variables": {"a": %s}}' % (b"1" * 5000),
        b"1" * 5000,
        b"[" * 100_000,
        b"\x00" * 10,
    ],
    ids=["empty", "cut", "bare", "utf8", "bom", "surrogate", "nan", "digits-inside", "digits", "deep", "zeros"],
)
def test_a_body_that_is_no_json_is_a_bad_request(anonymous: Person, body: bytes) -> None:
    answer = post(anonymous, body)
    assert answer.status_code == 400
    assert message(answer) == "The body is not valid JSON in UTF-8."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("null", "The request must be a JSON object with a query."),
        ("true", "The request must be a JSON object with a query."),
        ("7", "The request must be a JSON object with a query."),
        ('"{ __typename }"', "The request must be a JSON object with a query."),
        ("[1, 2]", "Batches are not supported: send one operation per request."),
        ('[{"query": "{ __typename }"}]', "Batches are not supported: send one operation per request."),
        ("[" * 1000 + "]" * 1000, "Batches are not supported: send one operation per request."),
        ("{}", "query must be a GraphQL document in a string."),
        ('{"query": null}', "query must be a GraphQL document in a string."),
        ('{"query": 7}', "query must be a GraphQL document in a string."),
        ('{"query": "  "}', "query must be a GraphQL document in a string."),
        ('{"query": "{a}", "operationName": 7}', "operationName must be a string or null."),
        ('{"query": "{a}", "operationName": ["A"]}', "operationName must be a string or null."),
        ('{"query": "{a}", "variables": 7}', "variables must be an object or null."),
        ('{"query": "{a}", "variables": "{}"}', "variables must be an object or null."),
        ('{"query": "{a}", "variables": []}', "variables must be an object or null."),
        ('{"query": "{a}", "extensions": "x"}', "extensions must be an object or null."),
        ('{"query": "{a}", "extensions": []}', "extensions must be an object or null."),
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL_JSON])
def test_json_that_is_no_request_is_told_what_is_wrong(anonymous: Person, body: str, said: str, accept: str) -> None:
    answer = post(anonymous, body.encode(), accept=accept)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
    assert answer.json() == {"errors": [{"message": said, "extensions": {"code": "BAD_USER_INPUT"}}]}


@pytest.mark.parametrize(
    "body",
    [
        '{"query": "{ a", "query": "{ __typename }"}',
        '{"query": "{ __typename }", "operationName": null, "variables": null, "extensions": null}',
        '{"query": "{ __typename }", "operationName": "", "variables": {}, "extensions": {}, "more": 1}',
        '{"query": "{ __typename }", "extensions": {"unused": ' + "[" * 1000 + "]" * 1000 + "}}",
    ],
    ids=["last of two keys", "nulls", "empty", "1,000 deep"],
)
def test_an_odd_but_harmless_body_is_answered(anonymous: Person, body: str) -> None:
    answer = post(anonymous, body.encode())
    assert (answer.status_code, unpriced(answer)) == (200, {"data": {"__typename": "Query"}})


def test_a_body_above_the_limit_is_refused(anonymous: Person, server: Server) -> None:
    limit = server.settings.max_body_bytes
    fits = b'{"query": "{ __typename }"}'.ljust(limit)
    assert post(anonymous, fits).status_code == 200
    for size in (limit + 1, 5_000_000):
        answer = post(anonymous, fits.ljust(size))
        assert answer.status_code == 413
        assert message(answer) == f"The body is larger than {limit} bytes."


def test_a_body_without_a_length_is_measured_as_it_comes(anonymous: Person, server: Server) -> None:
    pieces = (b" " * 10_000 for _ in range(server.settings.max_body_bytes // 10_000 + 1))
    answer = anonymous.client.post(anonymous.graphql_url, content=pieces, headers={"content-type": JSON})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("document", "variables", "code", "as_json", "as_graphql"),
    [
        ("{ viewer {", {}, "GRAPHQL_PARSE_FAILED", 200, 400),
        ("{ nothing }", {}, "GRAPHQL_VALIDATION_FAILED", 200, 400),
        ("query($first: Int!) { tasks(first: $first) { totalCount } }", {}, "BAD_USER_INPUT", 200, 400),
        ("query($first: Int) { tasks(first: $first) { totalCount } }", {"first": "x"}, "BAD_USER_INPUT", 200, 400),
        ("{ tasks(first: 0) { totalCount } }", {}, "BAD_USER_INPUT", 200, 200),
        ("subscription { taskEvents { __typename } }", {}, "BAD_USER_INPUT", 400, 400),
        (TWO, {}, "BAD_USER_INPUT", 400, 400),
    ],
    ids=["syntax", "validation", "missing variable", "wrong variable", "field", "subscription", "unnamed"],
)
def test_the_status_says_whether_anything_was_run(
    someone: Someone, document: str, variables: Mapping[str, Any], code: str, as_json: int, as_graphql: int
) -> None:
    """Older clients, which only know application/json, take any other status than 200 for a failure of the network."""
    person = someone()
    for accept, status in ((JSON, as_json), (GRAPHQL_JSON, as_graphql)):
        answer = person.post(document, variables, headers={"accept": accept})
        assert (answer.status_code, codes(answer)) == (status, [code])
        # Only what was run has a data entry.
        assert ("data" in answer.json()) == (document == "{ tasks(first: 0) { totalCount } }")


@pytest.mark.parametrize(("name", "data"), [("A", {"a": "Query"}), ("B", {"b": "Query"})])
def test_of_several_operations_the_named_one_runs(anonymous: Person, name: str, data: dict[str, str]) -> None:
    assert unpriced(anonymous.post(TWO, operation_name=name)) == {"data": data}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("C", "The document has no operation named 'C'."),
        ("a", "The document has no operation named 'a'."),
        (None, "The document has several operations; say which by operationName."),
        ("", "The document has several operations; say which by operationName."),
    ],
)
def test_without_a_known_name_none_of_several_operations_runs(anonymous: Person, name: str | None, said: str) -> None:
    answer = anonymous.post(TWO, operation_name=name)
    assert (answer.status_code, message(answer)) == (400, said)


def test_the_only_operation_does_not_run_under_another_name(anonymous: Person) -> None:
    answer = anonymous.post(TYPENAME, operation_name="A")
    assert (answer.status_code, message(answer)) == (400, "The document has no operation named 'A'.")


def test_a_document_of_fragments_has_nothing_to_run(anonymous: Person) -> None:
    answer = anonymous.post("fragment F on Query { __typename }")
    assert (answer.status_code, codes(answer)) == (200, ["GRAPHQL_VALIDATION_FAILED"])


def test_get_runs_queries(someone: Someone) -> None:
    person = someone()
    document = "query V($a: Boolean!) { viewer @include(if: $a) { id } }"
    answer = get(person, {"query": document, "variables": '{"a": true}', "operationName": "V"})
    assert (answer.status_code, unpriced(answer)) == (200, {"data": {"viewer": {"id": person.id}}})


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "query must be a GraphQL document in a string."),
        ({"query": ""}, "query must be a GraphQL document in a string."),
        ({"query": TYPENAME, "variables": "{"}, "variables is not valid JSON in UTF-8."),
        ({"query": TYPENAME, "variables": "[]"}, "variables must be an object or null."),
        ({"query": TYPENAME, "extensions": "7"}, "extensions must be an object or null."),
        ({"query": TWO, "operationName": "C"}, "The document has no operation named 'C'."),
    ],
)
def test_a_get_that_is_no_request_is_told_what_is_wrong(anonymous: Person, parameters: dict[str, str], said: str) -> None:
    answer = get(anonymous, parameters)
    assert (answer.status_code, message(answer)) == (400, said)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_mutation_in_an_address_changes_nothing(someone: Someone, method: str) -> None:
    person = someone()
    answer = person.client.request(
        method,
        person.graphql_url,
        params={"query": CREATE},
        headers={"authorization": f"Bearer {person.token}"},
    )
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert person.ask(TITLES) == {"data": {"tasks": {"nodes": []}}}


def test_head_is_a_get_without_a_body(someone: Someone) -> None:
    """The JSON body that comes along is not looked at."""
    person = someone()
    headers = {"authorization": f"Bearer {person.token}"}
    answer = person.client.request("HEAD", person.graphql_url, params={"query": TYPENAME}, json={"query": CREATE}, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert person.ask(TITLES) == {"data": {"tasks": {"nodes": []}}}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(anonymous: Person, method: str) -> None:
    answer = anonymous.client.request(method, anonymous.graphql_url, json={"query": TYPENAME})
    assert answer.status_code == 405
    assert {each.strip() for each in answer.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_JSON])
@pytest.mark.parametrize(
    "document", [TITLES, "{ sessions { id } }", "{ taskStats { total } }", CREATE, "mutation { logout { replayed } }"]
)
def test_without_a_token_what_needs_one_is_unauthenticated(anonymous: Person, document: str, accept: str) -> None:
    answer = anonymous.post(document, headers={"accept": accept})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert codes(answer) == ["UNAUTHENTICATED"]
    assert answer.json()["data"] is None


@pytest.mark.parametrize("authorization", ["Bearer x", "Bearer", "Basic YTpi", "x", "Bearer a.b.c"])
def test_a_bad_token_is_refused_even_where_none_is_needed(anonymous: Person, authorization: str) -> None:
    answer = anonymous.post(TYPENAME, headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert codes(answer) == ["UNAUTHENTICATED"]
    assert "data" not in answer.json()


def test_what_is_open_to_everybody_is_answered_beside_what_is_not(anonymous: Person) -> None:
    answer = anonymous.post('{ viewer { id } task(id: "x") { id } }')
    assert answer.status_code == 200
    assert answer.json()["data"] == {"viewer": None, "task": None}
    assert codes(answer) == ["UNAUTHENTICATED"]


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_JSON])
def test_a_bug_shows_a_request_id_and_nothing_of_itself(someone: Someone, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of line 7")

    monkeypatch.setattr(reads, "stats", broken)
    person = someone()
    with capture_logs() as logged:
        answer = person.post("{ taskStats { total } }", headers={"accept": accept})
    (error,) = answer.json()["errors"]
    request_id = error["extensions"].pop("requestId")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert answer.status_code == 200
    assert answer.json()["data"] is None
    assert error == {
        "message": "Something went wrong on our side. Please report the requestId.",
        "locations": [{"line": 1, "column": 3}],
        "path": ["taskStats"],
        "extensions": {"code": "INTERNAL"},
    }
    (entry,) = [each for each in logged if each["event"] == "internal error"]
    assert entry["request_id"] == request_id
    assert str(entry["exc_info"]) == "the secret of line 7"


def test_a_bug_before_anything_runs_is_shown_the_same_way(
    anonymous: Person, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("the secret of line 7")

    person = someone()
    monkeypatch.setattr("taskgraph.accounts.live_sessions.BELIEVED_SECONDS", -1.0)
    monkeypatch.setattr(sessions, "live_sessions", broken)
    with capture_logs() as logged:
        answer = person.post(TYPENAME)
    assert answer.status_code == 500
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["extensions"]["requestId"] in [each.get("request_id") for each in logged]
    assert "secret" not in answer.text
    assert anonymous.ask(TYPENAME) == {"data": {"__typename": "Query"}}


def test_an_unreachable_database_is_busy(someone: Someone, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: object, **__: object) -> None:
        raise AutoReconnect("10.0.0.7:27017: connection refused")

    monkeypatch.setattr(reads, "stats", unreachable)
    answer = someone().post("{ taskStats { total } }")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    (error,) = answer.json()["errors"]
    assert error["message"] == "The database is busy or cannot be reached; try again shortly."
    assert error["extensions"] == {"code": "BUSY", "retryAfterSeconds": 5}


def test_an_unreachable_database_is_busy_before_anything_runs(someone: Someone, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(*_: object) -> None:
        raise AutoReconnect("10.0.0.7:27017: connection refused")

    person = someone()
    monkeypatch.setattr("taskgraph.accounts.live_sessions.BELIEVED_SECONDS", -1.0)
    monkeypatch.setattr(sessions, "live_sessions", unreachable)
    answer = person.post(TYPENAME)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert codes(answer) == ["BUSY"]
    assert "10.0.0.7" not in answer.text


def test_a_connection_outlives_the_errors_on_it(server: Server) -> None:
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.connect()
        held = connection.sock
        for content_type, body, status in [
            (JSON, b"{", 400),
            ("text/plain", b"hello", 415),
            (JSON, b'{"query": "{ nothing }"}', 200),
            (JSON, b'{"query": "{ tasks { totalCount } }"}', 401),
            (JSON, b'{"query": "{ __typename }"}', 200),
        ]:
            connection.request("POST", "/graphql", body=body, headers={"content-type": content_type})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
            assert connection.sock is held
    finally:
        connection.close()


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: Server, anonymous: Person) -> None:
    address = urlsplit(server.url)
    with capture_logs() as logged:
        with socket.create_connection((address.hostname, address.port), timeout=10) as leaving:
            leaving.sendall(b"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
        assert eventually(lambda: bool(logged))
    assert {entry["log_level"] for entry in logged} == {"info"}
    assert anonymous.ask(TYPENAME) == {"data": {"__typename": "Query"}}


def test_a_mutation_is_finished_when_its_client_has_left(server: Server, someone: Someone) -> None:
    person, address = someone(), urlsplit(server.url)
    body = json.dumps({"query": CREATE}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\nauthorization: Bearer {person.token}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as leaving:
        leaving.sendall(head.encode() + body)
    assert eventually(lambda: person.ask(TITLES) == {"data": {"tasks": {"nodes": [{"title": "once"}]}}})


def test_the_page_is_for_people_who_have_no_query(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    document = page.File(content_type="text/html; charset=utf-8", plain=b"<!doctype html>", gzipped=None)
    monkeypatch.setattr(page, "load", lambda: page.Page(document, MappingProxyType({})))
    made = settings()
    migrated(made)
    with served(made) as url, httpx.Client() as client:
        person = Person(client, f"{url}/graphql")
        shown = get(person, {}, headers={"accept": BROWSER})
        assert (shown.status_code, shown.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert shown.content == b"<!doctype html>"
        for answer in (
            get(person, {"query": TYPENAME}, headers={"accept": BROWSER}),
            person.post(TYPENAME, headers={"accept": BROWSER}),
            get(person, {"query": TYPENAME}, headers={"accept": JSON}),
        ):
            assert (answer.headers["content-type"], unpriced(answer)) == (
                f"{JSON}; charset=utf-8",
                {"data": {"__typename": "Query"}},
            )


def test_production_has_no_page(public: Person) -> None:
    answer = get(public, {}, headers={"accept": BROWSER})
    assert (answer.status_code, message(answer)) == (400, "query must be a GraphQL document in a string.")
    assert get(public, {}, headers={"accept": "text/html"}).status_code == 406
    assert public.client.get(public.graphql_url.replace("/graphql", "/graphiql/assets/x.js")).status_code == 404


@pytest.mark.parametrize("field", ["__schema { types { name } }", '__type(name: "Task") { name }'])
def test_production_does_not_describe_itself(public: Person, anonymous: Person, field: str) -> None:
    refused = public.post(f"{{ {field} }}")
    assert "data" not in refused.json()
    assert set(codes(refused)) == {"GRAPHQL_VALIDATION_FAILED"}
    assert public.ask(TYPENAME) == {"data": {"__typename": "Query"}}
    assert "errors" not in anonymous.ask(f"{{ {field} }}")


GUESSED = pytest.mark.parametrize(
    ("document", "variables", "meant"),
    [
        ("{ viewr { id } }", {}, "Did you mean 'viewer'?"),
        ('mutation { createTask(inptu: {title: "x"}) { replayed } }', {}, "Did you mean 'input'?"),
        ('{ tasks(filter: {titel: {eq: "x"}}) { totalCount } }', {}, "Did you mean 'title'?"),
        ("{ tasks(filter: {status: {eq: DON}}) { totalCount } }", {}, "Did you mean the enum value 'DONE'?"),
        ("query($f: TaskFilte) { tasks(filter: $f) { totalCount } }", {}, "Did you mean 'TaskFilter'"),
        ("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": {"titel": {"eq": "x"}}}, "Did you mean 'title'?"),
        (
            "query($f: TaskFilter) { tasks(filter: $f) { totalCount } }",
            {"f": {"status": {"eq": "DON"}}},
            "Did you mean the enum value 'DONE'?",
        ),
    ],
    ids=["field", "argument", "input field", "enum value", "type", "input field in a variable", "enum value in a variable"],
)


@GUESSED
def test_production_does_not_guess_what_was_meant(
    public: Person, anonymous: Person, document: str, variables: Mapping[str, Any], meant: str
) -> None:
    assert meant in anonymous.post(document, variables).text
    assert "Did you mean" not in public.post(document, variables).text


@pytest.mark.parametrize(
    "fragment", ['{"priority": {"eq": "\u0130"}}', '{"\u0130": {"eq": "HIGH"}}', '{"priority": {"\u0130": 1}}']
)
def test_a_name_of_letters_that_grow_in_lower_case_is_refused_like_any_other(anonymous: Person, fragment: str) -> None:
    """graphql-core looks for names alike, and \u0130 has two letters in lower case and one in its tables."""
    answer = anonymous.post("query($f: TaskFilter) { tasks(filter: $f) { totalCount } }", {"f": json.loads(fragment)})
    assert (answer.status_code, codes(answer)) == (200, ["BAD_USER_INPUT"])
    assert "index" not in answer.text


@pytest.mark.parametrize("is_literal", [True, False])
@pytest.mark.parametrize("value", ['"' + "x" * 5_000 + '"', "[" + ",".join(["1"] * 1_000) + "]", "9" * 1_000])
def test_a_message_quotes_what_was_sent_only_so_far(anonymous: Person, value: str, *, is_literal: bool) -> None:
    document, variables = f"{{ taskStats(filter: {{isOverdue: {value}, dueDate: {{lt: {value}}}}}) {{ total }} }}", "{}"
    if not is_literal:
        document = "query($f: TaskFilter) { taskStats(filter: $f) { total } }"
        variables = f'{{"f": {{"dueDate": {{"lt": {value}}}}}}}'
    body = f'{{"query": {json.dumps(document)}, "variables": {variables}}}'
    answer = anonymous.client.post(anonymous.graphql_url, content=body, headers={"content-type": JSON})
    assert answer.json()["errors"], answer.text
    assert all(len(error["message"]) <= 503 for error in answer.json()["errors"])


@pytest.mark.parametrize(
    "document",
    [
        "{ nodes(ids: DIGITS) { id } }",
        "{ nodes(ids: [DIGITS]) { id } }",
        "query($ids: [ID!]! = DIGITS) { nodes(ids: $ids) { id } }",
        "query($ids: [ID!]! = [DIGITS]) { nodes(ids: $ids) { id } }",
    ],
)
def test_a_number_of_5000_digits_is_an_id_of_nothing(someone: Someone, document: str) -> None:
    """Python reads no number that long."""
    assert someone().ask(document.replace("DIGITS", "9" * 5_000)) == {"data": {"nodes": [None]}}


AS_OF = "fragment F on Query { task(id: $id) { asOf(at: {version: $v}) { title } } }"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{ task(id: 1) { asOf(at: {version: $v}) { title } } }", "Variable '$v' is not defined."),
        (
            "query($v: Int) { task(id: 1) { asOf(at: {version: $v}) { title } } }",
            "Variable '$v' must be non-nullable to be used for OneOf Input Object 'TaskPoint'.",
        ),
        (
            "{ task(id: 1) { asOf(at: {version: null}) { title } } }",
            "exactly one field must be specified, and the value for that field must be non-null.",
        ),
        ("{ task(id: 1) { asOf(at: {}) { title } } }", "exactly one field must be specified"),
        (f"{AS_OF} query($id: ID!) {{ ...F }}", "Variable '$v' is not defined."),
    ],
)
def test_one_of_several_members_must_be_given(anonymous: Person, document: str, message: str) -> None:
    answer = anonymous.post(document)
    assert codes(answer) == ["GRAPHQL_VALIDATION_FAILED"] * len(codes(answer))
    assert message in answer.text


@pytest.mark.parametrize(
    "document", [f"{AS_OF} query($id: ID!, $v: Int!) {{ ...F }}", f"query($id: ID!, $v: Int!) {{ ...F }} {AS_OF}"]
)
def test_a_fragment_may_come_before_the_operation_that_defines_its_variables(someone: Someone, document: str) -> None:
    ada = someone()
    made = ada.ask('mutation { createTask(input: {title: "a"}) { task { id } } }')["data"]["createTask"]["task"]["id"]
    assert ada.ask(document, {"id": made, "v": 1}) == {"data": {"task": {"asOf": {"title": "a"}}}}


def test_unknown_names_in_a_variable_hold_nobody_up(anonymous: Person) -> None:
    """Each is an error that quotes all of them: 10,000 took 12 s."""
    unknown: dict[str, Any] = {f"k{number}": 1 for number in range(9_000)}
    began = time.process_time()
    answer = anonymous.post("mutation($i: CreateTaskInput!) { createTask(input: $i) { replayed } }", {"i": unknown})
    assert time.process_time() - began < 1
    assert set(codes(answer)) == {"BAD_USER_INPUT"}
    assert len(answer.content) < 10_000


@GUESSED
def test_production_does_not_guess_over_a_websocket_or_when_it_estimates(
    production: str, someone: Someone, document: str, variables: Mapping[str, Any], meant: str
) -> None:
    public, private = someone(url=production.removesuffix("/graphql")), someone()
    given = {"document": document, "variables": variables}
    assert meant in private.post(ESTIMATE, given).text
    assert "Did you mean" not in public.post(ESTIMATE, given).text
    with connected(f"ws{production.removeprefix('http')}", public.token) as socket:
        socket.subscribe(document, variables)
        (error, *_) = socket.error()
        assert "Did you mean" not in error["message"]
        socket.subscribe("{ __schema { types { name } } }")
        assert {each["extensions"]["code"] for each in socket.error()} == {"GRAPHQL_VALIDATION_FAILED"}


def test_a_page_of_an_allowed_origin_may_call(public: Person) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = public.client.options(public.graphql_url, headers={"origin": "https://app.example.com"} | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for body in ("{ __typename }", "{ tasks { totalCount } }", "{ nothing }"):
        answer = public.post(body, headers={"origin": "https://app.example.com"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil.com", "null"]
)
def test_a_page_of_another_origin_may_not(public: Person, origin: str) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    preflight = public.client.options(public.graphql_url, headers={"origin": origin} | asked)
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in public.post(TYPENAME, headers={"origin": origin}).headers
