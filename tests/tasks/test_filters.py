"""TaskFilter: each comparator, how they nest, what is refused, and random filters against the same rules in plain Python."""

import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskgraph.server.scalars import rfc3339
from taskgraph.storage import clock
from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import TASKS, data, page, refusal, titles

TASKS_AND_COUNT = "query($filter: TaskFilter) { tasks(filter: $filter, first: 100) { nodes { id } totalCount } }"
PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")
STATUSES = ("TODO", "IN_PROGRESS", "DONE", "CANCELED")
LABELS = ("a", "A", "b", "$ne", "a.b")
TITLES = (
    "Alpha",
    "alphabet",
    "ALPHA beta",
    "a.*b",
    "a^b$",
    "[x](y)",
    "$where",
    "Straße",
    "STRASSE",
    "back\\slash",
    "İstanbul",
    "100% 🦉",
)
DAY = timedelta(days=1)


@pytest.fixture
def filtered(server: Server, ada: Person) -> Callable[..., list[str]]:
    """Titles, in order of the alphabet, of the tasks (stored with these members) that meet the filter."""

    def ask(tasks: dict[str, dict[str, Any]], given: dict[str, Any]) -> list[str]:
        if not server.mongo["tasks"].find_one({"ownerId": oid(ada.id)}):
            server.mongo["tasks"].insert_many([task(ada, title, **members) for title, members in tasks.items()])
        return sorted(titles(ada, filter=given, first=100))

    return ask


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "ABCD"),
        ({"status": None}, "ABCD"),
        ({"status": {}}, "ABCD"),
        ({"status": {"eq": "DONE"}}, "C"),
        ({"status": {"eq": None}}, "ABCD"),
        ({"status": {"in": ["DONE", "TODO"]}}, "AC"),
        ({"status": {"in": []}}, ""),
        ({"status": {"notIn": ["DONE", "TODO"]}}, "BD"),
        ({"status": {"notIn": []}}, "ABCD"),
        ({"status": {"in": ["DONE", "TODO"], "notIn": ["TODO"]}}, "C"),
        ({"priority": {"eq": "HIGH"}}, "C"),
        ({"priority": {"in": ["LOW", "URGENT"]}}, "AD"),
        ({"priority": {"in": []}}, ""),
        ({"priority": {"gte": "HIGH"}}, "CD"),
        ({"priority": {"lte": "MEDIUM"}}, "AB"),
        ({"priority": {"gte": "MEDIUM", "lte": "HIGH"}}, "BC"),
        ({"priority": {"gte": "HIGH", "lte": "MEDIUM"}}, ""),
        ({"status": {"eq": "DONE"}, "priority": {"eq": "HIGH"}}, "C"),
        ({"status": {"eq": "DONE"}, "priority": {"eq": "LOW"}}, ""),
    ],
)
def test_status_and_priority(filtered: Callable[..., list[str]], given: dict[str, Any], found: str) -> None:
    stored = {title: {"status": STATUSES[number], "priority": PRIORITIES[number]} for number, title in enumerate("ABCD")}
    assert filtered(stored, given) == list(found)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"hasAny": ["a"]}, "AC"),
        ({"hasAny": ["a", "b"]}, "ABC"),
        ({"hasAny": []}, ""),
        ({"hasAll": ["a", "b"]}, "C"),
        ({"hasAll": ["b", "b"]}, "BC"),
        ({"hasAll": []}, "ABCD"),
        ({"hasNone": ["a"]}, "BD"),
        ({"hasNone": []}, "ABCD"),
        ({"hasAny": ["b"], "hasNone": ["a"]}, "B"),
        ({"hasAny": ["$ne"]}, ""),
        ({"hasAny": None, "hasAll": None}, "ABCD"),
    ],
)
def test_labels(filtered: Callable[..., list[str]], given: dict[str, Any], found: str) -> None:
    stored = {"A": {"labels": ["a"]}, "B": {"labels": ["b"]}, "C": {"labels": ["b", "a"]}, "D": {"labels": []}}
    assert filtered(stored, {"labels": given}) == list(found)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"eq": "Alpha"}, ["Alpha"]),
        ({"eq": "alpha"}, []),
        ({"in": ["Alpha", "a.*b", "missing"]}, ["Alpha", "a.*b"]),
        ({"in": []}, []),
        ({"contains": "PHA"}, ["ALPHA beta", "Alpha", "alphabet"]),
        ({"contains": ""}, sorted(TITLES)),
        ({"contains": "."}, ["a.*b"]),
        ({"contains": ".*"}, ["a.*b"]),
        ({"contains": "^"}, ["a^b$"]),
        ({"contains": "$"}, ["$where", "a^b$"]),
        ({"contains": "[X]("}, ["[x](y)"]),
        ({"contains": "\\"}, ["back\\slash"]),
        ({"contains": "\\s"}, ["back\\slash"]),
        ({"contains": "%"}, ["100% 🦉"]),
        ({"contains": "🦉"}, ["100% 🦉"]),
        ({"contains": "a|A"}, []),
        ({"contains": "\0"}, []),
        ({"contains": "strasse"}, ["STRASSE", "Straße"]),
        ({"startsWith": "alph"}, ["ALPHA beta", "Alpha", "alphabet"]),
        ({"startsWith": "pha"}, []),
        ({"startsWith": "^a"}, []),
        ({"startsWith": "A."}, ["a.*b"]),
        ({"startsWith": "$WHERE"}, ["$where"]),
        ({"startsWith": "i"}, ["İstanbul"]),
        ({"startsWith": "\0"}, []),
        ({"startsWith": "alpha", "contains": "bet"}, ["ALPHA beta", "alphabet"]),
        ({"eq": '{"$gt": ""}'}, []),
        ({"eq": "\0"}, []),
    ],
)
def test_titles(filtered: Callable[..., list[str]], given: dict[str, Any], found: list[str]) -> None:
    assert filtered({title: {} for title in TITLES}, {"title": given}) == found


