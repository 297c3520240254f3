"""updateTask: what a patch keeps, clears and refuses, versions, and parents that never close a loop."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from taskgraph.storage import clock
from tests.conftest import Documents, Server, Someone
from tests.people import Person
from tests.tasks.documents import LONG_AGO, events_of, nothing_written, oid, shown_id, task, tasks_of
from tests.tasks.operations import create, delete, done, mutate, mutation, problems, read, refusal, together, update

FULL: dict[str, Any] = {
    "description": "Two pages",
    "status": "IN_PROGRESS",
    "priority": "HIGH",
    "labels": ["a", "b"],
    "dueDate": "2030-01-02T03:04:05.678Z",
}
UNTOUCHED = ("id", "createdAt", "owner", "creator", "deletedAt")


@pytest.fixture
def full(ada: Person) -> Any:
    """A task that has everything."""
    return create(ada, "Write", **FULL, assigneeId=ada.id, parent={"id": create(ada, "Parent")["id"]})


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({"title": "  Read "}, {"title": "Read"}),
        ({"description": "Three pages"}, {"description": "Three pages"}),
        ({"status": "TODO"}, {"status": "TODO"}),
        ({"priority": "LOW"}, {"priority": "LOW"}),
        ({"labels": ["c", " c", "b"]}, {"labels": ["c", "b"]}),
        ({"dueDate": "2031-01-02T03:04:05+02:00"}, {"dueDate": "2031-01-02T01:04:05.000Z"}),
        ({"description": None}, {"description": ""}),
        ({"labels": None}, {"labels": []}),
        ({"dueDate": None}, {"dueDate": None}),
        ({"assigneeId": None}, {"assignee": None}),
        ({"parentId": None}, {"parent": None}),
        ({"addLabels": ["c", "a", " d "]}, {"labels": ["a", "b", "c", "d"]}),
        ({"removeLabels": [" a ", "missing"]}, {"labels": ["b"]}),
        ({"addLabels": ["c", "d"], "removeLabels": ["a", "d"]}, {"labels": ["b", "c"]}),
        ({"labels": ["x"], "addLabels": ["y"]}, {"labels": ["x", "y"]}),
        ({"labels": None, "addLabels": ["y"]}, {"labels": ["y"]}),
        ({"title": "Read", "priority": "URGENT"}, {"title": "Read", "priority": "URGENT"}),
    ],
)
def test_what_is_given_changes_and_the_rest_is_kept(ada: Person, full: Any, patch: dict[str, Any], changed: dict[str, Any]) -> None:
    after = done(update(ada, full, **patch))
    assert after["updatedAt"] >= full["updatedAt"]
    assert after == full | changed | {"version": 2, "updatedAt": after["updatedAt"]}
    assert read(ada, full) == after


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"title": " Write "},
        FULL,
        {"addLabels": ["a"], "removeLabels": ["missing"]},
        {"addLabels": ["z"], "removeLabels": ["z"]},
        {"addLabels": None, "removeLabels": None},
        {"dueDate": "2030-01-02T04:04:05.678999+01:00"},
    ],
)
def test_a_patch_that_changes_nothing_makes_no_version(server: Server, ada: Person, full: Any, patch: dict[str, Any]) -> None:
    with nothing_written(server.mongo):
        payload = update(ada, full, version=1, **patch)
    assert payload == {"errors": [], "replayed": False, "cursor": None, "task": full}


def test_the_same_parent_and_assignee_again_make_no_version(server: Server, ada: Person, full: Any) -> None:
    with nothing_written(server.mongo):
        assert done(update(ada, full, assigneeId=ada.id, parentId=full["parent"]["id"])) == full


def test_each_change_raises_the_version_by_one(ada: Person) -> None:
    current = create(ada, "0")
    for number in range(1, 6):
        current = done(update(ada, current, title=str(number)))
        assert current["version"] == 1 + number


def test_updated_at_is_the_time_of_the_change(server: Server, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    created = create(ada)
    later = datetime.fromisoformat(created["createdAt"]).replace(tzinfo=None) + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    after = done(update(ada, created, title="Later"))
    assert after["updatedAt"] == f"{later.isoformat(timespec='milliseconds')}Z"
    assert (after["createdAt"], events_of(server.mongo, ada)[-1]["occurredAt"]) == (created["createdAt"], later)


@pytest.mark.parametrize(
    ("patch", "code", "path"),
    [
        ({"title": None}, "REQUIRED", ["title"]),
        ({"title": "\n"}, "REQUIRED", ["title"]),
        ({"title": "x" * 201}, "TOO_LONG", ["title"]),
        ({"title": "a\0b"}, "INVALID", ["title"]),
        ({"status": None}, "REQUIRED", ["status"]),
        ({"priority": None}, "REQUIRED", ["priority"]),
        ({"description": "x" * 10_001}, "TOO_LONG", ["description"]),
        ({"labels": ["ok", ""]}, "REQUIRED", ["labels", "1"]),
        ({"labels": [str(number) for number in range(21)]}, "LIMIT_EXCEEDED", ["labels"]),
        ({"addLabels": ["ok", "x" * 51]}, "TOO_LONG", ["addLabels", "1"]),
        ({"addLabels": [" "]}, "REQUIRED", ["addLabels", "0"]),
        ({"addLabels": [str(number) for number in range(19)]}, "LIMIT_EXCEEDED", ["labels"]),
        ({"dueDate": "9999-12-31T00:00:00Z"}, "INVALID", ["dueDate"]),
        ({"assigneeId": "garbage"}, "NOT_FOUND", ["assigneeId"]),
        ({"parentId": "garbage"}, "NOT_FOUND", ["parentId"]),
    ],
)
def test_what_breaks_a_limit_is_refused_at_its_place(
    server: Server, ada: Person, full: Any, patch: dict[str, Any], code: str, path: list[str]
) -> None:
    with nothing_written(server.mongo):
        assert problems(update(ada, full, **patch)) == [(code, ["input", "patch", *path])]


def test_twenty_labels_fit_and_another_does_not(server: Server, ada: Person, full: Any) -> None:
    after = done(update(ada, full, addLabels=[str(number) for number in range(18)]))
    assert len(after["labels"]) == 20
    with nothing_written(server.mongo):
        assert problems(update(ada, full, addLabels=["more"])) == [("LIMIT_EXCEEDED", ["input", "patch", "labels"])]
    assert done(update(ada, full, addLabels=["more"], removeLabels=["a"]))["labels"][-1] == "more"


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_of_the_wrong_length_is_refused(server: Server, ada: Person, full: Any, key: str) -> None:
    with nothing_written(server.mongo):
        assert problems(update(ada, full, key=key, title="Read")) == [("INVALID", ["input", "idempotencyKey"])]


def test_another_expected_version_is_a_conflict(server: Server, ada: Person, full: Any) -> None:
    done(update(ada, full, version=1, title="Read"))
    with nothing_written(server.mongo):
        for expected in (1, 3, 0, -1, 2_147_483_647):
            refused = update(ada, full, version=expected, title="Again")
            assert problems(refused) == [("VERSION_CONFLICT", ["input", "expectedVersion"])]
    assert done(update(ada, full, version=2, title="Again"))["version"] == 3


def test_of_racing_changes_of_one_version_one_gets_through(ada: Person) -> None:
    target = create(ada)
    payloads = together([lambda number=number: update(ada, target, version=1, title=f"By {number}") for number in range(6)])
    errors = sorted(str([each["code"] for each in payload["errors"]]) for payload in payloads)
    assert errors == ["['VERSION_CONFLICT']"] * 5 + ["[]"]
    assert read(ada, target)["version"] == 2


def test_racing_changes_of_one_task_all_count(server: Server, ada: Person) -> None:
    target = create(ada)
    together([lambda number=number: done(update(ada, target, addLabels=[str(number)])) for number in range(6)])
    after = read(ada, target)
    assert (after["version"], sorted(after["labels"])) == (7, list("012345"))
    assert [event["version"] for event in events_of(server.mongo, ada)] == [1, 2, 3, 4, 5, 6, 7]


def test_completed_at_follows_the_status(ada: Person, full: Any) -> None:
    completed = done(update(ada, full, status="DONE"))
    assert completed["completedAt"] == completed["updatedAt"]
    still = done(update(ada, full, status="DONE", title="Done and renamed"))
    assert still["completedAt"] == completed["completedAt"]
    assert done(update(ada, full, status="CANCELED"))["completedAt"] is None
    again = done(update(ada, full, status="DONE"))
    assert again["completedAt"] == again["updatedAt"]


def test_only_the_owner_can_be_assigned(server: Server, ada: Person, full: Any, someone: Someone) -> None:
    stranger = someone()
    with nothing_written(server.mongo):
        refused = update(ada, full, assigneeId=stranger.id)
        assert problems(refused) == [("NOT_FOUND", ["input", "patch", "assigneeId"])]
    done(update(ada, full, assigneeId=None))
    assert done(update(ada, full, assigneeId=ada.id))["assignee"] == {"id": ada.id}


def test_someone_elses_task_is_not_found(server: Server, full: Any, someone: Someone) -> None:
    stranger, missing = someone(), shown_id(task(someone()))
    with nothing_written(server.mongo):
        refused = update(stranger, full, title="Mine")
        assert problems(refused) == [("NOT_FOUND", ["input", "id"])]
        for other in (missing, "garbage", stranger.id, ""):
            # Nothing tells a hidden task from one that never was.
            assert update(stranger, {"id": other}, title="Mine") == refused
        assert problems(update(stranger, full, version=1, title="Mine")) == [("NOT_FOUND", ["input", "id"])]


def test_a_deleted_task_is_not_changed(server: Server, ada: Person, full: Any) -> None:
    done(delete(ada, full))
    with nothing_written(server.mongo):
        assert problems(update(ada, full, title="Read")) == [("NOT_FOUND", ["input", "id"])]


def test_the_anonymous_change_nothing(server: Server, full: Any, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        code, _ = refusal(anonymous, mutation("updateTask"), {"input": {"id": full["id"], "patch": {"title": "Mine"}}})
    assert code == "UNAUTHENTICATED"


def test_a_change_writes_one_event_with_before_and_after(server: Server, ada: Person) -> None:
    created = create(ada, "Write")
    payload = update(ada, created, key="laptop-2", title="Read", status="DONE", priority="HIGH", addLabels=["x"])
    [stored] = tasks_of(server.mongo, ada)
    [_, event] = events_of(server.mongo, ada)
    assert payload["cursor"] is not None
    assert event["changes"] == [
        {"field": "title", "before": "Write", "after": "Read"},
        {"field": "status", "before": "TODO", "after": "DONE"},
        {"field": "priority", "before": 2, "after": 3},
        {"field": "labels", "before": [], "after": ["x"]},
        {"field": "completedAt", "before": None, "after": stored["completedAt"]},
    ]
    assert (event["action"], event["version"], event["causedBy"]) == ("UPDATED", 2, "laptop-2")
    assert (event["actorId"], event["occurredAt"], event["snapshot"]) == (oid(ada.id), stored["updatedAt"], stored)


def test_a_parent_must_be_ones_own_and_not_deleted(server: Server, ada: Person, full: Any, someone: Someone) -> None:
    strangers, gone = create(someone()), create(ada)
    done(delete(ada, gone))
    with nothing_written(server.mongo):
        for parent in (strangers["id"], gone["id"], ada.id):
            refused = update(ada, full, parentId=parent)
            assert problems(refused) == [("NOT_FOUND", ["input", "patch", "parentId"])]


def test_a_subtask_of_a_deleted_parent_can_still_be_changed(ada: Person, full: Any) -> None:
    done(delete(ada, full["parent"]))
    assert done(update(ada, full, title="Read", parentId=full["parent"]["id"]))["parent"] == full["parent"]


def test_a_task_is_not_put_below_itself_or_a_descendant(server: Server, ada: Person) -> None:
    chain = [create(ada, "0")]
    for level in range(1, 12):
        chain.append(create(ada, str(level), parent={"id": chain[-1]["id"]}))
    with nothing_written(server.mongo):
        for below in chain:
            refused = update(ada, chain[0], parentId=below["id"])
            assert problems(refused) == [("DEPENDENCY_CYCLE", ["input", "patch", "parentId"])]
    assert done(update(ada, chain[5], parentId=chain[1]["id"]))["parent"] == {"id": chain[1]["id"]}
    assert done(update(ada, chain[2], parentId=chain[11]["id"]))["parent"] == {"id": chain[11]["id"]}


def test_a_loop_through_a_deleted_task_is_refused(server: Server, ada: Person) -> None:
    top = create(ada, "Top")
    middle = create(ada, "Middle", parent={"id": top["id"]})
    bottom = create(ada, "Bottom", parent={"id": middle["id"]})
    done(delete(ada, middle))
    with nothing_written(server.mongo):
        assert problems(update(ada, top, parentId=bottom["id"])) == [("DEPENDENCY_CYCLE", ["input", "patch", "parentId"])]


def test_no_move_makes_a_tree_deeper_than_fifty_levels(server: Server, ada: Person) -> None:
    upper, lower = chained(server.mongo, ada, 30), chained(server.mongo, ada, 21)
    with nothing_written(server.mongo):
        assert problems(update(ada, {"id": lower[0]}, parentId=upper[-1])) == [("LIMIT_EXCEEDED", ["input", "patch", "parentId"])]
    assert done(update(ada, {"id": lower[0]}, parentId=upper[-2]))["parent"] == {"id": upper[-2]}


def test_a_loop_in_a_tree_of_the_greatest_depth_is_refused(server: Server, ada: Person) -> None:
    chain = chained(server.mongo, ada, 50)
    with nothing_written(server.mongo):
        refused = update(ada, {"id": chain[0]}, parentId=chain[-1])
        assert problems(refused) == [("DEPENDENCY_CYCLE", ["input", "patch", "parentId"])]


def test_of_racing_moves_that_would_close_a_loop_one_is_refused(server: Server, ada: Person) -> None:
    for pair in range(20):
        left, right = create(ada, f"{pair} left"), create(ada, f"{pair} right")
        payloads = together(
            [lambda: update(ada, left, parentId=right["id"]), lambda: update(ada, right, parentId=left["id"])]  # noqa: B023 - run at once
        )
        assert sorted(str([each["code"] for each in payload["errors"]]) for payload in payloads) == ["['DEPENDENCY_CYCLE']", "[]"]
    assert_no_loops(tasks_of(server.mongo, ada))


def test_of_racing_moves_around_a_longer_loop_one_is_refused(server: Server, ada: Person) -> None:
    ring = [create(ada, str(number)) for number in range(5)]
    payloads = together(
        [
            lambda lower=lower, upper=upper: update(ada, lower, parentId=upper["id"])
            for lower, upper in zip(ring, [*ring[1:], ring[0]], strict=True)
        ]
    )
    assert (
        sorted(str([each["code"] for each in payload["errors"]]) for payload in payloads) == ["['DEPENDENCY_CYCLE']"] + ["[]"] * 4
    )
    assert_no_loops(tasks_of(server.mongo, ada))


def test_racing_first_moves_of_an_account_all_succeed(server: Server, ada: Person) -> None:
    # The document that makes moves take turns is made by the first of them.
    parent, *others = [create(ada, str(number)) for number in range(7)]
    together([lambda each=each: done(update(ada, each, parentId=parent["id"])) for each in others])
    assert [each["parentId"] for each in tasks_of(server.mongo, ada)] == [None] + [oid(parent["id"])] * 6


def test_racing_subtasks_of_one_parent_are_all_created(server: Server, ada: Person) -> None:
    parent = create(ada, "Parent")
    together([lambda: create(ada, "Child", parent={"id": parent["id"]}) for _ in range(6)])
    assert [each["parentId"] for each in tasks_of(server.mongo, ada)] == [None] + [oid(parent["id"])] * 6


def test_ignoring_blockers_that_are_not_there_changes_nothing(ada: Person, full: Any) -> None:
    given = {"id": full["id"], "patch": {"status": "DONE"}, "ignoreBlockers": True}
    assert done(mutate(ada, "updateTask", given))["status"] == "DONE"


def test_what_is_kept_is_the_same_after_many_changes(ada: Person, full: Any) -> None:
    after = done(update(ada, full, title="Read", status="DONE", priority="LOW", labels=[], dueDate=None, assigneeId=None))
    assert {name: after[name] for name in UNTOUCHED} == {name: full[name] for name in UNTOUCHED}


def chained(mongo: Documents, owner: Person, length: int) -> list[str]:
    """Global ids of tasks each of which is the parent of the next."""
    parents: list[dict[str, Any]] = []
    for number in range(length):
        parents.append(task(owner, str(number), created=LONG_AGO, parent_id=parents[-1]["_id"] if parents else None))
    mongo["tasks"].insert_many(parents)
    return [shown_id(each) for each in parents]


def assert_no_loops(tasks: list[dict[str, Any]]) -> None:
    parents = {each["_id"]: each["parentId"] for each in tasks}
    for start in parents:
        above, current = set(), start
        while current is not None:
            assert current not in above
            above.add(current)
            current = parents[current]
