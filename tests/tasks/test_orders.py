"""The order of tasks, and one page of it: sizes, cursors, what comes before and after, totals."""

from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import TASKS, create, data, ids, page, refusal, titles, update

DAY = timedelta(days=1)
ORDERS = [
    (field, direction) for field in ("CREATED_AT", "UPDATED_AT", "DUE_DATE", "PRIORITY", "TITLE") for direction in ("ASC", "DESC")
]
ANOTHER_ORDERING = "after is a cursor of another ordering; start again from the first page of this one."
DIGITS = "0123456789abcdef"
NO_CURSOR = "after is not a cursor of this API; pass one exactly as it was received."


@pytest.fixture
def ten(server: Server, ada: Person) -> list[str]:
    """Global ids of ten tasks, newest first."""
    stored = [task(ada, str(number), created=LONG_AGO - number * DAY) for number in range(10)]
    server.mongo["tasks"].insert_many(stored)
    return [shown_id(each) for each in stored]


@pytest.mark.parametrize(
    ("field", "ascending"),
    [
        ("CREATED_AT", ["b", "C", "a", "Ä"]),
        ("UPDATED_AT", ["Ä", "a", "C", "b"]),
        ("DUE_DATE", ["C", "Ä", "a", "b"]),
        ("PRIORITY", ["a", "b", "C", "Ä"]),
        ("TITLE", ["a", "b", "C", "Ä"]),
    ],
)
def test_tasks_are_ordered_by_each_field_both_ways(server: Server, ada: Person, field: str, ascending: list[str]) -> None:
    server.mongo["tasks"].insert_many(
        [
            task(ada, "a", priority="LOW", created=LONG_AGO + 2 * DAY, updated=LONG_AGO + 5 * DAY),
            task(ada, "b", priority="MEDIUM", created=LONG_AGO, updated=LONG_AGO + 7 * DAY),
            task(ada, "C", priority="HIGH", created=LONG_AGO + DAY, updated=LONG_AGO + 6 * DAY, due=LONG_AGO - 90_000 * DAY),
            task(ada, "Ä", priority="URGENT", created=LONG_AGO + 3 * DAY, updated=LONG_AGO + 4 * DAY, due=LONG_AGO),
        ]
    )
    assert titles(ada, orderBy={"field": field, "direction": "ASC"}) == ascending
    assert titles(ada, orderBy={"field": field, "direction": "DESC"}) == ascending[::-1]


def test_without_an_order_the_newest_come_first(ada: Person, ten: list[str]) -> None:
    assert ids(page(ada)) == ten
    assert ids(page(ada, orderBy={})) == ten
    assert ids(page(ada, orderBy={"direction": "ASC"})) == ten[::-1]
    assert ids(page(ada, orderBy={"field": "TITLE"})) == ten[::-1]


def test_what_is_never_due_comes_after_all_that_is_due(server: Server, ada: Person) -> None:
    latest = LONG_AGO.replace(year=9999, month=12, day=30)
    server.mongo["tasks"].insert_many([task(ada, "never"), task(ada, "late", due=latest), task(ada, "soon", due=LONG_AGO)])
    assert titles(ada, orderBy={"field": "DUE_DATE", "direction": "ASC"}) == ["soon", "late", "never"]
    assert titles(ada, orderBy={"field": "DUE_DATE", "direction": "DESC"}) == ["never", "late", "soon"]


@pytest.mark.parametrize(("field", "direction"), ORDERS)
def test_ties_are_ordered_by_id_in_the_same_direction(server: Server, ada: Person, field: str, direction: str) -> None:
    stored = [task(ada, "Same", created=LONG_AGO) for _ in range(7)]
    server.mongo["tasks"].insert_many(stored[::-1])
    oldest_first = [shown_id(each) for each in sorted(stored, key=lambda each: each["_id"])]
    order = {"field": field, "direction": direction}
    assert ids(page(ada, orderBy=order)) == oldest_first[:: 1 if direction == "ASC" else -1]


def test_the_order_follows_a_change(ada: Person) -> None:
    first, second = create(ada, "First"), create(ada, "Second")
    update(ada, first, title="ZULU", dueDate="2030-01-01T00:00:00Z", priority="URGENT")
    assert titles(ada, orderBy={"field": "TITLE", "direction": "ASC"}) == ["Second", "ZULU"]
    assert titles(ada, orderBy={"field": "DUE_DATE", "direction": "ASC"}) == ["ZULU", "Second"]
    update(ada, first, title="alpha", dueDate=None)
    update(ada, second, dueDate="2031-01-01T00:00:00Z")
    assert titles(ada, orderBy={"field": "TITLE", "direction": "ASC"}) == ["alpha", "Second"]
    assert titles(ada, orderBy={"field": "DUE_DATE", "direction": "ASC"}) == ["Second", "alpha"]
    assert titles(ada, orderBy={"field": "UPDATED_AT", "direction": "DESC"}) == ["Second", "alpha"]
    assert titles(ada, orderBy={"field": "CREATED_AT", "direction": "DESC"}) == ["Second", "alpha"]


