"""What the protocol has to know about callers without knowing accounts: made in app.py, used by HTTP and WebSocket alike."""

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection


@dataclass(frozen=True, slots=True)
class Purse:
    """What a signed-in caller spends from: one for all sessions of an account. `points` gives how many there are in a window."""

    account: str
    points: Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `viewer` is None for the anonymous; a live socket must go at `expires_at` (UTC without a zone), or earlier when
    `until_ended` returns. `versions` names what the caller's answers are made from; without any, none can be kept.
    """

    viewer: object | None = None
    expires_at: datetime | None = None
    until_ended: Callable[[], Awaitable[None]] | None = None
    versions: tuple[Hashable, ...] = ()
    purse: Purse | None = None


class OperationContext(Protocol):
    """What the protocol has to know about the context of an operation."""

    @property
    def is_repeatable(self) -> bool:
        """Whether the answer follows from the data of the caller's versions alone, as far as the operation has been run."""

    @property
    def request_id(self) -> str:
        """What ties together the reply, the log and the audit log."""


class Reply:
    """Headers that a resolver adds to the HTTP reply; over WebSocket they lead nowhere."""

    __slots__ = ("_headers",)

    def __init__(self) -> None:
        self._headers: MutableHeaders | None = None

    @property
    def headers(self) -> MutableHeaders:
        """Made when the first one is added: hardly any reply has some."""
        if self._headers is None:
            self._headers = MutableHeaders()
        return self._headers

    @property
    def has_headers(self) -> bool:
        """Whether a resolver has added any."""
        return self._headers is not None


class Gate(Protocol):
    """Lets callers in and gives each operation its context."""

    async def admit(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization value, anonymous without one; Unauthenticated."""

    async def admit_by_cookie(self, connection: HTTPConnection) -> Caller:
        """The caller behind the session cookie, anonymous without one; Unauthenticated from a foreign origin."""

    async def reach(self, position: str) -> None:
        """Returns when what is read here shows everything up to a position in the event log; BadUserInput, Busy after a while."""

    def context(self, caller: Caller, connection: HTTPConnection, reply: Reply, cost: int = 0) -> OperationContext:
        """A fresh context for one operation, which costs so many points."""
