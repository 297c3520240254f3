"""Making tasks from drafts, one or hundreds at once: which of them are in order, and what comes of those."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import ObjectId

from taskgraph.errors import ErrorCode, Problem
from taskgraph.storage.mongo import Document
from taskgraph.tasks import graph, rules
from taskgraph.tasks.graph import Link, Surroundings
from taskgraph.tasks.model import NEVER, Task, TaskPriority, TaskStatus, is_open, title_key
from taskgraph.tasks.refusals import (
    MAX_DEPENDENCIES,
    MAX_DEPTH,
    AssigneeNotFound,
    Blocked,
    CycleClosed,
    TaskNotFound,
    TooDeep,
    TooManyDependencies,
)
from taskgraph.tasks.work import EDGES, Work

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """The local name of another draft of the same call."""

    name: str


Pointer = ObjectId | Ref


@dataclass(frozen=True, slots=True)
class Draft:
    """A task to be made: `fields` as stored, its relatives, and where in the input it stands. `problems` were found in reading it."""

    fields: Mapping[str, Any]
    parent: Pointer | None = None
    blockers: Sequence[Pointer] = ()
    ref: str | None = None
    path: Path = ("input",)
    problems: Sequence[Problem] = ()
    id: ObjectId = field(default_factory=ObjectId)


@dataclass(slots=True)
class _Item:
    """A draft on its way: its relatives with where in the input they are named. `points_to` are those that are drafts themselves."""

    draft: Draft
    task: Document
    blockers: dict[ObjectId, Path] = field(default_factory=dict)
    parent_path: Path = ()
    points_to: list[tuple["_Item", Path]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def note(self, problems: Iterable[Problem]) -> None:
        self.problems.extend(problems)


def drafted(draft: Draft, owner_id: ObjectId, now: datetime) -> tuple[Document, Sequence[Problem]]:
    """The document of a draft without its relatives, and what is wrong with its fields."""
    checklist = rules.Checklist(*draft.path)
    values = rules.cleaned(draft.fields, checklist)
    problems = [*draft.problems, *checklist.problems]
    if values.get("assigneeId") not in {None, owner_id}:
        problems += AssigneeNotFound((*draft.path, "assigneeId")).problems
    title = values.get("title", "")
    task = Task(
        id=draft.id,
        owner_id=owner_id,
        creator_id=owner_id,
        title=title,
        title_key=title_key(title),
        description=values.get("description", ""),
        status=values.get("status", TaskStatus.TODO),
        priority=values.get("priority", TaskPriority.MEDIUM),
        labels=values.get("labels", []),
        due_date=values.get("dueDate"),
        due_order=values.get("dueDate") or NEVER,
        assignee_id=values.get("assigneeId"),
        created_at=now,
        updated_at=now,
        completed_at=now if values.get("status") is TaskStatus.DONE else None,
    )
    return task.model_dump_doc(), problems


async def create(
    work: Work, drafts: Sequence[Draft], *, is_partial: bool = False
) -> tuple[list[ObjectId | None], Mapping[int, Sequence[Problem]]]:
    """The ids of the new tasks, and what is wrong with which drafts. With anything wrong there are no tasks, unless `is_partial`: then
    there are those of all drafts in order that do not point to one that is not.
    """
    items = [
        _Item(draft, task, problems=list(problems))
        for draft in drafts
        for task, problems in (drafted(draft, work.owner_id, work.now),)
    ]
    surroundings = Surroundings(work)
    await _relate(work, surroundings, items)
    await _check_limits(work, items)
    left = _good(items, is_partial=is_partial)
    await _check_loops(work, surroundings, left)
    left = _good(left, is_partial=is_partial)
    _check_depth(surroundings, left)
    left = _good(left, is_partial=is_partial)
    while left and _check_blockers(work, left):
        left = _good(left, is_partial=is_partial)
    problems = {number: item.problems for number, item in enumerate(items) if item.problems}
    if problems and not is_partial:
        return [None] * len(items), problems
    for item in left:
        work.add(item.task)
    for item in left:
        for blocker_id in item.blockers:
            work.link(blocker_id, item.task["_id"])
    return [None if item.problems else item.task["_id"] for item in items], problems


def _good(items: Sequence[_Item], *, is_partial: bool) -> list[_Item]:
    """Those without problems; who points to another has that one's problem too, where the rest is to be done without it."""
    is_changing = is_partial
    while is_changing:
        is_changing = False
        for item in items:
            refused = [path for other, path in item.points_to if other.problems]
            if refused and not item.problems:
                item.note(Problem(ErrorCode.NOT_FOUND, "The item that this points to was refused.", path) for path in refused)
                is_changing = True
    return [item for item in items if not item.problems]


