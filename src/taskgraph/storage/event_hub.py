"""Live events of this process: a ring of recent ones, and fan-out from memory to those who may see them.

A listener subscribes first and is then told where it stands, so nothing falls between the two. Events from before the ring
are reported as a gap, never skipped in silence.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId, Timestamp

from taskgraph.storage import clock
from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.event_log import EventCursor, LoggedEvent

RING_EVENTS = 10_000
QUEUED_EVENTS = 256
CHECKPOINT_SECONDS = 30.0


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


class EventHub:
    """Fed by the change stream; `listen` is for subscribers."""

    def __init__(self, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
        self._ring: deque[LoggedEvent] = deque(maxlen=RING_EVENTS)
        self._reaches_back_to: EventCursor | None = None
        self._latest: EventCursor | None = None
        self._listeners: dict[ObjectId, set[asyncio.Queue[Message]]] = {}
        self._checkpoint_seconds = checkpoint_seconds

    @property
    def subscription(self) -> Subscription:
        """What the change stream should feed this hub with."""
        return Subscription("events", {"operationType": "insert"}, self._receive, self._restart)

    async def listen(self, user_id: ObjectId, *, after: EventCursor | None = None) -> AsyncGenerator[Message]:
        """A checkpoint (or a gap) first, then what came after `after`, then live, with a checkpoint whenever it is quiet.

        Ends with SlowListener when QUEUED_EVENTS wait to be taken.
        """
        queue: asyncio.Queue[Message] = asyncio.Queue(QUEUED_EVENTS)
        self._listeners.setdefault(user_id, set()).add(queue)
        try:
            for message in self._opening(user_id, after):
                yield message
            while not queue.full():
                try:
                    message = await asyncio.wait_for(queue.get(), self._checkpoint_seconds)
                except TimeoutError:
                    message = Checkpoint(self._position(), clock.now())
                # A client that comes from a process ahead of this one has seen these already.
                if not (isinstance(message, LoggedEvent) and after is not None and message.cursor <= after):
                    yield message
            raise SlowListener
        finally:
            self._listeners[user_id].discard(queue)
            if not self._listeners[user_id]:
                del self._listeners[user_id]

    def _opening(self, user_id: ObjectId, after: EventCursor | None) -> list[Message]:
        if after is None:
            return [Checkpoint(self._position(), clock.now())]
        if self._reaches_back_to is None or after < self._reaches_back_to:
            return [
                Gap(
                    after,
                    self._position(),
                    "The events after this cursor are no longer at hand; read anew, then go on from cursor.",
                )
            ]
        missed = [event for event in self._ring if event.cursor > after and user_id in event.document["audience"]]
        return [Checkpoint(after, clock.now()), *missed]

    def _position(self) -> EventCursor:
        return self._latest or EventCursor(0, 0)

    def _receive(self, change: Change) -> None:
        event = LoggedEvent(EventCursor.at(change.cluster_time, change.index), change.detail["fullDocument"])
        if len(self._ring) == RING_EVENTS:
            self._reaches_back_to = self._ring[0].cursor
        self._ring.append(event)
        self._latest = event.cursor
        for user_id in event.document["audience"]:
            self._send(user_id, event)

    def _restart(self, time: Timestamp) -> None:
        self._ring.clear()
        start, self._latest = self._latest, EventCursor.at(time)
        self._reaches_back_to = self._latest
        for user_id in list(self._listeners):
            self._send(
                user_id, Gap(start, self._latest, "The server lost track of the database; read anew, then go on from cursor.")
            )

    def _send(self, user_id: ObjectId, message: Message) -> None:
        for queue in self._listeners.get(user_id, ()):
            # A full queue is left full: that is how its listener notices that it is too slow.
            if not queue.full():
                queue.put_nowait(message)