@pytest.mark.parametrize(
    ("arguments", "found", "has_previous", "has_next"),
    [
        ({"first": 3}, [0, 1, 2], False, True),
        ({"first": 10}, list(range(10)), False, False),
        ({"first": 100}, list(range(10)), False, False),
        ({"first": 3, "after": 2}, [3, 4, 5], True, True),
        ({"first": 3, "after": 6}, [7, 8, 9], True, False),
        ({"first": 3, "after": 9}, [], True, False),
        ({"after": 6}, [7, 8, 9], True, False),
        ({"last": 3}, [7, 8, 9], True, False),
        ({"last": 10}, list(range(10)), False, False),
        ({"last": 3, "before": 7}, [4, 5, 6], True, True),
        ({"last": 3, "before": 3}, [0, 1, 2], False, True),
        ({"last": 3, "before": 0}, [], False, True),
        ({"before": 3}, [0, 1, 2], False, True),
        ({"first": 2, "before": 7}, [0, 1], False, True),
        ({"first": 5, "before": 2}, [0, 1], False, False),
        ({"last": 2, "after": 3}, [8, 9], True, False),
        ({"first": 2, "after": 2, "before": 7}, [3, 4], True, True),
        ({"first": 9, "after": 2, "before": 7}, [3, 4, 5, 6], True, False),
        ({"last": 2, "after": 2, "before": 7}, [5, 6], True, True),
        ({"after": 2, "before": 7}, [3, 4, 5, 6], True, False),
        ({"after": 4, "before": 5}, [], True, False),
        ({"after": 7, "before": 2}, [], True, False),
        ({"last": 3, "after": 7, "before": 2}, [], False, True),
    ],
)
def test_a_page_is_what_was_asked_for(
    ada: Person, ten: list[str], arguments: dict[str, int], found: list[int], *, has_previous: bool, has_next: bool
) -> None:
    cursors = [edge["cursor"] for edge in page(ada)["edges"]]
    sent = {name: cursors[value] if name in {"after", "before"} else value for name, value in arguments.items()}
    got = page(ada, **sent)
    assert ids(got) == [ten[number] for number in found]
    assert got["pageInfo"] == {
        "hasPreviousPage": has_previous,
        "hasNextPage": has_next,
        "startCursor": cursors[found[0]] if found else None,
        "endCursor": cursors[found[-1]] if found else None,
    }


@pytest.mark.parametrize(("field", "direction"), ORDERS)
def test_both_cursors_among_ties_bound_the_page(server: Server, ada: Person, field: str, direction: str) -> None:
    server.mongo["tasks"].insert_many([task(ada, "Same", created=LONG_AGO) for _ in range(6)])
    order = {"field": field, "direction": direction}
    every = page(ada, orderBy=order)
    cursors = [edge["cursor"] for edge in every["edges"]]
    assert ids(page(ada, orderBy=order, after=cursors[0], before=cursors[4])) == ids(every)[1:4]
    assert ids(page(ada, orderBy=order, last=2, after=cursors[0], before=cursors[4])) == ids(every)[2:4]
    assert ids(page(ada, orderBy=order, after=cursors[4], before=cursors[0])) == []


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_cursors_that_have_changed_places_leave_nothing_between_them(server: Server, ada: Person, direction: str) -> None:
    server.mongo["tasks"].insert_many(task(ada, title) for title in "AAABBB")
    order = {"field": "TITLE", "direction": direction}
    cursors = [edge["cursor"] for edge in page(ada, orderBy=order)["edges"]]
    for after, before in [(3, 2), (4, 1), (5, 0), (1, 1), (1, 0)]:
        for size in ({}, {"first": 5}, {"last": 5}):
            assert ids(page(ada, orderBy=order, after=cursors[after], before=cursors[before], **size)) == []
    assert len(ids(page(ada, orderBy=order, after=cursors[1], before=cursors[4]))) == 2


def test_twenty_come_when_no_number_is_given(server: Server, ada: Person) -> None:
    server.mongo["tasks"].insert_many([task(ada, f"{number:02}", created=LONG_AGO + number * DAY) for number in range(45)])
    first = page(ada)
    assert [edge["node"]["title"] for edge in first["edges"]] == [f"{number:02}" for number in range(44, 24, -1)]
    second = page(ada, after=first["pageInfo"]["endCursor"])
    assert [edge["node"]["title"] for edge in second["edges"]] == [f"{number:02}" for number in range(24, 4, -1)]
    assert ids(page(ada, before=second["pageInfo"]["startCursor"])) == ids(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": 0}, "first must be between 1 and 100."),
        ({"first": -1}, "first must be between 1 and 100."),
        ({"first": 101}, "first must be between 1 and 100."),
        ({"last": 0}, "last must be between 1 and 100."),
        ({"last": 101}, "last must be between 1 and 100."),
        ({"first": 1, "last": 1}, "Give first or last, not both."),
        ({"after": ""}, NO_CURSOR),
        ({"after": "garbage"}, NO_CURSOR),
        ({"after": "🦉"}, NO_CURSOR),
        ({"after": "\0"}, NO_CURSOR),
        ({"after": "A" * 36}, NO_CURSOR),
        ({"after": "A" * 5000}, NO_CURSOR),
        ({"before": "garbage"}, NO_CURSOR.replace("after", "before")),
        ({"last": 2, "before": "=" * 40}, NO_CURSOR.replace("after", "before")),
    ],
)
def test_what_makes_no_sense_is_refused(ada: Person, arguments: dict[str, Any], message: str) -> None:
    assert refusal(ada, TASKS, arguments) == ("BAD_USER_INPUT", message)


