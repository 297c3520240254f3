"""Two accounts with tasks to look around in, for `taskgraph dev --demo`. Made once; every start signs both in anew."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from taskgraph.accounts import reads, sessions
from taskgraph.accounts import writes as accounts
from taskgraph.accounts.passwords import PasswordHasher
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.settings import Settings
from taskgraph.storage import clock
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.mongo import Database, Document
from taskgraph.storage.versions import Versions
from taskgraph.tasks import writes as tasks
from taskgraph.tasks.creation import Draft
from taskgraph.tasks.model import TaskPriority, TaskStatus

PASSWORD = "taskgraph demo"  # noqa: S105 - printed at every start
PEOPLE = (("Ada Lovelace", "ada@example.com"), ("Grace Hopper", "grace@example.com"))
# The printed token should outlive a day of looking around.
TOKEN_SECONDS = 24 * 3600
PLAN: tuple[tuple[str, TaskStatus, TaskPriority, int | None, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "Launch the website",
        TaskStatus.IN_PROGRESS,
        TaskPriority.URGENT,
        14,
        ("web",),
        ("Write the texts", "Draw the logo", "Set up the domain", "Test on phones"),
    ),
    ("Write the release notes", TaskStatus.TODO, TaskPriority.HIGH, 7, ("docs",), ()),
    (
        "Review the budget",
        TaskStatus.TODO,
        TaskPriority.MEDIUM,
        -2,
        ("finance",),
        ("Collect the invoices", "Compare with last year"),
    ),
    ("Renew the certificates", TaskStatus.DONE, TaskPriority.HIGH, -10, ("ops",), ()),
    ("Plan the team day", TaskStatus.TODO, TaskPriority.LOW, None, ("people",), ("Find a date", "Book a place")),
    ("Answer the survey", TaskStatus.CANCELED, TaskPriority.LOW, None, (), ()),
    ("Back up the archive", TaskStatus.TODO, TaskPriority.MEDIUM, 30, ("ops",), ()),
    ("Measure the response times", TaskStatus.IN_PROGRESS, TaskPriority.MEDIUM, 3, ("ops", "web"), ()),
)


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """What one needs to sign in."""

    email: str
    password: str
    access_token: str


async def load(db: Database, settings: Settings) -> Sequence[DemoAccount]:
    """Makes the accounts and tasks that are missing, and opens a session for each account."""
    hasher, tokens = PasswordHasher(), AccessTokens(settings.signing_secrets, ttl_seconds=TOKEN_SECONDS)
    try:
        return [await _account(db, hasher, tokens, name, email) for name, email in PEOPLE]
    finally:
        await asyncio.to_thread(hasher.close)


async def _account(db: Database, hasher: PasswordHasher, tokens: AccessTokens, name: str, email: str) -> DemoAccount:
    user = await reads.user_by_email(db, email)
    if user is None:
        trail = Trail("register", None, None, None, "taskgraph dev --demo")
        user = await accounts.register(db, hasher, trail, name=name, email=email, password=PASSWORD)
        await _make_tasks(db, user)
    granted = await sessions.open_session(db, user, ttl_seconds=TOKEN_SECONDS, user_agent="taskgraph dev --demo")
    token, _ = tokens.issue(user["_id"], granted.session["_id"])
    return DemoAccount(email, PASSWORD, token)


async def _make_tasks(db: Database, user: Document) -> None:
    commits = Commits(GroupCommit(db, Versions(db)))
    for title, status, priority, due_in_days, labels, parts in PLAN:
        due = None if due_in_days is None else clock.now() + timedelta(days=due_in_days)
        given = {
            "title": title,
            "status": status,
            "priority": priority,
            "labels": list(labels),
            "dueDate": due,
            "assigneeId": user["_id"],
        }
        made = await tasks.create_task(commits, user["_id"], Draft(given))
        for part in parts:
            await tasks.create_task(commits, user["_id"], Draft({"title": part}, parent=made.task["_id"]))
