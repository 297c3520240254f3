"""What one operation works with: who asks, the open resources, and reads that are batched for as long as the operation lasts."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, cast

from bson import ObjectId
from starlette.requests import HTTPConnection

from taskgraph.errors import Unauthenticated
from taskgraph.server.fields import FieldInfo
from taskgraph.server.gate import Purse, Reply
from taskgraph.settings import Settings
from taskgraph.storage import clock
from taskgraph.storage.audit_log import AuditLog, Trail
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.loader import Loader
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: a user, through one of their sessions."""

    id: ObjectId
    session_id: ObjectId


class Resources:
    """What app.py has opened, each found by its type: `resources[PasswordHasher]`."""

    def __init__(self, *opened: object) -> None:
        self._by_type = {type(each): each for each in opened}

    def __getitem__(self, kind: type[Kind]) -> Kind:
        return cast("Kind", self._by_type[kind])


class Context:
    """Lives as long as one operation; each message of a subscription is shown in one of its own, so none with older data."""

    def __init__(
        self,
        resources: Resources,
        viewer: Viewer | None,
        connection: HTTPConnection,
        reply: Reply,
        purse: Purse | None = None,
        cost: int = 0,
    ) -> None:
        self.resources = resources
        self.db = resources[Database]
        self.settings = resources[Settings]
        self.reply = reply
        self.purse = purse
        self.cost = cost
        self._viewer = viewer
        self.connection = connection
        self.loader = Loader(resources[MergedReads])
        self._now: datetime | None = None
        self._trail: Trail | None = None
        self._request_id: str | None = None
        # Cleared by who reads anything but the viewer's own tasks and people's profiles: the clock, sessions.
        self.is_repeatable = True

    @property
    def now(self) -> datetime:
        """One time for the whole operation: what is compared with now is then compared alike, and can be read together."""
        self.is_repeatable = False
        if self._now is None:
            self._now = clock.now()
        return self._now

    @property
    def viewer(self) -> Viewer:
        """The signed-in viewer; Unauthenticated for anybody else."""
        if self._viewer is None:
            raise Unauthenticated
        return self._viewer

    @property
    def viewer_or_none(self) -> Viewer | None:
        """For the few fields that the anonymous may ask for."""
        return self._viewer

    @property
    def address(self) -> str | None:
        """The client's IP address; a forwarded one only where a trusted proxy said so."""
        return self.connection.client.host if self.connection.client else None

    @property
    def user_agent(self) -> str | None:
        """What the client calls itself."""
        return self.connection.headers.get("user-agent")

    @property
    def request_id(self) -> str:
        """What ties together all that one operation does."""
        if self._request_id is None:
            self._request_id = uuid.uuid4().hex
        return self._request_id

    @property
    def audit(self) -> AuditLog:
        """Where trails lead to."""
        return self.resources[AuditLog]

    @property
    def trail(self) -> Trail:
        """Of the mutation that is running: the mutations of an operation run one after another."""
        assert self._trail is not None  # noqa: S101 - begun before its resolver is called
        return self._trail

    def begin_trail(self, action: str) -> Trail:
        """The trail of the mutation that runs from now on."""
        viewer = self._viewer
        user_id, session_id = (None, None) if viewer is None else (viewer.id, viewer.session_id)
        self._trail = Trail(action, user_id, session_id, self.address, self.request_id)
        return self._trail

    @property
    def commits(self) -> Commits:
        """How the mutation that is running writes."""
        return Commits(self.resources[GroupCommit], self.trail)

    def forget(self) -> None:
        """Drops what was read, after a write."""
        self.loader.forget()
        self._now = None


Info = FieldInfo[Context, None]
