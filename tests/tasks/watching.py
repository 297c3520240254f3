"""Which commands the application sends to MongoDB: a server of its own, watched from before its first connection."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo import MongoClient, monitoring
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent, CommandSucceededEvent

from taskgraph.storage import audit_log, event_positions
from tests.conftest import Documents, MakeSettings, migrated, served


@dataclass
class Watch(monitoring.CommandListener):
    """Collects while `is_on`. Left out: the change stream, which waits by itself, the look at who is asking, and what is written some time
    after the answer: positions of events, entries of the audit log.
    """

    database: str
    is_on: bool = False
    commands: list[dict[str, Any]] = field(default_factory=list)
    documents_sent: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wanted: set[int] = field(default_factory=set)

    def started(self, event: CommandStartedEvent) -> None:
        if self.is_on and self._is_wanted(event):
            with self._lock:
                self._wanted.add(event.request_id)
                # A copy: PyMongo adds members to the command afterwards.
                self.commands.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        with self._lock:
            if event.request_id in self._wanted:
                self._wanted.discard(event.request_id)
                batch = event.reply.get("cursor", {}).get("firstBatch", [])
                self.documents_sent.append(sum(tasks_in(document) for document in batch))

    def failed(self, event: CommandFailedEvent) -> None:
        self._wanted.discard(event.request_id)

    def _is_wanted(self, event: CommandStartedEvent) -> bool:
        command = event.command
        if event.database_name == "admin":
            return event.command_name in {"commitTransaction", "abortTransaction"}
        return (
            event.database_name == self.database
            and not (event.command_name == "getMore" and command["collection"] == "$cmd.aggregate")
            # Carries no comment, whatever the cursor was opened with.
            and event.command_name != "killCursors"
            and command.get("comment") not in {audit_log.COMMENT, event_positions.COMMENT}
            and not (command.get("find") == "sessions" and isinstance(command["filter"].get("_id"), ObjectId))
        )

    @contextmanager
    def __call__(self) -> Iterator[list[dict[str, Any]]]:
        """The commands sent meanwhile."""
        self.commands, self.documents_sent, self.is_on = [], [], True
        try:
            yield self.commands
        finally:
            self.is_on = False


@dataclass(frozen=True)
class Watched:
    """A served application with its database and what it sends there."""

    url: str
    mongo: Documents
    watch: Watch


@contextmanager
def watched(settings: MakeSettings, client: MongoClient[dict[str, Any]], **given: object) -> Iterator[Watched]:
    """The listener is known to every client opened from here on; PyMongo has no way to take it back."""
    made = settings(**given)
    migrated(made)
    watch = Watch(made.mongo_database)
    monitoring.register(watch)
    with served(made) as url:
        yield Watched(url, client[made.mongo_database], watch)


def tasks_in(sent: Any) -> int:
    """How many tasks a part of a reply holds, at whatever depth."""
    if isinstance(sent, list):
        return sum(tasks_in(each) for each in sent)
    if not isinstance(sent, dict):
        return 0
    return 1 if "title" in sent else sum(tasks_in(each) for each in sent.values())


def names(commands: list[dict[str, Any]]) -> list[str]:
    """`find tasks` and the like, in the order sent."""
    return [
        f"{name} {target}" if isinstance(target, str) else name for name, target in (next(iter(each.items())) for each in commands)
    ]
