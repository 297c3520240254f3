"""What writers and subscribers have noted, for the checks. Times are seconds of time.monotonic(), which all processes of a machine share."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that the server called done. `sent_at` is when it was first asked for, `answered_sent_at` when that attempt was
    which got the answer.
    """

    key: str
    task_id: str
    version: int
    is_creation: bool
    sent_at: float
    answered_sent_at: float
    at: float
    is_replayed: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that was not answered with success; only one that `may_be_repeated` was."""

    key: str
    at: float
    what: str
    may_be_repeated: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as a subscriber was told it; `key` is the write that caused it, `shown` the key that its task holds."""

    event_id: str
    task_id: str
    version: int
    at: float
    key: str | None = None
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class Interruption:
    """A connection that ended by itself, why, and when its subscriber heard something again; None: it never did."""

    lost_at: float
    back_at: float | None
    why: str


@dataclass(slots=True)
class Stream:
    """All that one subscriber was told, in order, over all of its connections. `refusals` are errors that should not be."""

    name: str
    user: int
    seen: list[Seen] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """As it lies in the database."""

    task_id: str
    version: int
    key: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there in the end: the titles of all tasks, through the API, and all events, from the database."""

    titles: Sequence[str]
    events: Sequence[StoredEvent]


@dataclass(frozen=True, slots=True)
class History:
    """A run under faults. `acknowledged` has the writes of each user."""

    acknowledged: Sequence[Sequence[Acknowledged]]
    failures: Sequence[Failure]
    streams: Sequence[Stream]
    stored: Stored

    @property
    def writes(self) -> list[Acknowledged]:
        """Of all users."""
        return [write for writes in self.acknowledged for write in writes]