@pytest.mark.parametrize("member", ["dueDate", "createdAt", "updatedAt", "completedAt"])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"gt": 1}, "C"),
        ({"gte": 1}, "BC"),
        ({"lt": 1}, "A"),
        ({"lte": 1}, "AB"),
        ({"gt": 0, "lt": 2}, "B"),
        ({"gte": 2, "lte": 0}, ""),
        ({"isNull": False}, "ABC"),
        ({"isNull": True}, "D"),
        ({"isNull": None}, "ABCD"),
        ({"isNull": True, "gte": 0}, ""),
        ({"gt": None, "lte": None}, "ABCD"),
    ],
)
def test_times(filtered: Callable[..., list[str]], member: str, given: dict[str, Any], found: str) -> None:
    times: list[datetime | None] = [LONG_AGO, LONG_AGO + DAY, LONG_AGO + 2 * DAY, None]
    if member in {"createdAt", "updatedAt"}:
        # Never null; the fourth is far off instead.
        times[3] = LONG_AGO - 1000 * DAY
        found = {"A": "AD", "AB": "ABD", "ABC": "ABCD", "D": ""}.get(found, found)
    stored = {
        title: {
            "dueDate": {"due": time},
            "createdAt": {"created": time},
            "updatedAt": {"updated": time},
            "completedAt": {"status": "DONE", "created": time} if time else {},
        }[member]
        for title, time in zip("ABCD", times, strict=True)
    }
    bounds = {name: rfc3339(LONG_AGO + value * DAY) if type(value) is int else value for name, value in given.items()}
    assert filtered(stored, {member: bounds}) == list(found)


