"""searchTasks: whole words in titles and descriptions, best match first, only among one's own tasks."""

from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, shown_id, task
from tests.tasks.operations import create, data, delete, done, page, refusal

SEARCH = """query($query: String!, $filter: TaskFilter, $first: Int, $after: String) {
  searchTasks(query: $query, filter: $filter, first: $first, after: $after) {
    totalCount
    edges { cursor score node { id title } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
LENGTH = "query must have 1 to 200 characters."


def search(person: Person, query: str, **arguments: Any) -> Any:
    return data(person, SEARCH, {"query": query} | arguments)["searchTasks"]


def found(person: Person, query: str, **arguments: Any) -> list[str]:
    """Titles, best match first."""
    return [edge["node"]["title"] for edge in search(person, query, **arguments)["edges"]]


def test_a_hit_in_the_title_weighs_twice_one_in_the_description(ada: Person) -> None:
    create(ada, "A", description="zebra")
    create(ada, "zebra")
    create(ada, "zebra B", description="zebra")
    create(ada, "No such animal", description="horse")
    shown = search(ada, "zebra")
    scores = {edge["node"]["title"]: edge["score"] for edge in shown["edges"]}
    assert list(scores) == ["zebra B", "zebra", "A"]
    assert shown["totalCount"] == 3
    assert scores["zebra"] == 2 * scores["A"] == 11.0


def test_more_hits_weigh_more(ada: Person) -> None:
    for title in ("one two three", "one", "one two"):
        create(ada, title)
    assert found(ada, "one two three") == ["one two three", "one two", "one"]


def test_case_and_accents_make_no_difference_but_parts_of_words_do(ada: Person) -> None:
    create(ada, "Café ZEBRAS")
    assert found(ada, "cafe") == found(ada, "CAFÉ") == found(ada, "zebras") == ["Café ZEBRAS"]
    assert found(ada, "zebra") == found(ada, "caf") == []


def test_words_that_are_too_common_elsewhere_are_found_here(ada: Person) -> None:
    create(ada, "The and der wird")
    assert found(ada, "the") == found(ada, "der") == ["The and der wird"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red", ["red blue", "blue red green"]),
        ('"red blue"', ["red blue"]),
        ('"red', ["red blue", "blue red green"]),
        ('red "', ["red blue", "blue red green"]),
        ("red -green", ["red blue"]),
        ("-green", []),
        ("-", []),
        ('"', []),
        ('""', []),
        (".*", []),
        ("r.d", []),
        ("re[d]", []),
        ("$where", []),
        ('{"$ne": ""}', []),
        ("🦉", ["🦉 owl"]),
        ("!!!", []),
        ("\\", []),
        ("red\0blue", None),
        ("\0", None),
        ("x" * 200, []),
        ("red " * 50, ["red blue", "blue red green"]),
        ("  red\n", ["red blue", "blue red green"]),
    ],
)
def test_odd_queries_find_what_they_say_or_nothing(ada: Person, query: str, expected: list[str] | None) -> None:
    for title in ("red blue", "blue red green", "🦉 owl"):
        create(ada, title)
    # MongoDB decides whether NUL parts words; either way it is an answer and no failure.
    assert expected is None or sorted(found(ada, query)) == sorted(expected)
    assert search(ada, query)["totalCount"] == len(found(ada, query))


@pytest.mark.parametrize("query", ["", "   ", "\n", "x" * 201])
def test_an_empty_or_too_long_query_is_refused(ada: Person, query: str) -> None:
    assert refusal(ada, SEARCH, {"query": query}) == ("BAD_USER_INPUT", LENGTH)


def test_others_tasks_are_never_found(server: Server, ada: Person, someone: Someone) -> None:
    stranger = someone()
    mine, theirs = create(ada, "zebra mine"), create(stranger, "zebra theirs")
    assert found(ada, "zebra") == ["zebra mine"]
    assert search(ada, "zebra", filter={"includeDeleted": True})["totalCount"] == 1
    assert [edge["node"]["id"] for edge in search(stranger, "zebra")["edges"]] == [theirs["id"]]
    assert search(stranger, "zebra", filter={"parentId": {"eq": mine["id"]}})["totalCount"] == 0
    assert server.mongo["tasks"].count_documents({"title": {"$regex": "^zebra (mine|theirs)$"}}) == 2


def test_deleted_tasks_are_found_only_when_asked_for(ada: Person) -> None:
    done(delete(ada, create(ada, "zebra gone")))
    create(ada, "zebra")
    assert found(ada, "zebra") == ["zebra"]
    assert sorted(found(ada, "zebra", filter={"includeDeleted": True})) == ["zebra", "zebra gone"]


def test_a_filter_narrows_results_and_total(ada: Person) -> None:
    for number, status in enumerate(("TODO", "DONE", "DONE")):
        create(ada, f"zebra {number}", status=status)
    shown = search(ada, "zebra", filter={"status": {"eq": "DONE"}}, first=1)
    assert (shown["totalCount"], len(shown["edges"]), shown["pageInfo"]["hasNextPage"]) == (2, 1, True)
    assert sorted(found(ada, "zebra", filter={"or": [{"title": {"eq": "zebra 0"}}, {"title": {"eq": "zebra 2"}}]})) == [
        "zebra 0",
        "zebra 2",
    ]
    assert found(ada, "zebra", filter={"not": {"title": {"contains": "ZEBRA"}}}) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_lead_through_scores_and_ties_without_gap_or_repetition(server: Server, ada: Person, size: int) -> None:
    stored = [
        task(ada, "zebra " + "word " * (number % 3), description="zebra" * (number % 2), created=LONG_AGO + timedelta(days=number))
        for number in range(17)
    ]
    server.mongo["tasks"].insert_many(stored)
    seen, scores, cursor, has_next = [], [], None, True
    for _ in range(-(-17 // size)):
        shown = search(ada, "zebra", first=size, after=cursor)
        assert shown["totalCount"] == 17
        assert shown["pageInfo"]["hasPreviousPage"] is (cursor is not None)
        seen += [edge["node"]["id"] for edge in shown["edges"]]
        scores += [edge["score"] for edge in shown["edges"]]
        cursor, has_next = shown["pageInfo"]["endCursor"], shown["pageInfo"]["hasNextPage"]
    assert has_next is False
    assert sorted(seen) == sorted(map(shown_id, stored))
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 6


def test_cursors_of_lists_and_of_results_are_not_mixed_up(ada: Person) -> None:
    create(ada, "zebra")
    of_list, of_results = page(ada)["pageInfo"]["endCursor"], search(ada, "zebra")["pageInfo"]["endCursor"]
    message = "after is a cursor of another ordering; start again from the first page of this one."
    assert refusal(ada, SEARCH, {"query": "zebra", "after": of_list}) == ("BAD_USER_INPUT", message)
    assert refusal(ada, "query($a: String) { tasks(after: $a) { totalCount } }", {"a": of_results}) == ("BAD_USER_INPUT", message)


@pytest.mark.parametrize("first", [0, 101])
def test_the_page_has_the_same_bounds_as_every_page(ada: Person, first: int) -> None:
    assert refusal(ada, SEARCH, {"query": "x", "first": first}) == ("BAD_USER_INPUT", "first must be between 1 and 100.")


def test_the_anonymous_find_nothing(anonymous: Person) -> None:
    assert refusal(anonymous, SEARCH, {"query": "zebra"})[0] == "UNAUTHENTICATED"
