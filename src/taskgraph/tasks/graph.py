"""Who waits for whom: parents and blockers of an owner's tasks as one graph, in which nobody may wait for himself.

It is read in two ways, and neither may close a loop: a task waits for its blockers and its subtasks, and a task waits for its
blockers and its parent. So a task is blocked neither by what stands above it nor by what stands below it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

from bson import ObjectId

from taskgraph.errors import Refused
from taskgraph.storage.mongo import Document
from taskgraph.tasks.refusals import MAX_DEPTH, CycleClosed, TaskNotFound, TooDeep, TooTangled
from taskgraph.tasks.work import EDGES, Work

MAX_SEARCHED = 10_000
Waiting = Mapping[ObjectId, set[ObjectId]]
Cycle = list[ObjectId]


class Link(NamedTuple):
    """What is to become of one task: new blockers, and a new parent unless None."""

    task_id: ObjectId
    blocker_ids: Sequence[ObjectId] = ()
    parent_id: ObjectId | None = None


@dataclass(frozen=True, slots=True)
class _Stored:
    parent_id: ObjectId | None
    has_edges: bool
    is_deleted: bool


class Surroundings:
    """What is stored around some tasks, as far as it matters for loops; read in the transaction of the write."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._tasks: dict[ObjectId, _Stored] = {}
        self._edges: set[tuple[ObjectId, ObjectId]] = set()

    def has(self, task_id: ObjectId) -> bool:
        """Whether a task that was read is there and not deleted."""
        return task_id in self._tasks and not self._tasks[task_id].is_deleted

    def depth(self, task_id: ObjectId) -> int:
        """On which level a task stands that was read: 1 at the top."""
        return len(self._line(task_id))

    async def read_lines(self, ids: Iterable[ObjectId]) -> None:
        """The tasks and all that stand above them; one query."""
        missing = [each for each in ids if each not in self._tasks]
        if not missing:
            return
        ancestors = {
            "from": "tasks",
            "startWith": "$parentId",
            "connectFromField": "parentId",
            "connectToField": "_id",
            "as": "ancestors",
            "maxDepth": 2 * MAX_DEPTH,
            "restrictSearchWithMatch": {"ownerId": self._work.owner_id},
        }
        wanted = ("_id", "parentId", EDGES, "isDeleted")
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": missing}, "ownerId": self._work.owner_id}},
            {"$graphLookup": ancestors},
            {"$project": dict.fromkeys((*wanted, *(f"ancestors.{name}" for name in wanted)), 1)},
        ]
        cursor = await self._work.db["tasks"].aggregate(pipeline, session=self._work.session, batchSize=len(missing) + 1)
        for found in await cursor.to_list():
            for each in (found, *found["ancestors"]):
                self._tasks[each["_id"]] = _Stored(each["parentId"], bool(each.get(EDGES)), each["isDeleted"])

    async def explore(self, *, above: Iterable[ObjectId], below: Iterable[ObjectId], path: tuple[str, ...]) -> None:
        """Reads what a loop could come by: all who wait, directly or not, for one of `above`, and all that one of `below` waits for.

        The first wait by way of subtasks and blockers, so it goes from a task to its parent and to those that it blocks; the second
        by way of parents and blockers. Neither ever goes down to the thousands of subtasks that a task may have. Two queries for
        each step from blocker to blocker; TooTangled when it comes to more than MAX_SEARCHED tasks.
        """
        upwards, downwards = set(above), set(below)
        seen_above: set[ObjectId] = set()
        seen_below: set[ObjectId] = set()
        while upwards or downwards:
            await self.read_lines(upwards | downwards)
            upwards, downwards = self._lines(upwards) - seen_above, self._lines(downwards) - seen_below
            seen_above |= upwards
            seen_below |= downwards
            if len(seen_above) + len(seen_below) > MAX_SEARCHED:
                raise TooTangled(path)
            blockers, blocked = self._linked(upwards), self._linked(downwards)
            upwards, downwards = set(), set()
            if blockers or blocked:
                touching = {"$or": [{"blockerId": {"$in": list(blockers)}}, {"blockedId": {"$in": list(blocked)}}]}
                for edge in await self._work.edges(touching):
                    self._edges.add((edge["blockedId"], edge["blockerId"]))
                    if edge["blockerId"] in blockers:
                        upwards.add(edge["blockedId"])
                    if edge["blockedId"] in blocked:
                        downwards.add(edge["blockerId"])

    def loops(self, links: Sequence[Link]) -> dict[ObjectId, Cycle]:
        """The tasks whose links would close a loop, each with it: every task waits for the next, first and last are that task."""
        found: dict[ObjectId, Cycle] = {}
        for by_parts in (True, False):
            while True:
                live = [link for link in links if link.task_id not in found]
                waiting, causes = self._waiting(live, by_parts=by_parts)
                try:
                    TopologicalSorter(waiting).prepare()
                    break
                except CycleError as error:
                    # graphlib tells it the other way round.
                    cycle: Cycle = error.args[1][::-1]
                guilty = {causes[step] for step in pairwise(cycle) if step in causes}
                if not guilty:
                    break
                found |= {each: _from(each, cycle) for each in guilty}
        return found

    def _waiting(self, links: Sequence[Link], *, by_parts: bool) -> tuple[Waiting, dict[tuple[ObjectId, ObjectId], ObjectId]]:
        """Who waits for whom, in one of the two ways, and which step is due to whose link."""

        def step(child_id: ObjectId, parent_id: ObjectId) -> tuple[ObjectId, ObjectId]:
            return (parent_id, child_id) if by_parts else (child_id, parent_id)

        causes = {(link.task_id, blocker_id): link.task_id for link in links for blocker_id in link.blocker_ids}
        causes |= {step(link.task_id, link.parent_id): link.task_id for link in links if link.parent_id}
        moved = {link.task_id for link in links if link.parent_id}
        lines = [step(each, task.parent_id) for each, task in self._tasks.items() if task.parent_id and each not in moved]
        # Of a task that was purged, edges may still be there.
        edges = [edge for edge in self._edges if edge[0] in self._tasks and edge[1] in self._tasks]
        waiting: dict[ObjectId, set[ObjectId]] = defaultdict(set)
        for who, for_whom in (*causes, *lines, *edges):
            waiting[who].add(for_whom)
        return waiting, causes

    def _line(self, task_id: ObjectId | None) -> list[ObjectId]:
        """The task and what stands above it, as far as it is there."""
        line: list[ObjectId] = []
        while task_id in self._tasks and task_id not in line:
            line.append(task_id)
            task_id = self._tasks[task_id].parent_id
        return line

    def _lines(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        return {above for each in ids for above in self._line(each)}

    def _linked(self, ids: Iterable[ObjectId]) -> set[ObjectId]:
        return {each for each in ids if self._tasks[each].has_edges}


async def take_turn(work: Work) -> None:
    """Makes the owner's changes of the graph happen one after another: snapshot transactions alone let two of them close a loop
    between them. Not needed for what only hangs new tasks below others: nobody waits for those yet.
    """
    graphs = work.db["graphs"]
    await graphs.update_one({"_id": work.owner_id}, {"$inc": {"moves": 1}}, upsert=True, session=work.session)


async def refused_moves(
    work: Work, task_ids: Sequence[ObjectId], parent_id: ObjectId, path: tuple[str, ...]
) -> Mapping[ObjectId, Refused]:
    """Those of the owner's tasks that cannot stand below this parent, and why. TaskNotFound for the parent."""
    await take_turn(work)
    surroundings = Surroundings(work)
    await surroundings.read_lines([parent_id])
    if not surroundings.has(parent_id):
        raise TaskNotFound("You have no such task to be the parent.", path)
    await surroundings.explore(above=[parent_id], below=[parent_id], path=path)
    loops = surroundings.loops([Link(task_id, parent_id=parent_id) for task_id in task_ids])
    refused: dict[ObjectId, Refused] = {task_id: await closed(work, loop, path) for task_id, loop in loops.items()}
    below = await _levels_below(work, [each for each in task_ids if each not in refused])
    too_deep = [task_id for task_id, levels in below.items() if surroundings.depth(parent_id) + 1 + levels > MAX_DEPTH]
    return refused | {task_id: TooDeep(path) for task_id in too_deep}


async def refused_edge(work: Work, blocker_id: ObjectId, blocked_id: ObjectId, path: tuple[str, ...]) -> Refused | None:
    """Why one task cannot wait for another; None when it can."""
    await take_turn(work)
    surroundings = Surroundings(work)
    await surroundings.explore(above=[blocked_id], below=[blocker_id], path=path)
    loops = surroundings.loops([Link(blocked_id, [blocker_id])])
    return await closed(work, loops[blocked_id], path) if loops else None


async def closed(work: Work, loop: Cycle, path: tuple[str, ...]) -> CycleClosed:
    """The refusal of a loop, with its tasks."""
    await work.read(loop)
    return CycleClosed([work.tasks[each] for each in loop], path)


async def _levels_below(work: Work, ids: Sequence[ObjectId]) -> Mapping[ObjectId, int]:
    """How many levels of subtasks each task has, deleted ones included as they can come back; counts no further than MAX_DEPTH.

    A query for each level: $graphLookup would hold the whole documents of the tree in memory, where 100 MB are the end.
    """
    levels = dict.fromkeys(ids, 0)
    # Which of the tasks stand above each task of a level.
    tops: dict[ObjectId, set[ObjectId]] = {each: {each} for each in ids}
    for level in range(1, MAX_DEPTH + 1):
        if not tops:
            break
        condition = {"ownerId": work.owner_id, "isDeleted": {"$in": [False, True]}, "parentId": {"$in": list(tops)}}
        children = await work.db["tasks"].find(condition, {"parentId": 1}, session=work.session).to_list()
        tops = {child["_id"]: tops[child["parentId"]] for child in children}
        levels |= dict.fromkeys((top for each in tops.values() for top in each), level)
    return levels


def _from(start: ObjectId, cycle: Cycle) -> Cycle:
    """The same loop, told from another of its tasks."""
    around = cycle[:-1]
    place = around.index(start)
    return [*around[place:], *around[:place], start]
