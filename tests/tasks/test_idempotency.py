"""Idempotency keys: the same write twice is done once, and answered the second time as it was the first."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.conftest import Launch, Server, Someone
from tests.people import Person
from tests.tasks.documents import events_of, nothing_written, oid, tasks_of
from tests.tasks.operations import (
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
    together,
    update,
)

REUSED = [("IDEMPOTENCY_KEY_REUSED", ["input", "idempotencyKey"])]


def without_cursor(payload: Any) -> Any:
    """The cursor can be told once the position of the event is known."""
    return {name: value for name, value in payload.items() if name not in {"cursor", "replayed"}}


def expect_replay(payload: Any, first: Any) -> None:
    assert payload["replayed"] is True
    assert without_cursor(payload) == without_cursor(first)
    assert payload["cursor"] in {None, first["cursor"]}


def test_twenty_retries_of_ten_keys_make_one_task_each(server: Server, ada: Person) -> None:
    given = [{"title": f"Task {number}", "idempotencyKey": f"key {number}"} for number in range(10)]
    payloads = together([partial(mutate, ada, "createTask", each) for each in given for _ in range(20)])
    assert sorted(task["title"] for task in tasks_of(server.mongo, ada)) == [each["title"] for each in given]
    assert len(events_of(server.mongo, ada)) == 10
    for number in range(10):
        mine = payloads[20 * number : 20 * number + 20]
        [first] = [each for each in mine if not each["replayed"]]
        for each in mine:
            assert (each["errors"], each["task"]) == ([], first["task"])


def test_racing_twins_of_a_change_make_one_version(server: Server, ada: Person) -> None:
    parent, child = create(ada, "Parent"), create(ada, "Child")
    writes: list[Callable[[], Any]] = [
        lambda: mutate(ada, "createTask", {"title": "New", "parent": {"id": parent["id"]}, "idempotencyKey": "create"}),
        lambda: update(ada, child, key="update", title="Renamed"),
        lambda: edge(ada, "addDependency", parent, child, key="edge"),
        lambda: bulk(ada, "bulkCreateTasks", {"tasks": [{"title": "A"}, {"title": "B"}], "idempotencyKey": "bulk"}),
    ]
    for write in writes:
        before = len(events_of(server.mongo, ada))
        payloads = together([write] * 6)
        assert sorted(each["replayed"] for each in payloads) == [False] + [True] * 5
        [first] = [each for each in payloads if not each["replayed"]]
        for each in payloads:
            assert without_cursor(each) == without_cursor(first)
        made = len(events_of(server.mongo, ada)) - before
        assert made == (2 if "results" in first else 1)


def test_a_key_with_another_input_is_refused(server: Server, ada: Person) -> None:
    first = mutate(ada, "createTask", {"title": "First", "idempotencyKey": "key"})["task"]
    others: list[Callable[[], Any]] = [
        lambda: mutate(ada, "createTask", {"title": "Second", "idempotencyKey": "key"}),
        lambda: mutate(ada, "createTask", {"title": "First", "labels": [], "idempotencyKey": "key"}),
        lambda: mutate(ada, "createTask", {"title": "First", "parent": {"id": first["id"]}, "idempotencyKey": "key"}),
        lambda: update(ada, first, key="key", title="First"),
        lambda: delete(ada, first, key="key"),
        lambda: restore(ada, first, key="key"),
    ]
    with nothing_written(server.mongo):
        for other in others:
            assert problems(other()) == REUSED
        assert errors(edge(ada, "addDependency", first, first, key="key")) == REUSED
        assert errors(edge(ada, "removeDependency", first, first, key="key")) == REUSED
        where = {"where": {"ids": [first["id"]]}, "idempotencyKey": "key"}
        assert errors(bulk(ada, "bulkCreateTasks", {"tasks": [{"title": "First"}], "idempotencyKey": "key"})) == REUSED
        assert errors(bulk(ada, "bulkUpdateTasks", where | {"patch": {"title": "First"}})) == REUSED
        assert errors(bulk(ada, "bulkDeleteTasks", where)) == REUSED


def test_left_out_and_null_are_different_inputs(ada: Person) -> None:
    task = create(ada, description="Two pages")
    done(update(ada, task, key="key"))
    assert problems(update(ada, task, key="key", description=None)) == REUSED


def test_a_retry_shows_the_task_as_it_was_after_the_first_call(server: Server, ada: Person) -> None:
    created = mutate(ada, "createTask", {"title": "First", "idempotencyKey": "create"})
    renamed = update(ada, created["task"], key="update", title="Second")
    done(update(ada, created["task"], title="Third"))
    deleted = delete(ada, created["task"], key="delete")
    restored = restore(ada, created["task"], key="restore")
    with nothing_written(server.mongo):
        expect_replay(mutate(ada, "createTask", {"title": "First", "idempotencyKey": "create"}), created)
        expect_replay(update(ada, created["task"], key="update", title="Second"), renamed)
        expect_replay(delete(ada, created["task"], key="delete"), deleted)
        expect_replay(restore(ada, created["task"], key="restore"), restored)
    assert read(ada, created["task"])["title"] == "Third"


def test_a_retry_of_what_changed_nothing_still_changes_nothing(server: Server, ada: Person) -> None:
    task = create(ada, "Same")
    first = update(ada, task, key="key", title="Same")
    assert (first["cursor"], first["replayed"]) == (None, False)
    done(update(ada, task, title="Other"))
    with nothing_written(server.mongo):
        expect_replay(update(ada, task, key="key", title="Same"), first)
    assert read(ada, task)["title"] == "Other"


def test_a_purged_task_is_null_in_a_retry(server: Server, ada: Person) -> None:
    created = mutate(ada, "createTask", {"title": "First", "idempotencyKey": "key"})
    for collection in ("tasks", "events"):
        server.mongo[collection].delete_many({"ownerId": oid(ada.id)})
    payload = mutate(ada, "createTask", {"title": "First", "idempotencyKey": "key"})
    assert (payload["errors"], payload["task"], payload["replayed"]) == ([], None, True)
    assert created["task"] is not None


def test_what_was_refused_does_not_use_up_its_key(ada: Person) -> None:
    first, second = create(ada, "First"), create(ada, "Second")
    done(delete(ada, first))
    assert problems(update(ada, second, key="key", parentId=first["id"])) == [("NOT_FOUND", ["input", "patch", "parentId"])]
    done(restore(ada, first))
    assert done(update(ada, second, key="key", parentId=first["id"]))["parent"] == {"id": first["id"]}


def test_everybody_has_keys_of_their_own(ada: Person, someone: Someone) -> None:
    given = {"title": "Mine", "idempotencyKey": "key"}
    mine, theirs = done(mutate(ada, "createTask", given)), done(mutate(someone(), "createTask", given))
    assert mine["id"] != theirs["id"]


def test_keys_are_kept_for_a_day(server: Server) -> None:
    indexes = server.mongo["idempotency"].index_information()
    assert indexes["expired"]["expireAfterSeconds"] == 24 * 3600


def test_both_ends_of_a_dependency_are_told_again(server: Server, ada: Person) -> None:
    first, second = create(ada, "First"), create(ada, "Second")
    added = edge(ada, "addDependency", first, second, key="add")
    removed = edge(ada, "removeDependency", first, second, key="remove")
    with nothing_written(server.mongo):
        expect_replay(edge(ada, "addDependency", first, second, key="add"), added)
        expect_replay(edge(ada, "removeDependency", first, second, key="remove"), removed)


def test_a_retry_of_a_bulk_call_tells_what_was_refused(server: Server, ada: Person) -> None:
    given = {
        "tasks": [{"title": "Good", "ref": "good"}, {"title": " "}, {"title": "Lost", "parent": {"ref": "nowhere"}}],
        "mode": "BEST_EFFORT",
        "idempotencyKey": "key",
    }
    first = bulk(ada, "bulkCreateTasks", given)
    assert [each["task"] is None for each in first["results"]] == [False, True, True]
    with nothing_written(server.mongo):
        expect_replay(bulk(ada, "bulkCreateTasks", given), first)


def test_a_dry_run_does_not_use_up_its_key(ada: Person) -> None:
    given = {"where": {"ids": [create(ada)["id"]]}, "patch": {"priority": "HIGH"}, "idempotencyKey": "key"}
    assert bulk(ada, "bulkUpdateTasks", given | {"dryRun": True})["changedCount"] == 1
    payload = bulk(ada, "bulkUpdateTasks", given)
    assert (payload["replayed"], payload["changedCount"]) == (False, 1)


def test_keys_need_no_redis(launch: Launch, someone: Someone) -> None:
    launched = launch(REDIS_URL="redis://127.0.0.1:1/0")
    ada = someone(url=launched.url)
    given = {"title": "Once", "idempotencyKey": "key"}
    first = mutate(ada, "createTask", given)
    expect_replay(mutate(ada, "createTask", given), first)
    assert data(ada, "{ tasks { totalCount } }") == {"tasks": {"totalCount": 1}}


@pytest.mark.parametrize("field", ["addDependency", "removeDependency"])
def test_a_key_of_the_wrong_length_is_refused(server: Server, ada: Person, field: str) -> None:
    task = create(ada)
    with nothing_written(server.mongo):
        assert errors(edge(ada, field, task, task, key="")) == [("INVALID", ["input", "idempotencyKey"])]
