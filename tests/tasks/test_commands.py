"""How many commands an operation sends to MongoDB: a number of its own, never one of its results."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from pymongo import MongoClient

from taskgraph.storage import clock
from taskgraph.tasks import reads
from taskgraph.tasks.model import Dependency
from tests.conftest import MakeSettings, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import block, bulk, create, data, delete, done, edge, mutate, restore, update
from tests.tasks.watching import Watched, names, watched

pytestmark = pytest.mark.xdist_group("commands")

NESTED = """query($first: Int) {
  tasks(first: $first, filter: {parentId: {isNull: false}, title: {startsWith: "Middle"}}) {
    nodes {
      id title owner { id name } assignee { id name } parent { id title }
      subtasks(first: 5) { nodes { id title } pageInfo { hasNextPage } } subtaskSummary { total done }
    }
  }
}"""
INTROSPECTION = """{ __schema {
  queryType { name }
  types { name kind possibleTypes { name }
    fields { name
      args { name type { kind name ofType { kind name ofType { kind name } } } }
      type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } }"""
# What every list of the schema needs to be asked for; a new required argument must be named here.
REQUIRED: dict[tuple[str, str], str] = {
    ("asOf", "at"): "{version: 1}",
    ("searchTasks", "query"): '"word"',
    ("nodes", "ids"): "$ids",
}
LISTS = {
    "Query.auditLog",
    "Query.nodes<AuditEntry>",
    "Query.nodes<Session>",
    "Query.nodes<Task>",
    "Query.nodes<TaskEvent>",
    "Query.nodes<User>",
    "Query.rateLimit.windows",
    "Query.searchTasks",
    "Query.searchTasks.history",
    "Query.searchTasks.history.changes",
    "Query.searchTasks.blockedBy",
    "Query.searchTasks.blocks",
    "Query.searchTasks.subtasks",
    "Query.sessions",
    "Query.taskEvents",
    "Query.taskEvents.changes",
    "Query.taskEvents.task.history",
    "Query.taskEvents.task.blockedBy",
    "Query.taskEvents.task.blocks",
    "Query.taskEvents.task.subtasks",
    "Query.taskStats.byPriority",
    "Query.taskStats.byStatus",
    "Query.tasks",
    "Query.tasks.history",
    "Query.tasks.history.changes",
    "Query.tasks.blockedBy",
    "Query.tasks.blocks",
    "Query.tasks.subtasks",
}


@pytest.fixture(scope="module")
def application(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Watched]:
    with watched(settings, mongo_client, max_cost=1_000_000) as running:
        yield running


@pytest.fixture
def ada(application: Watched, someone: Someone) -> Person:
    return someone(url=application.url)


@pytest.fixture
def sent(application: Watched, ada: Person) -> Callable[..., list[str]]:
    """The names of the commands that one operation sends."""

    def ask(document: str, variables: dict[str, Any] | None = None, *, person: Person = ada) -> list[str]:
        with application.watch() as commands:
            data(person, document, variables)
        return names(commands)

    return ask


def family(owner: Person, middles: int, children: int) -> list[dict[str, Any]]:
    """One task at the top for each in the middle, which is assigned and has children."""
    tasks = []
    for number in range(middles):
        top = task(owner, f"Top {number}")
        middle = task(owner, f"Middle {number} word", parent_id=top["_id"], assignee_id=oid(owner.id))
        below = [
            task(owner, f"Child {child}", parent_id=middle["_id"], status="DONE" if child % 2 else "TODO", due=LONG_AGO)
            for child in range(children)
        ]
        tasks += [top, middle, *below]
    return tasks


def chained(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Dependencies that make each task wait for the one before it."""
    return [
        Dependency(owner_id=one["ownerId"], blocker_id=one["_id"], blocked_id=other["_id"], created_at=LONG_AGO).model_dump_doc()
        for one, other in pairwise(tasks)
    ]


def test_the_nested_query_sends_five_commands_however_many_tasks_it_shows(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    application.mongo["tasks"].insert_many(family(ada, 105, 7))
    for first in (5, 20, 100):
        shown = data(ada, NESTED, {"first": first})["tasks"]["nodes"]
        assert len(shown) == first
        assert {len(each["subtasks"]["nodes"]) for each in shown} == {5}
        assert [each["subtaskSummary"] for each in shown] == [{"total": 7, "done": 3}] * first
        assert [each["owner"] == each["assignee"] == {"id": ada.id, "name": "Ada"} for each in shown] == [True] * first
        assert (first, sorted(sent(NESTED, {"first": first}))) == (
            first,
            ["aggregate tasks", "aggregate tasks", "aggregate tasks", "find tasks", "find users"],
        )


def test_the_second_page_costs_no_more_commands_than_the_first(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    application.mongo["tasks"].insert_many(task(ada, str(number)) for number in range(9))
    document = "query($after: String) { tasks(first: 3, after: $after) { nodes { id } pageInfo { endCursor } } }"
    cursor = data(ada, document)["tasks"]["pageInfo"]["endCursor"]
    assert len(sent(document)) == len(sent(document, {"after": cursor})) == 1


@pytest.mark.parametrize("field", ["tasks", 'searchTasks(query: "word")'])
def test_the_total_is_counted_only_when_selected(sent: Callable[..., list[str]], field: str) -> None:
    assert len(sent(f"{{ {field} {{ nodes {{ id }} }} }}")) == 1
    assert len(sent(f"{{ {field} {{ nodes {{ id }} totalCount }} }}")) == 2


def test_the_totals_of_subtasks_are_counted_together_and_only_when_selected(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    application.mongo["tasks"].insert_many(family(ada, 10, 2))
    assert len(sent("{ tasks(first: 100) { nodes { subtasks { nodes { id } } } } }")) == 2
    assert len(sent("{ tasks(first: 100) { nodes { subtasks { nodes { id } totalCount } } } }")) == 3


def test_subtasks_of_different_arguments_take_one_command_each(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    application.mongo["tasks"].insert_many(family(ada, 10, 2))
    document = """{ tasks(first: 100) { nodes {
      a: subtasks(first: 1) { nodes { id } }
      b: subtasks(first: 1, filter: {status: {eq: DONE}}) { nodes { id } }
      c: subtasks(first: 1, filter: {status: {eq: DONE}}) { nodes { title } }
    } } }"""
    assert len(sent(document)) == 3


def test_each_level_of_blockers_takes_two_commands_however_many_there_are(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    level = "blockedBy { totalCount nodes { title isBlocked %s } }"
    document = '{ tasks(filter: {title: {startsWith: "Last"}}) { nodes { %s } } }' % (level % (level % (level % "")))
    for _ in range(2):
        for _ in range(8):
            stored = [task(ada, title) for title in ("First", "Second", "Third", "Last")]
            application.mongo["tasks"].insert_many(stored)
            application.mongo["dependencies"].insert_many(chained(stored))
        assert sorted(sent(document)) == ["aggregate tasks", *["find dependencies"] * 3, *["find tasks"] * 3]


def test_blockers_of_other_sides_and_pages_are_read_together(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    stored = [task(ada, str(number)) for number in range(20)]
    application.mongo["tasks"].insert_many(stored)
    application.mongo["dependencies"].insert_many(chained(stored))
    document = """{ tasks { nodes {
      a: blockedBy { nodes { title } } b: blocks(first: 1) { nodes { title } } c: blocks(openOnly: true) { totalCount }
    } } }"""
    assert sorted(sent(document)) == ["aggregate tasks", "find dependencies", "find dependencies", "find tasks"]


def test_what_depends_on_the_time_is_asked_for_together_too(
    application: Watched, ada: Person, sent: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    application.mongo["tasks"].insert_many(family(ada, 10, 2))
    ticks = iter(range(10_000))
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 22) + timedelta(milliseconds=next(ticks)))  # noqa: DTZ001 - as stored
    assert len(sent("{ tasks(first: 100) { nodes { subtasks(filter: {isOverdue: true}) { nodes { id } } } } }")) == 2


@pytest.mark.parametrize("field", ["tasks(first: 100)", 'searchTasks(query: "word", first: 100)'])
def test_the_largest_page_comes_in_one_command(
    application: Watched, ada: Person, sent: Callable[..., list[str]], field: str
) -> None:
    application.mongo["tasks"].insert_many(task(ada, f"word {number}") for number in range(150))
    assert len(sent(f"{{ {field} {{ nodes {{ id }} }} }}")) == 1


def test_hundreds_of_parents_are_still_asked_for_together(
    application: Watched, ada: Person, sent: Callable[..., list[str]]
) -> None:
    application.mongo["tasks"].insert_many(family(ada, 50, 0))
    middles = list(application.mongo["tasks"].find({"ownerId": oid(ada.id), "title": {"$regex": "^Middle"}}))
    children = [task(ada, "Child", parent_id=each["_id"]) for each in middles for _ in range(5)]
    application.mongo["tasks"].insert_many([*children, *(task(ada, "Grandchild", parent_id=each["_id"]) for each in children)])
    document = """{ tasks(first: 100, filter: {title: {startsWith: "Middle"}}) { nodes {
      subtasks { nodes { subtaskSummary { total } subtasks { totalCount nodes { parent { title } } } } } } } }"""
    assert len(sent(document)) == 6


def test_aliases_share_their_reads(application: Watched, ada: Person, sent: Callable[..., list[str]]) -> None:
    stored = [task(ada, str(number)) for number in range(20)]
    application.mongo["tasks"].insert_many(stored)
    aliased = " ".join(
        f'a{number}: task(id: "{shown_id(each)}") {{ title owner {{ name }} }}' for number, each in enumerate(stored)
    )
    assert sent(f"{{ {aliased} }}") == ["find tasks", "find users"]


def test_pages_are_read_together_but_never_more_than_so_many(
    application: Watched, ada: Person, sent: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    application.mongo["tasks"].insert_many(
        task(ada, str(number), created=LONG_AGO + timedelta(days=number)) for number in range(25)
    )
    document = " ".join(f"page{size}: tasks(first: {size}) {{ nodes {{ title }} }}" for size in range(1, 21))
    assert sent(f"{{ {document} }}") == ["aggregate tasks"]
    monkeypatch.setattr(reads, "PAGES_TOGETHER", 8)
    assert sent(f"{{ {document} }}") == ["aggregate tasks"] * 3
    titles = {alias: [each["title"] for each in page["nodes"]] for alias, page in data(ada, f"{{ {document} }}").items()}
    assert titles == {f"page{size}": [str(24 - place) for place in range(size)] for size in range(1, 21)}


def required(field: dict[str, Any]) -> list[str]:
    """Names of the arguments that cannot be left out."""
    return [each["name"] for each in field["args"] if each["type"]["kind"] == "NON_NULL"]


class Schema:
    """What introspection tells about types and fields."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.query = shown["queryType"]["name"]
        self.types = {each["name"]: each for each in shown["types"]}

    def fields(self, type_name: str) -> dict[str, Any]:
        return {each["name"]: each for each in self.types[type_name]["fields"] or ()}

    def named(self, type_: dict[str, Any]) -> tuple[str, bool]:
        """The name of the type without wrappers, and whether it is a list."""
        is_list = False
        while type_["kind"] in {"NON_NULL", "LIST"}:
            is_list = is_list or type_["kind"] == "LIST"
            type_ = type_["ofType"]
        return type_["name"], is_list

    def is_composite(self, name: str) -> bool:
        return self.types[name]["kind"] in {"OBJECT", "INTERFACE", "UNION"}

    def call(self, field: dict[str, Any]) -> str:
        """The field with its required arguments, and a hundred items where it can be told how many."""
        given = {name: REQUIRED[field["name"], name] for name in required(field)}
        if any(each["name"] == "first" for each in field["args"]):
            given["first"] = "100"
        arguments = ", ".join(f"{name}: {value}" for name, value in given.items())
        return f"{field['name']}({arguments})" if given else str(field["name"])

    def leaves(self, type_name: str) -> str:
        """Every field that holds no object."""
        return " ".join(
            name for name, field in self.fields(type_name).items() if not self.is_composite(self.named(field["type"])[0])
        )

    def item(self, type_name: str) -> str:
        """All leaves, and those of each single object one level deeper."""
        singles = []
        for field in self.fields(type_name).values():
            name, is_list = self.named(field["type"])
            if self.is_composite(name) and not is_list and not name.endswith("Connection"):
                singles.append(f"{self.call(field)} {{ __typename {self.leaves(name)} }}")
        return f"__typename {self.leaves(type_name)} {' '.join(singles)}"

    def page(self, connection: str) -> str:
        """Everything of a connection, its items twice."""
        fields = self.fields(connection)
        item, edge = (self.named(fields[name]["type"])[0] for name in ("nodes", "edges"))
        edges = f"edges {{ {self.leaves(edge)} node {{ {self.item(item)} }} }}"
        return f"nodes {{ {self.item(item)} }} {edges} pageInfo {{ {self.leaves('PageInfo')} }} {self.leaves(connection)}"

    def lists(self) -> dict[str, str]:
        """A query for each connection and each list of objects that queries lead to, by its path."""
        found: dict[str, str] = {}

        def visit(type_name: str, path: str, calls: tuple[str, ...], seen: frozenset[str]) -> None:
            def query(inner: str) -> str:
                return " { ".join([*calls, inner]) + " }" * len(calls)

            for field in self.fields(type_name).values():
                name, is_list = self.named(field["type"])
                here = f"{path}.{field['name']}"
                if name.endswith("Connection"):
                    call, item = self.call(field), self.named(self.fields(name)["nodes"]["type"])[0]
                    found[here] = query(f"{call} {{ {self.page(name)} }}")
                    if item not in seen:
                        visit(item, here, (*calls, call, "nodes"), seen | {item})
                elif self.is_composite(name) and is_list and self.types[name]["kind"] == "OBJECT":
                    found[here] = query(f"{self.call(field)} {{ {self.item(name)} }}")
                elif self.is_composite(name) and is_list:
                    for each in self.types[name]["possibleTypes"]:
                        on_type = f"... on {each['name']} {{ {self.item(each['name'])} }}"
                        found[f"{here}<{each['name']}>"] = query(f"{self.call(field)} {{ {on_type} }}")
                elif self.types[name]["kind"] == "OBJECT" and name not in seen and not required(field):
                    visit(name, here, (*calls, field["name"]), seen | {name})

        visit(self.query, "Query", (), frozenset({"Query"}))
        return {
            path: f"query($ids: [ID!]!) {{ {inner} }}" if "$ids" in inner else f"{{ {inner} }}" for path, inner in found.items()
        }


def test_no_list_of_the_schema_costs_more_commands_for_more_items(
    application: Watched, someone: Someone, sent: Callable[..., list[str]]
) -> None:
    counts: dict[str, list[list[str]]] = {}
    for items in (2, 10):
        person = someone(url=application.url)
        stored = family(person, items, items)
        application.mongo["tasks"].insert_many(stored)
        application.mongo["dependencies"].insert_many(chained(stored))
        [session] = application.mongo["sessions"].find({"userId": oid(person.id)})
        more = [session | {"_id": each["_id"], "handle": str(each["_id"])} for each in stored[1:items]]
        application.mongo["sessions"].insert_many(more)
        sessions = [each["id"] for each in data(person, "{ sessions { id } }")["sessions"]]
        assert len(sessions) == items
        variables = {"ids": [*(shown_id(each) for each in stored[:items]), *sessions, person.id]}
        schema = Schema(data(person, INTROSPECTION)["__schema"])
        for path, document in schema.lists().items():
            used = variables if "$ids" in document else {}
            counts.setdefault(path, []).append(sorted(sent(document, used, person=person)))
    assert set(counts) == LISTS
    assert {path: few for path, (few, _) in counts.items()} == {path: many for path, (_, many) in counts.items()}
    assert {path: len(few) for path, (few, _) in counts.items() if len(few) > 10} == {}


def test_each_write_sends_a_small_and_fixed_number_of_commands(application: Watched, ada: Person) -> None:
    parent, other = create(ada, "Parent"), create(ada, "Other")

    def sent(write: Callable[[], Any]) -> tuple[Any, list[str]]:
        with application.watch() as commands:
            written = write()
        return written, [each for each in names(commands) if each != "find users"]

    for _ in range(2):
        created, commands = sent(lambda: done(mutate(ada, "createTask", {"title": "Alone", "labels": ["a"] * 20})))
        assert commands == ["insert tasks", "insert events", "commitTransaction", "update versions"]
        child, commands = sent(lambda: create(ada, "Child", parent={"id": parent["id"]}))
        assert commands == [
            "aggregate tasks",
            "insert tasks",
            "insert events",
            "commitTransaction",
            "update versions",
            "find tasks",
        ]
        _, commands = sent(lambda: update(ada, created, title="Changed"))  # noqa: B023 - run at once
        assert commands == ["find tasks", "update tasks", "insert events", "commitTransaction", "update versions"]
        _, commands = sent(lambda: update(ada, created, title="Changed"))  # noqa: B023 - run at once
        assert commands == ["find tasks", "commitTransaction", "update versions"]
        _, commands = sent(lambda: update(ada, child, parentId=other["id"]))  # noqa: B023 - run at once
        assert commands == [
            "find tasks",
            "update graphs",
            "aggregate tasks",
            "find tasks",
            "update tasks",
            "insert events",
            "commitTransaction",
            "update versions",
            "find tasks",
        ]
        _, commands = sent(lambda: delete(ada, created))  # noqa: B023 - run at once
        assert commands == ["find tasks", "update tasks", "insert events", "commitTransaction", "update versions"]
        _, commands = sent(lambda: restore(ada, created))  # noqa: B023 - run at once
        assert commands == ["find tasks", "update tasks", "insert events", "commitTransaction", "update versions"]


def test_a_write_on_the_graph_sends_few_commands(application: Watched, ada: Person) -> None:
    first, second, third = create(ada, "First"), create(ada, "Second"), create(ada, "Third")
    block(ada, second, third)

    def sent(write: Callable[[], Any]) -> list[str]:
        with application.watch() as commands:
            write()
        return names(commands)

    end = ["insert events", "commitTransaction", "update versions"]
    step = ["aggregate tasks", "find dependencies"]
    searched = ["find tasks", "find dependencies", "update graphs", *step, *step]
    assert sent(lambda: edge(ada, "addDependency", first, second)) == [*searched, "update tasks", "insert dependencies", *end]
    assert sent(lambda: update(ada, first, status="DONE"))[:3] == ["find tasks", "find dependencies", "update tasks"]
    removed = sent(lambda: edge(ada, "removeDependency", first, second))
    assert removed == ["find tasks", "find dependencies", "update tasks", "delete dependencies", *end]
    deleted = sent(lambda: bulk(ada, "bulkDeleteTasks", {"where": {"ids": [second["id"], third["id"]]}}))
    assert deleted[:3] == ["find tasks", "find dependencies", "update tasks"]
    plan = [{"title": str(number), "ref": str(number), "blockedBy": [{"id": first["id"]}]} for number in range(90)]
    document = "mutation($input: BulkCreateTasksInput!) { bulkCreateTasks(input: $input) { changedCount } }"
    made = sent(lambda: data(ada, document, {"input": {"tasks": plan, "idempotencyKey": "key"}}))
    begin = ["find idempotency", "find tasks", "insert tasks", "update tasks", "insert dependencies", "insert events"]
    assert made == [*begin, "insert idempotency", "commitTransaction", "update versions"]


def test_a_task_and_its_event_are_written_in_one_transaction(application: Watched, ada: Person) -> None:
    parent, created = create(ada, "Parent"), create(ada)
    writes: list[Callable[[], Any]] = [
        lambda: create(ada),
        lambda: create(ada, parent={"id": parent["id"]}),
        lambda: update(ada, created, title="Changed"),
        lambda: update(ada, created, parentId=parent["id"]),
        lambda: delete(ada, created),
        lambda: restore(ada, created),
    ]
    for write in writes:
        with application.watch() as commands:
            write()
        sent = names(commands)
        within = commands[: sent.index("commitTransaction") + 1]
        assert "insert events" in sent[: len(within)]
        assert {each.get("autocommit") for each in within} == {False}
        assert len({(each["lsid"]["id"], each["txnNumber"]) for each in within}) == 1
        assert within[0]["readConcern"]["level"] == "snapshot"
        assert within[-1]["writeConcern"] == {"w": "majority"}


def test_a_refused_write_sends_nothing_or_takes_it_back(application: Watched, ada: Person) -> None:
    created = create(ada)
    with application.watch() as commands:
        mutate(ada, "createTask", {"title": ""})
    assert names(commands) == []
    with application.watch() as commands:
        update(ada, created, version=7, title="Changed")
    # Whoever hears of a version must not be shown an older one that was kept.
    assert names(commands) == ["find tasks", "find events", "abortTransaction", "update versions"]
