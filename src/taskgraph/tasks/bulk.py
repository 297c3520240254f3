"""Many tasks in one call: one transaction, one event for each changed task, and a result for each item.

What is wrong with single items is told with them. Then either nothing is written, or the rest is. Whatever is wrong with the call as
a whole is Refused.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bson import ObjectId

from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.group_commit import Commits
from taskgraph.storage.idempotency import Key
from taskgraph.storage.mongo import Document
from taskgraph.tasks import creation, graph, orders
from taskgraph.tasks.creation import Draft
from taskgraph.tasks.criteria import Criteria
from taskgraph.tasks.events import TaskAction
from taskgraph.tasks.model import is_open
from taskgraph.tasks.refusals import Blocked, TaskNotFound
from taskgraph.tasks.work import OPEN_BLOCKERS, Outcome, Work, Written, perform
from taskgraph.tasks.writes import Patch, is_completed, put_in_trash

MAX_ITEMS = 500
Problems = dict[int, list[Problem]]


class BulkMode(StrEnum):
    """What happens to the other items when one cannot be done."""

    ALL_OR_NOTHING = "ALL_OR_NOTHING"
    BEST_EFFORT = "BEST_EFFORT"


class TooManyItems(Refused):
    """The call is about more tasks than one transaction should hold."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(Problem(ErrorCode.LIMIT_EXCEEDED, f"One call can be about at most {MAX_ITEMS} tasks.", path))


@dataclass(frozen=True, slots=True)
class Selected:
    """Which tasks are meant: those with these ids (None for an id that is none), or else those that meet the criteria."""

    ids: Sequence[ObjectId | None] | None = None
    criteria: Criteria | None = None


@dataclass(frozen=True, slots=True)
class How:
    """Whether all or as many as possible, in earnest or only to see. What is done only to see does not use up its key."""

    mode: BulkMode = BulkMode.ALL_OR_NOTHING
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one item. The task is None when it was not done; `ref` is the item's local name."""

    task: Document | None
    problems: Sequence[Problem]
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class BulkWritten:
    """One result for each item, in order; `matched` tasks were meant and `changed` ones have a new version."""

    results: Sequence[Result]
    matched: int
    changed: int
    cursor: EventCursor | None
    replayed: bool
    is_refused: bool


async def create_tasks(
    commits: Commits, viewer_id: ObjectId, drafts: Sequence[Draft], *, mode: BulkMode, key: Key | None = None
) -> BulkWritten:
    """New tasks from drafts that may point to each other. TooManyItems, KeyReused."""
    if len(drafts) > MAX_ITEMS:
        raise TooManyItems(("input", "tasks"))

    async def change(work: Work) -> Outcome:
        ids, problems = await creation.create(work, drafts, is_partial=mode is BulkMode.BEST_EFFORT)
        refs = [draft.ref for draft in drafts]
        return _outcome(work, ids, problems, How(mode), matched=len(drafts), refs=refs)

    return await _done(commits, viewer_id, change, key)


async def update_tasks(
    commits: Commits,
    viewer_id: ObjectId,
    selected: Selected,
    patch: Patch,
    *,
    how: How,
    key: Key | None = None,
) -> BulkWritten:
    """The same patch for many tasks. InputRefused, AssigneeNotFound, TaskNotFound for a new parent, TooManyItems, KeyReused."""
    clean = patch.cleaned(viewer_id)

    async def change(work: Work) -> Outcome:
        ids, problems = await _select(work, selected)
        after: dict[ObjectId, Document] = {}
        for number, task_id in _left(ids, problems):
            try:
                after[task_id] = clean.applied(work.tasks[task_id], work.now)
            except Refused as refused:
                problems[number].extend(refused.problems)
        if parent_id := clean.fields.get("parentId"):
            path = ("input", "patch", "parentId")
            moved = [each for each, task in after.items() if work.tasks[each]["parentId"] != task["parentId"]]
            _note(problems, ids, await graph.refused_moves(work, moved, parent_id, path) if moved else {})
        blocked = await _blocked(work, [after[task_id] for _, task_id in _left(ids, problems)])
        _note(problems, ids, dict.fromkeys(blocked, Blocked(("input", "patch", "status"))))
        if _may_write(problems, how):
            for _, task_id in _left(ids, problems):
                if after[task_id] != work.tasks[task_id]:
                    work.change(TaskAction.UPDATED, after[task_id])
        return _outcome(work, ids, problems, how, matched=sum(each in work.tasks for each in ids))

    return await _done(commits, viewer_id, change, None if how.is_dry else key)


