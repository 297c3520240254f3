"""How MongoDB answers what the API asks: always by an index, never by sorting in memory, and reading no more than is shown.

Each request goes through the public door; the commands it sends are explained, and the database's profiler counts what they read.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from tests.conftest import MakeSettings
from tests.people import Person, registered
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import TASKS, data, page
from tests.tasks.watching import Watched, watched

pytestmark = pytest.mark.xdist_group("explain")

TASKS_EACH = 3000
SUBTASKS = 30
KEYS = 5
STATUSES = ("TODO", "IN_PROGRESS", "DONE", "CANCELED")
PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")
INDEX = {
    "CREATED_AT": "owner_created",
    "UPDATED_AT": "owner_updated",
    "DUE_DATE": "owner_due",
    "PRIORITY": "owner_priority",
    "TITLE": "owner_title",
}
ORDERS = [(field, direction) for field in INDEX for direction in ("ASC", "DESC")]
NESTED = """{
  tasks(first: 20) { totalCount nodes {
    owner { id } assignee { id } parent { id } subtaskSummary { total } subtasks(first: 5) { totalCount nodes { id } }
  } }
  searchTasks(query: "needle") { totalCount nodes { id } }
  taskStats { total }
  viewer { id }
  sessions { id }
}"""


@dataclass(frozen=True)
class Cost:
    """What one command read, and how."""

    keys: int
    documents: int
    stages: set[str]
    indexes: set[str]


@dataclass(frozen=True)
class Owner:
    """Someone whose requests are explained."""

    person: Person
    application: Watched

    def costs(self, document: str, variables: dict[str, Any] | None = None) -> list[Cost]:
        """Of each command that one operation sends, in order."""
        mongo = self.application.mongo
        mongo.command("profile", 2)
        try:
            with self.application.watch() as commands:
                data(self.person, document, variables)
        finally:
            mongo.command("profile", 0)
        counted = list(mongo["system.profile"].find({"op": {"$in": ["query", "command"]}}))
        mongo.drop_collection("system.profile")
        costs = []
        for command in map(plain, commands):
            [profile] = [each for each in counted if plain(each["command"]) == command]
            stages, indexes = plan(mongo.command("explain", command, verbosity="queryPlanner"))
            costs.append(Cost(profile["keysExamined"], profile["docsExamined"], stages, indexes))
        return costs

    def page_cost(self, **arguments: Any) -> Cost:
        """Of one page of `tasks`: one command that neither walks the collection nor sorts in memory."""
        [cost] = self.costs(TASKS, arguments)
        assert cost.stages & {"COLLSCAN", "SORT", "$sort"} == set()
        assert cost.stages >= {"IXSCAN", "LIMIT"}
        return cost

    def count(self, **stored: Any) -> int:
        """How many tasks there are with these stored members, deleted ones left out."""
        wanted = {"ownerId": oid(self.person.id), "isDeleted": False, **stored}
        return self.application.mongo["tasks"].count_documents(wanted)

    def cursor(self, position: int, **arguments: Any) -> str:
        """Of the task at this position of a list."""
        cursor, left = "", position + 1
        while left > 0:
            got = page(self.person, first=min(100, left), **({"after": cursor} if cursor else {}), **arguments)
            cursor, left = got["pageInfo"]["endCursor"], left - 100
        return cursor


@pytest.fixture(scope="module")
def application(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Watched]:
    with watched(settings, mongo_client) as running:
        yield running


@pytest.fixture(scope="module")
def owners(application: Watched) -> Iterator[list[Owner]]:
    """Ada has 3000 tasks and as many deleted ones, Ben has 500; Eve has four, of which no two have a key in common."""
    with ExitStack() as stack:
        people = []
        for name in ("Ada", "Ben", "Eve"):
            client = stack.enter_context(httpx.Client(timeout=30))
            people.append(registered(client, f"{application.url}/graphql", name=name, email=None, password="correct horse battery"))
        ada, ben, eve = people
        tasks = [made(ada, number) for number in range(TASKS_EACH)]
        tasks += [made(ada, number) | {"isDeleted": True, "deletedAt": LONG_AGO.replace(year=2200)} for number in range(TASKS_EACH)]
        tasks += [made(ben, number) for number in range(500)]
        for number, each in enumerate(tasks[1 : SUBTASKS + 1]):
            each |= {"parentId": tasks[0]["_id"], "createdAt": LONG_AGO + timedelta(seconds=number)}
        tasks += [
            task(eve, f"{number}", priority=PRIORITIES[number], due=moment, created=moment)
            for number, moment in enumerate(LONG_AGO + timedelta(days=number) for number in range(4))
        ]
        random.Random(1).shuffle(tasks)
        application.mongo["tasks"].insert_many(tasks)
        yield [Owner(each, application) for each in people]


@pytest.fixture
def owner(owners: list[Owner]) -> Owner:
    return owners[0]


@pytest.fixture
def loner(owners: list[Owner]) -> Owner:
    return owners[2]


@pytest.fixture
def parent(owner: Owner) -> str:
    """Global id of the task that has subtasks."""
    [found] = owner.application.mongo["tasks"].distinct("parentId", {"parentId": {"$ne": None}})
    return shown_id({"_id": found, "ownerId": oid(owner.person.id)})


def made(person: Person, number: int) -> dict[str, Any]:
    """Five values of every member, each shared by a fifth of the tasks, and four of status and priority."""
    chosen = random.Random(number)
    return task(
        person,
        f"Title {number % KEYS}" + (" needle" if number % 100 == 0 else ""),
        status=STATUSES[chosen.randrange(4)],
        priority=PRIORITIES[chosen.randrange(4)],
        due=None if number % KEYS == 0 else LONG_AGO + timedelta(days=number % KEYS),
        created=LONG_AGO + timedelta(days=chosen.randrange(KEYS)),
        updated=LONG_AGO + timedelta(days=chosen.randrange(KEYS)),
        labels=[f"l{chosen.randrange(6)}"],
        assignee_id=oid(person.id) if chosen.random() < 0.5 else None,
    )


def plain(command: dict[str, Any]) -> dict[str, Any]:
    """Without what belongs to the session."""
    return {name: value for name, value in command.items() if not name.startswith("$") and name != "lsid"}


def plan(explained: Any) -> tuple[set[str], set[str]]:
    """Names of the stages and of the indexes of the winning plans, those of joined pipelines included."""
    stages: set[str] = set()
    indexes: set[str] = set()

    def walk(part: Any) -> None:
        for name, value in part.items() if isinstance(part, dict) else ():
            if name == "stage":
                stages.add(value)
            elif name == "indexName":
                indexes.add(value)
            elif name == "$sort":
                stages.add(name)
            elif name not in {"rejectedPlans", "command", "parsedQuery"}:
                walk(value)
        for each in part if isinstance(part, list) else ():
            walk(each)

    walk(explained)
    return stages, indexes


@pytest.mark.parametrize(("field", "direction"), ORDERS)
def test_a_plain_page_reads_one_key_more_than_it_shows(owner: Owner, field: str, direction: str) -> None:
    order = {"orderBy": {"field": field, "direction": direction}}
    # Every key is shared by about 600 tasks, so this is in the middle of ties.
    middle = owner.cursor(300, **order)
    for first in (1, 20, 100):
        for arguments in ({"first": first}, {"first": first, "after": middle}, {"last": first}, {"last": first, "before": middle}):
            cost = owner.page_cost(**arguments, **order)
            assert (arguments, cost.keys, cost.documents) == (arguments, first + 1, first + 1)
            assert cost.indexes == {INDEX[field]}


@pytest.mark.parametrize(("field", "direction"), ORDERS)
def test_a_page_behind_a_key_of_its_own_reads_one_key_more_than_it_shows(loner: Owner, field: str, direction: str) -> None:
    order = {"orderBy": {"field": field, "direction": direction}}
    cost = loner.page_cost(first=2, after=loner.cursor(0, **order), **order)
    assert (cost.keys, cost.documents, cost.indexes) == (3, 3, {INDEX[field]})


def test_a_page_in_which_ties_end_reads_at_most_those_ties_more(owner: Owner) -> None:
    order = {"orderBy": {"field": "TITLE", "direction": "ASC"}}
    # 570 tasks are called "Title 0"; ten of them are left behind this cursor.
    cost = owner.page_cost(first=20, after=owner.cursor(559, **order), **order)
    assert (cost.keys, cost.documents) == (31, 31)


@pytest.mark.parametrize(("field", "direction"), ORDERS)
def test_a_page_with_deleted_tasks_is_merged_from_two_scans(owner: Owner, field: str, direction: str) -> None:
    order = {"orderBy": {"field": field, "direction": direction}, "filter": {"includeDeleted": True}}
    middle = owner.cursor(300, **order)
    for arguments in ({"first": 20}, {"first": 20, "after": middle}, {"last": 20}, {"last": 20, "before": middle}):
        cost = owner.page_cost(**arguments, **order)
        assert cost.keys in {21, 22}
        assert (cost.documents, cost.indexes) == (21, {INDEX[field]})


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ({"status": {"eq": "TODO"}}, "owner_status_created"),
        ({"status": {"in": ["DONE"]}}, "owner_status_created"),
        ({"priority": {"eq": "LOW"}}, "owner_priority_created"),
    ],
)
def test_a_page_of_one_status_or_priority_reads_one_key_more_than_it_shows(owner: Owner, given: dict[str, Any], index: str) -> None:
    middle = owner.cursor(200, filter=given)
    for arguments in ({"first": 20}, {"first": 20, "after": middle}, {"last": 20}, {"last": 20, "before": middle}):
        cost = owner.page_cost(**arguments, filter=given)
        assert (cost.keys, cost.documents, cost.indexes) == (21, 21, {index})


@pytest.mark.parametrize("field", ["CREATED_AT", "TITLE"])
@pytest.mark.parametrize(
    "given",
    [
        {"status": {"in": ["TODO", "DONE"]}},
        {"status": {"notIn": ["TODO"]}},
        {"priority": {"gte": "HIGH"}},
        {"labels": {"hasAny": ["l1"]}},
        {"parentId": {"isNull": True}},
        {"assigneeId": {"isNull": False}},
        {"or": [{"status": {"eq": "TODO"}}, {"priority": {"eq": "LOW"}}]},
        {"not": {"labels": {"hasAny": ["l1"]}}},
    ],
)
def test_a_page_of_a_filter_that_many_meet_reads_a_small_part_of_them(owner: Owner, given: dict[str, Any], field: str) -> None:
    order = {"orderBy": {"field": field, "direction": "DESC"}, "filter": given}
    middle = owner.cursor(200, **order)
    for arguments in ({"first": 20}, {"first": 20, "after": middle}, {"last": 20, "before": middle}):
        assert owner.page_cost(**arguments, **order).keys < 300


def test_a_page_of_an_assignee_reads_a_small_part_of_what_is_assigned(owner: Owner) -> None:
    given = {"assigneeId": {"eq": owner.person.id}}
    middle = owner.cursor(200, filter=given)
    for arguments in ({"first": 20}, {"first": 20, "after": middle}, {"last": 20}, {"last": 20, "before": middle}):
        cost = owner.page_cost(**arguments, filter=given)
        assert cost.keys <= 63
        assert cost.indexes <= {"assignee_created", "owner_created"}


def test_pages_of_one_parent_read_one_key_more_than_they_show(owner: Owner, parent: str) -> None:
    given = {"parentId": {"eq": parent}}
    middle = owner.cursor(12, filter=given)
    for arguments in ({"first": 5}, {"first": 5, "after": middle}, {"last": 5}, {"last": 5, "before": middle}):
        cost = owner.page_cost(**arguments, filter=given)
        assert (arguments, cost.keys, cost.documents) == (arguments, 6, 6)


def test_subtasks_summaries_and_totals_read_only_the_subtasks(owner: Owner, parent: str) -> None:
    document = """query($id: ID!) { task(id: $id) {
      subtasks(first: 5) { nodes { id } totalCount } subtaskSummary { total done }
    } }"""
    task, *costs = owner.costs(document, {"id": parent})
    assert (task.keys, task.documents, task.indexes) == (1, 1, {"_id_"})
    assert [cost.indexes for cost in costs] == [{"owner_parent_created"}] * 3
    assert max(cost.keys for cost in costs) <= SUBTASKS + 1


def test_a_search_reads_only_ones_own_matches(owner: Owner) -> None:
    results, total = owner.costs('{ searchTasks(query: "needle", first: 5) { totalCount nodes { id } } }')
    # 30 tasks of the owner and 30 deleted ones have the word, and 5 of somebody else.
    assert (results.keys, results.indexes) == (60, {"owner_text"})
    assert (total.keys, total.indexes) == (60, {"owner_text"})


def test_totals_are_counted_by_index_alone(owner: Owner) -> None:
    _, total = owner.costs("{ tasks { totalCount } }")
    assert (total.documents, total.stages & {"COUNT_SCAN"}) == (0, {"COUNT_SCAN"})
    _, total = owner.costs("{ tasks(filter: {status: {eq: TODO}}) { totalCount } }")
    assert (total.keys, total.documents, total.indexes) == (owner.count(status="TODO") + 1, 0, {"owner_status_created"})
    _, total = owner.costs("{ tasks(filter: {includeDeleted: true}) { totalCount } }")
    assert total.documents == 0


def test_no_command_of_a_wide_query_walks_a_collection(owner: Owner) -> None:
    costs = owner.costs(NESTED)
    assert len(costs) == 10
    assert [cost.stages for cost in costs if "COLLSCAN" in cost.stages or not cost.indexes] == []
