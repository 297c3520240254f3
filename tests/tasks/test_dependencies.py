"""Dependencies: who blocks whom, what that forbids, and that nobody ever waits for himself."""

from functools import partial
from typing import Any

import pytest

from tests.conftest import Documents, Server, Someone
from tests.people import Person
from tests.processes import eventually
from tests.tasks.documents import events_of, nothing_written, oid, shown_id, task, tasks_of
from tests.tasks.operations import (
    block,
    bulk,
    create,
    data,
    delete,
    done,
    edge,
    errors,
    mutate,
    problems,
    read,
    restore,
    titles,
    together,
    update,
)

NEIGHBOURS = """query($id: ID!, $openOnly: Boolean, $first: Int, $after: String) { task(id: $id) {
  isBlocked
  blockedBy(openOnly: $openOnly, first: $first, after: $after) {
    totalCount nodes { title } edges { cursor score } pageInfo { hasNextPage hasPreviousPage endCursor }
  }
  blocks(openOnly: $openOnly, first: $first, after: $after) { totalCount nodes { title } }
} }"""


def neighbours(person: Person, of: Any, **arguments: Any) -> tuple[bool, list[str], list[str]]:
    """Whether it is blocked, by which, and which it blocks."""
    shown = data(person, NEIGHBOURS, {"id": of["id"], **arguments})["task"]
    return shown["isBlocked"], *([each["title"] for each in shown[side]["nodes"]] for side in ("blockedBy", "blocks"))


def many(person: Person, *names: str) -> list[Any]:
    return [create(person, name) for name in names]


def cycle(payload: Any) -> list[str]:
    """The titles around the loop that was refused."""
    [error] = payload["errors"]
    assert (error["__typename"], error["code"]) == ("DependencyCycle", "DEPENDENCY_CYCLE")
    return [each["title"] for each in error["cycle"]]


def edges_of(mongo: Documents, person: Person) -> list[tuple[Any, Any]]:
    found = mongo["dependencies"].find({"ownerId": oid(person.id)}).sort("_id")
    return [(each["blockerId"], each["blockedId"]) for each in found]


def test_a_blocked_task_shows_its_blockers_and_they_show_it(ada: Person) -> None:
    plan, build, ship = many(ada, "Plan", "Build", "Ship")
    assert block(ada, plan, build) == {"id": build["id"], "version": 2, "isBlocked": True}
    assert block(ada, build, ship) == {"id": ship["id"], "version": 2, "isBlocked": True}
    assert block(ada, plan, ship) == {"id": ship["id"], "version": 3, "isBlocked": True}
    assert neighbours(ada, plan) == (False, [], ["Build", "Ship"])
    assert neighbours(ada, build) == (True, ["Plan"], ["Ship"])
    assert neighbours(ada, ship) == (True, ["Build", "Plan"], [])


def test_an_event_tells_the_blocked_task_of_its_blocker(server: Server, ada: Person) -> None:
    first, second = many(ada, "First", "Second")
    added = edge(ada, "addDependency", first, second, key="add")
    removed = edge(ada, "removeDependency", first, second, key="remove")
    [*_, one, two] = events_of(server.mongo, ada)
    assert added["cursor"] not in {None, removed["cursor"]}
    assert (one["action"], one["subjectId"], one["version"], one["causedBy"]) == ("DEPENDENCY_ADDED", oid(second["id"]), 2, "add")
    assert one["changes"] == [{"field": "blockedBy", "before": None, "after": oid(first["id"])}]
    assert (two["action"], two["subjectId"], two["version"], two["causedBy"]) == (
        "DEPENDENCY_REMOVED",
        oid(second["id"]),
        3,
        "remove",
    )
    assert two["changes"] == [{"field": "blockedBy", "before": oid(first["id"]), "after": None}]
    assert two["snapshot"] == tasks_of(server.mongo, ada)[1]
    assert read(ada, first)["version"] == 1


