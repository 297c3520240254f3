"""Many tasks in one call: all or nothing or as many as possible, one event for each, and every fault in its place."""

import time
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.tasks.documents import events_of, nothing_written, oid, shown_id, task, tasks_of
from tests.tasks.operations import block, bulk, create, data, delete, done, errors, read, titles, update

WHERE: dict[str, dict[str, Any]] = {"bulkUpdateTasks": {"patch": {"title": "Mine"}}, "bulkDeleteTasks": {}}


def plan(person: Person, *tasks: dict[str, Any], mode: str = "ALL_OR_NOTHING") -> Any:
    return bulk(person, "bulkCreateTasks", {"tasks": list(tasks), "mode": mode})


def made(payload: Any) -> list[Any]:
    """The tasks of a call in which nothing was refused."""
    assert payload["errors"] == []
    assert [each["errors"] for each in payload["results"]] == [[]] * len(payload["results"])
    assert [each["index"] for each in payload["results"]] == list(range(len(payload["results"])))
    return [each["task"] for each in payload["results"]]


def faults(payload: Any) -> dict[int, Any]:
    """Code and the end of the path of what is wrong with each item, by its number."""
    for each in payload["results"]:
        assert (each["task"] is None) or each["errors"] == []
        for error in each["errors"]:
            assert error["path"][:1] == ["input"]
    return {
        each["index"]: [(error["code"], error["path"][3:]) for error in each["errors"]]
        for each in payload["results"]
        if each["errors"]
    }


def test_a_whole_plan_is_made_in_one_call(server: Server, ada: Person) -> None:
    old = create(ada, "Old")
    payload = plan(
        ada,
        {"title": "Ship", "ref": "ship", "blockedBy": [{"ref": "build"}, {"id": old["id"]}], "parent": {"ref": "launch"}},
        {"title": "Build", "ref": "build", "parent": {"ref": "launch"}, "labels": ["a"]},
        {"title": "Launch", "ref": "launch", "parent": {"id": create(ada, "Top")["id"]}},
        {"title": "Rest"},
    )
    ship, build, launch, rest = made(payload)
    assert [each["ref"] for each in payload["results"]] == ["ship", "build", "launch", None]
    assert (payload["matchedCount"], payload["changedCount"], payload["replayed"]) == (4, 4, False)
    assert {each["version"] for each in (ship, build, launch, rest)} == {1}
    assert (ship["parent"], build["parent"], rest["parent"]) == ({"id": launch["id"]}, {"id": launch["id"]}, None)
    assert [each["title"] for each in ship["blockedBy"]["nodes"]] == ["Build", "Old"]
    assert (ship["isBlocked"], build["isBlocked"], build["labels"]) == (True, False, ["a"])
    events = events_of(server.mongo, ada)[-4:]
    assert [(each["action"], each["snapshot"]["title"]) for each in events] == [
        ("CREATED", title) for title in ("Ship", "Build", "Launch", "Rest")
    ]
    assert [each["snapshot"] for each in events] == tasks_of(server.mongo, ada)[-4:]
    assert read(ada, ship) == {name: value for name, value in ship.items() if name != "blockedBy"}


def test_the_cursor_is_that_of_the_last_event(ada: Person) -> None:
    payload = plan(ada, {"title": "First"}, {"title": "Second"})
    single = plan(ada, {"title": "Third"})
    assert payload["cursor"] is not None
    from taskgraph.storage.event_log import EventCursor

    assert EventCursor.parse(payload["cursor"]).index == 1
    assert EventCursor.parse(single["cursor"]).index == 0
    assert EventCursor.parse(payload["cursor"]) < EventCursor.parse(single["cursor"])