def test_a_bound_at_the_end_of_time_does_not_find_what_is_never_due(filtered: Callable[..., list[str]]) -> None:
    stored: dict[str, dict[str, Any]] = {"due": {"due": LONG_AGO}, "never": {}}
    assert filtered(stored, {"dueDate": {"lte": "9999-12-31T23:59:59.999Z"}}) == ["due"]
    assert filtered(stored, {"dueDate": {"gte": "9999-12-31T00:00:00Z"}}) == []
    assert filtered(stored, {"not": {"dueDate": {"lte": "9999-12-31T00:00:00Z"}}}) == ["never"]


def test_references(server: Server, ada: Person) -> None:
    parent = task(ada, "Parent", assignee_id=oid(ada.id))
    children = [task(ada, title, parent_id=parent["_id"]) for title in ("Child 1", "Child 2")]
    server.mongo["tasks"].insert_many([parent, *children])
    found = {
        "Parent": [
            {"parentId": {"isNull": True}},
            {"assigneeId": {"eq": ada.id}},
            {"assigneeId": {"in": [ada.id]}},
            {"assigneeId": {"isNull": False}},
        ],
        "Child 1,Child 2": [
            {"parentId": {"eq": shown_id(parent)}},
            {"parentId": {"in": [shown_id(parent), shown_id(children[0])]}},
            {"parentId": {"isNull": False}},
            {"assigneeId": {"isNull": True}},
        ],
        "": [
            {"parentId": {"in": []}},
            {"parentId": {"eq": shown_id(parent), "isNull": True}},
            {"parentId": {"eq": shown_id(children[0])}},
        ],
    }
    for expected, filters in found.items():
        for each in filters:
            assert (each, ",".join(sorted(titles(ada, filter=each)))) == (each, expected)


def test_a_filter_by_someone_elses_objects_finds_nothing(server: Server, ada: Person, someone: Someone) -> None:
    stranger = someone()
    theirs = task(stranger, "Theirs", assignee_id=oid(stranger.id))
    server.mongo["tasks"].insert_many([theirs, task(stranger, "Child", parent_id=theirs["_id"])])
    assert titles(ada, filter={"parentId": {"eq": shown_id(theirs)}}) == []
    assert titles(ada, filter={"assigneeId": {"eq": stranger.id}}) == []
    assert titles(ada, filter={"or": [{"status": {"eq": "TODO"}}, {"not": {"title": {"eq": ""}}}], "includeDeleted": True}) == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"and": []}, "ABC"),
        ({"and": None}, "ABC"),
        ({"or": []}, ""),
        ({"or": None}, "ABC"),
        ({"not": None}, "ABC"),
        ({"not": {}}, ""),
        ({"and": [{}]}, "ABC"),
        ({"or": [{}]}, "ABC"),
        ({"or": [{"title": {"eq": "A"}}, {"title": {"eq": "B"}}]}, "AB"),
        ({"and": [{"title": {"in": ["A", "B"]}}, {"title": {"in": ["B", "C"]}}]}, "B"),
        ({"not": {"title": {"eq": "A"}}}, "BC"),
        ({"not": {"or": []}}, "ABC"),
        ({"or": [{"title": {"eq": "A"}}, {"title": {"eq": "B"}}], "not": {"title": {"eq": "A"}}}, "B"),
        ({"not": {"not": {"not": {"not": {"title": {"eq": "C"}}}}}}, "C"),
        ({"and": [{"or": [{"not": {"and": [{"title": {"eq": "C"}}]}}]}]}, "AB"),
    ],
)
def test_and_or_not(filtered: Callable[..., list[str]], given: dict[str, Any], found: str) -> None:
    assert filtered({"A": {}, "B": {}, "C": {}}, given) == list(found)