def test_a_cursor_of_another_ordering_is_refused(ada: Person, ten: list[str]) -> None:
    assert len(ten) == 10
    orders = [{"field": field, "direction": direction} for field, direction in ORDERS]
    cursors = [page(ada, orderBy=order, first=1)["pageInfo"]["endCursor"] for order in orders]
    for here, order in enumerate(orders):
        for there, cursor in enumerate(cursors):
            if here == there:
                assert len(page(ada, orderBy=order, after=cursor)["edges"]) == 9
            else:
                assert refusal(ada, TASKS, {"orderBy": order, "after": cursor}) == ("BAD_USER_INPUT", ANOTHER_ORDERING)
    assert refusal(ada, TASKS, {"orderBy": orders[0], "before": cursors[1]})[1] == ANOTHER_ORDERING.replace("after", "before")


def test_a_cursor_changed_at_any_place_is_refused(ada: Person) -> None:
    create(ada, "ÄÖ🦉")
    order = {"field": "TITLE", "direction": "ASC"}
    cursor = page(ada, orderBy=order)["pageInfo"]["endCursor"]
    assert set(cursor) <= set(DIGITS)
    for place, letter in enumerate(cursor):
        # The neighbour differs in one bit.
        for other in (DIGITS[DIGITS.index(letter) ^ 1], "=", "+", " "):
            changed = cursor[:place] + other + cursor[place + 1 :]
            assert (changed, refusal(ada, TASKS, {"orderBy": order, "after": changed})) == (changed, ("BAD_USER_INPUT", NO_CURSOR))
    for changed in (
        cursor[:-1],
        cursor[1:],
        cursor + "A",
        cursor + "=",
        cursor + "\n",
        " " + cursor,
        cursor * 2,
        cursor.swapcase(),
    ):
        assert refusal(ada, TASKS, {"orderBy": order, "after": changed}) == ("BAD_USER_INPUT", NO_CURSOR)


def test_a_cursor_shows_neither_title_nor_owner(ada: Person) -> None:
    create(ada, "Secret plan")
    cursor = page(ada)["pageInfo"]["endCursor"]
    raw = bytes.fromhex(cursor)
    assert b"ecret" not in raw
    assert oid(ada.id).binary not in raw


def test_a_cursor_leads_on_when_its_task_is_gone(server: Server, ada: Person, ten: list[str]) -> None:
    cursor = page(ada, first=4)["pageInfo"]["endCursor"]
    server.mongo["tasks"].delete_one({"title": "3"})
    assert ids(page(ada, first=2, after=cursor)) == ten[4:6]
    assert ids(page(ada, last=2, before=cursor)) == ten[1:3]


def test_someone_elses_cursor_shows_only_ones_own_tasks(ada: Person, ten: list[str], someone: Someone) -> None:
    stranger = someone()
    cursor = page(ada, first=4)["pageInfo"]["endCursor"]
    assert ids(page(stranger, after=cursor)) == []
    mine = create(stranger)
    assert mine["id"] not in ten
    assert ids(page(stranger, before=cursor)) == [mine["id"]]


def test_the_total_counts_the_whole_list(ada: Person, ten: list[str]) -> None:
    assert len(ten) == 10
    document = "query($after: String) { tasks(first: 2, after: $after) { totalCount pageInfo { endCursor } } }"
    first = data(ada, document)["tasks"]
    assert first["totalCount"] == 10
    assert data(ada, document, {"after": first["pageInfo"]["endCursor"]})["tasks"]["totalCount"] == 10


def test_nodes_and_edges_show_the_same_tasks(ada: Person, ten: list[str]) -> None:
    shown = data(ada, "{ tasks(first: 4) { nodes { id } edges { node { id } score } } }")["tasks"]
    assert [each["id"] for each in shown["nodes"]] == ten[:4]
    assert shown["edges"] == [{"node": {"id": each}, "score": None} for each in ten[:4]]


def test_someone_elses_tasks_are_in_no_page(ada: Person, ten: list[str], someone: Someone) -> None:
    stranger = someone()
    assert len(ten) == 10
    shown = data(
        stranger, "{ tasks { totalCount edges { cursor } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
    )
    assert shown["tasks"] == {
        "totalCount": 0,
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }
    assert titles(ada, first=1) == ["0"]


def test_the_anonymous_see_no_page(anonymous: Person) -> None:
    answer = anonymous.post(TASKS, {"first": 1})
    assert (answer.status_code, answer.json()["data"]) == (401, None)
    assert answer.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