async def _relate(work: Work, surroundings: Surroundings, items: Sequence[_Item]) -> None:
    """Finds the relatives of all drafts, among them and in the database: a query for parents, and one for blockers."""
    named = _named(items)
    parents = [item.draft.parent for item in items if isinstance(item.draft.parent, ObjectId)]
    blockers = [each for item in items for each in item.draft.blockers if isinstance(each, ObjectId)]
    if parents and blockers:
        await graph.take_turn(work)
    await surroundings.read_lines(parents)
    await work.read(blockers)
    live = {each for each in blockers if each in work.tasks and not work.tasks[each]["isDeleted"]}
    for item in items:
        path = item.draft.path
        if item.draft.parent is not None:
            item.parent_path = _path_of(item.draft.parent, (*path, "parent"))
            item.task["parentId"] = _found(item, item.draft.parent, item.parent_path, named, surroundings.has)
        for number, pointer in enumerate(item.draft.blockers):
            blocker_path = _path_of(pointer, (*path, "blockedBy", str(number)))
            blocker_id = _found(item, pointer, blocker_path, named, live.__contains__)
            if blocker_id is not None:
                item.blockers.setdefault(blocker_id, blocker_path)


def _named(items: Sequence[_Item]) -> Mapping[str, Sequence[_Item]]:
    """The drafts by their local names, which only one may have."""
    named: dict[str, list[_Item]] = {}
    for item in items:
        if item.draft.ref is not None:
            named.setdefault(item.draft.ref, []).append(item)
    for item in (item for same in named.values() if len(same) > 1 for item in same):
        item.note([Problem(ErrorCode.INVALID, "Another item of this call has the same ref.", (*item.draft.path, "ref"))])
    return named


def _path_of(pointer: Pointer, path: Path) -> Path:
    return (*path, "ref" if isinstance(pointer, Ref) else "id")


def _found(
    item: _Item, pointer: Pointer, path: Path, named: Mapping[str, Sequence[_Item]], is_there: Callable[[ObjectId], bool]
) -> ObjectId | None:
    """The id of what is pointed to; a problem of the item when there is nothing."""
    if isinstance(pointer, ObjectId):
        if is_there(pointer):
            return pointer
        item.note(TaskNotFound(path=path).problems)
        return None
    others = named.get(pointer.name, ())
    if not others:
        item.note(TaskNotFound("No item of this call has this ref.", path).problems)
        return None
    item.points_to.append((others[0], path))
    other_id: ObjectId = others[0].task["_id"]
    return other_id


async def _check_limits(work: Work, items: Sequence[_Item]) -> None:
    """No task waits for too many, and none is waited for by too many. What is stored is counted only where it may come near."""
    wanted = Counter(blocker_id for item in items for blocker_id in item.blockers)
    near = [each for each, more in wanted.items() if work.tasks.get(each, {}).get(EDGES, 0) + more > MAX_DEPENDENCIES]
    if stored := [each for each in near if each in work.tasks]:
        wanted.update(edge["blockerId"] for edge in await work.edges({"blockerId": {"$in": stored}}))
    for item in items:
        if len(item.blockers) > MAX_DEPENDENCIES or any(wanted[each] > MAX_DEPENDENCIES for each in item.blockers):
            item.note(TooManyDependencies((*item.draft.path, "blockedBy")).problems)


async def _check_loops(work: Work, surroundings: Surroundings, items: Sequence[_Item]) -> None:
    """Loops among the drafts, and from a stored parent through them to a stored blocker that waits for that parent."""
    new = {item.task["_id"]: item for item in items}
    parents = {item.task["parentId"] for item in items} - new.keys() - {None}
    blockers = {each for item in items for each in item.blockers} - new.keys()
    if parents and blockers:
        await surroundings.explore(above=parents, below=(), path=items[0].draft.path)
    links = [Link(item.task["_id"], tuple(item.blockers), item.task["parentId"]) for item in items]
    loops = surroundings.loops(links)
    await work.read({each for loop in loops.values() for each in loop} - new.keys())
    for task_id, loop in loops.items():
        item = new[task_id]
        cycle = [new[each].task if each in new else work.tasks[each] for each in loop]
        item.note(CycleClosed(cycle, item.blockers.get(loop[1], item.parent_path)).problems)


def _check_depth(surroundings: Surroundings, items: Sequence[_Item]) -> None:
    """No draft stands too deep; there are no loops any more."""
    new = {item.task["_id"]: item for item in items}
    depths: dict[ObjectId | None, int] = {None: 0}
    for item in items:
        line = [item]
        while (parent_id := line[-1].task["parentId"]) not in depths and parent_id in new:
            line.append(new[parent_id])
        if parent_id not in depths:
            depths[parent_id] = surroundings.depth(parent_id)
        for number, each in enumerate(reversed(line), start=1):
            depths[each.task["_id"]] = depths[parent_id] + number
        if depths[item.task["_id"]] > MAX_DEPTH:
            item.note(TooDeep(item.parent_path).problems)


def _check_blockers(work: Work, items: Sequence[_Item]) -> bool:
    """Whether a draft was refused because it would be DONE while a blocker is open."""
    new = {item.task["_id"]: item.task for item in items}
    is_refused = False
    for item in items:
        blockers = [new.get(each) or work.tasks[each] for each in item.blockers if each in new or each in work.tasks]
        if item.task["status"] == TaskStatus.DONE and any(map(is_open, blockers)) and not item.problems:
            item.note(Blocked((*item.draft.path, "status")).problems)
            is_refused = True
    return is_refused
