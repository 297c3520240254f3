"""Subtasks: a page, a total and a summary for each parent, read for all parents together and cut in the database."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from tests.conftest import MakeSettings, Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import create, data, delete, done, refusal, update
from tests.tasks.watching import Watched, names, watched

pytestmark = pytest.mark.xdist_group("commands")

DAY = timedelta(days=1)
PAGE = "nodes { title } edges { cursor score node { title } } totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
SUBTASKS = f"""query($id: ID!, $filter: TaskFilter, $orderBy: TaskOrder, $first: Int, $after: String, $last: Int, $before: String) {{
  task(id: $id) {{
    subtasks(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {{ {PAGE} }}
  }}
}}"""


@pytest.fixture
def parent(server: Server, ada: Person) -> str:
    """Global id of a task with seven subtasks, "6" being the newest, every other one done, the rest due long ago."""
    top = task(ada, "Top")
    below = [
        task(
            ada,
            str(number),
            parent_id=top["_id"],
            status="DONE" if number % 2 else "TODO",
            created=LONG_AGO + number * DAY,
            due=LONG_AGO,
        )
        for number in range(7)
    ]
    server.mongo["tasks"].insert_many([top, *below, task(ada, "Below another", parent_id=below[0]["_id"])])
    return shown_id(top)


def subtasks(person: Person, parent: str, **arguments: Any) -> Any:
    return data(person, SUBTASKS, {"id": parent} | arguments)["task"]["subtasks"]


def titles(connection: Any) -> str:
    """Joined, in order; the same in nodes and edges."""
    shown = [each["title"] for each in connection["nodes"]]
    assert shown == [each["node"]["title"] for each in connection["edges"]]
    return "".join(shown)


def test_only_direct_subtasks_are_shown_newest_first(ada: Person, parent: str) -> None:
    shown = subtasks(ada, parent)
    assert (titles(shown), shown["totalCount"]) == ("6543210", 7)
    assert {each["score"] for each in shown["edges"]} == {None}


def test_pages_lead_through_the_subtasks_both_ways(ada: Person, parent: str) -> None:
    first = subtasks(ada, parent, first=3)
    assert (titles(first), first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"]) == ("654", True, False)
    second = subtasks(ada, parent, first=3, after=first["pageInfo"]["endCursor"])
    assert (titles(second), second["pageInfo"]["hasNextPage"], second["pageInfo"]["hasPreviousPage"]) == ("321", True, True)
    third = subtasks(ada, parent, first=3, after=second["pageInfo"]["endCursor"])
    assert (titles(third), third["pageInfo"]["hasNextPage"], third["totalCount"]) == ("0", False, 7)
    assert titles(subtasks(ada, parent, last=2)) == "10"
    assert titles(subtasks(ada, parent, last=2, before=third["pageInfo"]["startCursor"])) == "21"
    between = {"after": first["edges"][0]["cursor"], "before": third["edges"][0]["cursor"]}
    assert titles(subtasks(ada, parent, **between)) == "54321"
    assert titles(subtasks(ada, parent, last=2, **between)) == "21"


def test_ties_among_subtasks_are_paged_by_id(server: Server, ada: Person) -> None:
    top = task(ada, "Top")
    server.mongo["tasks"].insert_many([top, *(task(ada, str(number), parent_id=top["_id"]) for number in range(5))])
    order = {"field": "PRIORITY", "direction": "ASC"}
    seen, cursor = "", None
    for _ in range(3):
        shown = subtasks(ada, shown_id(top), orderBy=order, first=2, after=cursor)
        seen, cursor = seen + titles(shown), shown["pageInfo"]["endCursor"]
    assert (seen, shown["pageInfo"]["hasNextPage"]) == ("01234", False)


def test_filters_and_orders_hold_for_subtasks_and_their_total(ada: Person, parent: str) -> None:
    done_ones = subtasks(ada, parent, filter={"status": {"eq": "DONE"}}, orderBy={"field": "TITLE", "direction": "ASC"}, first=2)
    assert (titles(done_ones), done_ones["totalCount"]) == ("13", 3)
    assert titles(subtasks(ada, parent, filter={"isOverdue": True})) == "6420"
    assert titles(subtasks(ada, parent, filter={"or": []})) == ""
    assert titles(subtasks(ada, parent, filter={"parentId": {"isNull": True}})) == ""


def test_deleted_subtasks_are_shown_only_when_asked_for_and_never_counted_in_the_summary(ada: Person, parent: str) -> None:
    [newest] = data(ada, SUBTASKS.replace("{ title }", "{ id title }"), {"id": parent, "first": 1})["task"]["subtasks"]["nodes"]
    done(delete(ada, newest))
    assert titles(subtasks(ada, parent)) == "543210"
    assert titles(subtasks(ada, parent, filter={"includeDeleted": True})) == "6543210"
    summary = data(ada, "query($id: ID!) { task(id: $id) { subtaskSummary { total done } } }", {"id": parent})
    assert summary["task"]["subtaskSummary"] == {"total": 6, "done": 3}


def test_the_summary_follows_each_change(ada: Person) -> None:
    top = create(ada, "Top")
    document = "query($id: ID!) { task(id: $id) { subtaskSummary { total done } } }"

    def summary() -> tuple[int, int]:
        shown = data(ada, document, {"id": top["id"]})["task"]["subtaskSummary"]
        return shown["total"], shown["done"]

    assert summary() == (0, 0)
    child = create(ada, "Child", parent={"id": top["id"]}, status="DONE")
    assert summary() == (1, 1)
    done(update(ada, child, status="CANCELED"))
    assert summary() == (1, 0)
    done(update(ada, child, parentId=None))
    assert summary() == (0, 0)


def test_a_payload_counts_the_subtask_it_has_just_made(ada: Person) -> None:
    top = create(ada, "Top")
    document = """mutation($id: ID!) {
      first: createTask(input: {title: "1", parent: {id: $id}}) { task { parent { subtaskSummary { total } } } }
      second: createTask(input: {title: "2", parent: {id: $id}}) { task { parent { subtaskSummary { total } } } }
    }"""
    shown = data(ada, document, {"id": top["id"]})
    totals = [shown[name]["task"]["parent"]["subtaskSummary"]["total"] for name in ("first", "second")]
    assert totals == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 0}, "first must be between 1 and 100."),
        ({"last": 101}, "last must be between 1 and 100."),
        ({"first": 1, "last": 1}, "Give first or last, not both."),
        ({"after": "garbage"}, "after is not a cursor of this API; pass one exactly as it was received."),
        ({"filter": {"parentId": {"eq": "x"}}}, "'x' is not the id of a Task."),
    ],
)
def test_what_makes_no_sense_is_refused(ada: Person, parent: str, arguments: dict[str, Any], message: str) -> None:
    assert refusal(ada, SUBTASKS, {"id": parent} | arguments) == ("BAD_USER_INPUT", message)


def test_a_forged_parent_shows_no_strangers_subtasks(server: Server, ada: Person, parent: str, someone: Someone) -> None:
    # Nothing makes such a task; if something ever does, it must not open a door.
    stranger = someone()
    forged = task(stranger, "Forged", parent_id=oid(parent))
    server.mongo["tasks"].insert_one(forged)
    assert titles(subtasks(ada, parent)) == "6543210"
    shown = data(stranger, "query($id: ID!) { task(id: $id) { parent { title } } }", {"id": shown_id(forged)})
    assert shown["task"]["parent"] is None


@pytest.fixture(scope="module")
def application(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Watched]:
    with watched(settings, mongo_client) as running:
        yield running


@pytest.mark.parametrize("arguments", ["first: 3", "last: 3", "first: 3, filter: {status: {eq: TODO}}"])
def test_the_database_sends_one_subtask_more_than_shown_for_each_parent(
    application: Watched, someone: Someone, arguments: str
) -> None:
    ada = someone(url=application.url)
    tops = [task(ada, f"Top {number}", created=LONG_AGO + DAY) for number in range(4)]
    below = [task(ada, "Below", parent_id=top["_id"]) for top in tops for _ in range(50)]
    application.mongo["tasks"].insert_many([*tops, *below])
    with application.watch() as commands:
        shown = data(ada, f"{{ tasks(first: 4) {{ nodes {{ subtasks({arguments}) {{ nodes {{ title }} }} }} }} }}")["tasks"][
            "nodes"
        ]
    assert [len(each["subtasks"]["nodes"]) for each in shown] == [3, 3, 3, 3]
    assert names(commands) == ["aggregate tasks", "aggregate tasks"]
    # One reply is the page of parents, the other the subtasks: four of each.
    assert application.watch.documents_sent == [5, 16]