def test_overdue_tasks_are_due_before_now_and_open(server: Server, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    now = LONG_AGO + 10 * DAY
    instant = timedelta(milliseconds=1)
    for status in STATUSES:
        dues = {"earlier": now - instant, "now": now, "later": now + instant, "never": None}
        server.mongo["tasks"].insert_many([task(ada, f"{status} {name}", status=status, due=due) for name, due in dues.items()])
    monkeypatch.setattr(clock, "now", lambda: now)
    overdue = ["IN_PROGRESS earlier", "TODO earlier"]
    assert sorted(titles(ada, filter={"isOverdue": True})) == overdue
    others = titles(ada, filter={"isOverdue": False}, first=100)
    assert (len(others), set(others) & set(overdue)) == (14, set())
    assert len(titles(ada, filter={"isOverdue": None}, first=100)) == 16
    shown = data(ada, "{ tasks(first: 100) { nodes { title isOverdue } } }")["tasks"]["nodes"]
    assert sorted(each["title"] for each in shown if each["isOverdue"]) == overdue


def test_deleted_tasks_are_found_only_when_asked_for(filtered: Callable[..., list[str]]) -> None:
    stored: dict[str, dict[str, Any]] = {"kept": {}, "deleted": {"deleted": clock.now()}}
    assert filtered(stored, {}) == ["kept"]
    assert filtered(stored, {"includeDeleted": False}) == ["kept"]
    assert filtered(stored, {"includeDeleted": True}) == ["deleted", "kept"]
    assert filtered(stored, {"includeDeleted": True, "title": {"eq": "deleted"}}) == ["deleted"]
    assert filtered(stored, {"includeDeleted": True, "not": {"title": {"eq": "deleted"}}}) == ["kept"]


LONG = ["x"] * 101
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"not": {"not": {"not": {"not": {"not": {}}}}}}, "and, or and not nest at most 4 levels deep."),
    ({"and": [{"or": [{"not": {"and": [{"or": []}]}}]}]}, ""),
    ({"and": [{"or": [{"not": {"and": [{"or": [{}]}]}}]}]}, "and, or and not nest at most 4 levels deep."),
    ({"not": {"includeDeleted": True}}, "includeDeleted belongs to the top level of a filter."),
    ({"or": [{"includeDeleted": False}]}, "includeDeleted belongs to the top level of a filter."),
    ({"and": [{}] * 101}, "and takes at most 100 values."),
    ({"or": [{}] * 101}, "or takes at most 100 values."),
    ({"and": [{"or": [{}] * 99}, {"or": [{}] * 98}]}, ""),
    ({"and": [{"or": [{}] * 99}, {"or": [{}] * 99}]}, "A filter holds at most 200 filters in and, or and not."),
    ({"labels": {"hasAny": LONG}}, "hasAny takes at most 100 values."),
    ({"labels": {"hasAll": LONG}}, "hasAll takes at most 100 values."),
    ({"labels": {"hasNone": LONG}}, "hasNone takes at most 100 values."),
    ({"title": {"in": LONG}}, "in takes at most 100 values."),
    ({"title": {"contains": "x" * 201}}, "contains takes at most 200 characters."),
    ({"title": {"startsWith": "x" * 201}}, "startsWith takes at most 200 characters."),
    ({"parentId": {"eq": "garbage"}}, "'garbage' is not the id of a Task."),
    ({"parentId": {"in": [""]}}, "'' is not the id of a Task."),
    ({"assigneeId": {"eq": "garbage"}}, "'garbage' is not the id of a User."),
    ({"assigneeId": {"in": ["x"] * 101}}, "in takes at most 100 values."),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_what_is_too_much_or_makes_no_sense_is_refused(ada: Person, given: dict[str, Any], message: str) -> None:
    if message:
        assert refusal(ada, TASKS, {"filter": given}) == ("BAD_USER_INPUT", message)
    else:
        assert titles(ada, filter=given) == []


def test_a_hundred_values_are_allowed(ada: Person) -> None:
    wide = {"or": [{"labels": {"hasAny": ["x"] * 100}}] * 100}
    assert titles(ada, filter=wide) == []