def test_adding_again_and_removing_again_change_nothing(server: Server, ada: Person) -> None:
    first, second = many(ada, "First", "Second")
    added = edge(ada, "addDependency", first, second)
    with nothing_written(server.mongo):
        assert edge(ada, "addDependency", first, second) == added | {"cursor": None}
    removed = edge(ada, "removeDependency", first, second)
    assert (removed["errors"], removed["blocked"]) == ([], {"id": second["id"], "version": 3, "isBlocked": False})
    with nothing_written(server.mongo):
        assert edge(ada, "removeDependency", first, second) == removed | {"cursor": None}
    assert edges_of(server.mongo, ada) == []


def test_blocked_is_who_waits_for_an_open_task(ada: Person) -> None:
    first, second, last = many(ada, "First", "Second", "Last")
    block(ada, first, last)
    block(ada, second, last)
    version = read(ada, last)["version"]
    for status, is_blocked in (("DONE", True), ("TODO", True), ("CANCELED", True)):
        done(update(ada, first, status=status))
        assert neighbours(ada, last)[0] is is_blocked
    done(update(ada, second, status="DONE"))
    assert neighbours(ada, last) == (False, ["First", "Second"], [])
    done(update(ada, first, status="IN_PROGRESS"))
    assert neighbours(ada, last) == (True, ["First", "Second"], [])
    assert neighbours(ada, last, openOnly=True) == (True, ["First"], [])
    done(update(ada, last, status="CANCELED"))
    assert neighbours(ada, first, openOnly=True) == (False, [], [])
    # What its blockers do is no change of the task.
    assert read(ada, last)["version"] == version + 1


def test_the_filter_finds_who_is_blocked(ada: Person) -> None:
    first, second, _ = many(ada, "First", "Second", "Third")
    block(ada, first, second)
    assert titles(ada, filter={"isBlocked": True}) == ["Second"]
    assert titles(ada, filter={"isBlocked": False}) == ["Third", "First"]
    assert titles(ada, filter={"not": {"isBlocked": True}, "title": {"startsWith": "f"}}) == ["First"]
    done(update(ada, first, status="DONE"))
    assert titles(ada, filter={"isBlocked": True}) == []


def test_a_task_without_counters_waits_for_nobody(server: Server, ada: Person) -> None:
    old = {name: value for name, value in task(ada, "Old").items() if name not in {"openBlockers", "edgeCount"}}
    server.mongo["tasks"].insert_one(old)
    shown = {"id": shown_id(old)}
    assert neighbours(ada, shown) == (False, [], [])
    assert titles(ada, filter={"isBlocked": False}) == ["Old"]
    assert block(ada, create(ada, "New"), shown)["isBlocked"] is True


