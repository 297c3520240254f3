"""Live events of this process: a ring of recent ones, and fan-out from memory to those who may see them.

A listener subscribes first and is then told where it stands, so nothing falls between the two. Events from before the ring
are reported as a gap, never skipped in silence.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import bson
from bson import ObjectId, Timestamp

from taskgraph.storage import clock
from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.event_log import EventCursor, LoggedEvent
from taskgraph.storage.mongo import Document

RING_EVENTS = 10_000
RING_BYTES = 64 * 1024 * 1024
QUEUED_EVENTS = 256
CHECKPOINT_SECONDS = 30.0
# MongoDB's cluster time follows the clocks of its hosts. A cursor from further ahead is not of this database, and waiting for the
# events behind it would be silence.
AHEAD_SECONDS = 60


def _any(_event: Document) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Nothing new for this listener up to here."""

    cursor: EventCursor
    at: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """Events after `start` cannot be replayed; go on from `cursor` after reading anew."""

    start: EventCursor | None
    cursor: EventCursor
    reason: str


Message = LoggedEvent | Checkpoint | Gap


class SlowListener(Exception):
    """The listener did not take its events in time; it can resume by cursor."""


@dataclass(eq=False, slots=True)
class Listener:
    """One subscriber: which events it wants at all, and the messages it has yet to take.

    There are thousands, and each hears of each event: an asyncio.Queue would cost several times the memory and the time, and
    even an empty deque more than all the rest.
    """

    wanted: Callable[[Document], bool]
    heard_at: float
    reminder: asyncio.TimerHandle | None = None
    _queue: list[Message] = field(default_factory=list)
    _arrival: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more is kept for it: QUEUED_EVENTS wait to be taken."""
        return len(self._queue) >= QUEUED_EVENTS

    def send(self, message: Message) -> None:
        """A full queue is left full: that is how its listener notices that it is too slow."""
        if self.is_full or (isinstance(message, LoggedEvent) and not self.wanted(message.document)):
            return
        self._queue.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def take(self) -> Message:
        """The oldest message that has not been taken, once there is one."""
        if not self._queue:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._queue.pop(0)


class EventHub:
    """Fed by the change stream; `listen` is for subscribers. The ring is bounded in events and in bytes."""

    def __init__(self, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
        self._ring: deque[tuple[LoggedEvent, int]] = deque()
        self._ring_bytes = 0
        self._reaches_back_to: EventCursor | None = None
        self._latest: EventCursor | None = None
        self._listeners: dict[ObjectId, set[Listener]] = {}
        self._checkpoint_seconds = checkpoint_seconds

    @property
    def subscription(self) -> Subscription:
        """What the change stream should feed this hub with."""
        return Subscription("events", {"operationType": "insert"}, self._receive, self._restart)

    async def listen(
        self, user_id: ObjectId, *, after: EventCursor | None = None, wanted: Callable[[Document], bool] = _any
    ) -> AsyncGenerator[Message]:
        """A checkpoint (or a gap) first, then the wanted events after `after`, then live, with a checkpoint whenever it is quiet.

        Ends with SlowListener when QUEUED_EVENTS wait to be taken.
        """
        loop = asyncio.get_running_loop()
        listener = Listener(wanted, loop.time())
        self._listeners.setdefault(user_id, set()).add(listener)
        self._remind(listener)
        try:
            opening = self._opening(user_id, after, wanted)
            for message in opening:
                yield message
            seen = None if isinstance(opening[0], Gap) else after
            while not listener.is_full:
                message = await listener.take()
                # A client that comes from a process ahead of this one has seen these already.
                if isinstance(message, LoggedEvent) and seen is not None and message.cursor <= seen:
                    continue
                listener.heard_at = loop.time()
                yield message
            raise SlowListener
        finally:
            if listener.reminder is not None:
                listener.reminder.cancel()
            self._listeners[user_id].discard(listener)
            if not self._listeners[user_id]:
                del self._listeners[user_id]

    def _remind(self, listener: Listener) -> None:
        """Sends a checkpoint to a listener that has heard nothing for a while, and looks again when that may be so next time.

        It stands behind the events that it covers. A timer for each message instead would cost more than the rest of its way.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= listener.heard_at + self._checkpoint_seconds:
            listener.heard_at = loop.time()
            listener.send(Checkpoint(self._position(), clock.now()))
        listener.reminder = loop.call_at(listener.heard_at + self._checkpoint_seconds, self._remind, listener)

    def _opening(self, user_id: ObjectId, after: EventCursor | None, wanted: Callable[[Document], bool]) -> list[Message]:
        if after is None:
            return [Checkpoint(self._position(), clock.now())]
        is_of_the_future = after.seconds > time.time() + AHEAD_SECONDS
        if self._reaches_back_to is None or after < self._reaches_back_to or is_of_the_future:
            return [
                Gap(
                    after,
                    self._position(),
                    "The events after this cursor are no longer at hand; read anew, then go on from cursor.",
                )
            ]
        later = (event for event, _ in self._ring if event.cursor > after)
        missed = [replace(event) for event in later if user_id in event.document["audience"] and wanted(event.document)]
        return [Checkpoint(after, clock.now()), *missed]

    def _position(self) -> EventCursor:
        return self._latest or EventCursor(0, 0)

    def _receive(self, change: Change) -> None:
        event = LoggedEvent(EventCursor.at(change.cluster_time, change.index), change.detail["fullDocument"])
        self._latest = event.cursor
        self._remember(event)
        # One object for all who hear it now, and not the one that is remembered: with the last of them its renderings go.
        live = replace(event)
        for user_id in event.document["audience"]:
            self._send(user_id, live)

    def _remember(self, event: LoggedEvent) -> None:
        size_bytes = len(bson.encode(event.document))
        self._ring.append((event, size_bytes))
        self._ring_bytes += size_bytes
        while len(self._ring) > RING_EVENTS or self._ring_bytes > RING_BYTES:
            forgotten, size_bytes = self._ring.popleft()
            self._ring_bytes -= size_bytes
            self._reaches_back_to = forgotten.cursor

    def _restart(self, time: Timestamp) -> None:
        self._ring.clear()
        self._ring_bytes = 0
        start, self._latest = self._latest, EventCursor.at(time)
        self._reaches_back_to = self._latest
        gap = Gap(start, self._latest, "The server lost track of the database; read anew, then go on from cursor.")
        for user_id in self._listeners:
            self._send(user_id, gap)

    def _send(self, user_id: ObjectId, message: Message) -> None:
        for listener in self._listeners.get(user_id, ()):
            listener.send(message)
