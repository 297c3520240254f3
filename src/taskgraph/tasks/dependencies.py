"""Making one task wait for another, and no longer."""

from bson import ObjectId

from taskgraph.storage.group_commit import Commits
from taskgraph.storage.idempotency import Key
from taskgraph.tasks import graph
from taskgraph.tasks.refusals import MAX_DEPENDENCIES, TaskNotFound, TooManyDependencies
from taskgraph.tasks.work import EDGES, Outcome, Work, Written, perform

BLOCKER, BLOCKED = ("input", "blockerId"), ("input", "blockedId")


async def add_dependency(
    commits: Commits, viewer_id: ObjectId, *, blocker_id: ObjectId, blocked_id: ObjectId, key: Key | None = None
) -> Written:
    """Blocker and blocked task; no change when it waits already. TaskNotFound, CycleClosed, TooManyDependencies, KeyReused."""

    async def change(work: Work) -> Outcome:
        await _read_both(work, blocker_id, blocked_id)
        edges = await _edges_of(work, blocker_id, blocked_id)
        if not any(edge["blockerId"] == blocker_id and edge["blockedId"] == blocked_id for edge in edges):
            for member, end, path in (("blockerId", blocker_id, BLOCKER), ("blockedId", blocked_id, BLOCKED)):
                if sum(edge[member] == end for edge in edges) >= MAX_DEPENDENCIES:
                    raise TooManyDependencies(path)
            if refused := await graph.refused_edge(work, blocker_id, blocked_id, BLOCKER):
                raise refused
            work.link(blocker_id, blocked_id)
        return Outcome([blocker_id, blocked_id])

    return await perform(commits, viewer_id, change, key=key)


async def remove_dependency(
    commits: Commits, viewer_id: ObjectId, *, blocker_id: ObjectId, blocked_id: ObjectId, key: Key | None = None
) -> Written:
    """Blocker and blocked task; no change when it does not wait. TaskNotFound, KeyReused."""

    async def change(work: Work) -> Outcome:
        await _read_both(work, blocker_id, blocked_id)
        for edge in await _edges_of(work, blocker_id, blocked_id):
            if edge["blockerId"] == blocker_id and edge["blockedId"] == blocked_id:
                work.unlink(edge)
        return Outcome([blocker_id, blocked_id])

    return await perform(commits, viewer_id, change, key=key)


async def _read_both(work: Work, blocker_id: ObjectId, blocked_id: ObjectId) -> None:
    await work.read([blocker_id, blocked_id])
    for end, path in ((blocker_id, BLOCKER), (blocked_id, BLOCKED)):
        if end not in work.tasks or work.tasks[end]["isDeleted"]:
            raise TaskNotFound(path=path)


async def _edges_of(work: Work, blocker_id: ObjectId, blocked_id: ObjectId) -> list[dict[str, ObjectId]]:
    """Those that leave the blocker and those that lead to the blocked task."""
    if not (work.tasks[blocker_id].get(EDGES) or work.tasks[blocked_id].get(EDGES)):
        return []
    return await work.edges({"$or": [{"blockerId": blocker_id}, {"blockedId": blocked_id}]})