BAD = {
    "title": " ",
    "ref": "bad",
    "labels": [""],
}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([BAD], {0: [("REQUIRED", ["title"]), ("REQUIRED", ["labels", "0"])]}),
        ([{"title": "a", "parent": {"ref": "x"}}], {0: [("NOT_FOUND", ["parent", "ref"])]}),
        ([{"title": "a", "blockedBy": [{"ref": "x"}]}], {0: [("NOT_FOUND", ["blockedBy", "0", "ref"])]}),
        ([{"title": "a", "parent": {"id": "garbage"}}], {0: [("NOT_FOUND", ["parent", "id"])]}),
        ([{"title": "a", "ref": "x"}, {"title": "b", "ref": "x"}], {0: [("INVALID", ["ref"])], 1: [("INVALID", ["ref"])]}),
        ([{"title": "a", "ref": ""}], {0: [("INVALID", ["ref"])]}),
        ([{"title": "a", "idempotencyKey": "mine"}], {0: [("INVALID", ["idempotencyKey"])]}),
        ([{"title": "a", "ref": "a", "parent": {"ref": "a"}}], {0: [("DEPENDENCY_CYCLE", ["parent", "ref"])]}),
        ([{"title": "a", "ref": "a", "blockedBy": [{"ref": "a"}]}], {0: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "ref"])]}),
        (
            [{"title": "a", "ref": "a", "blockedBy": [{"ref": "b"}]}, {"title": "b", "ref": "b", "blockedBy": [{"ref": "a"}]}],
            {0: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "ref"])], 1: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "ref"])]},
        ),
        (
            [{"title": "a", "ref": "a"}, {"title": "b", "parent": {"ref": "a"}, "blockedBy": [{"ref": "a"}]}],
            {1: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "ref"])]},
        ),
        (
            [{"title": "a", "ref": "a"}, {"title": "b", "status": "DONE", "blockedBy": [{"ref": "a"}]}],
            {1: [("BLOCKED", ["status"])]},
        ),
    ],
)
def test_what_is_wrong_is_told_with_the_item_and_nothing_is_written(
    server: Server, ada: Person, items: list[dict[str, Any]], expected: dict[int, Any]
) -> None:
    with nothing_written(server.mongo):
        payload = plan(ada, {"title": "Fine"}, *items)
    expected = {number + 1: found for number, found in expected.items()}
    assert faults(payload) == expected
    assert [each["task"] for each in payload["results"]] == [None] * (1 + len(items))
    assert errors(payload) == [
        (code, ["input", "tasks", str(number), *path]) for number, found in expected.items() for code, path in found
    ]
    assert (payload["matchedCount"], payload["changedCount"], payload["cursor"]) == (1 + len(items), 0, None)


def test_best_effort_makes_the_rest_but_not_what_points_to_the_refused(server: Server, ada: Person) -> None:
    payload = plan(
        ada,
        {"title": "Far", "ref": "far", "blockedBy": [{"ref": "near"}]},
        {"title": "Near", "ref": "near", "parent": {"ref": "bad"}},
        BAD,
        {"title": "Good", "ref": "good"},
        {"title": "Better", "blockedBy": [{"ref": "good"}]},
        mode="BEST_EFFORT",
    )
    assert faults(payload) == {
        0: [("NOT_FOUND", ["blockedBy", "0", "ref"])],
        1: [("NOT_FOUND", ["parent", "ref"])],
        2: [("REQUIRED", ["title"]), ("REQUIRED", ["labels", "0"])],
    }
    assert (payload["errors"], payload["matchedCount"], payload["changedCount"]) == ([], 5, 2)
    assert [each["title"] for each in tasks_of(server.mongo, ada)] == ["Good", "Better"]
    assert [each["action"] for each in events_of(server.mongo, ada)] == ["CREATED"] * 2


def test_best_effort_leaves_out_a_loop(ada: Person) -> None:
    payload = plan(
        ada,
        {"title": "a", "ref": "a", "blockedBy": [{"ref": "b"}]},
        {"title": "b", "ref": "b", "blockedBy": [{"ref": "c"}]},
        {"title": "c", "ref": "c", "blockedBy": [{"ref": "a"}, {"ref": "d"}]},
        {"title": "d", "ref": "d"},
        mode="BEST_EFFORT",
    )
    assert sorted(faults(payload)) == [0, 1, 2]
    [error] = payload["results"][0]["errors"]
    assert [each["title"] for each in error["cycle"]] == ["a", "b", "c", "a"]
    assert titles(ada) == ["d"]


def test_a_loop_through_stored_tasks_is_found(server: Server, ada: Person) -> None:
    top, other = create(ada, "top"), create(ada, "other")
    block(ada, top, other)
    with nothing_written(server.mongo):
        payload = plan(
            ada,
            {"title": "part", "ref": "part", "parent": {"id": top["id"]}, "blockedBy": [{"ref": "first"}]},
            {"title": "first", "ref": "first", "blockedBy": [{"id": other["id"]}]},
        )
    assert faults(payload) == {
        0: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "ref"])],
        1: [("DEPENDENCY_CYCLE", ["blockedBy", "0", "id"])],
    }
    [error] = payload["results"][0]["errors"]
    assert [each["title"] for each in error["cycle"]] == ["part", "first", "other", "top", "part"]


