"""Documents that are named instead of sent: found on every process, bounded, and verified; or trusted, and then the only ones."""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from structlog.testing import capture_logs

from taskgraph.server import persisted
from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import connected
from tests.metrics import numbers
from tests.people import Person, unpriced
from tests.processes import ran
from tests.test_settings import refusal

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
VIEWER = "query Viewer { viewer { id } }"
CREATE = 'mutation Create { createTask(input: {title: "persisted"}) { task { title } errors { code } } }'
TITLES = "{ tasks { nodes { title } } }"
NOT_FOUND = {"message": "PersistedQueryNotFound", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}
NOT_LISTED = "Only documents on this server's list are run here, and this one is not on it."


def sha256(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def automatic(document: str) -> dict[str, Any]:
    """As Apollo Client and urql send it."""
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256(document)}}}


def post(person: Person, body: Mapping[str, Any], *, accept: str = JSON) -> httpx.Response:
    signed_in = {} if person.token is None else {"authorization": f"Bearer {person.token}"}
    return person.client.post(person.graphql_url, json=body, headers=signed_in | {"accept": accept})


def get(person: Person, body: Mapping[str, Any], **headers: str) -> httpx.Response:
    signed_in = {} if person.token is None else {"authorization": f"Bearer {person.token}"}
    sent = {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return person.client.get(person.graphql_url, params=sent, headers=signed_in | named)


def over_socket(person: Person, body: Mapping[str, Any]) -> Any:
    """The payload that answers it, of whatever kind."""
    with connected(person.graphql_url.replace("http", "ws", 1), person.token) as socket:
        socket.send("subscribe", id="1", payload=body)
        payload = socket.receive()["payload"]
        return payload if isinstance(payload, list) else {"data": payload["data"]}


def message(answer: httpx.Response) -> str:
    (error,) = answer.json()["errors"]
    return str(error["message"])


@pytest.fixture
def redis(server: Server) -> Iterator[Redis]:
    assert server.settings.redis_url is not None
    with Redis.from_url(server.settings.redis_url.get_secret_value()) as client:
        yield client


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As relay-compiler and graphql-codegen write it, and with an id of one's own."""
    file = tmp_path_factory.mktemp("documents") / "persisted-documents.json"
    relay = hashlib.md5(TITLES.encode(), usedforsecurity=False).hexdigest()
    file.write_text(json.dumps({sha256(VIEWER): VIEWER, relay: TITLES, "create-1": CREATE}))
    return file


@pytest.fixture(scope="module")
def strict(settings: MakeSettings, listed: Path) -> Iterator[str]:
    made = settings(trusted_documents="enforce", trusted_documents_file=listed)
    migrated(made)
    with served(made) as url:
        yield url


def test_a_document_is_sent_once_and_named_from_then_on(someone: Someone) -> None:
    ada = someone()
    document = f"query Once {{ viewer {{ id }} }} # {ada.id}"
    for accept, status in ((JSON, 200), (GRAPHQL_JSON, 400)):
        answer = post(ada, automatic(document), accept=accept)
        assert (answer.status_code, answer.json(), answer.headers["cache-control"]) == (status, {"errors": [NOT_FOUND]}, "no-store")
    assert get(ada, automatic(document)).json() == {"errors": [NOT_FOUND]}
    assert over_socket(ada, automatic(document)) == [NOT_FOUND]
    expected = {"data": {"viewer": {"id": ada.id}}}
    assert unpriced(post(ada, {"query": document, **automatic(document)})) == expected
    assert unpriced(post(ada, automatic(document))) == expected
    assert unpriced(post(ada, {"query": "", **automatic(document)})) == expected
    assert unpriced(get(ada, automatic(document))) == expected
    assert over_socket(ada, automatic(document)) == expected
    # The name of the specification's draft.
    assert unpriced(post(ada, {"documentId": f"sha256:{sha256(document)}"})) == expected


@pytest.mark.parametrize("way", ["get", "socket"])
def test_a_document_may_be_sent_first_by_any_way(someone: Someone, way: str) -> None:
    ada = someone()
    document = f"query First {{ viewer {{ id }} }} # {ada.id}"
    sent = {"query": document, **automatic(document)}
    assert (unpriced(get(ada, sent)) if way == "get" else over_socket(ada, sent)) == {"data": {"viewer": {"id": ada.id}}}
    assert unpriced(post(ada, automatic(document))) == {"data": {"viewer": {"id": ada.id}}}


def test_a_document_is_not_the_viewers_who_sent_it(someone: Someone, anonymous: Person) -> None:
    ada, bea = someone(), someone()
    document = f"query Mine {{ viewer {{ id }} }} # {ada.id}"
    post(ada, {"query": document, **automatic(document)})
    assert unpriced(post(bea, automatic(document))) == {"data": {"viewer": {"id": bea.id}}}
    assert unpriced(post(anonymous, automatic(document))) == {"data": {"viewer": None}}


def test_a_mutation_may_be_named_but_not_by_get(someone: Someone) -> None:
    ada = someone()
    assert post(ada, {"query": CREATE, **automatic(CREATE)}).json()["data"]["createTask"]["errors"] == []
    assert post(ada, automatic(CREATE)).json()["data"]["createTask"]["errors"] == []
    assert get(ada, automatic(CREATE)).status_code == 405
    assert len(ada.ask(TITLES)["data"]["tasks"]["nodes"]) == 2


def test_a_wrong_hash_is_refused_and_not_remembered(anonymous: Person, redis: Redis) -> None:
    wrong = sha256("{ __typename } # another")
    sent = {"query": "{ __typename }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": wrong}}}
    for answer in (post(anonymous, sent), get(anonymous, sent), post(anonymous, sent, accept=GRAPHQL_JSON)):
        assert answer.status_code == 400
        assert answer.json() == {
            "errors": [
                {
                    "message": "sha256Hash is not the SHA-256 of the query that came with it.",
                    "extensions": {"code": "BAD_USER_INPUT"},
                }
            ]
        }
    assert [error["extensions"]["code"] for error in over_socket(anonymous, sent)] == ["BAD_USER_INPUT"]
    assert post(anonymous, {"extensions": sent["extensions"]}).json() == {"errors": [NOT_FOUND]}
    assert not [key for key in redis.scan_iter("taskgraph-document/*") if wrong.encode() in key]


