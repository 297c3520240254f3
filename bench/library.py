"""Databases of a chosen number of tasks, filled as fast as MongoDB takes them: first the tasks, then the indexes.

One user owns LARGE_LIST tasks, all others TASKS_PER_USER each. Tasks are small, but real: every field of the model, a title of five
words, a description of six. They are inserted in turns, one of each user, so that one user's tasks lie scattered as they would after
years of use.
"""

import asyncio
import datetime as dt
import itertools
import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from bson import ObjectId
from pymongo import IndexModel, MongoClient, WriteConcern

from bench import cores, data, servers
from bench.databases import Databases
from taskgraph.accounts import sessions
from taskgraph.accounts.model import User
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.settings import load
from taskgraph.storage import mongo
from taskgraph.storage.mongo import Document
from taskgraph.tasks.model import NEVER, Task

LARGE_LIST = 5000
TASKS_PER_USER = 200
# Whose pages are asked for, besides the first user, who has the large list.
SIGNED_IN = 50
BATCH = 5000
INDEX_MEMORY_MB = 2000
VERBS = ("plan", "review", "ship", "fix", "write", "design", "test", "deploy", "measure", "call", "draft", "audit")
NOUNS = (
    *("invoice", "report", "budget", "contract", "website", "server", "backup", "meeting"),
    *("offer", "parcel", "licence", "manual", "survey", "poster", "ticket", "garden"),
    *("kitchen", "bicycle", "printer", "calendar", "newsletter", "camera", "window", "battery"),
    *("passport", "library", "concert", "recipe", "museum"),
)
NAMES = [first + second for first in ("al", "be", "co", "du", "el", "fi") for second in ("ma", "no", "ra", "ti", "so")]
RARE_WORD = "almanac"
# One title in so many has the word that is searched for: a user finds about four of their 200 tasks.
RARE_ONE_IN = 50


@dataclass(frozen=True, slots=True)
class Library:
    """A database and the users whose tokens stand in its file, the owner of the large list first."""

    database: str
    tasks: int
    large_owner: ObjectId