def test_a_plan_nests_fifty_levels_and_no_more(server: Server, ada: Person) -> None:
    chain = [{"title": str(number), "ref": str(number), "parent": {"ref": str(number - 1)}} for number in range(2, 52)]
    chain = [{"title": "1", "ref": "1"}, *chain]
    with nothing_written(server.mongo):
        assert faults(plan(ada, *reversed(chain))) == {0: [("LIMIT_EXCEEDED", ["parent", "ref"])]}
    last = made(plan(ada, *chain[:50]))[-1]
    with nothing_written(server.mongo):
        assert faults(plan(ada, {"title": "x", "parent": {"id": last["id"]}})) == {0: [("LIMIT_EXCEEDED", ["parent", "id"])]}


def test_five_hundred_tasks_are_made_in_less_than_a_second(server: Server, ada: Person) -> None:
    tasks: list[dict[str, Any]] = [{"title": f"Task {number}", "ref": str(number)} for number in range(500)]
    for number in range(1, 500):
        tasks[number] |= {"blockedBy": [{"ref": str(number // 2)}]} if number % 2 else {"parent": {"ref": str(number // 2)}}
    document = "mutation($input: BulkCreateTasksInput!) { bulkCreateTasks(input: $input) { changedCount errors { path } } }"
    started = time.monotonic()
    payload = data(ada, document, {"input": {"tasks": tasks}})["bulkCreateTasks"]
    seconds = time.monotonic() - started
    assert payload == {"changedCount": 500, "errors": []}
    assert [each["snapshot"]["title"] for each in events_of(server.mongo, ada)] == [each["title"] for each in tasks]
    assert seconds < 3, seconds  # 0.3 s where nothing else runs
    with nothing_written(server.mongo):
        refused = plan(ada, *({"title": "x"} for _ in range(501)))
    assert (errors(refused), refused["results"]) == ([("LIMIT_EXCEEDED", ["input", "tasks"])], [])


def test_an_empty_call_changes_nothing(server: Server, ada: Person) -> None:
    with nothing_written(server.mongo):
        for payload in (
            plan(ada),
            bulk(ada, "bulkUpdateTasks", {"where": {"ids": []}, "patch": {"title": "x"}}),
            bulk(ada, "bulkDeleteTasks", {"where": {"filter": {"title": {"eq": "nothing"}}}}),
        ):
            assert (made(payload), payload["matchedCount"], payload["changedCount"], payload["cursor"]) == ([], 0, 0, None)


def test_an_update_by_ids_answers_in_their_order(server: Server, ada: Person) -> None:
    a, b, c = (create(ada, title) for title in "abc")
    done(update(ada, b, priority="URGENT"))
    payload = bulk(ada, "bulkUpdateTasks", {"where": {"ids": [c["id"], b["id"], a["id"]]}, "patch": {"priority": "URGENT"}})
    assert [(each["title"], each["version"], each["priority"]) for each in made(payload)] == [
        ("c", 2, "URGENT"),
        ("b", 2, "URGENT"),
        ("a", 2, "URGENT"),
    ]
    assert (payload["matchedCount"], payload["changedCount"]) == (3, 2)
    assert [(each["action"], each["snapshot"]["title"]) for each in events_of(server.mongo, ada)[-2:]] == [
        ("UPDATED", "c"),
        ("UPDATED", "a"),
    ]
    assert [each["snapshot"] for each in events_of(server.mongo, ada)[-2:]] == list(reversed(tasks_of(server.mongo, ada)[::2]))


def test_an_update_by_filter_is_newest_first(ada: Person) -> None:
    for title in "abc":
        create(ada, title, labels=["x"] if title != "b" else [])
    where = {"filter": {"labels": {"hasAny": ["x"]}}}
    payload = bulk(ada, "bulkUpdateTasks", {"where": where, "patch": {"addLabels": ["y"], "status": "DONE"}})
    assert [(each["title"], each["labels"], each["status"]) for each in made(payload)] == [
        ("c", ["x", "y"], "DONE"),
        ("a", ["x", "y"], "DONE"),
    ]


@pytest.mark.parametrize("field", list(WHERE))
def test_a_dry_run_shows_what_would_be(server: Server, ada: Person, field: str) -> None:
    first, second = create(ada, "Mine"), create(ada, "Other")
    block(ada, second, first)
    given = WHERE[field] | {"where": {"ids": [first["id"], second["id"]]}}
    with nothing_written(server.mongo):
        dry = bulk(ada, field, given | {"dryRun": True})
    wet = bulk(ada, field, given)
    assert dry["cursor"] is None
    assert [each["version"] for each in made(dry)] == [each["version"] for each in made(wet)]
    assert [each["title"] for each in made(dry)] == [each["title"] for each in made(wet)]
    assert (dry["matchedCount"], dry["changedCount"]) == (wet["matchedCount"], wet["changedCount"])
    assert wet["changedCount"] == (1 if field == "bulkUpdateTasks" else 2)


@pytest.mark.parametrize("field", list(WHERE))
@pytest.mark.parametrize("mode", ["ALL_OR_NOTHING", "BEST_EFFORT"])
def test_ids_of_nothing_are_told_in_their_place(server: Server, ada: Person, someone: Someone, field: str, mode: str) -> None:
    mine, theirs = create(ada, "Old"), create(someone())
    ids = [theirs["id"], mine["id"], "garbage", mine["id"], shown_id(task(ada))]
    given = WHERE[field] | {"where": {"ids": ids}, "mode": mode}
    if mode == "ALL_OR_NOTHING":
        with nothing_written(server.mongo):
            payload = bulk(ada, field, given)
        assert [each["task"] for each in payload["results"]] == [None] * 5
        assert len(payload["errors"]) == 4
    else:
        payload = bulk(ada, field, given)
        assert payload["results"][1]["task"]["version"] == 2
        assert (payload["errors"], payload["changedCount"]) == ([], 1)
    assert faults(payload) == {
        0: [("NOT_FOUND", ["0"])],
        2: [("NOT_FOUND", ["2"])],
        3: [("INVALID", ["3"])],
        4: [("NOT_FOUND", ["4"])],
    }
    assert read(ada, mine)["version"] == (1 if mode == "ALL_OR_NOTHING" else 2)


@pytest.mark.parametrize("field", list(WHERE))
@pytest.mark.parametrize("member", ["ids", "filter"])
def test_more_than_five_hundred_tasks_are_refused(server: Server, ada: Person, field: str, member: str) -> None:
    stored = [task(ada, str(number)) for number in range(501)]
    server.mongo["tasks"].insert_many(stored)
    where: dict[str, Any] = {"ids": [shown_id(each) for each in stored]} if member == "ids" else {"filter": {}}
    with nothing_written(server.mongo):
        payload = bulk(ada, field, WHERE[field] | {"where": where})
    assert (errors(payload), payload["results"]) == ([("LIMIT_EXCEEDED", ["input", "where", member])], [])


def test_five_hundred_tasks_are_changed_at_once(server: Server, ada: Person) -> None:
    server.mongo["tasks"].insert_many(task(ada, str(number)) for number in range(500))
    payload = bulk(ada, "bulkUpdateTasks", {"where": {"filter": {}}, "patch": {"status": "IN_PROGRESS"}})
    assert (len(made(payload)), payload["matchedCount"], payload["changedCount"]) == (500, 500, 500)
    assert {each["status"] for each in tasks_of(server.mongo, ada)} == {"IN_PROGRESS"}
    payload = bulk(ada, "bulkDeleteTasks", {"where": {"filter": {}}})
    assert payload["changedCount"] == 500
    assert titles(ada) == []


def test_tasks_that_are_done_together_need_not_wait_for_each_other(ada: Person) -> None:
    a, b, c, outside = (create(ada, title) for title in ("a", "b", "c", "outside"))
    block(ada, a, b)
    block(ada, b, c)
    given = {"where": {"ids": [c["id"], b["id"], a["id"]]}, "patch": {"status": "DONE"}}
    block(ada, outside, b)
    refused = bulk(ada, "bulkUpdateTasks", given)
    assert {number: found for number, [(found, _)] in faults(refused).items()} == {0: "BLOCKED", 1: "BLOCKED"}
    partly = bulk(ada, "bulkUpdateTasks", given | {"mode": "BEST_EFFORT"})
    assert [each["task"] and each["task"]["status"] for each in partly["results"]] == [None, None, "DONE"]
    done(update(ada, outside, status="CANCELED"))
    assert [each["status"] for each in made(bulk(ada, "bulkUpdateTasks", given))] == ["DONE"] * 3
    assert [read(ada, each)["isBlocked"] for each in (a, b, c)] == [False] * 3


def test_reopening_many_blocks_those_that_wait(ada: Person) -> None:
    a, b, c = (create(ada, title) for title in "abc")
    block(ada, a, c)
    block(ada, b, c)
    where = {"where": {"ids": [a["id"], b["id"]]}}
    made(bulk(ada, "bulkUpdateTasks", where | {"patch": {"status": "DONE"}}))
    assert read(ada, c)["isBlocked"] is False
    made(bulk(ada, "bulkUpdateTasks", where | {"patch": {"status": "TODO"}}))
    assert (read(ada, c)["isBlocked"], read(ada, c)["version"]) == (True, 3)


def test_what_cannot_be_put_below_a_parent_is_told(ada: Person) -> None:
    top, parent, free = create(ada, "top"), create(ada, "parent"), create(ada, "free")
    done(update(ada, parent, parentId=top["id"]))
    given = {"where": {"ids": [top["id"], parent["id"], free["id"]]}, "patch": {"parentId": parent["id"]}, "mode": "BEST_EFFORT"}
    payload = bulk(ada, "bulkUpdateTasks", given)
    assert [[error["code"] for error in each["errors"]] for each in payload["results"]] == [
        ["DEPENDENCY_CYCLE"],
        ["DEPENDENCY_CYCLE"],
        [],
    ]
    assert payload["results"][2]["task"]["parent"] == {"id": parent["id"]}


def test_a_patch_that_makes_no_sense_is_refused_as_a_whole(server: Server, ada: Person) -> None:
    created = create(ada)
    where = {"ids": [created["id"]]}
    with nothing_written(server.mongo):
        for patch, expected in (
            ({"title": " "}, ("REQUIRED", ["input", "patch", "title"])),
            ({"assigneeId": created["id"]}, ("NOT_FOUND", ["input", "patch", "assigneeId"])),
            ({"parentId": shown_id(task(ada))}, ("NOT_FOUND", ["input", "patch", "parentId"])),
        ):
            payload = bulk(ada, "bulkUpdateTasks", {"where": where, "patch": patch})
            assert (errors(payload), payload["results"]) == ([expected], [])


def test_one_labels_too_many_is_told_with_its_task(ada: Person) -> None:
    full, empty = create(ada, labels=[str(number) for number in range(20)]), create(ada)
    given = {"where": {"ids": [full["id"], empty["id"]]}, "patch": {"addLabels": ["more"]}, "mode": "BEST_EFFORT"}
    payload = bulk(ada, "bulkUpdateTasks", given)
    assert [errors(each) for each in payload["results"]] == [[("LIMIT_EXCEEDED", ["input", "patch", "labels"])], []]


def test_deleting_many_frees_those_that_waited_once(server: Server, ada: Person) -> None:
    a, b, c, after = (create(ada, title) for title in ("a", "b", "c", "after"))
    for blocker, blocked in ((a, b), (a, after), (b, after), (c, after)):
        block(ada, blocker, blocked)
    before = len(events_of(server.mongo, ada))
    payload = bulk(ada, "bulkDeleteTasks", {"where": {"ids": [b["id"], a["id"]]}, "idempotencyKey": "key"})
    assert [(each["title"], each["version"], each["deletedAt"] is None) for each in made(payload)] == [
        ("b", 3, False),
        ("a", 2, False),
    ]
    events = events_of(server.mongo, ada)[before:]
    assert [(each["action"], each["snapshot"]["title"], each["causedBy"]) for each in events] == [
        ("DELETED", "b", "key"),
        ("DELETED", "a", "key"),
        ("DEPENDENCY_REMOVED", "after", "key"),
    ]
    assert events[2]["changes"] == [{"field": "blockedBy", "before": oid(each["id"]), "after": None} for each in (a, b)]
    assert (read(ada, after)["isBlocked"], read(ada, after)["version"]) == (True, 5)
    done(delete(ada, c))
    assert read(ada, after)["isBlocked"] is False
    assert server.mongo["dependencies"].count_documents({"ownerId": oid(ada.id)}) == 0


@pytest.mark.parametrize("field", ["bulkCreateTasks", *WHERE])
def test_the_anonymous_change_nothing(server: Server, ada: Person, anonymous: Person, field: str) -> None:
    given = {"tasks": [{"title": "x"}]} if field not in WHERE else WHERE[field] | {"where": {"ids": [create(ada)["id"]]}}
    kind = f"{field[0].upper()}{field[1:]}Input"
    with nothing_written(server.mongo):
        answer = anonymous.ask(f"mutation($input: {kind}!) {{ {field}(input: $input) {{ replayed }} }}", {"input": given})
    assert [each["extensions"]["code"] for each in answer["errors"]] == ["UNAUTHENTICATED"]


def test_a_selector_is_ids_or_a_filter(server: Server, ada: Person) -> None:
    document = "mutation($input: BulkDeleteTasksInput!) { bulkDeleteTasks(input: $input) { replayed } }"
    wrong: list[dict[str, Any]] = [{}, {"ids": [], "filter": {}}, {"ids": None}]
    with nothing_written(server.mongo):
        for where in wrong:
            answer = ada.ask(document, {"input": {"where": where}})
            assert [each["extensions"]["code"] for each in answer["errors"]] == ["BAD_USER_INPUT"]
