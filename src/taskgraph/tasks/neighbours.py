"""Reading who blocks a task and whom it blocks. Batches like those of reads.py: the owner is part of each key."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from taskgraph.storage.mongo import Database, Document, Projection, only
from taskgraph.storage.paging import Page, Window, page_of
from taskgraph.tasks.model import is_open
from taskgraph.tasks.reads import TaskKey


class Side(Enum):
    """Which neighbours: the key of a dependency that holds the task itself, and the one that holds the neighbour."""

    BLOCKERS = ("blockedId", "blockerId")
    BLOCKED = ("blockerId", "blockedId")


class NeighboursKey(NamedTuple):
    """One page of a task's neighbours on one side, perhaps only of those that are open."""

    task: TaskKey
    side: Side
    only_open: bool
    window: Window


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A page, and how many there are in all."""

    page: Page
    total: int


async def neighbours(db: Database, keys: Sequence[NeighboursKey], projection: Projection = None) -> list[Neighbours]:
    """Neighbours that are there and not deleted, in the order of their dependencies: two queries for all keys, one for each side that
    is asked for and one for the tasks.

    A task has at most MAX_DEPENDENCIES on each side. So all are read, and the page is cut here: which are open cannot be told before.
    """
    edges: dict[tuple[Side, TaskKey], list[Document]] = defaultdict(list)
    for side in Side:
        tasks = {key.task for key in keys if key.side is side}
        if tasks:
            for edge in await _edges(db, side, tasks):
                edges[side, TaskKey(edge["ownerId"], edge[side.value[0]])].append(edge)
    ends = {(edge["ownerId"], edge[side.value[1]]) for (side, _), found in edges.items() for edge in found}
    wanted = {"_id": {"$in": [end for _, end in ends]}, "ownerId": {"$in": list({owner for owner, _ in ends})}, "isDeleted": False}
    shown = only(projection, "ownerId", "status", "isDeleted")
    documents = await db["tasks"].find(wanted, shown, batch_size=len(ends) + 1).to_list() if ends else []
    tasks_by_key = {TaskKey(each["ownerId"], each["_id"]): each for each in documents}
    return [_page(key, edges[key.side, key.task], tasks_by_key) for key in keys]


async def _edges(db: Database, side: Side, tasks: set[TaskKey]) -> list[Document]:
    # The owner is not needed to find them, but a key is only worth what its owner may see.
    condition = {side.value[0]: {"$in": [key.task_id for key in tasks]}, "ownerId": {"$in": list({key.owner_id for key in tasks})}}
    found = await db["dependencies"].find(condition, batch_size=1 + 100 * len(tasks)).to_list()
    # MongoDB would have to sort all of them in memory, as they come from many places of the index.
    return sorted(found, key=lambda edge: edge["_id"])


def _page(key: NeighboursKey, edges: Sequence[Document], tasks: dict[TaskKey, Document]) -> Neighbours:
    found = []
    for edge in edges:
        task = tasks.get(TaskKey(key.task.owner_id, edge[key.side.value[1]]))
        if task is not None and (is_open(task) or not key.only_open):
            found.append(task | {key.window.order.key: str(edge["_id"])})
    after = key.window.after
    behind = [each for each in found if after is None or (each[key.window.order.key], each["_id"]) > (after.key, after.id)]
    return Neighbours(page_of(key.window, behind[: key.window.limit]), len(found))
