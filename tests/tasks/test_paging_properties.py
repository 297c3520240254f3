"""Walking page by page while another client writes: no task that was left alone is repeated, skipped or out of place."""

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskgraph.storage import clock
from taskgraph.tasks.model import NEVER, TaskPriority, title_key
from tests.conftest import Documents, Server
from tests.people import Person
from tests.tasks.documents import LONG_AGO, oid, shown_id, task
from tests.tasks.operations import data

PAGE = """query($orderBy: TaskOrder, $first: Int, $after: String, $last: Int, $before: String) {
  tasks(orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {
    nodes { id } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
KEYS = {"CREATED_AT": "createdAt", "UPDATED_AT": "updatedAt", "DUE_DATE": "dueOrder", "PRIORITY": "priority", "TITLE": "titleKey"}
# Sixteen tasks are left alone, six move, and ten times three come: one to a page, more would be a circle.
MOST_PAGES = 60
PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")

# Few values of every member, so that most tasks are tied with others; None is a due date that is not there.
days = st.integers(0, 2).map(lambda number: LONG_AGO + timedelta(days=number))
members = st.fixed_dictionaries(
    {
        "title": st.sampled_from(["A", "a", "B", "é"]),
        "priority": st.sampled_from(PRIORITIES[:2]),
        "due": st.none() | days,
        "created": days,
        "updated": days,
    }
)
# What the other client does between two pages: which task, and what becomes of it.
writes = st.lists(
    st.tuples(st.sampled_from(["insert", "change", "delete", "purge", "restore"]), st.integers(0, 9), members), max_size=3
)


class OtherClient:
    """Writes to `moving` tasks only; what it inserts it leaves alone from then on."""

    def __init__(self, mongo: Documents, owner: Person, moving: list[dict[str, Any]]) -> None:
        self.mongo, self.owner, self.moving = mongo, owner, moving
        self.inserted: list[str] = []

    def write(self, what: str, which: int, chosen: dict[str, Any]) -> None:
        tasks = self.mongo["tasks"]
        if what == "insert":
            new = task(self.owner, **chosen)
            self.inserted.append(shown_id(new))
            tasks.insert_one(new)
        elif self.moving:
            target = {"_id": self.moving[which % len(self.moving)]["_id"]}
            if what == "purge":
                tasks.delete_one(target)
            else:
                tasks.update_one(target, {"$set": self._after(what, chosen)})

    def _after(self, what: str, chosen: dict[str, Any]) -> dict[str, Any]:
        if what != "change":
            return {"isDeleted": what == "delete", "deletedAt": clock.now() if what == "delete" else None}
        return {
            "title": chosen["title"],
            "titleKey": title_key(chosen["title"]),
            "priority": TaskPriority[chosen["priority"]].value,
            "dueDate": chosen["due"],
            "dueOrder": chosen["due"] or NEVER,
            "updatedAt": chosen["updated"],
        }


Walk = Callable[..., None]


@pytest.fixture
def walk(server: Server, ada: Person) -> Walk:
    def check(
        order: dict[str, str],
        still: list[dict[str, Any]],
        moving: list[dict[str, Any]],
        sizes: list[int],
        turns: list[list[tuple[str, int, dict[str, Any]]]],
    ) -> None:
        left_alone, moved = [[task(ada, **each) for each in chosen] for chosen in (still, moving)]
        key, is_descending = KEYS[order["field"]], order["direction"] == "DESC"
        expected = [shown_id(each) for each in sorted(left_alone, key=lambda each: (each[key], each["_id"]), reverse=is_descending)]
        for is_backward in (False, True):
            server.mongo["tasks"].delete_many({"ownerId": oid(ada.id)})
            if left_alone or moved:
                server.mongo["tasks"].insert_many([*left_alone, *moved])
            other = OtherClient(server.mongo, ada, moved)
            seen = walked(ada, order, itertools.cycle(sizes), iter(turns), other, is_backward=is_backward)
            alone = [each for each in seen if each in set(expected)]
            assert alone == (expected[::-1] if is_backward else expected)
            assert all(seen.count(each) <= 1 for each in other.inserted)

    return check


def walked(
    ada: Person,
    order: dict[str, str],
    sizes: Iterator[int],
    turns: Iterator[list[tuple[str, int, dict[str, Any]]]],
    other: OtherClient,
    *,
    is_backward: bool,
) -> list[str]:
    """Global ids in the order they came, page after page to the end of the list, or from its end to the start."""
    size, position, more, edge = (
        ("last", "before", "hasPreviousPage", "startCursor") if is_backward else ("first", "after", "hasNextPage", "endCursor")
    )
    seen: list[str] = []
    cursor = None
    for _ in range(MOST_PAGES):
        got = data(ada, PAGE, {"orderBy": order, size: next(sizes), position: cursor})["tasks"]
        seen += [each["id"] for each in got["nodes"]][:: -1 if is_backward else 1]
        if not got["pageInfo"][more]:
            return seen
        cursor = got["pageInfo"][edge]
        for what, which, chosen in next(turns, []):
            other.write(what, which, chosen)
    pytest.fail("the walk does not come to an end")


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
@pytest.mark.parametrize("field", KEYS)
@settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    still=st.lists(members, min_size=4, max_size=16),
    moving=st.lists(members, max_size=6),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    turns=st.lists(writes, min_size=1, max_size=10),
)
def test_what_is_left_alone_is_seen_once_and_in_order(
    walk: Walk,
    field: str,
    direction: str,
    still: list[dict[str, Any]],
    moving: list[dict[str, Any]],
    sizes: list[int],
    turns: list[list[tuple[str, int, dict[str, Any]]]],
) -> None:
    walk({"field": field, "direction": direction}, still, moving, sizes, turns)
