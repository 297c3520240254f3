"""Tasks of other programs into an account and back: `taskgraph import` and `taskgraph export`.

The id of an imported task follows from the account and from what the file calls it. So a task that is there already is known again,
whether the file is imported twice or has grown meanwhile, and is left alone.
"""

import hashlib
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
from taskgraph.errors import TaskgraphError
from taskgraph.formats import Entry, Format, Record, guessed, read, written
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.mongo import Database, Document
from taskgraph.storage.versions import Versions
from taskgraph.tasks import bulk
from taskgraph.tasks.bulk import MAX_ITEMS, BulkMode
from taskgraph.tasks.creation import Draft, Pointer, Ref
from taskgraph.tasks.model import CLOSED, TaskPriority, TaskStatus

# How an id of ours is told from one of Taskwarrior's: the rest of a UUID behind an object id.
OURS = b"task"


@dataclass(slots=True)
class _Import:
    """What is to be made, by the file's names; `ids` are those of tasks that exist by now, `refused` where and why."""

    owner_id: ObjectId
    of: Format
    records: dict[str, Record] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    ids: dict[str, ObjectId] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def id_of(self, name: str) -> ObjectId:
        """Of a task that is imported."""
        told = f"{self.owner_id}\n{self.of.value}\n{name}".encode()
        return ObjectId(hashlib.sha256(told).digest()[:12])

    def pointer(self, name: str) -> Pointer:
        """To a task that exists, or that is made in the same call."""
        return self.ids.get(name) or Ref(name)


async def take_in(db: Database, *, file: Path, email: str, of: Format | None) -> None:
    """Makes the tasks of a file that are not there yet, and says what became of each. TaskgraphError when some were refused."""
    owner_id = await _account(db, email)
    text = _text_of(file)
    of = of or guessed(file.name, text)
    work = _Import(owner_id, of)
    entries = read(text, of)
    _sort_out(work, entries)
    known = await _known(db, work)
    await _make(db, work, [name for name in _in_order(work.records) if name not in known])
    for line in work.refused:
        print(f"refused  {line}", file=sys.stderr)
    print(f"imported {len(work.ids) - len(known)}, there already {len(known)}, refused {len(work.refused)} of {len(entries)} tasks")
    if work.refused:
        raise TaskgraphError(f"{len(work.refused)} of {len(entries)} tasks were refused; the lines above say why")


async def give_back(db: Database, *, file: Path | None, email: str, of: Format) -> None:
    """Writes the tasks of an account that are not deleted, oldest first, to a file or to standard output."""
    owner_id = await _account(db, email)
    tasks = await db["tasks"].find({"ownerId": owner_id, "isDeleted": False}).sort([("createdAt", 1), ("_id", 1)]).to_list()
    edges = await db["dependencies"].find({"ownerId": owner_id}).sort("_id", 1).to_list()
    text = written(_records(tasks, edges, of), of)
    if file is None:
        sys.stdout.write(text)
    else:
        _write(file, text)
        print(f"exported {len(tasks)} tasks")


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskgraphError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TaskgraphError(f"{file} cannot be written: {error.strerror}") from error


async def _account(db: Database, email: str) -> ObjectId:
    user = await accounts.user_by_email(db, email)
    if user is None:
        raise TaskgraphError(f"there is no account with the e-mail address {email}")
    owner_id: ObjectId = user["_id"]
    return owner_id


def _sort_out(work: _Import, entries: Sequence[Entry]) -> None:
    """The usable entries by name; the second of two with one name is refused."""
    for place, entry in entries:
        if not isinstance(entry, Record):
            work.refused.append(f"{place}: {entry.reason}")
        elif entry.id in work.records:
            work.refused.append(f"{place}: another task has the id {entry.id}, too")
        else:
            work.records[entry.id], work.places[entry.id] = entry, f"{place} ({entry.title[:40]})"


async def _known(db: Database, work: _Import) -> set[str]:
    """The names of those that were imported before, or that come from an export of this very account; deleted ones too."""
    wanted = {work.id_of(name): name for name in work.records}
    wanted |= {ours: name for name in work.records if (ours := _ours(name)) is not None}
    found = await db["tasks"].find({"_id": {"$in": list(wanted)}, "ownerId": work.owner_id}, {"_id": 1}).to_list()
    work.ids |= {wanted[each["_id"]]: each["_id"] for each in found}
    return set(work.ids)


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
            drafts = [_draft(work, name) for name in part]
            made = await bulk.create_tasks(commits, work.owner_id, drafts, mode=BulkMode.BEST_EFFORT)
            for name, result in zip(part, made.results, strict=True):
                if result.task is not None:
                    work.ids[name] = result.task["_id"]
                work.refused += [f"{work.places[name]}: {problem.message}" for problem in result.problems]
            progress.advance(bar, len(part))


def _draft(work: _Import, name: str) -> Draft:
    record = work.records[name]
    given = {
        "title": record.title,
        "description": record.description,
        "status": record.status,
        "priority": record.priority,
        "labels": list(record.labels),
        "dueDate": record.due,
    }
    # A file may hold a part of a list. And other programs let a task be done while one that it waits for is open.
    there = [each for each in record.blockers if each in work.records]
    blockers = [each for each in there if record.status not in CLOSED or work.records[each].status in CLOSED]
    parent = work.pointer(record.parent) if record.parent else None
    return Draft(given, parent, [work.pointer(each) for each in blockers], ref=name, id=work.id_of(name))


def _records(tasks: Sequence[Document], edges: Sequence[Document], of: Format) -> list[Record]:
    names = {task["_id"]: _name(task["_id"], number, of) for number, task in enumerate(tasks, start=1)}
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
        )
        for task in tasks
    ]


def _name(task_id: ObjectId, number: int, of: Format) -> str:
    if of is Format.GITHUB_ISSUES:
        return str(number)
    return str(UUID(bytes=task_id.binary + OURS))


def _ours(name: str) -> ObjectId | None:
    """The task that an export has called so."""
    try:
        raw = UUID(name).bytes
    except ValueError:
        return None
    return ObjectId(raw[:12]) if raw[12:] == OURS else None
