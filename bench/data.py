"""The data of the comparison: the same kind and number of users and tasks, in a database of the peers' and in one of taskgraph's."""

import datetime as dt
import random
import subprocess

import jwt
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel

from bench import servers
from bench.databases import Databases
from bench.workloads import NEW_TITLE
from taskgraph.seed import WORDS
from taskgraph.storage.mongo import Document

USERS = 1000
TASKS_PER_USER = 200
SEED = 7
START = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - stored times are UTC without a zone
HISTORY_SECONDS = 200 * 24 * 3600
TOKEN_SECONDS = 24 * 3600


def fill(databases: Databases, *, users: int, tasks_per_user: int) -> None:
    """Both databases, and a file of tokens for each."""
    fill_peers(databases, users=users, tasks_per_user=tasks_per_user)
    fill_taskgraph(databases, users=users, tasks_per_user=tasks_per_user)


def fill_taskgraph(databases: Databases, *, users: int, tasks_per_user: int) -> None:
    """By taskgraph's own commands."""
    run_taskgraph(databases, "taskgraph", "migrate")
    tokens = str(databases.folder / "taskgraph.tokens")
    command = ("seed", "--users", str(users), "--tasks-per-user", str(tasks_per_user), "--tokens", tokens)
    run_taskgraph(databases, "taskgraph", *command)


def run_taskgraph(databases: Databases, database: str, *arguments: str) -> None:
    """One command of taskgraph on `database`; SystemExit with its words when it fails."""
    env = servers.environment(servers.OURS, databases, database)
    done = subprocess.run((str(servers.TASKGRAPH), *arguments), env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"taskgraph {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def fill_peers(databases: Databases, *, users: int, tasks_per_user: int) -> None:
    """In the shape that the peers read, with the indexes that their queries need."""
    chance = random.Random(SEED)
    people = [_user(number) for number in range(1, users + 1)]
    newest_first = [("createdAt", DESCENDING), ("_id", DESCENDING)]
    prefixes: list[list[tuple[str, int]]] = [[("ownerId", ASCENDING)], [("parentId", ASCENDING)]]
    with databases.client() as client:
        db = client["peers"]
        db["users"].create_index("email", unique=True)
        db["users"].insert_many(people)
        db["tasks"].create_indexes([IndexModel([*prefix, *newest_first]) for prefix in prefixes])
        for owner in people:
            db["tasks"].insert_many(_tasks(owner["_id"], people, tasks_per_user, chance), ordered=False)
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=TOKEN_SECONDS)
    tokens = (jwt.encode({"sub": str(user["_id"]), "exp": expires}, servers.SECRET, "HS256") for user in people)
    (databases.folder / "peers.tokens").write_text("".join(f"{token}\n" for token in tokens))


def remove_written(databases: Databases) -> None:
    """What workloads have created, in both databases, with its events."""
    with databases.client() as client:
        client["peers"]["tasks"].delete_many({"title": NEW_TITLE})
        ours = client["taskgraph"]
        written = [task["_id"] for task in ours["tasks"].find({"title": NEW_TITLE}, {"_id": 1})]
        ours["tasks"].delete_many({"_id": {"$in": written}})
        ours["events"].delete_many({"subjectId": {"$in": written}})


def _user(number: int) -> Document:
    return {"_id": ObjectId(), "email": f"user{number}@example.com", "name": f"User {number}", "createdAt": START, "tier": "free"}


def _tasks(owner_id: ObjectId, people: list[Document], count: int, chance: random.Random) -> list[Document]:
    """Like `taskgraph seed`: 80 % have an assignee, 30 % a parent that has none itself, half of them a due date."""
    made: list[Document] = []
    tops: list[ObjectId] = []
    for _ in range(count):
        created = START + dt.timedelta(milliseconds=chance.randrange(HISTORY_SECONDS * 1000))
        parent_id = chance.choice(tops) if tops and chance.random() < 0.3 else None
        task: Document = {
            "_id": ObjectId(),
            "ownerId": owner_id,
            "assigneeId": chance.choice(people)["_id"] if chance.random() < 0.8 else None,
            "parentId": parent_id,
            "title": " ".join(chance.choices(WORDS, k=5)),
            "description": " ".join(chance.choices(WORDS, k=30)),
            "status": chance.choice(["TODO", "IN_PROGRESS", "DONE"]),
            "priority": chance.choice(["LOW", "MEDIUM", "HIGH", "URGENT"]),
            "dueDate": created + dt.timedelta(days=chance.randrange(60)) if chance.random() < 0.5 else None,
            "createdAt": created,
            "updatedAt": created,
        }
        made.append(task)
        if parent_id is None:
            tops.append(task["_id"])
    return made
