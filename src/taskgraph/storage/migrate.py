"""Brings a database to the shape that this code expects: numbered modules, each applied once, in order, by one process at a time.

A migration is a file `migrations/0001_name.py` whose docstring says why it is needed and how long it takes:

    async def up(db: Database) -> None: ...
    async def up(db: Database, progress: Progress) -> None: ...     when it takes long: `progress(done, total)`

It may be cut off anywhere and run again, so it must be safe to run twice. The indexes it makes may stand in INDEXES, by
collection, and doctor will look for them. What was applied stands in the collection `migrations`; a lease in the collection
`locks` keeps two processes from migrating at once.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from taskgraph.errors import ConfigurationError, TaskgraphError
from taskgraph.storage.cancelling import cancelled
from taskgraph.storage.mongo import Database, Document

Progress = Callable[[int, int], None]
Up = Callable[..., Awaitable[None]]

NAME = re.compile(r"(\d{4})_[a-z0-9_]+")
LOCK_ID = "migrations"
# After a crash the next process takes over this late; a healthy one renews far more often.
LEASE_SECONDS = 10
RENEW_SECONDS = 2
WAIT_SECONDS = 300
POLL_SECONDS = 0.2
# Building an index on millions of documents is one command, longer than any time-out of a socket: within this bound there is none.
# That the database is still there is seen by renewing the lease.
UP_SECONDS = 7 * 24 * 3600


class MigrationFailed(TaskgraphError):
    """`name` was not applied, nor was any after it."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(f"migration {name} failed and was not recorded: {type(cause).__name__}: {cause}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Status:
    """One migration: `applied_at` (UTC, naive) is None while it is pending; `is_known` is False when only the database knows it."""

    name: str
    applied_at: datetime | None
    is_known: bool = True


async def apply(
    db: Database, *, folder: Path | None = None, on_progress: Callable[[str, int, int], None] | None = None
) -> list[str]:
    """Runs what is missing and returns its names, in order; [] when another process was faster or all is done.

    MigrationFailed names the one that raised; those before it stay applied. ConfigurationError when the database is newer than this
    code, or when another process holds the lease for WAIT_SECONDS.
    """
    statuses = await status(db, folder=folder)
    _refuse_unknown(statuses)
    if all(each.applied_at is not None for each in statuses):
        return []
    async with _lease(db):
        # Whoever held the lease before us may have applied them.
        missing = await pending(db, folder=folder)
        for name in missing:
            await _run(db, name, folder or default_folder(), on_progress)
    return missing


async def status(db: Database, *, folder: Path | None = None) -> list[Status]:
    """Every migration that the code or the database knows, by name."""
    known = _names(folder or default_folder())
    applied = {document["_id"]: document["appliedAt"] async for document in db["migrations"].find()}
    return [Status(name, applied.get(name), name in known) for name in sorted(known | applied.keys())]


async def pending(db: Database, *, folder: Path | None = None) -> list[str]:
    """The names that `apply` would run, in order. A database that is newer than the code has none: old code must keep serving."""
    return [each.name for each in await status(db, folder=folder) if each.applied_at is None]


def declared_indexes(*, folder: Path | None = None) -> dict[str, set[str]]:
    """Names of the indexes that the migrations' INDEXES promise and their later DROPPED takes back, by collection."""
    names: dict[str, set[str]] = {}
    where = folder or default_folder()
    for name in sorted(_names(where)):
        migration = _load(where / f"{name}.py")
        for collection, indexes in getattr(migration, "INDEXES", {}).items():
            names.setdefault(collection, set()).update(index.document["name"] for index in indexes)
        for collection, dropped in getattr(migration, "DROPPED", {}).items():
            names[collection] -= set(dropped)
    return names


def default_folder() -> Path:
    """Inside the installed package, else the repository's."""
    here = Path(__file__)
    for folder in (here.parents[1] / "migrations", here.parents[3] / "migrations"):
        if folder.is_dir():
            return folder
    raise ConfigurationError("the folder with the migrations is missing; install taskgraph again")


