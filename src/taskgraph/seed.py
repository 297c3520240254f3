"""Synthetic accounts and tasks for load tests: written straight to the database in bulk, without events.

30 % of the tasks have a parent of the same owner, 80 % a random account as assignee, half of them a due date.
"""

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog
from bson import ObjectId
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from taskgraph.accounts import sessions
from taskgraph.accounts.model import User
from taskgraph.accounts.passwords import PasswordHasher
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.errors import TaskgraphError
from taskgraph.settings import DEVELOPMENT_SECRET, Settings
from taskgraph.storage import clock
from taskgraph.storage.mongo import Database, Document
from taskgraph.tasks.model import NEVER, Task, TaskPriority, TaskStatus, title_key

log = structlog.get_logger(__name__)
TOKEN_SECONDS = 24 * 3600
BATCH = 1000
WORDS = (
    "plan",
    "review",
    "ship",
    "fix",
    "write",
    "design",
    "test",
    "deploy",
    "measure",
    "invoice",
    "report",
    "call",
    "draft",
    "audit",
)
HISTORY_SECONDS = 200 * 24 * 3600


class TokensNotWritten(TaskgraphError):
    """The file for the tokens cannot be written; nothing was made."""


async def fill(
    db: Database, settings: Settings, *, users: int, tasks_per_user: int, tokens: Path | None, password: str | None
) -> None:
    """Adds `users` accounts with `tasks_per_user` tasks each; `tokens` gets one access token a line, valid for 24 h."""
    _write_tokens(tokens, ())
    if tokens is not None and DEVELOPMENT_SECRET in settings.signing_secrets:
        log.warning("tokens are signed with the development secret; a server with another TASKGRAPH_JWT_SECRETS refuses them")
    people = await _make_users(db, users, password)
    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=users * tasks_per_user)
        ids = [user["_id"] for user in people]
        for owner_id in ids:
            for batch in _batches(_tasks(owner_id, ids, tasks_per_user)):
                await db["tasks"].insert_many(batch, ordered=False)
                progress.advance(bar, len(batch))
    if tokens is not None:
        _write_tokens(tokens, await _tokens(db, settings, people))
    print(f"made {users} accounts with {tasks_per_user} tasks each")


def _write_tokens(file: Path | None, tokens: Sequence[str]) -> None:
    """One a line, for the owner's eyes only. Called once with none before the work, which may take long and would be in vain."""
    if file is None:
        return
    try:
        file.touch(mode=0o600)
        file.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    except OSError as error:
        raise TokensNotWritten(f"{file} cannot be written: {error.strerror}") from error


async def _make_users(db: Database, count: int, password: str | None) -> list[Document]:
    """All with the same password, hashed once: a load test needs accounts, not secrets."""
    hasher = PasswordHasher()
    try:
        password_hash = await hasher.hash(password) if password else "nobody can sign in with this"
    finally:
        await asyncio.to_thread(hasher.close)
    taken = set(await db["users"].distinct("email", {"email": {"$regex": r"^user\d+@example\.com$"}}))
    free = (number for number in itertools.count(1) if f"user{number}@example.com" not in taken)
    made = [
        User(name=f"User {number}", email=f"user{number}@example.com", password_hash=password_hash, created_at=clock.now())
        for number in itertools.islice(free, count)
    ]
    documents = [user.model_dump_doc() for user in made]
    await db["users"].insert_many(documents)
    return documents


async def _tokens(db: Database, settings: Settings, people: Sequence[Document]) -> list[str]:
    issuer = AccessTokens(settings.signing_secrets, ttl_seconds=TOKEN_SECONDS)
    granted = [await sessions.open_session(db, user, ttl_seconds=TOKEN_SECONDS, user_agent="taskgraph seed") for user in people]
    return [issuer.issue(each.session["userId"], each.session["_id"])[0] for each in granted]


def _tasks(owner_id: ObjectId, people: Sequence[ObjectId], count: int) -> list[Document]:
    made: list[Document] = []
    # A parent never has a parent itself, so no tree of random tasks grows deep.
    tops: list[ObjectId] = []
    for _ in range(count):
        parent_id = random.choice(tops) if tops and random.random() < 0.3 else None
        made.append(_task(owner_id, parent_id, random.choice(people) if random.random() < 0.8 else None))
        if parent_id is None:
            tops.append(made[-1]["_id"])
    return made


def _task(owner_id: ObjectId, parent_id: ObjectId | None, assignee_id: ObjectId | None) -> Document:
    created = clock.now() - timedelta(milliseconds=random.randrange(HISTORY_SECONDS * 1000))
    status = random.choice([TaskStatus.TODO, TaskStatus.IN_PROGRESS, TaskStatus.DONE])
    due = created + timedelta(days=random.randrange(60)) if random.random() < 0.5 else None
    title = " ".join(random.choices(WORDS, k=5))
    return Task(
        owner_id=owner_id,
        creator_id=owner_id,
        assignee_id=assignee_id,
        parent_id=parent_id,
        title=title,
        title_key=title_key(title),
        description=" ".join(random.choices(WORDS, k=30)),
        status=status,
        priority=random.choice(list(TaskPriority)),
        due_date=due,
        due_order=due or NEVER,
        created_at=created,
        updated_at=created,
        completed_at=created if status is TaskStatus.DONE else None,
    ).model_dump_doc()


def _batches(tasks: list[Document]) -> list[list[Document]]:
    return [tasks[start : start + BATCH] for start in range(0, len(tasks), BATCH)]