async def delete_tasks(
    commits: Commits, viewer_id: ObjectId, selected: Selected, *, how: How, key: Key | None = None
) -> BulkWritten:
    """Many tasks in the trash, without their dependencies. TooManyItems, KeyReused."""

    async def change(work: Work) -> Outcome:
        ids, problems = await _select(work, selected)
        matched = sum(each in work.tasks for each in ids)
        if _may_write(problems, how):
            await put_in_trash(work, [work.tasks[task_id] for _, task_id in _left(ids, problems)])
        return _outcome(work, ids, problems, how, matched=matched)

    return await _done(commits, viewer_id, change, None if how.is_dry else key)


async def _select(work: Work, selected: Selected) -> tuple[Sequence[ObjectId | None], Problems]:
    """The tasks that are meant, all read, in the order of the ids or newest first; what is wrong with which id."""
    problems: Problems = defaultdict(list)
    if selected.criteria is not None:
        wanted = {"$and": [{"ownerId": work.owner_id}, *selected.criteria.conditions]}
        found = work.db["tasks"].find(wanted, session=work.session, batch_size=MAX_ITEMS + 2)
        documents = await found.sort(orders.NEWEST_FIRST.sort).limit(MAX_ITEMS + 1).to_list()
        if len(documents) > MAX_ITEMS:
            raise TooManyItems(("input", "where", "filter"))
        work.hold(documents)
        return [document["_id"] for document in documents], problems
    ids = selected.ids or ()
    if len(ids) > MAX_ITEMS:
        raise TooManyItems(("input", "where", "ids"))
    await work.read(each for each in ids if each)
    seen: set[ObjectId] = set()
    for number, task_id in enumerate(ids):
        path = ("input", "where", "ids", str(number))
        if task_id is None or task_id not in work.tasks:
            problems[number] += TaskNotFound(path=path).problems
        elif task_id in seen:
            problems[number].append(Problem(ErrorCode.INVALID, "This task is listed twice.", path))
        else:
            seen.add(task_id)
    return ids, problems


async def _blocked(work: Work, after: Sequence[Document]) -> set[ObjectId]:
    """Those that may not become DONE, as a blocker stays open. What is done together need not wait for each other."""
    completed = {task["_id"] for task in after if is_completed(work.tasks[task["_id"]], task)}
    waiting = [each for each in completed if work.tasks[each].get(OPEN_BLOCKERS)]
    if not waiting:
        return set()
    blockers: dict[ObjectId, set[ObjectId]] = defaultdict(set)
    for edge in await work.edges({"blockedId": {"$in": waiting}}):
        blockers[edge["blockedId"]].add(edge["blockerId"])
    open_blockers = {each: set[ObjectId]() for each in waiting}
    await work.read(blocker_id for each in blockers.values() for blocker_id in each)
    for each in waiting:
        open_blockers[each] = {one for one in blockers[each] if one in work.tasks and is_open(work.tasks[one])}
    blocked: set[ObjectId] = set()
    while more := {each for each in completed - blocked if open_blockers.get(each, set()) - (completed - blocked)}:
        blocked |= more
    return blocked


def _left(ids: Sequence[ObjectId | None], problems: Problems) -> list[tuple[int, ObjectId]]:
    """The items in order, with their numbers."""
    return [(number, task_id) for number, task_id in enumerate(ids) if task_id is not None and not problems.get(number)]


def _note(problems: Problems, ids: Sequence[ObjectId | None], refused: Mapping[ObjectId, Refused]) -> None:
    for number, task_id in _left(ids, problems):
        if task_id in refused:
            problems[number].extend(refused[task_id].problems)


def _may_write(problems: Mapping[int, Sequence[Problem]], how: How) -> bool:
    return how.mode is BulkMode.BEST_EFFORT or not any(problems.values())


def _outcome(
    work: Work,
    ids: Sequence[ObjectId | None],
    problems: Mapping[int, Sequence[Problem]],
    how: How,
    *,
    matched: int,
    refs: Sequence[str | None] = (),
) -> Outcome:
    is_refused = not _may_write(problems, how)
    shown = [None if is_refused or problems.get(number) else task_id for number, task_id in enumerate(ids)]
    changed = len(work.changed_ids.intersection(each for each in shown if each))
    notes = {"refs": list(refs), "matched": matched, "changed": changed, "isRefused": is_refused}
    return Outcome(shown, notes, problems, is_dry=how.is_dry or is_refused)


async def _done(
    commits: Commits, viewer_id: ObjectId, change: Callable[[Work], Awaitable[Outcome]], key: Key | None
) -> BulkWritten:
    written: Written = await perform(commits, viewer_id, change, key=key)
    notes = written.notes
    refs = notes["refs"] or [None] * len(written.tasks)
    results = [
        Result(task, written.problems.get(number, ()), ref)
        for number, (task, ref) in enumerate(zip(written.tasks, refs, strict=True))
    ]
    return BulkWritten(results, notes["matched"], notes["changed"], written.cursor, written.replayed, notes["isRefused"])
