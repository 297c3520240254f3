"""Dependencies and bulk calls as subscribers hear of them: each change once, in order, up to the cursor of the answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.live.sockets import Socket, connected
from tests.people import Person
from tests.tasks.operations import block, bulk, create, delete, edge, mutate

SUBSCRIBE = """subscription { taskEvents { ... on TaskEvent {
  cursor action taskId version causedBy task { title isBlocked } changes { field before after } } } }"""


@pytest.fixture
def ada(someone: Someone) -> Person:
    return someone()


@pytest.fixture
def socket(server: Server, ada: Person) -> Iterator[Socket]:
    with connected(server.ws_url, ada.token) as signed_in:
        yield signed_in


def listen(socket: Socket) -> None:
    socket.subscribe(SUBSCRIBE)
    assert next_event(socket) == {}


def next_event(socket: Socket) -> Any:
    """The next message; a checkpoint is empty."""
    return socket.next(id="1")["data"]["taskEvents"]


def test_a_dependency_is_told_with_the_blockers_id(ada: Person, socket: Socket) -> None:
    first, second = create(ada, "First"), create(ada, "Second")
    listen(socket)
    added = edge(ada, "addDependency", first, second, key="add")
    event = next_event(socket)
    assert (event["action"], event["taskId"], event["version"], event["causedBy"]) == ("DEPENDENCY_ADDED", second["id"], 2, "add")
    assert (event["cursor"], event["task"]) == (added["cursor"], {"title": "Second", "isBlocked": True})
    assert event["changes"] == [{"field": "blockedBy", "before": None, "after": first["id"]}]
    edge(ada, "removeDependency", first, second)
    event = next_event(socket)
    assert (event["action"], event["task"]["isBlocked"]) == ("DEPENDENCY_REMOVED", False)
    assert event["changes"] == [{"field": "blockedBy", "before": first["id"], "after": None}]


def test_a_deletion_is_told_before_those_that_it_frees(ada: Person, socket: Socket) -> None:
    first, second = create(ada, "First"), create(ada, "Second")
    block(ada, first, second)
    listen(socket)
    deleted = delete(ada, first)
    events = [next_event(socket) for _ in range(2)]
    assert [(each["action"], each["task"]["title"]) for each in events] == [("DELETED", "First"), ("DEPENDENCY_REMOVED", "Second")]
    assert deleted["cursor"] == events[-1]["cursor"]


def test_a_bulk_call_is_told_in_order_up_to_its_cursor(ada: Person, socket: Socket) -> None:
    listen(socket)
    given = {"tasks": [{"title": str(number)} for number in range(50)], "idempotencyKey": "plan"}
    made = bulk(ada, "bulkCreateTasks", given)
    events = [next_event(socket) for _ in range(50)]
    assert [(each["task"]["title"], each["causedBy"]) for each in events] == [(str(number), "plan") for number in range(50)]
    assert events[-1]["cursor"] == made["cursor"]


def test_a_retry_is_told_nobody(ada: Person, socket: Socket) -> None:
    listen(socket)
    for _ in range(2):
        mutate(ada, "createTask", {"title": "Once", "idempotencyKey": "key"})
    create(ada, "Next")
    assert [next_event(socket)["task"]["title"] for _ in range(2)] == ["Once", "Next"]
