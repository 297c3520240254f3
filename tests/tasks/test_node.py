"""task, node and nodes: anything of one's own by its id, nothing of anybody else's."""

from typing import Any

import pytest
from bson import ObjectId

from taskgraph.server.relay import global_id
from tests.conftest import Someone
from tests.people import Person
from tests.tasks.documents import oid
from tests.tasks.operations import create, data, delete, done, read, refusal

NODE = (
    "query($id: ID!) { node(id: $id) { __typename id ... on Task { title } ... on User { email } ... on Session { isCurrent } } }"
)
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id ... on Task { title } } }"
GARBAGE = ["", " ", "garbage", "Task:1", "🦉", "\0", "A" * 64, "A" * 5000, "VGsCaf70BPDkC2CN", "=" * 18]


def node(person: Person, id: str) -> Any:
    return data(person, NODE, {"id": id})["node"]


def entry_id(person: Person) -> str:
    found: str = data(person, "{ auditLog(first: 1) { nodes { id } } }")["auditLog"]["nodes"][0]["id"]
    return found


def session_id(person: Person) -> str:
    found: str = data(person, "{ sessions { id } }")["sessions"][0]["id"]
    return found


def test_every_type_of_ones_own_is_found(ada: Person) -> None:
    task, session, entry = create(ada, "Mine"), session_id(ada), entry_id(ada)
    assert node(ada, task["id"]) == {"__typename": "Task", "id": task["id"], "title": "Mine"}
    assert node(ada, ada.id) == {"__typename": "User", "id": ada.id, "email": ada.email}
    assert node(ada, session) == {"__typename": "Session", "id": session, "isCurrent": True}
    assert node(ada, entry) == {"__typename": "AuditEntry", "id": entry}


def test_every_type_of_the_schema_is_tried_here(ada: Person) -> None:
    types = data(ada, '{ __type(name: "Node") { possibleTypes { name } } }')["__type"]["possibleTypes"]
    # A TaskEvent belongs to the log and has its position only there; it is found again by reading the log.
    assert sorted(each["name"] for each in types) == ["AuditEntry", "Session", "Task", "TaskEvent", "User"]


def test_nothing_of_a_stranger_is_found(ada: Person, someone: Someone) -> None:
    stranger = someone()
    theirs = [create(stranger)["id"], stranger.id, session_id(stranger), entry_id(stranger)]
    # The owner in an id is a hint for the database, not a permission.
    forged = global_id("T", oid(theirs[0]), oid(ada.id))
    for each in [*theirs, forged]:
        assert (each, node(ada, each)) == (each, None)
    assert data(ada, NODES, {"ids": [*theirs, forged]})["nodes"] == [None] * 5
    assert read(ada, {"id": theirs[0]}) is None
    assert read(ada, {"id": forged}) is None


def test_ids_of_nothing_are_null(ada: Person) -> None:
    missing = [global_id(kind, ObjectId(), oid(ada.id)) for kind in "TSX"] + [global_id("U", ObjectId())]
    for each in [*GARBAGE, *missing]:
        assert (each, node(ada, each)) == (each, None)
        assert (each, read(ada, {"id": each})) == (each, None)
    assert data(ada, NODES, {"ids": GARBAGE + missing})["nodes"] == [None] * (len(GARBAGE) + len(missing))


def test_task_finds_tasks_only(ada: Person) -> None:
    assert read(ada, {"id": ada.id}) is None
    assert read(ada, {"id": session_id(ada)}) is None


def test_a_deleted_task_is_still_found(ada: Person) -> None:
    task = create(ada)
    deleted = done(delete(ada, task))
    assert node(ada, task["id"]) == {"__typename": "Task", "id": task["id"], "title": task["title"]}
    assert read(ada, task) == deleted


def test_nodes_keep_order_duplicates_and_gaps(ada: Person) -> None:
    first, second = create(ada, "First")["id"], create(ada, "Second")["id"]
    asked = [second, ada.id, first, "garbage", second, session_id(ada), first]
    shown = data(ada, NODES, {"ids": asked})["nodes"]
    assert [each and each["id"] for each in shown] == [None if each == "garbage" else each for each in asked]
    assert [each and each["__typename"] for each in shown] == ["Task", "User", "Task", None, "Task", "Session", "Task"]
    assert data(ada, NODES, {"ids": []})["nodes"] == []


def test_at_most_a_hundred_nodes_are_read(ada: Person) -> None:
    mine = create(ada)["id"]
    assert [each["id"] for each in data(ada, NODES, {"ids": [mine] * 100})["nodes"]] == [mine] * 100
    assert refusal(ada, NODES, {"ids": [mine] * 101}) == ("BAD_USER_INPUT", "nodes takes at most 100 ids.")


@pytest.mark.parametrize(
    ("document", "variables"),
    [(NODE, {"id": "x"}), (NODES, {"ids": ["x"]}), ("query($id: ID!) { task(id: $id) { id } }", {"id": "x"})],
)
def test_the_anonymous_find_nothing(ada: Person, anonymous: Person, document: str, variables: dict[str, Any]) -> None:
    for each in (create(ada)["id"], ada.id, "x"):
        given = {name: [each] if isinstance(value, list) else each for name, value in variables.items()}
        code, _ = refusal(anonymous, document, given)
        assert code == "UNAUTHENTICATED"
        assert not any((anonymous.ask(document, given)["data"] or {}).values())