def _names(folder: Path) -> set[str]:
    names: dict[str, str] = {}
    for file in sorted(folder.glob("[!_.]*.py")):
        match = NAME.fullmatch(file.stem)
        if match is None:
            raise ConfigurationError(f"{file} is not named like a migration: 0001_what_it_does.py")
        if match[1] in names:
            raise ConfigurationError(f"migrations {names[match[1]]} and {file.stem} have the same number")
        names[match[1]] = file.stem
    return set(names.values())


def _refuse_unknown(statuses: list[Status]) -> None:
    unknown = [each.name for each in statuses if not each.is_known]
    if unknown:
        raise ConfigurationError(
            f"the database is newer than this code, it has {', '.join(unknown)}; deploy the version that brought it"
        )


async def _run(db: Database, name: str, folder: Path, on_progress: Callable[[str, int, int], None] | None) -> None:
    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(name, done, total)

    started = time.monotonic()
    try:
        up: Up = _load(folder / f"{name}.py").up
        progress(0, 1)
        with pymongo.timeout(UP_SECONDS):
            await (up(db, progress) if len(inspect.signature(up).parameters) == 2 else up(db))
    except Exception as error:
        raise MigrationFailed(name, error) from error
    seconds = round(time.monotonic() - started, 3)
    await db["migrations"].update_one(
        {"_id": name}, [{"$set": {"appliedAt": {"$ifNull": ["$appliedAt", "$$NOW"]}, "seconds": seconds}}], upsert=True
    )
    progress(1, 1)


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"taskgraph_migration_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - a .py file has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def _lease(db: Database) -> AsyncIterator[None]:
    owner = secrets.token_hex(16)
    await _acquire(db, owner)
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(db, owner))
            yield
            await cancelled(renewing)
    except ExceptionGroup as errors:
        raise errors.exceptions[0]  # noqa: B904 - the group is only the wrapping
    finally:
        # A database that is gone cannot be told; the lease runs out by itself.
        with contextlib.suppress(PyMongoError):
            await db["locks"].delete_one({"_id": LOCK_ID, "owner": owner})


async def _acquire(db: Database, owner: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await _try_acquire(db, owner):
        if time.monotonic() > deadline:
            raise ConfigurationError(f"another process has been migrating for {WAIT_SECONDS} s; wait for it and try again")
        await asyncio.sleep(POLL_SECONDS)


async def _try_acquire(db: Database, owner: str) -> bool:
    # The database's clock decides, so the clocks of the processes need not agree. A missing date sorts before every other.
    is_over = {"$lte": ["$expiresAt", "$$NOW"]}
    claim: Document = {
        "owner": {"$cond": [is_over, owner, "$owner"]},
        "expiresAt": {"$cond": [is_over, {"$add": ["$$NOW", LEASE_SECONDS * 1000]}, "$expiresAt"]},
    }
    try:
        found = await db["locks"].find_one_and_update(
            {"_id": LOCK_ID}, [{"$set": claim}], upsert=True, return_document=ReturnDocument.AFTER
        )
    except DuplicateKeyError:
        return False  # Two processes made the document at the same moment, and the other one was first.
    return found is not None and bool(found["owner"] == owner)


async def _renew(db: Database, owner: str) -> None:
    renewal = [{"$set": {"expiresAt": {"$add": ["$$NOW", LEASE_SECONDS * 1000]}}}]
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        # An error in here ends the migration: going on without the lease would be going on next to somebody else.
        with pymongo.timeout(LEASE_SECONDS / 2):
            renewed = await db["locks"].update_one({"_id": LOCK_ID, "owner": owner}, renewal)
        if renewed.matched_count == 0:
            raise ConfigurationError("another process took over the migrations; see what it says, then try again")