def test_ids_of_another_type_are_refused(server: Server, ada: Person) -> None:
    stored = task(ada)
    server.mongo["tasks"].insert_one(stored)
    session = data(ada, "{ sessions { id } }")["sessions"][0]["id"]
    for chosen, kind in [
        ({"parentId": {"eq": ada.id}}, "Task"),
        ({"parentId": {"in": [shown_id(stored), session]}}, "Task"),
        ({"assigneeId": {"eq": shown_id(stored)}}, "User"),
    ]:
        code, message = refusal(ada, TASKS, {"filter": chosen})
        assert (code, message.endswith(f"is not the id of a {kind}.")) == ("BAD_USER_INPUT", True)


@pytest.mark.parametrize(
    "given",
    [
        {"title": {"eq": {"$gt": ""}}},
        {"title": {"$ne": None}},
        {"$where": "sleep(1000)"},
        {"status": {"eq": "done"}},
        {"status": {"in": [None]}},
        {"labels": {"hasAny": [None]}},
        {"labels": {"hasAny": [{"$exists": True}]}},
        {"priority": {"gte": 1}},
        {"dueDate": {"gt": "yesterday"}},
        {"dueDate": {"gt": 5}},
        {"isOverdue": "true"},
    ],
)
def test_operators_and_values_of_another_type_are_refused(ada: Person, given: dict[str, Any]) -> None:
    code, _ = refusal(ada, TASKS, {"filter": given})
    assert code == "BAD_USER_INPUT"


def test_the_anonymous_filter_nothing(anonymous: Person) -> None:
    code, _ = refusal(anonymous, TASKS, {"filter": {}})
    assert code == "UNAUTHENTICATED"


def optional(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with some of the members, some of them null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | values for name, values in members.items()})


moments = st.integers(-3, 3).map(lambda days: rfc3339(LONG_AGO + days * DAY))


def few(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=3)


times = optional(gt=moments, gte=moments, lt=moments, lte=moments, isNull=st.booleans())
statuses, priorities, labels = st.sampled_from(STATUSES), st.sampled_from(PRIORITIES), st.sampled_from(LABELS)
texts = st.sampled_from([*TITLES, "a", "ALPHA", ".", "$", "ss", "i"])
conditions = optional(
    status=optional(eq=statuses, **{"in": few(statuses), "notIn": few(statuses)}),
    priority=optional(eq=priorities, gte=priorities, lte=priorities, **{"in": few(priorities)}),
    labels=optional(hasAny=few(labels), hasAll=few(labels), hasNone=few(labels)),
    title=optional(eq=texts, contains=texts, startsWith=texts, **{"in": few(texts)}),
    dueDate=times,
    createdAt=times,
    completedAt=times,
    isOverdue=st.booleans(),
    parentId=optional(isNull=st.booleans()),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, max_size=3)
    return st.builds(operator.or_, conditions, optional(**{"and": several, "or": several, "not": inner}))


filters = conditions
for _ in range(4):
    filters = conditions | nested(filters)

stored_tasks = st.lists(
    st.fixed_dictionaries(
        {
            "title": st.sampled_from(TITLES),
            "status": statuses,
            "priority": priorities,
            "labels": st.lists(labels, max_size=3, unique=True),
            "due": st.none() | st.integers(-3, 3).map(lambda days: LONG_AGO + days * DAY),
            "created": st.integers(-3, 3).map(lambda days: LONG_AGO + days * DAY),
            "has_parent": st.booleans(),
        }
    ),
    min_size=5,
    max_size=25,
)