def fill(databases: Databases, *, tasks: int) -> Library:
    """Makes the database of so many tasks; minutes for ten millions. MongoDB may use every core meanwhile."""
    name = f"library_{tasks}"
    users = max(1, 1 + (tasks - LARGE_LIST) // TASKS_PER_USER)
    owners = [ObjectId() for _ in range(users)]
    cores.move(databases.mongod_pid, cores.ALL)
    try:
        _insert_tasks(databases.mongo_url, name, owners)
        print(f"growth: {tasks:,} tasks inserted, now their indexes", flush=True)
        with databases.client() as client:
            client.admin.command("setParameter", 1, maxIndexBuildMemoryUsageMegabytes=INDEX_MEMORY_MB)
            # Those that the migrations build on an empty database, here without their limit of time.
            client[name]["tasks"].create_indexes([index for index in Task.__indexes__() if isinstance(index, IndexModel)])
        data.run_taskgraph(databases, name, "migrate")
        tokens = asyncio.run(_sign_in(databases, name, owners))
    finally:
        cores.move(databases.mongod_pid, cores.LOAD)
    (databases.folder / f"{name}.tokens").write_text("".join(f"{token}\n" for token in tokens))
    with databases.client() as client:
        return Library(name, client[name]["tasks"].estimated_document_count(), owners[0])


def drop(databases: Databases, library: Library) -> None:
    """Gives the disk back."""
    with databases.client() as client:
        client.drop_database(library.database)


def _insert_tasks(mongo_url: str, database: str, owners: list[ObjectId]) -> None:
    """By as many processes as there are cores: making documents costs as much as storing them."""
    processes = len(cores.ALL)
    shares = [(mongo_url, database, owners, number, processes) for number in range(processes)]
    with (
        cores.pinned(cores.ALL),
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        list(pool.map(_insert_share, *zip(*shares, strict=True)))


def _insert_share(mongo_url: str, database: str, owners: list[ObjectId], number: int, processes: int) -> None:
    """Every user whose position leaves `number` belongs to this process."""
    mine = owners[number::processes]
    large = owners[0] if number == 0 else None
    with MongoClient[Document](mongo_url) as client:
        # Nothing is lost by a crash that starting over would not bring back.
        tasks = client[database].get_collection("tasks", write_concern=WriteConcern(w=1, j=False))
        made = _tasks(mine, owners, large, random.Random(number))
        while batch := list(itertools.islice(made, BATCH)):
            tasks.insert_many(batch, ordered=False)


def _tasks(mine: list[ObjectId], everybody: list[ObjectId], large: ObjectId | None, chance: random.Random) -> Iterator[Document]:
    """The nth task of each, then the next; the owner of the large list has some in every turn."""
    tops: dict[ObjectId, list[ObjectId]] = {}
    for _ in range(TASKS_PER_USER):
        for owner_id in mine:
            for _ in range(LARGE_LIST // TASKS_PER_USER if owner_id == large else 1):
                parents = tops.setdefault(owner_id, [])
                parent_id = chance.choice(parents) if parents and chance.random() < 0.3 else None
                assignee_id = chance.choice(everybody) if chance.random() < 0.8 else None
                made = task(owner_id, parent_id, assignee_id, chance)
                # A few parents are enough to choose from, and all of them would take gigabytes.
                if parent_id is None and len(parents) < 20:
                    parents.append(made["_id"])
                yield made


def task(owner_id: ObjectId, parent_id: ObjectId | None, assignee_id: ObjectId | None, chance: random.Random) -> Document:
    """What Task.model_dump_doc() gives, without the model, which would take ten times as long."""
    created = data.START + dt.timedelta(milliseconds=chance.randrange(data.HISTORY_SECONDS * 1000))
    status = chance.choice(("TODO", "IN_PROGRESS", "DONE"))
    due = created + dt.timedelta(days=chance.randrange(60)) if chance.random() < 0.5 else None
    rare = RARE_WORD if chance.randrange(RARE_ONE_IN) == 0 else chance.choice(NOUNS)
    title = f"{chance.choice(VERBS)} {rare} {chance.choice(NOUNS)} for {chance.choice(NAMES)}"
    return {
        "_id": ObjectId(),
        "ownerId": owner_id,
        "creatorId": owner_id,
        "assigneeId": assignee_id,
        "parentId": parent_id,
        "title": title,
        "titleKey": title,
        "description": " ".join(chance.choices(NOUNS, k=6)),
        "status": status,
        "priority": chance.randrange(1, 5),
        "labels": [],
        "dueDate": due,
        "dueOrder": due or NEVER,
        "version": 1,
        "createdAt": created,
        "updatedAt": created,
        "completedAt": created if status == "DONE" else None,
        "deletedAt": None,
        "isDeleted": False,
        "edgeCount": 0,
        "openBlockers": 0,
    }


async def _sign_in(databases: Databases, database: str, owners: list[ObjectId]) -> list[str]:
    """Accounts for all, sessions and access tokens for the first few."""
    environ = servers.environment(servers.OURS, databases, database)
    settings = load({name: value for name, value in environ.items() if name.startswith("TASKGRAPH_")}, env_file=None)
    db = mongo.connect(settings)
    issuer = AccessTokens(settings.signing_secrets, ttl_seconds=data.TOKEN_SECONDS)
    try:
        for start in range(0, len(owners), BATCH):
            await db["users"].insert_many(
                [_user(number, owners[number]) for number in range(start, min(start + BATCH, len(owners)))]
            )
        tokens = []
        for number in range(min(1 + SIGNED_IN, len(owners))):
            user = _user(number, owners[number])
            granted = await sessions.open_session(db, user, ttl_seconds=data.TOKEN_SECONDS, user_agent=f"bench {os.getpid()}")
            tokens.append(issuer.issue(granted.session["userId"], granted.session["_id"])[0])
        return tokens
    finally:
        await db.close()


def _user(number: int, user_id: ObjectId) -> Document:
    user = User(
        id=user_id,
        name=f"User {number}",
        email=f"user{number}@example.com",
        password_hash="nobody can sign in with this",  # noqa: S106 - it is no hash
        created_at=data.START,
    )
    document: Document = user.model_dump_doc()
    return document