@pytest.mark.parametrize(
    ("extension", "said"),
    [
        (7, "extensions.persistedQuery must be an object of version 1."),
        ({"sha256Hash": "a" * 64}, "extensions.persistedQuery must be an object of version 1."),
        ({"version": 2, "sha256Hash": "a" * 64}, "extensions.persistedQuery must be an object of version 1."),
        ({"version": 1}, "The id of a document must be a string, such as its SHA-256 in hexadecimal digits."),
        (
            {"version": 1, "sha256Hash": {"$ne": None}},
            "The id of a document must be a string, such as its SHA-256 in hexadecimal digits.",
        ),
        (
            {"version": 1, "sha256Hash": "a" * 201},
            "The id of a document must be a string, such as its SHA-256 in hexadecimal digits.",
        ),
    ],
)
def test_an_extension_that_makes_no_sense_is_told_why(anonymous: Person, extension: object, said: str) -> None:
    answer = post(anonymous, {"extensions": {"persistedQuery": extension}})
    assert (answer.status_code, message(answer)) == (400, said)


@pytest.mark.parametrize("document_id", ["", "x", "*", "sha256:", "../a", "a" * 63, "A" * 64, "taskgraph-documents/viewers"])
def test_an_id_that_is_none_is_not_found(anonymous: Person, document_id: str) -> None:
    answer = post(anonymous, {"documentId": document_id})
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == [
        "PERSISTED_QUERY_NOT_FOUND" if document_id else "BAD_USER_INPUT"
    ]


def test_a_document_that_may_not_run_is_not_remembered(anonymous: Person, redis: Redis) -> None:
    for document in ("{ nothing }", "{ viewer {", "{ __typename }" + " a: __typename" * 3000):
        post(anonymous, {"query": document, **automatic(document)})
        assert post(anonymous, automatic(document)).json() == {"errors": [NOT_FOUND]}
        assert not [key for key in redis.scan_iter("taskgraph-document/*") if sha256(document).encode() in key]


