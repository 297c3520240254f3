"""Whatever many clients do at once: counters say what the dependencies say, and no loop is closed in either way of reading the graph."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import pytest

from tests.conftest import Documents, Server
from tests.people import Person
from tests.tasks.documents import events_of, oid, tasks_of
from tests.tasks.operations import bulk, create, delete, edge, mutate, restore, together, update

CLIENTS, STEPS, TASKS = 6, 50, 9
STATUSES = ("TODO", "IN_PROGRESS", "DONE", "CANCELED")


def step(person: Person, chance: random.Random, tasks: list[Any]) -> Any:
    """One random write; most are refused or change nothing, as they would for anybody."""
    one, other = chance.sample(tasks, 2)
    match chance.randrange(9):
        case 0 | 1 | 2 | 3:
            return edge(person, chance.choice(["addDependency", "addDependency", "removeDependency"]), one, other)
        case 4:
            given = {"id": one["id"], "patch": {"status": chance.choice(STATUSES)}, "ignoreBlockers": chance.random() < 0.3}
            return mutate(person, "updateTask", given)
        case 5:
            return update(person, one, parentId=chance.choice([None, other["id"]]))
        case 6:
            return delete(person, one) if chance.random() < 0.3 else restore(person, one)
        case 7:
            ids = [each["id"] for each in chance.sample(tasks, 3)]
            given = {"where": {"ids": ids}, "patch": {"status": chance.choice(STATUSES)}, "mode": "BEST_EFFORT"}
            return bulk(person, "bulkUpdateTasks", given)
        case _:
            new = [
                {"title": "a", "ref": "a", "parent": {"id": one["id"]}},
                {"title": "b", "blockedBy": [{"ref": "a"}, {"id": other["id"]}]},
            ]
            return bulk(person, "bulkCreateTasks", {"tasks": new})


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_is_sound_after_any_writes_at_once(server: Server, ada: Person, seed: int) -> None:
    tasks = [create(ada, str(number)) for number in range(TASKS)]

    def client(number: int) -> bool:
        chance = random.Random(f"{seed} {number}")
        for _ in range(STEPS):
            step(ada, chance, tasks)
        return True

    together([lambda number=number: client(number) for number in range(CLIENTS)])
    assert_sound(server.mongo, ada)


def assert_sound(mongo: Documents, person: Person) -> None:
    stored = {each["_id"]: each for each in tasks_of(mongo, person)}
    edges = list(mongo["dependencies"].find({"ownerId": oid(person.id)}))
    assert edges
    touching, open_blockers = Counter[Any](), Counter[Any]()
    by_parts: Mapping[Any, set[Any]] = defaultdict(set)
    by_parents: Mapping[Any, set[Any]] = defaultdict(set)
    for each in edges:
        blocker, blocked = stored[each["blockerId"]], stored[each["blockedId"]]
        assert not blocker["isDeleted"]
        assert not blocked["isDeleted"]
        touching.update([blocker["_id"], blocked["_id"]])
        open_blockers[blocked["_id"]] += blocker["status"] in {"TODO", "IN_PROGRESS"}
        by_parts[blocked["_id"]].add(blocker["_id"])
        by_parents[blocked["_id"]].add(blocker["_id"])
    for each in stored.values():
        if each["parentId"]:
            by_parts[each["parentId"]].add(each["_id"])
            by_parents[each["_id"]].add(each["parentId"])
    TopologicalSorter(by_parts).prepare()
    TopologicalSorter(by_parents).prepare()
    assert {each: (task["openBlockers"], task["edgeCount"]) for each, task in stored.items()} == {
        each: (open_blockers[each], touching[each]) for each in stored
    }
    versions = defaultdict(list)
    for event in events_of(mongo, person):
        versions[event["subjectId"]].append(event["version"])
    assert {each: sorted(found) for each, found in versions.items()} == {
        each: list(range(1, task["version"] + 1)) for each, task in stored.items()
    }
