"""Tasks of other programs into an account and back: `taskgraph import` and `taskgraph export`.

The id of an imported task follows from the account and from what the file calls it: a UUID or an address by itself, any other name
together with the source that it belongs to. So a task that is there already is known again, whether the file is imported twice or has
grown meanwhile, and is left alone.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from uuid import UUID

from bson import ObjectId
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from taskgraph.accounts import reads as accounts
from taskgraph.errors import ErrorCode, Problem, TaskgraphError
from taskgraph.formats.fields import is_uuid, shown
from taskgraph.formats.files import read, written
from taskgraph.formats.record import Contents, Format, Record, Skipped, Unusable
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.mongo import Database, Document
from taskgraph.storage.versions import Versions
from taskgraph.tasks import bulk
from taskgraph.tasks.bulk import MAX_ITEMS, BulkMode
from taskgraph.tasks.creation import Draft, Pointer, Ref
from taskgraph.tasks.model import CLOSED, TaskPriority, TaskStatus, is_open

STANDARD_INPUT = Path("-")
MAX_REFUSALS_SHOWN = 50
# How an id of ours is told from one of Taskwarrior's: the rest of a UUID behind an object id.
OURS = b"task"
# The first bytes of an imported task's id tell which one it is, the other four its mark.
NAME_BYTES = 8


class AnotherSource(TaskgraphError):
    """An id of the file is there already, but for something else; nothing was written."""

    def __init__(self, place: str, name: str, source: str) -> None:
        quoted = shlex.quote(source)
        super().__init__(
            f"nothing was imported: the id {shown(name)} ({place}) came before with another title or date, from another file of the source "
            f"{shown(source)} or from this one before it changed. Say --source {quoted} if it is the same list, and another name if it is another"
        )


@dataclass(slots=True)
class _Import:
    """What is to be made, by the file's names. `known` are those that were there before, `ids` those of all that exist by now, `unusable`
    the names of entries that are no tasks, and `refused` says why, by the number of the entry.
    """

    owner_id: ObjectId
    of: Format
    source: str
    records: dict[str, Record] = field(default_factory=dict)
    places: dict[str, tuple[int, str]] = field(default_factory=dict)
    ids: dict[str, ObjectId] = field(default_factory=dict)
    known: dict[str, Document] = field(default_factory=dict)
    unusable: set[str] = field(default_factory=set)
    refused: list[tuple[int, str]] = field(default_factory=list)
    skipped: int = 0

    def id_of(self, record: Record) -> ObjectId:
        """Of a task that is imported."""
        scope = [] if record.mark is None else [self.of.value, self.source]
        told = [str(self.owner_id), *scope, record.id]
        name, mark = (hashlib.sha256(json.dumps(each).encode()).digest() for each in (told, record.mark))
        return ObjectId(name[:NAME_BYTES] + mark[: 12 - NAME_BYTES])

    def pointer(self, name: str) -> Pointer:
        """To a task that exists, or that is made in the same call."""
        return self.ids.get(name) or Ref(name)


async def take_in(db: Database, *, file: Path, email: str, of: Format | None, source: str | None) -> None:
    """Makes the tasks of a file that are not there yet, and says what became of each. TaskgraphError when some were refused.

    AnotherSource when no `source` was given and the file's name, which counts then, was that of another file before.
    """
    owner_id = await _account(db, email)
    contents = read(_text_of(file), of)
    work = _Import(owner_id, contents.of, source or file.stem)
    _sort_out(work, contents)
    await _find_known(db, work, is_same_source=bool(source))
    await _make(db, work, [name for name in _in_order(work.records) if name not in work.known])
    _report(work, contents)


async def give_back(db: Database, *, file: Path | None, email: str, of: Format) -> None:
    """Writes the tasks of an account that are not deleted, oldest first, to a file or to standard output."""
    owner_id = await _account(db, email)
    tasks = await db["tasks"].find({"ownerId": owner_id, "isDeleted": False}).sort([("createdAt", 1), ("_id", 1)]).to_list()
    edges = await db["dependencies"].find({"ownerId": owner_id}).sort("_id", 1).to_list()
    text = written(_records(tasks, edges), of)
    if file is None:
        sys.stdout.buffer.write(text.encode())
    else:
        _write(file, text)
        print(f"exported {len(tasks)} tasks")


def _text_of(file: Path) -> str:
    try:
        # Not as text, which would turn a \r of a description into a \n.
        return (sys.stdin.buffer.read() if file == STANDARD_INPUT else file.read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskgraphError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_bytes(text.encode())
    except OSError as error:
        raise TaskgraphError(f"{file} cannot be written: {error.strerror}") from error


async def _account(db: Database, email: str) -> ObjectId:
    user = await accounts.user_by_email(db, email)
    if user is None:
        raise TaskgraphError(f"there is no account with the e-mail address {email}")
    owner_id: ObjectId = user["_id"]
    return owner_id


def _sort_out(work: _Import, contents: Contents) -> None:
    """The usable entries by name; the second of two with one name is refused."""
    for number, entry in enumerate(contents.entries):
        match entry.found:
            case Skipped():
                work.skipped += 1
            case Unusable(reason, name):
                work.refused.append((number, f"{entry.place}: {reason}"))
                work.unusable |= {name} if name else set()
            case Record(id=name) if name in work.records:
                work.refused.append((number, f"{entry.place}: {work.places[name][1]} has the id {shown(name)}, too"))
            case Record(id=name):
                work.records[name], work.places[name] = entry.found, (number, entry.place)


async def _find_known(db: Database, work: _Import, *, is_same_source: bool) -> None:
    """Those that were imported before, or that come from an export of this very account; deleted ones too. AnotherSource."""
    names = list(work.records)
    for start in range(0, len(names), MAX_ITEMS):
        part = names[start : start + MAX_ITEMS]
        told = {work.id_of(work.records[name]).binary[:NAME_BYTES]: name for name in part}
        ours = {task_id: name for name in part if (task_id := _ours(name)) is not None}
        rest = 12 - NAME_BYTES
        ranges = [{"_id": {"$gte": ObjectId(each + bytes(rest)), "$lte": ObjectId(each + b"\xff" * rest)}} for each in told]
        wanted = {"$or": [*ranges, {"_id": {"$in": list(ours)}}], "ownerId": work.owner_id}
        async for task in db["tasks"].find(wanted, {"isDeleted": 1, "status": 1}):
            name = ours.get(task["_id"]) or told[task["_id"].binary[:NAME_BYTES]]
            if not (is_same_source or task["_id"] in {_ours(name), work.id_of(work.records[name])}):
                raise AnotherSource(work.places[name][1], name, work.source)
            work.known[name], work.ids[name] = task, task["_id"]


def _in_order(records: Mapping[str, Record]) -> list[str]:
    """Who is pointed to comes before who points, so that a call needs nothing of a later one. What is in a loop comes last."""
    needs = {
        name: {each for each in (*record.blockers, *([record.parent] if record.parent else [])) if each in records}
        for name, record in records.items()
    }
    sorter = TopologicalSorter(needs)
    with suppress(CycleError):
        sorter.prepare()
    ordered: dict[str, None] = {}
    while ready := sorter.get_ready():
        ordered |= dict.fromkeys(ready)
        sorter.done(*ready)
    return [*ordered, *(name for name in records if name not in ordered)]


async def _make(db: Database, work: _Import, names: Sequence[str]) -> None:
    commits = Commits(GroupCommit(db, Versions(db)))
    console = Console(stderr=True)
    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=len(names))
        for start in range(0, len(names), MAX_ITEMS):
            part = names[start : start + MAX_ITEMS]
            blockers = {name: _blockers(work, name) for name in part}
            drafts = [_draft(work, name, blockers[name]) for name in part]
            made = await bulk.create_tasks(commits, work.owner_id, drafts, mode=BulkMode.BEST_EFFORT)
            for name, result in zip(part, made.results, strict=True):
                if result.task is not None:
                    work.ids[name] = result.task["_id"]
                else:
                    number, place = work.places[name]
                    reasons = dict.fromkeys(_said(work, name, blockers[name], problem) for problem in result.problems)
                    work.refused.append((number, f"{place} ({shown(work.records[name].title)}): {' '.join(reasons)}"))
            progress.advance(bar, len(part))


def _blockers(work: _Import, name: str) -> list[str]:
    """What it is to wait for: a file may hold a part of a list, and other programs let a task be done while one that it waits for is open."""
    record = work.records[name]

    def counts(other: str) -> bool:
        if known := work.known.get(other):
            return not known["isDeleted"] and not (record.status is TaskStatus.DONE and is_open(known))
        if there := work.records.get(other):
            return record.status is not TaskStatus.DONE or there.status in CLOSED
        return other in work.unusable

    return [each for each in record.blockers if counts(each)]


def _draft(work: _Import, name: str, blockers: Sequence[str]) -> Draft:
    record = work.records[name]
    given = {
        "title": record.title,
        "description": record.description,
        "status": record.status,
        "priority": record.priority,
        "labels": list(record.labels),
        "dueDate": record.due,
    }
    parent = work.pointer(record.parent) if record.parent else None
    return Draft(given, parent, [work.pointer(each) for each in blockers], ref=name, id=work.id_of(record))


def _said(work: _Import, name: str, blockers: Sequence[str], problem: Problem) -> str:
    """A problem in words of the file: relatives have names there, and no items of a call point to each other."""
    match problem.path:
        case (_, "parent", *_):
            member, other = "parent", work.records[name].parent or ""
        case (_, "blockedBy", number, _):
            member, other = "blocker", blockers[int(number)]
        case _:
            return problem.message
    if problem.code is not ErrorCode.NOT_FOUND:
        return problem.message
    is_in_file = other in work.records or other in work.unusable
    reason = "was deleted here" if other in work.ids else "was refused" if is_in_file else "is not in the file"
    return f"its {member} {shown(other)} {reason}"


def _report(work: _Import, contents: Contents) -> None:
    """What became of the entries. TaskgraphError when some were refused."""
    work.refused.sort()
    for _, line in work.refused[:MAX_REFUSALS_SHOWN]:
        print(f"refused  {line}", file=sys.stderr)
    if len(work.refused) > MAX_REFUSALS_SHOWN:
        print(f"refused  {len(work.refused) - MAX_REFUSALS_SHOWN} more", file=sys.stderr)
    counts = f"imported {len(work.ids) - len(work.known)}, there already {len(work.known)}, skipped {work.skipped}"
    ignored = f"; ignored columns: {', '.join(map(shown, contents.ignored))}" if contents.ignored else ""
    print(f"{counts}, refused {len(work.refused)} of {len(contents.entries)} tasks{ignored}")
    if work.refused:
        raise TaskgraphError(f"{len(work.refused)} of {len(contents.entries)} tasks were refused; the lines above say why")


def _records(tasks: Sequence[Document], edges: Sequence[Document]) -> list[Record]:
    names = {task["_id"]: str(UUID(bytes=task["_id"].binary + OURS)) for task in tasks}
    blockers: dict[ObjectId, list[str]] = {}
    for edge in edges:
        if edge["blockerId"] in names:
            blockers.setdefault(edge["blockedId"], []).append(names[edge["blockerId"]])
    return [
        Record(
            id=names[task["_id"]],
            title=task["title"],
            description=task["description"],
            status=TaskStatus(task["status"]),
            priority=TaskPriority(task["priority"]),
            labels=task["labels"],
            due=task["dueDate"],
            parent=names.get(task["parentId"]),
            blockers=blockers.get(task["_id"], ()),
            created=task["createdAt"],
        )
        for task in tasks
    ]


def _ours(name: str) -> ObjectId | None:
    """The task that an export has called so."""
    if not is_uuid(name):
        return None
    raw = UUID(name).bytes
    return ObjectId(raw[:12]) if raw[12:] == OURS else None