def test_a_long_document_runs_and_is_not_remembered(anonymous: Person) -> None:
    document = "{ __typename } #" + "x" * persisted.MAX_DOCUMENT_BYTES
    for _ in range(2):
        assert unpriced(post(anonymous, {"query": document, **automatic(document)})) == {"data": {"__typename": "Query"}}
    assert post(anonymous, automatic(document)).json() == {"errors": [NOT_FOUND]}


def test_what_strangers_send_has_a_bound_and_pushes_out_nothing_of_viewers(
    settings: MakeSettings, someone: Someone, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persisted, "POOL_DOCUMENTS", {persisted.VIEWERS: 2000, persisted.ANYBODY: 5})
    monkeypatch.setattr(persisted, "MEMORY_BYTES", 2000)
    redis.flushdb()
    made = settings()
    migrated(made)
    with served(made) as url, httpx.Client() as client:
        ada, nobody = someone(url=url), Person(client, f"{url}/graphql")
        mine = f"{VIEWER} # {ada.id}"
        post(ada, {"query": mine, **automatic(mine)})
        others = [f"{{ __typename }} # {ada.id} {number}" for number in range(30)]
        for document in others:
            post(nobody, {"query": document, **automatic(document)})
        assert len(list(redis.scan_iter("taskgraph-document/anybody/*"))) == redis.zcard("taskgraph-documents/anybody") == 5
        assert post(nobody, automatic(others[0])).json() == {"errors": [NOT_FOUND]}
        assert unpriced(post(nobody, automatic(others[-1]))) == {"data": {"__typename": "Query"}}
        assert unpriced(post(ada, automatic(mine))) == {"data": {"viewer": {"id": ada.id}}}
        for key in (*redis.scan_iter("taskgraph-document/*"), b"taskgraph-documents/anybody", b"taskgraph-documents/viewers"):
            assert 0 < redis.ttl(key) <= persisted.KEPT_SECONDS


def test_what_redis_has_lost_it_is_told_again(anonymous: Person, someone: Someone, redis: Redis) -> None:
    document = f"{{ __typename }} # lost {uuid.uuid4()}"
    held = f"taskgraph-document/{{}}/{sha256(document)}"
    post(anonymous, {"query": document, **automatic(document)})
    assert redis.delete(held.format("anybody")) == 1
    post(anonymous, {"query": document, **automatic(document)})
    assert redis.exists(held.format("anybody"))
    assert not redis.exists(held.format("viewers"))
    # What a viewer has sent is kept with that of viewers, whoever else sent it first.
    post(someone(), {"query": document, **automatic(document)})
    assert redis.exists(held.format("viewers"))


def test_what_redis_holds_is_verified(anonymous: Person, redis: Redis) -> None:
    asked = f"{{ __typename }} # {id(redis)}"
    redis.set(f"taskgraph-document/viewers/{sha256(asked)}", "{ viewer { id } }")
    assert post(anonymous, automatic(asked)).json() == {"errors": [NOT_FOUND]}


def test_every_process_knows_what_one_was_sent(launch: Launch, someone: Someone) -> None:
    one = launch()
    two = launch(database=one.database)
    ada = someone(url=one.url)
    document = f"query Shared {{ viewer {{ id }} }} # {ada.id}"
    post(ada, {"query": document, **automatic(document)})
    elsewhere = Person(ada.client, f"{two.url}/graphql", token=ada.token)
    assert unpriced(post(elsewhere, automatic(document))) == {"data": {"viewer": {"id": ada.id}}}
    assert numbers(two.url)["taskgraph_named_documents_total{found=redis}"] == 1


@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1"])
def test_without_redis_a_process_remembers_for_itself(settings: MakeSettings, someone: Someone, redis_url: str | None) -> None:
    made = settings(redis_url=redis_url)
    migrated(made)
    with served(made) as url:
        ada = someone(url=url)
        assert post(ada, automatic(VIEWER)).json() == {"errors": [NOT_FOUND]}
        for body in ({"query": VIEWER, **automatic(VIEWER)}, automatic(VIEWER)):
            assert unpriced(post(ada, body)) == {"data": {"viewer": {"id": ada.id}}}


