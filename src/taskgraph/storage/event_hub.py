"""Live events of this process: a ring of recent ones, and fan-out from memory to those who may see them.

A listener who comes back from before the ring is read to from the store until the ring reaches, then from the ring, and in the same
turn of the event loop becomes live: nothing falls between them. What is not even stored any more is reported as a gap.
"""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import bson
from bson import ObjectId, Timestamp

from taskgraph.errors import Busy
from taskgraph.storage import clock
from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.event_log import EventCursor, LoggedEvent
from taskgraph.storage.mongo import Document

RING_EVENTS = 50_000
RING_BYTES = 64 * 1024 * 1024
# How far back the ring of a process that starts is filled from the store.
WARM_SECONDS = 600
STORED_BATCH = 200
QUEUED_EVENTS = 256
CHECKPOINT_SECONDS = 30.0
BEGIN_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5
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
BEGINNING = EventCursor(0, 0)


class Stored(Protocol):
    """The log as the database keeps it."""

    def is_whole_after(self, cursor: EventCursor) -> bool:
        """Whether all events behind this position are still kept."""

    async def of(self, user_id: ObjectId, *, after: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        """The first events within the bounds that the user may see; fewer than `limit` are all there are."""

    async def recent(self, *, since: EventCursor, until: EventCursor, limit: int) -> list[LoggedEvent]:
        """The last events of everybody within the bounds, the latest first."""


class SlowListener(Exception):
    """The listener did not take its events in time; it can resume by cursor."""


@dataclass(eq=False, slots=True)
class Listener:
    """One subscriber: which events it wants at all, up to where it has been told what it missed, and what it has yet to take.

    There are thousands, and each hears of each event: an asyncio.Queue would cost several times the memory and the time, and
    even an empty deque more than all the rest.
    """

    wanted: Callable[[Document], bool]
    heard_at: float
    start: EventCursor = BEGINNING
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


@dataclass(frozen=True, slots=True)
class _Remembered:
    """An event in the ring, packed: as Python objects it would take five times the memory."""

    cursor: EventCursor
    audience: Sequence[ObjectId]
    packed: bytes

    @classmethod
    def of(cls, event: LoggedEvent) -> "_Remembered":
        return cls(event.cursor, event.document["audience"], bson.encode(event.document))

    @property
    def event(self) -> LoggedEvent:
        """A new one each time, which keeps what its listener makes of it."""
        return LoggedEvent(self.cursor, bson.decode(self.packed))


class EventHub:
    """Fed by the change stream; `listen` is for subscribers. The ring is bounded in events and in bytes."""

    def __init__(self, stored: Stored, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
        self._stored = stored
        self._ring: deque[_Remembered] = deque()
        self._ring_bytes = 0
        # The same events by who may see them: many who come back at once must not each walk through everybody's.
        self._ring_of: defaultdict[ObjectId, deque[_Remembered]] = defaultdict(deque)
        self._has_begun = asyncio.Event()
        self._has_moved = asyncio.Event()
        self._reaches_back_to = self._position = BEGINNING
        self._listeners: dict[ObjectId, set[Listener]] = {}
        self._checkpoint_seconds = checkpoint_seconds

    @property
    def subscription(self) -> Subscription:
        """What the change stream should feed this hub with."""
        return Subscription("events", {"operationType": "insert"}, self._receive, self._restart, self._advance)

    async def latest(self) -> EventCursor:
        """Up to where this process has heard everything by now. Busy while there is no change stream."""
        await self._begun()
        return self._position

    async def warm(self) -> None:
        """Fills the ring with what happened lately, so that those who lost their process find it here. PyMongo's errors, Busy."""
        await self._begun()
        end = self._reaches_back_to
        begin = EventCursor(max(0, end.seconds - WARM_SECONDS), 0)
        # One more than there is room for tells whether there are more.
        for event in await self._stored.recent(since=begin, until=end, limit=RING_EVENTS + 1):
            if self._reaches_back_to != end or not self._remember_older(_Remembered.of(event)):
                return
        if self._reaches_back_to == end:
            self._reaches_back_to = begin

    async def reached(self, cursor: EventCursor) -> None:
        """Returns when this process has heard everything up to a position."""
        while self._position < cursor:
            await self._has_moved.wait()

    async def _begun(self) -> None:
        """Waits for the change stream to begin; Busy when it does not soon."""
        try:
            async with asyncio.timeout(BEGIN_SECONDS):
                await self._has_begun.wait()
        except TimeoutError as error:
            away = "Live events are not at hand while the database cannot be reached; try again shortly."
            raise Busy(away, retry_after_seconds=RETRY_AFTER_SECONDS) from error

    async def listen(
        self, user_id: ObjectId, *, after: EventCursor | None = None, wanted: Callable[[Document], bool] = _any
    ) -> AsyncGenerator[Message]:
        """A checkpoint (or a gap) first, then the wanted events after `after`, then live, with a checkpoint whenever it is quiet.

        Ends with SlowListener when QUEUED_EVENTS wait to be taken. PyMongo's errors and Busy while it reads from the store.
        """
        await self._begun()
        loop = asyncio.get_running_loop()
        listener = Listener(wanted, loop.time())
        async with aclosing(self._missed(user_id, after, listener)) as missed:
            async for message in missed:
                yield message
        # In this same turn of the event loop it begins to listen: nothing can come between.
        self._listeners.setdefault(user_id, set()).add(listener)
        self._remind(listener)
        try:
            for event in self._remembered(user_id, listener):
                yield event
            while not listener.is_full:
                message = await listener.take()
                # A client that comes from a process ahead of this one has seen these already.
                if isinstance(message, LoggedEvent) and message.cursor <= listener.start:
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

    async def _missed(self, user_id: ObjectId, after: EventCursor | None, listener: Listener) -> AsyncGenerator[Message]:
        """The opening, and what the ring no longer has; sets where the listener stands then."""
        listener.start = self._position if after is None else after
        if after is not None and (gap := self._gap_after(after)) is not None:
            listener.start = gap.cursor
            yield gap
        else:
            yield Checkpoint(listener.start, clock.now())
        while listener.start < self._reaches_back_to:
            until = self._position
            # Shielded: whoever leaves meanwhile would take a connection to MongoDB along.
            stored = await asyncio.shield(self._stored.of(user_id, after=listener.start, until=until, limit=STORED_BATCH))
            for event in stored:
                if listener.wanted(event.document):
                    yield event
            listener.start = stored[-1].cursor if len(stored) == STORED_BATCH else max(listener.start, until)

    def _remind(self, listener: Listener) -> None:
        """Sends a checkpoint to a listener that has heard nothing for a while, and looks again when that may be so next time.

        It stands behind the events that it covers. A timer for each message instead would cost more than the rest of its way.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= listener.heard_at + self._checkpoint_seconds:
            listener.heard_at = loop.time()
            listener.send(Checkpoint(self._position, clock.now()))
        listener.reminder = loop.call_at(listener.heard_at + self._checkpoint_seconds, self._remind, listener)

    def _gap_after(self, cursor: EventCursor) -> Gap | None:
        is_of_the_future = cursor.seconds > time.time() + AHEAD_SECONDS
        is_kept = self._reaches_back_to <= cursor or self._stored.is_whole_after(cursor)
        if is_kept and not is_of_the_future:
            return None
        return Gap(cursor, self._position, "The events after this cursor are no longer kept; read anew, then go on from cursor.")

    def _remembered(self, user_id: ObjectId, listener: Listener) -> Iterator[LoggedEvent]:
        newest_first = itertools.takewhile(lambda each: each.cursor > listener.start, reversed(self._ring_of.get(user_id, ())))
        return (event for event in (each.event for each in list(newest_first)[::-1]) if listener.wanted(event.document))

    def _receive(self, change: Change) -> None:
        # One object for all who hear it now; with the last of them its renderings go.
        event = LoggedEvent(EventCursor.at(change.cluster_time, change.index), change.detail["fullDocument"])
        self._move(event.cursor)
        self._remember(_Remembered.of(event))
        for user_id in event.document["audience"]:
            self._send(user_id, event)

    def _remember(self, latest: _Remembered) -> None:
        self._ring.append(latest)
        self._ring_bytes += len(latest.packed)
        for user_id in latest.audience:
            self._ring_of[user_id].append(latest)
        while len(self._ring) > RING_EVENTS or self._ring_bytes > RING_BYTES:
            self._forget_oldest()

    def _remember_older(self, older: _Remembered) -> bool:
        """Adds an event from before all that are remembered; False when there is no room for it."""
        if len(self._ring) >= RING_EVENTS or self._ring_bytes + len(older.packed) > RING_BYTES:
            self._reaches_back_to = older.cursor
            return False
        self._ring.appendleft(older)
        self._ring_bytes += len(older.packed)
        for user_id in older.audience:
            self._ring_of[user_id].appendleft(older)
        return True

    def _forget_oldest(self) -> None:
        forgotten = self._ring.popleft()
        self._ring_bytes -= len(forgotten.packed)
        self._reaches_back_to = forgotten.cursor
        for user_id in forgotten.audience:
            self._ring_of[user_id].popleft()
            if not self._ring_of[user_id]:
                del self._ring_of[user_id]

    def _advance(self, time: Timestamp) -> None:
        self._move(max(self._position, EventCursor.before(time)))

    def _move(self, position: EventCursor) -> None:
        self._position = position
        self._has_moved.set()
        self._has_moved = asyncio.Event()

    def _restart(self, time: Timestamp) -> None:
        self._ring.clear()
        self._ring_of.clear()
        self._ring_bytes = 0
        start, self._position = self._position, EventCursor.at(time)
        self._reaches_back_to = self._position
        self._has_begun.set()
        gap = Gap(start, self._position, "The server lost track of the database; read anew, then go on from cursor.")
        for user_id in self._listeners:
            self._send(user_id, gap)

    def _send(self, user_id: ObjectId, message: Message) -> None:
        for listener in self._listeners.get(user_id, ()):
            listener.send(message)