def test_pages_of_blockers_follow_the_order_of_adding(ada: Person) -> None:
    *blockers, last = many(ada, "c", "a", "d", "b", "Last")
    for each in blockers:
        block(ada, each, last)

    def page(after: str | None) -> Any:
        return data(ada, NEIGHBOURS, {"id": last["id"], "first": 2, "after": after})["task"]["blockedBy"]

    first = page(None)
    assert ([each["title"] for each in first["nodes"]], first["totalCount"]) == (["c", "a"], 4)
    assert [each["score"] for each in first["edges"]] == [None, None]
    assert (first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"]) == (True, False)
    # What changes on the first page does not move the second.
    edge(ada, "removeDependency", blockers[0], last)
    second = page(first["pageInfo"]["endCursor"])
    assert ([each["title"] for each in second["nodes"]], second["totalCount"]) == (["d", "b"], 3)
    assert (second["pageInfo"]["hasNextPage"], second["pageInfo"]["hasPreviousPage"]) == (False, True)
    block(ada, blockers[0], last)
    assert [each["title"] for each in page(second["pageInfo"]["endCursor"])["nodes"]] == ["c"]


@pytest.mark.parametrize("arguments", ['(after: "garbage")', "(first: 0)", "(first: 101)"])
def test_a_page_that_makes_no_sense_is_refused(ada: Person, arguments: str) -> None:
    answer = ada.ask(f"query($id: ID!) {{ task(id: $id) {{ blocks{arguments} {{ totalCount }} }} }}", {"id": create(ada)["id"]})
    assert [each["extensions"]["code"] for each in answer["errors"]] == ["BAD_USER_INPUT"]


def test_a_new_task_can_be_blocked_from_its_first_moment(server: Server, ada: Person) -> None:
    first, second = many(ada, "First", "Second")
    given = [{"id": first["id"]}, {"id": second["id"]}, {"id": first["id"]}]
    payload = mutate(ada, "createTask", {"title": "New", "blockedBy": given})
    new = done(payload)
    assert (new["version"], new["isBlocked"]) == (1, True)
    assert neighbours(ada, new) == (True, ["First", "Second"], [])
    [*_, event] = events_of(server.mongo, ada)
    assert [each["after"] for each in event["changes"] if each["field"] == "blockedBy"] == [oid(first["id"]), oid(second["id"])]
    assert event["snapshot"] == tasks_of(server.mongo, ada)[-1]


def test_a_new_task_is_not_blocked_by_what_is_not_there(server: Server, ada: Person, someone: Someone) -> None:
    gone, theirs = create(ada), create(someone())
    done(delete(ada, gone))
    with nothing_written(server.mongo):
        for number, blocker in enumerate((gone["id"], theirs["id"], "garbage", ada.id)):
            given: dict[str, Any] = {"title": "New", "blockedBy": [{"id": blocker}]}
            assert problems(mutate(ada, "createTask", given)) == [("NOT_FOUND", ["input", "blockedBy", "0", "id"])], number
        unknown = {"title": "New", "parent": {"ref": "x"}, "blockedBy": [{"ref": "y"}]}
        expected = [("NOT_FOUND", ["input", "parent", "ref"]), ("NOT_FOUND", ["input", "blockedBy", "0", "ref"])]
        assert problems(mutate(ada, "createTask", unknown)) == expected


def test_a_blocked_task_is_not_done_unless_blockers_are_ignored(server: Server, ada: Person) -> None:
    first, second = many(ada, "First", "Second")
    block(ada, first, second)
    with nothing_written(server.mongo):
        assert problems(update(ada, second, status="DONE")) == [("BLOCKED", ["input", "patch", "status"])]
        given = {"title": "New", "status": "DONE", "blockedBy": [{"id": first["id"]}]}
        assert problems(mutate(ada, "createTask", given)) == [("BLOCKED", ["input", "status"])]
    assert done(update(ada, second, status="IN_PROGRESS"))["status"] == "IN_PROGRESS"
    ignoring = {"id": second["id"], "patch": {"status": "DONE"}, "ignoreBlockers": True}
    assert done(mutate(ada, "updateTask", ignoring))["status"] == "DONE"
    # It is done: a change of another field does not ask again.
    assert done(update(ada, second, status="DONE", title="Renamed"))["isBlocked"] is True


def test_a_task_is_done_once_its_blockers_are_closed(ada: Person) -> None:
    first, second, last = many(ada, "First", "Second", "Last")
    block(ada, first, last)
    block(ada, second, last)
    done(update(ada, first, status="CANCELED"))
    assert problems(update(ada, last, status="DONE")) == [("BLOCKED", ["input", "patch", "status"])]
    done(update(ada, second, status="DONE"))
    assert done(update(ada, last, status="DONE"))["status"] == "DONE"


def test_a_task_waits_neither_for_itself_nor_around_a_loop(server: Server, ada: Person) -> None:
    a, b, c = many(ada, "a", "b", "c")
    block(ada, a, b)
    block(ada, b, c)
    with nothing_written(server.mongo):
        assert cycle(edge(ada, "addDependency", a, a)) == ["a", "a"]
        assert cycle(edge(ada, "addDependency", b, a)) == ["a", "b", "a"]
        assert cycle(edge(ada, "addDependency", c, a)) == ["a", "c", "b", "a"]
        assert errors(edge(ada, "addDependency", c, a)) == [("DEPENDENCY_CYCLE", ["input", "blockerId"])]
    block(ada, a, c)


def test_a_task_waits_neither_for_its_ancestors_nor_for_its_descendants(server: Server, ada: Person) -> None:
    top = create(ada, "top")
    middle = create(ada, "middle", parent={"id": top["id"]})
    low = create(ada, "low", parent={"id": middle["id"]})
    with nothing_written(server.mongo):
        assert cycle(edge(ada, "addDependency", top, low)) == ["low", "top", "middle", "low"]
        assert cycle(edge(ada, "addDependency", low, top)) == ["top", "low", "middle", "top"]
    # Siblings and strangers may wait for each other.
    block(ada, create(ada, "sibling", parent={"id": middle["id"]}), low)
    block(ada, create(ada, "other"), top)


def test_a_loop_of_parents_and_blockers_is_refused(server: Server, ada: Person) -> None:
    top, other = many(ada, "top", "other")
    child = create(ada, "child", parent={"id": top["id"]})
    block(ada, other, child)
    with nothing_written(server.mongo):
        # top waits for child, child for other, so other cannot wait for top,
        assert cycle(edge(ada, "addDependency", top, other)) == ["other", "top", "child", "other"]
        # nor stand above what it waits for, nor below.
        assert cycle_of_move(ada, other, child) == ["other", "child", "other"]
        assert cycle_of_move(ada, child, other) == ["child", "other", "child"]
        given = {"title": "new", "parent": {"id": other["id"]}, "blockedBy": [{"id": child["id"]}]}
        assert problems(mutate(ada, "createTask", given)) == [("DEPENDENCY_CYCLE", ["input", "blockedBy", "0", "id"])]
    assert done(update(ada, other, parentId=top["id"]))["parent"] == {"id": top["id"]}


def cycle_of_move(person: Person, child: Any, parent: Any) -> list[str]:
    document = """mutation($input: UpdateTaskInput!) { updateTask(input: $input) {
      errors { __typename code path ... on DependencyCycle { cycle { title } } } } }"""
    given = {"id": child["id"], "patch": {"parentId": parent["id"]}}
    payload = data(person, document, {"input": given})["updateTask"]
    assert [each["path"] for each in payload["errors"]] == [["input", "patch", "parentId"]]
    return cycle(payload)


def test_a_long_chain_of_blockers_is_searched_to_its_end(server: Server, ada: Person) -> None:
    given: list[dict[str, Any]] = [{"title": str(number), "ref": str(number)} for number in range(120)]
    for number in range(1, 120):
        given[number]["blockedBy"] = [{"ref": str(number - 1)}]
    chain = [each["task"] for each in bulk(ada, "bulkCreateTasks", {"tasks": given})["results"]]
    with nothing_written(server.mongo):
        assert len(cycle(edge(ada, "addDependency", chain[119], chain[0]))) == 121


@pytest.mark.parametrize("size", [2, 3])
def test_of_racing_dependencies_around_a_loop_one_is_refused(server: Server, ada: Person, size: int) -> None:
    for number in range(100):
        ring = [task(ada, f"{number}") for _ in range(size)]
        server.mongo["tasks"].insert_many(ring)
        shown = [{"id": shown_id(each)} for each in ring]
        calls = [
            lambda blocker=blocker, blocked=blocked: edge(ada, "addDependency", blocker, blocked)
            for blocker, blocked in zip(shown, [*shown[1:], shown[0]], strict=True)
        ]
        payloads = together(calls)
        assert sorted(str(errors(each)) for each in payloads)[:-1] != ["[]"] * size
        assert sum(not each["errors"] for each in payloads) == size - 1
    blockers: dict[Any, set[Any]] = {}
    for blocker, blocked in edges_of(server.mongo, ada):
        blockers.setdefault(blocked, set()).add(blocker)
    for start in blockers:
        seen: set[Any] = set()
        reached = {start}
        while reached:
            reached = {each for one in reached for each in blockers.get(one, ())} - seen
            assert start not in reached
            seen |= reached


def test_racing_dependencies_that_have_no_task_in_common_close_no_loop(ada: Person) -> None:
    # Here no two writes change the same task: only the owner's lock keeps them apart.
    pairs = [{"title": "a", "ref": "a"}, {"title": "b", "blockedBy": [{"ref": "a"}]}]
    pairs += [{"title": "c", "ref": "c"}, {"title": "d", "parent": {"ref": "c"}}]
    for _ in range(50):
        a, b, c, d = (each["task"] for each in bulk(ada, "bulkCreateTasks", {"tasks": pairs})["results"])
        payloads = together([partial(edge, ada, "addDependency", b, d), partial(edge, ada, "addDependency", c, a)])
        assert sorted(len(each["errors"]) for each in payloads) == [0, 1]


def test_a_racing_parent_and_blocker_close_no_loop(ada: Person) -> None:
    for number in range(20):
        a, b = many(ada, f"{number} a", f"{number} b")
        payloads = together([lambda: edge(ada, "addDependency", a, b), lambda: update(ada, a, parentId=b["id"])])  # noqa: B023 - run at once
        assert sorted(len(each["errors"]) for each in payloads) == [0, 1]


def test_racing_completions_and_dependencies_keep_the_count(server: Server, ada: Person) -> None:
    for number in range(20):
        a, b = many(ada, f"{number} a", f"{number} b")
        together([lambda: edge(ada, "addDependency", a, b), lambda: update(ada, a, status="DONE")])  # noqa: B023 - run at once
        assert neighbours(ada, b) == (False, [f"{number} a"], [])
    for number in range(20):
        a, b = many(ada, f"{number} a", f"{number} b")
        payload, completed = together([lambda: edge(ada, "addDependency", a, b), lambda: update(ada, b, status="DONE")])  # noqa: B023 - run at once
        # Either it was done before it had to wait, or it was refused.
        assert payload["errors"] == []
        assert errors(completed) in ([], [("BLOCKED", ["input", "patch", "status"])])
        assert neighbours(ada, b)[0] is True
    assert {each["openBlockers"] for each in tasks_of(server.mongo, ada)} == {0, 1}


def test_a_task_has_a_hundred_blockers_and_blocks_a_hundred_others(server: Server, ada: Person) -> None:
    given = [{"title": str(number), "ref": str(number)} for number in range(100)]
    last: dict[str, Any] = {"title": "last", "blockedBy": [{"ref": str(number)} for number in range(100)]}
    first = create(ada, "first")
    fan = [{"title": "after", "blockedBy": [{"id": first["id"]}]} for _ in range(100)]
    payload = bulk(ada, "bulkCreateTasks", {"tasks": [*given, last, *fan]})
    assert payload["errors"] == []
    shown = payload["results"][100]["task"]
    other = create(ada, "other")
    with nothing_written(server.mongo):
        assert errors(edge(ada, "addDependency", other, shown)) == [("LIMIT_EXCEEDED", ["input", "blockedId"])]
        assert errors(edge(ada, "addDependency", first, other)) == [("LIMIT_EXCEEDED", ["input", "blockerId"])]
        refused = mutate(ada, "createTask", {"title": "new", "blockedBy": [{"id": first["id"]}]})
        assert problems(refused) == [("LIMIT_EXCEEDED", ["input", "blockedBy"])]
        too_many = {"tasks": [*given, {"title": "x", "ref": "x"}, last | {"blockedBy": [*last["blockedBy"], {"ref": "x"}]}]}
        assert errors(bulk(ada, "bulkCreateTasks", too_many)) == [("LIMIT_EXCEEDED", ["input", "tasks", "101", "blockedBy"])]
    edge(ada, "removeDependency", payload["results"][0]["task"], shown)
    block(ada, other, shown)


def test_deleting_a_task_frees_those_that_waited_for_it(server: Server, ada: Person) -> None:
    before, middle, after, other = many(ada, "before", "middle", "after", "other")
    for blocker, blocked in ((before, middle), (middle, after), (other, after)):
        block(ada, blocker, blocked)
    payload = delete(ada, middle, key="gone")
    assert done(payload)["isBlocked"] is False
    *_, deleted, freed = events_of(server.mongo, ada)
    assert (deleted["action"], deleted["version"]) == ("DELETED", 3)
    assert deleted["changes"][-1] == {"field": "blockedBy", "before": oid(before["id"]), "after": None}
    assert (freed["action"], freed["subjectId"], freed["version"]) == ("DEPENDENCY_REMOVED", oid(after["id"]), 4)
    assert (freed["changes"], freed["causedBy"]) == ([{"field": "blockedBy", "before": oid(middle["id"]), "after": None}], "gone")
    assert edges_of(server.mongo, ada) == [(oid(other["id"]), oid(after["id"]))]
    assert neighbours(ada, after) == (True, ["other"], [])
    assert neighbours(ada, before) == (False, [], [])
    done(restore(ada, middle))
    assert neighbours(ada, middle) == (False, [], [])
    done(delete(ada, other))
    assert neighbours(ada, after) == (False, [], [])
    assert [(each["openBlockers"], each["edgeCount"]) for each in tasks_of(server.mongo, ada)] == [(0, 0)] * 4


def test_a_deleted_task_neither_blocks_nor_is_blocked(server: Server, ada: Person) -> None:
    first, gone = many(ada, "first", "gone")
    done(delete(ada, gone))
    with nothing_written(server.mongo):
        for field in ("addDependency", "removeDependency"):
            assert errors(edge(ada, field, gone, first)) == [("NOT_FOUND", ["input", "blockerId"])]
            assert errors(edge(ada, field, first, gone)) == [("NOT_FOUND", ["input", "blockedId"])]


def test_a_purged_task_leaves_no_dependency(server: Server, ada: Person) -> None:
    before, middle, after = many(ada, "before", "middle", "after")
    block(ada, before, middle)
    block(ada, middle, after)
    done(update(ada, before, status="DONE"))
    done(update(ada, middle, status="DONE"))
    server.mongo["tasks"].delete_one({"_id": oid(middle["id"])})
    assert neighbours(ada, after) == (False, [], [])
    assert eventually(lambda: edges_of(server.mongo, ada) == [], within_seconds=5)
    # What remembers them only looks once more.
    done(update(ada, before, status="TODO"))
    block(ada, after, before)
    done(delete(ada, after))


def test_someone_elses_task_is_not_found(server: Server, ada: Person, someone: Someone) -> None:
    stranger = someone()
    mine, theirs, missing = create(ada), create(stranger), {"id": shown_id(task(stranger))}
    with nothing_written(server.mongo):
        for field in ("addDependency", "removeDependency"):
            for other in (theirs, missing, {"id": "garbage"}, {"id": ada.id}):
                assert errors(edge(ada, field, other, mine)) == [("NOT_FOUND", ["input", "blockerId"])]
                assert errors(edge(ada, field, mine, other)) == [("NOT_FOUND", ["input", "blockedId"])]


@pytest.mark.parametrize("field", ["addDependency", "removeDependency"])
def test_the_anonymous_change_nothing(server: Server, ada: Person, anonymous: Person, field: str) -> None:
    first, second = many(ada, "first", "second")
    document = f"mutation($input: DependencyInput!) {{ {field}(input: $input) {{ replayed }} }}"
    with nothing_written(server.mongo):
        answer = anonymous.ask(document, {"input": {"blockerId": first["id"], "blockedId": second["id"]}})
    assert [each["extensions"]["code"] for each in answer["errors"]] == ["UNAUTHENTICATED"]


def test_nested_blockers_are_shown_level_by_level(ada: Person) -> None:
    a, b, c = many(ada, "a", "b", "c")
    block(ada, a, b)
    block(ada, b, c)
    document = "query($id: ID!) { task(id: $id) { blockedBy { nodes { title blockedBy { nodes { title blocks { nodes { title } } } } } } } }"
    shown = data(ada, document, {"id": c["id"]})["task"]
    [middle] = shown["blockedBy"]["nodes"]
    assert middle == {"title": "b", "blockedBy": {"nodes": [{"title": "a", "blocks": {"nodes": [{"title": "b"}]}}]}}