def test_asking_for_what_nobody_knows_is_counted_by_the_rate_limit(settings: MakeSettings) -> None:
    made = settings(rate_limits="on", rate_limit_anonymous=3, trusted_proxies="127.0.0.1")
    migrated(made)
    with served(made) as url, httpx.Client(headers={"x-forwarded-for": "198.51.100.77"}) as client:
        nobody = Person(client, f"{url}/graphql")
        assert [post(nobody, automatic(f"{{ a{n} }}")).status_code for n in range(4)] == [200, 200, 200, 429]


def test_a_named_query_is_answered_again_only_when_it_has_changed(someone: Someone) -> None:
    ada = someone()
    post(ada, {"query": TITLES, **automatic(TITLES)})
    first = get(ada, automatic(TITLES))
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["vary"].replace(" ", "").lower().startswith("accept,authorization,cookie")
    tag = first.headers["etag"]
    for sent in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = get(ada, automatic(TITLES), if_none_match=sent)
        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["etag"], again.headers["cache-control"]) == (tag, "private, no-cache")
        assert again.headers["vary"] == first.headers["vary"]
        assert "content-type" not in again.headers
    assert get(ada, automatic(TITLES), if_none_match='"other"').json() == first.json()
    ada.ask(CREATE)
    changed = get(ada, automatic(TITLES), if_none_match=tag)
    assert (changed.status_code, changed.json()["data"]) == (200, {"tasks": {"nodes": [{"title": "persisted"}]}})
    assert changed.headers["etag"] != tag


def test_an_etag_is_the_viewers_own(someone: Someone, anonymous: Person) -> None:
    """Though the answers are the same, byte for byte."""
    ada, bea, document = someone(), someone(), "{ __typename }"
    post(anonymous, {"query": document, **automatic(document)})
    answers = [get(each, automatic(document)) for each in (ada, bea, anonymous)]
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["etag"] for answer in answers}) == 3
    assert get(bea, automatic(document), if_none_match=answers[0].headers["etag"]).status_code == 200


def test_an_etag_is_for_one_media_type(someone: Someone) -> None:
    ada = someone()
    post(ada, {"query": VIEWER, **automatic(VIEWER)})
    assert len({get(ada, automatic(VIEWER), accept=accept).headers["etag"] for accept in (JSON, GRAPHQL_JSON)}) == 2


def test_nothing_else_may_be_kept(someone: Someone, anonymous: Person) -> None:
    ada, failing = someone(), "{ tasks(first: 0) { totalCount } }"
    post(ada, {"query": VIEWER, **automatic(VIEWER)})
    post(ada, {"query": failing, **automatic(failing)})
    for answer in (
        post(ada, automatic(VIEWER)),
        get(ada, {"query": VIEWER}),
        get(ada, automatic(failing)),
        get(ada, automatic("{ unknown }")),
        get(anonymous, automatic(failing)),
    ):
        assert answer.headers["cache-control"] == "no-store"
        assert "etag" not in answer.headers
        assert answer.status_code != 304