def meets(document: dict[str, Any], given: dict[str, Any] | None) -> bool:
    """What the descriptions of the schema say, once more and without a database."""

    def holds(member: str, test: Callable[[dict[str, Any]], bool]) -> bool:
        condition = (given or {}).get(member)
        return condition is None or test({name: value for name, value in condition.items() if value is not None})

    def time_holds(value: datetime | None) -> Callable[[dict[str, Any]], bool]:
        tests = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}

        def test(condition: dict[str, Any]) -> bool:
            is_null = condition.get("isNull")
            bounds = [
                value is not None and tests[name](rfc3339(value), bound) for name, bound in condition.items() if name != "isNull"
            ]
            return all(bounds) and (is_null is None or is_null == (value is None))

        return test

    def number(name: str) -> int:
        return PRIORITIES.index(name) + 1

    given = given or {}
    title, own, key = document["title"], set(document["labels"]), document["title"].casefold()
    is_overdue = document["dueDate"] is not None and document["status"] in {"TODO", "IN_PROGRESS"}
    return all(
        [
            all(meets(document, each) for each in given.get("and") or ()),
            given.get("or") is None or any(meets(document, each) for each in given["or"]),
            given.get("not") is None or not meets(document, given["not"]),
            holds("status", lambda c: document["status"] in c.get("in", STATUSES)),
            holds("status", lambda c: document["status"] == c.get("eq", document["status"])),
            holds("status", lambda c: document["status"] not in c.get("notIn", ())),
            holds("priority", lambda c: number(c.get("gte", "LOW")) <= document["priority"] <= number(c.get("lte", "URGENT"))),
            holds("priority", lambda c: document["priority"] in map(number, c.get("in", PRIORITIES))),
            holds("priority", lambda c: "eq" not in c or document["priority"] == number(c["eq"])),
            holds("labels", lambda c: "hasAny" not in c or bool(own & set(c["hasAny"]))),
            holds("labels", lambda c: own >= set(c.get("hasAll", ())) and not own & set(c.get("hasNone", ()))),
            holds("title", lambda c: title == c.get("eq", title) and title in c.get("in", [title])),
            holds(
                "title", lambda c: c.get("contains", "").casefold() in key and key.startswith(c.get("startsWith", "").casefold())
            ),
            holds("dueDate", time_holds(document["dueDate"])),
            holds("createdAt", time_holds(document["createdAt"])),
            holds("completedAt", time_holds(document["completedAt"])),
            holds("parentId", lambda c: c.get("isNull", document["parentId"] is None) == (document["parentId"] is None)),
            given.get("isOverdue") is None or given["isOverdue"] == is_overdue,
        ]
    )


@pytest.fixture
def tester(server: Server, ada: Person, someone: Someone) -> Callable[[list[dict[str, Any]], dict[str, Any]], None]:
    ben = someone()
    parent = task(ben)["_id"]

    def check(tasks: list[dict[str, Any]], given: dict[str, Any]) -> None:
        made = [
            task(ada, parent_id=parent if each["has_parent"] else None, **{k: v for k, v in each.items() if k != "has_parent"})
            for each in tasks
        ]
        others = [task(ben, created=each["createdAt"]) for each in made]
        server.mongo["tasks"].delete_many({"ownerId": {"$in": [oid(ada.id), oid(ben.id)]}})
        server.mongo["tasks"].insert_many([*made, *others])
        found = data(ada, TASKS_AND_COUNT, {"filter": given})["tasks"]
        expected = sorted(shown_id(each) for each in made if meets(each, given))
        assert sorted(each["id"] for each in found["nodes"]) == expected
        assert found["totalCount"] == len(expected)

    return check


@settings(max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(tasks=stored_tasks, chosen=filters)
def test_any_filter_finds_what_plain_python_finds(
    tester: Callable[[list[dict[str, Any]], dict[str, Any]], None], tasks: list[dict[str, Any]], chosen: dict[str, Any]
) -> None:
    tester(tasks, chosen)


def test_a_filter_counts_for_the_total_too(server: Server, ada: Person) -> None:
    server.mongo["tasks"].insert_many([task(ada, status=STATUSES[number % 4]) for number in range(30)])
    counted = data(ada, "query { tasks(filter: {status: {eq: DONE}}, first: 2) { totalCount nodes { status } } }")["tasks"]
    assert counted == {"totalCount": 7, "nodes": [{"status": "DONE"}] * 2}
    assert page(ada, filter={"status": {"eq": "DONE"}}, first=7)["pageInfo"]["hasNextPage"] is False
