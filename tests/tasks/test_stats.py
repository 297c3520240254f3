"""taskStats: counts of one's own tasks, each status and priority named even when there is none."""

from datetime import timedelta
from typing import Any

import pytest

from taskgraph.storage import clock
from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, task
from tests.tasks.operations import create, data, refusal

STATS = "query($filter: TaskFilter) { taskStats(filter: $filter) { total overdue byStatus { status count } byPriority { priority count } } }"
STATUSES = ("TODO", "IN_PROGRESS", "DONE", "CANCELED")
PRIORITIES = ("LOW", "MEDIUM", "HIGH", "URGENT")
DAY = timedelta(days=1)


@pytest.fixture
def twelve(server: Server, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four statuses, each once yesterday, tomorrow and never due; one more that is deleted. Today is LONG_AGO."""
    tasks = [
        task(ada, status=status, priority=PRIORITIES[number % 3], due=due)
        for status in STATUSES
        for number, due in enumerate((LONG_AGO - DAY, LONG_AGO + DAY, None))
    ]
    server.mongo["tasks"].insert_many(
        [*tasks, task(ada, due=LONG_AGO - DAY, priority="URGENT", deleted=LONG_AGO.replace(year=2200))]
    )
    monkeypatch.setattr(clock, "now", lambda: LONG_AGO)


def stats(person: Person, **given: Any) -> tuple[int, int, list[int], list[int]]:
    """Total, overdue, and the counts in the order of the enums."""
    shown = data(person, STATS, {"filter": given or None})["taskStats"]
    assert tuple(each["status"] for each in shown["byStatus"]) == STATUSES
    assert tuple(each["priority"] for each in shown["byPriority"]) == PRIORITIES
    return (
        shown["total"],
        shown["overdue"],
        [each["count"] for each in shown["byStatus"]],
        [each["count"] for each in shown["byPriority"]],
    )


def test_without_tasks_every_count_is_zero(ada: Person) -> None:
    assert stats(ada) == (0, 0, [0, 0, 0, 0], [0, 0, 0, 0])


@pytest.mark.usefixtures("twelve")
def test_deleted_tasks_do_not_count(ada: Person) -> None:
    assert stats(ada) == (12, 2, [3, 3, 3, 3], [4, 4, 4, 0])


@pytest.mark.usefixtures("twelve")
def test_a_filter_holds_for_every_count(ada: Person) -> None:
    assert stats(ada, status={"eq": "TODO"}) == (3, 1, [3, 0, 0, 0], [1, 1, 1, 0])
    assert stats(ada, isOverdue=True) == (2, 2, [1, 1, 0, 0], [2, 0, 0, 0])
    assert stats(ada, isOverdue=False) == (10, 0, [2, 2, 3, 3], [2, 4, 4, 0])
    assert stats(ada, includeDeleted=True) == (13, 3, [4, 3, 3, 3], [4, 4, 4, 1])
    assert stats(ada, status={"in": []}) == (0, 0, [0, 0, 0, 0], [0, 0, 0, 0])


@pytest.mark.usefixtures("twelve")
def test_others_tasks_do_not_count(someone: Someone) -> None:
    assert stats(someone(), includeDeleted=True) == (0, 0, [0, 0, 0, 0], [0, 0, 0, 0])


def test_a_new_task_counts_at_once(ada: Person) -> None:
    create(ada, priority="URGENT", status="IN_PROGRESS", dueDate="2001-01-01T00:00:00Z")
    assert stats(ada) == (1, 1, [0, 1, 0, 0], [0, 0, 0, 1])


def test_a_filter_that_makes_no_sense_is_refused(ada: Person) -> None:
    assert refusal(ada, STATS, {"filter": {"parentId": {"eq": "x"}}}) == ("BAD_USER_INPUT", "'x' is not the id of a Task.")


def test_the_anonymous_count_nothing(anonymous: Person) -> None:
    assert refusal(anonymous, STATS)[0] == "UNAUTHENTICATED"