def test_only_listed_documents_run(strict: str, anonymous: Person) -> None:
    ada = Person(anonymous.client, f"{strict}/graphql")
    unlisted = "query Other { viewer { id } }"
    for body in ({"query": unlisted}, {"query": unlisted, **automatic(unlisted)}, {"query": "{ nothing }"}):
        for answer in (post(ada, body), get(ada, body)):
            assert answer.status_code == 200
            assert answer.json() == {"errors": [{"message": NOT_LISTED, "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}]}
        assert over_socket(ada, body) == [{"message": NOT_LISTED, "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}]
    for answered in (post(ada, automatic(unlisted)).json()["errors"], over_socket(ada, automatic(unlisted))):
        assert answered == [NOT_FOUND]
    expected = {"data": {"viewer": None}}
    assert unpriced(post(ada, automatic(VIEWER))) == expected
    assert unpriced(post(ada, {"query": VIEWER})) == expected
    assert unpriced(post(ada, {"query": VIEWER, **automatic(VIEWER)})) == expected
    assert unpriced(get(ada, automatic(VIEWER))) == expected
    assert over_socket(ada, automatic(VIEWER)) == over_socket(ada, {"query": VIEWER}) == expected


def test_a_listed_document_is_known_by_its_id_and_by_its_hash(strict: str, anonymous: Person) -> None:
    nobody = Person(anonymous.client, f"{strict}/graphql")
    relay = hashlib.md5(TITLES.encode(), usedforsecurity=False).hexdigest()
    by_relay = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": relay}}}
    for body in ({"documentId": relay}, by_relay, automatic(TITLES), {"documentId": f"sha256:{sha256(TITLES)}"}):
        assert post(nobody, body).status_code == 401
    assert post(nobody, {"documentId": "create-1"}).status_code == 401
    other = post(nobody, {"documentId": "create-1", "query": VIEWER})
    assert (other.status_code, message(other)) == (400, "The document is another than the trusted one of this id.")


def test_what_a_lenient_process_was_sent_is_nothing_to_a_strict_one(strict: str, someone: Someone) -> None:
    """They share Redis."""
    ada, unlisted = someone(), "query Smuggled { viewer { id } }"
    assert unpriced(post(ada, {"query": unlisted, **automatic(unlisted)})) == {"data": {"viewer": {"id": ada.id}}}
    assert post(Person(ada.client, f"{strict}/graphql"), automatic(unlisted)).json() == {"errors": [NOT_FOUND]}


def test_log_mode_runs_everything_and_names_what_is_not_listed(settings: MakeSettings, someone: Someone, listed: Path) -> None:
    made = settings(trusted_documents="log", trusted_documents_file=listed)
    migrated(made)
    with served(made) as url:
        ada, unlisted = someone(url=url), "query Noted { viewer { id } }"
        with capture_logs() as logged:
            for body in ({"query": VIEWER}, automatic(VIEWER), {"query": unlisted}, {"query": unlisted, **automatic(unlisted)}):
                assert unpriced(post(ada, body)) == {"data": {"viewer": {"id": ada.id}}}
        noted = [entry["sha256"] for entry in logged if entry["event"] == "untrusted document"]
        assert noted == [sha256(unlisted)]
        # One was to register Ada.
        assert numbers(url)["taskgraph_untrusted_documents_total"] == 3


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (None, "cannot read {file} (FileNotFoundError)"),
        ("{", "{file} is no JSON in UTF-8"),
        ("[]", "{file} must hold a JSON object of ids and GraphQL documents, at least one"),
        ("{}", "{file} must hold a JSON object of ids and GraphQL documents, at least one"),
        ('{"a": 7}', "{file} must hold a JSON object of ids and GraphQL documents, at least one"),
        ('{"a": " "}', "{file} must hold a JSON object of ids and GraphQL documents, at least one"),
        ('{"%s": "{ __typename }"}' % ("a" * 64), "a" * 64 + " in {file} is not the SHA-256 of its document"),
    ],
)
@pytest.mark.parametrize("command", [("serve", "--workers", "2"), ("dev",)], ids=["serve", "dev"])
def test_a_bad_list_stops_the_start_with_one_line(tmp_path: Path, command: tuple[str, ...], held: str | None, said: str) -> None:
    file = tmp_path / "documents.json"
    if held is not None:
        file.write_text(held)
    done = ran(
        *command,
        *("--port", "0"),
        given={"TRUSTED_DOCUMENTS": "enforce", "TRUSTED_DOCUMENTS_FILE": str(file), "MONGO_URL": "mongodb://127.0.0.1:1"},
        folder=tmp_path,
    )
    expected = f"error: TASKGRAPH_TRUSTED_DOCUMENTS_FILE: {said.format(file=repr(str(file)))}"
    assert (done.returncode, done.stdout, done.stderr.strip().splitlines()) == (1, "", [expected])
    assert not (tmp_path / ".taskgraph").exists()


def test_trust_needs_a_list() -> None:
    assert refusal(TRUSTED_DOCUMENTS="log") == "TASKGRAPH_TRUSTED_DOCUMENTS=log needs TASKGRAPH_TRUSTED_DOCUMENTS_FILE"
    assert refusal(TRUSTED_DOCUMENTS="on") == "TASKGRAPH_TRUSTED_DOCUMENTS: input should be 'off', 'log' or 'enforce'"
