"""Answers that are kept: who is given one, and what ends its life. The commands sent to MongoDB tell whether one was."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from taskgraph.server import documents
from taskgraph.server.plans import Compiled
from taskgraph.server.response_cache import ResponseCache
from tests.conftest import MakeSettings, Someone, migrated, served
from tests.people import Person
from tests.tasks.documents import oid
from tests.tasks.operations import create, update
from tests.tasks.watching import Watched, watched

PAGE = "{ tasks(first: 5) { nodes { title owner { name } } } }"


@pytest.fixture(scope="module")
def application(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as patch:
        # Without the event stream, which would outdate answers a few milliseconds later and so hide a mark that is missing.
        patch.setattr(ResponseCache, "subscriptions", [])
        with watched(settings, mongo_client, response_cache_seconds=30) as application:
            yield application


@pytest.fixture
def ada(application: Watched, someone: Someone) -> Person:
    return someone(url=application.url)


def read(
    application: Watched, person: Person, document: str = PAGE, variables: dict[str, Any] | None = None
) -> tuple[Any, list[str]]:
    """The answer's data, and which collections were asked for it."""
    with application.watch() as commands:
        answer = person.ask(document, variables)
    assert "errors" not in answer, answer
    asked = [str(command.get("aggregate") or command.get("find")) for command in commands]
    return answer["data"], [collection for collection in asked if collection != "versions"]


def settled(application: Watched, person: Person, document: str = PAGE, variables: dict[str, Any] | None = None) -> Any:
    """The data once it is kept."""
    for _ in range(50):
        data, asked = read(application, person, document, variables)
        if not asked:
            return data
    raise AssertionError("nothing is kept")


def test_an_answer_is_given_again_without_asking_for_the_data(application: Watched, ada: Person) -> None:
    create(ada, "One")
    data = settled(application, ada)
    assert data == {"tasks": {"nodes": [{"title": "One", "owner": {"name": "Ada"}}]}}
    assert read(application, ada) == (data, [])


def test_kept_answers_do_not_hold_the_documents_that_asked_for_them(
    settings: MakeSettings, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "GOOD_BYTES", 500_000)
    made = settings(response_cache_seconds=30)
    migrated(made)
    with served(made) as url:
        ada = someone(url=url)
        before = operations_in_memory()
        for number in range(200):
            assert ada.ask(f"{{ a{number}: tasks(first: 5) {{ nodes {{ title }} }} }}")["data"]
        assert operations_in_memory() - before < 50


def operations_in_memory() -> int:
    """Each holds the tree of its document."""
    gc.collect()
    return sum(type(each) is Compiled for each in gc.get_objects())


def test_every_kind_of_write_is_seen_by_the_next_request(application: Watched, ada: Person) -> None:
    task = create(ada, "One")
    settled(application, ada)
    update(ada, task, title="Two")
    assert read(application, ada)[0]["tasks"]["nodes"][0]["title"] == "Two"
    settled(application, ada)
    ada.ask('mutation { updateProfile(input: {name: "Countess"}) { errors { code } } }')
    assert read(application, ada)[0]["tasks"]["nodes"][0]["owner"]["name"] == "Countess"
    settled(application, ada)
    ada.ask("mutation($id: ID!) { deleteTask(input: {id: $id}) { errors { code } } }", {"id": task["id"]})
    assert read(application, ada)[0] == {"tasks": {"nodes": []}}
    settled(application, ada)
    ada.ask("mutation($id: ID!) { restoreTask(input: {id: $id}) { errors { code } } }", {"id": task["id"]})
    assert len(read(application, ada)[0]["tasks"]["nodes"]) == 1
    settled(application, ada)
    create(ada, "Part", parent={"id": task["id"]})
    assert len(read(application, ada)[0]["tasks"]["nodes"]) == 2


def test_nobody_is_given_the_answer_of_another(application: Watched, ada: Person, someone: Someone, anonymous: Person) -> None:
    create(ada, "Secret")
    settled(application, ada)
    stranger = someone(url=application.url)
    assert read(application, stranger)[0] == {"tasks": {"nodes": []}}
    nobody = Person(anonymous.client, ada.graphql_url)
    assert nobody.ask(PAGE)["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert settled(application, ada)["tasks"]["nodes"][0]["title"] == "Secret"


def test_other_variables_and_other_documents_are_other_answers(application: Watched, ada: Person) -> None:
    create(ada, "One")
    document = "query($first: Int!) { tasks(first: $first) { pageInfo { hasNextPage } nodes { title } } }"
    create(ada, "Two")
    assert settled(application, ada, document, {"first": 1})["tasks"]["pageInfo"]["hasNextPage"] is True
    assert settled(application, ada, document, {"first": 2})["tasks"]["pageInfo"]["hasNextPage"] is False
    assert read(application, ada, document.replace("title", "name: title"), {"first": 1})[0]["tasks"]["nodes"] == [{"name": "Two"}]


@pytest.mark.parametrize(
    "document",
    [
        "{ tasks { nodes { isOverdue } } }",
        "{ tasks(filter: {isOverdue: false}) { nodes { title } } }",
        "{ taskStats { overdue } }",
        "{ sessions { lastUsedAt } }",
        "{ viewer { name } sessions { ip } }",
    ],
)
def test_what_depends_on_more_than_the_data_is_never_kept(application: Watched, ada: Person, document: str) -> None:
    create(ada, "One")
    for _ in range(4):
        assert read(application, ada, document)[1] != []


def test_fragments_that_spread_each_other_twice_do_not_hold_up_the_server(ada: Person) -> None:
    fragments = [f"fragment F{number} on Query {{ ...F{number + 1} ...F{number + 1} }}" for number in range(60)]
    document = "{ ...F0 } " + " ".join(fragments) + " fragment F60 on Query { viewer { name } }"
    for _ in range(2):
        assert ada.ask(document) == {"data": {"viewer": {"name": "Ada"}}}


def test_one_use_that_cannot_be_kept_keeps_no_other_from_it(application: Watched, ada: Person) -> None:
    create(ada, "One")
    document = "query($filter: TaskFilter) { tasks(filter: $filter) { nodes { title } } }"
    ada.ask(document, {"filter": {"isOverdue": False}})
    settled(application, ada, document, {"filter": {"status": {"eq": "TODO"}}})


def test_an_answer_with_errors_is_never_kept(ada: Person) -> None:
    for _ in range(3):
        assert ada.ask("{ tasks(first: 0) { nodes { title } } }")["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


def test_a_session_that_has_ended_is_refused_whatever_is_kept(application: Watched, ada: Person) -> None:
    create(ada, "One")
    settled(application, ada)
    ada.ask("mutation { logout { errors { code } } }")
    assert ada.post(PAGE).status_code == 401


def test_requests_for_the_same_at_the_same_time_are_one_read(application: Watched, ada: Person) -> None:
    create(ada, "One")
    data = settled(application, ada)
    # A new mark without any event: what is kept is outdated, and nothing will end it again meanwhile.
    application.mongo["versions"].update_one({"_id": oid(ada.id)}, {"$set": {"mark": oid(ada.id)}})
    with ThreadPoolExecutor(20) as pool, application.watch() as commands:
        answers = list(pool.map(lambda _: httpx.post(ada.graphql_url, json={"query": PAGE}, headers=bearer(ada)), range(20)))
    assert [answer.json()["data"] for answer in answers] == [data] * 20
    assert len([command for command in commands if "aggregate" in command]) == 1


def bearer(person: Person) -> dict[str, str]:
    return {"authorization": f"Bearer {person.token}"}
