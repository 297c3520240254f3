"""Which sessions are live, known to this process without asking MongoDB for each request.

A session is read when it is first seen and then believed until the change stream reports its end, which takes milliseconds, and
never longer than BELIEVED_SECONDS: the change stream may be interrupted.
"""

import asyncio
import math
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from bson import ObjectId, Timestamp

from taskgraph.accounts import reads, sessions
from taskgraph.accounts.model import Tier
from taskgraph.accounts.tokens import Claims
from taskgraph.errors import Unauthenticated
from taskgraph.server.gate import Caller
from taskgraph.storage.change_tail import Change, Subscription
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Document

REMEMBERED = 50_000
BELIEVED_SECONDS = 10.0
RECHECK_SECONDS = 60.0


@dataclass(eq=False, slots=True, weakref_slot=True)
class LiveSession:
    """A session of a signed-in user. `ended` is set the moment this process learns that it is over; `caller` is what its token was
    last taken for.
    """

    id: ObjectId
    user_id: ObjectId
    checked_at: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    tier: Tier = Tier.FREE
    tier_read_at: float = -math.inf
    caller: Caller | None = None


class LiveSessions:
    """At most REMEMBERED sessions; the one unused for longest is forgotten first, and simply read again."""

    def __init__(self, merged: MergedReads) -> None:
        self._merged = merged
        self._known: OrderedDict[ObjectId, LiveSession] = OrderedDict()
        # Who holds on to a session, as a socket does, hears of its end however long ago it was seen last.
        self._held: WeakValueDictionary[ObjectId, LiveSession] = WeakValueDictionary()

    @property
    def subscription(self) -> Subscription:
        """What the change stream should report: sessions that ended or were deleted."""
        ended = {"operationType": "update", "updateDescription.updatedFields.endedAt": {"$exists": True}}
        return Subscription("sessions", {"$or": [ended, {"operationType": "delete"}]}, self._receive, self._restart)

    async def of(self, claims: Claims) -> LiveSession:
        """The session of a verified access token; Unauthenticated when it is over."""
        known = self._known.get(claims.session_id)
        if known is None or time.monotonic() - known.checked_at > BELIEVED_SECONDS:
            document = await self._read(claims.session_id)
            if document is None:
                self.end(claims.session_id)
                raise Unauthenticated("The session has ended; sign in again.")
            known = self.remember(document)
        self._known.move_to_end(claims.session_id)
        if known.user_id != claims.user_id:
            raise Unauthenticated("The access token is not valid; sign in again.")
        return known

    def remember(self, document: Document) -> LiveSession:
        """Believes a session just written or read."""
        session = self._held.get(document["_id"])
        if session is None:
            session = self._held[document["_id"]] = LiveSession(document["_id"], document["userId"], time.monotonic())
        session.checked_at = time.monotonic()
        self._known[session.id] = session
        if len(self._known) > REMEMBERED:
            _, forgotten = self._known.popitem(last=False)
            forgotten.caller = None
        return session

    async def tier(self, session: LiveSession) -> Tier:
        """Of the user, believed for BELIEVED_SECONDS."""
        if time.monotonic() - session.tier_read_at > BELIEVED_SECONDS:
            (user,) = await self._merged.load(reads.users_by_id, [session.user_id], frozenset({"tier"}))
            session.tier, session.tier_read_at = Tier(user["tier"]) if user else Tier.FREE, time.monotonic()
        return session.tier

    async def until_ended(self, session: LiveSession) -> None:
        """Returns when the session is over: told by the change stream, or found out by reading it from time to time."""
        while not session.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_SECONDS):
                    await session.ended.wait()
                    return
            if await self._read(session.id) is None:
                self.end(session.id)

    def end(self, session_id: ObjectId) -> None:
        """Forgets a session and tells who waits for its end."""
        self._known.pop(session_id, None)
        if session := self._held.pop(session_id, None):
            session.ended.set()
            # It leads back to the session, which would wait for the garbage collector.
            session.caller = None

    def end_all_of(self, user_id: ObjectId, *, keep: ObjectId | None = None) -> None:
        """The same for every session of a user but `keep`."""
        for session in [each for each in self._held.values() if each.user_id == user_id and each.id != keep]:
            self.end(session.id)

    async def _read(self, session_id: ObjectId) -> Document | None:
        return (await self._merged.load(sessions.live_sessions, [session_id]))[0]

    def _receive(self, change: Change) -> None:
        self.end(change.detail["documentKey"]["_id"])

    def _restart(self, _time: Timestamp) -> None:
        # Ends may have been missed: believe nothing, read each session again when it is next seen.
        for session in self._known.values():
            session.checked_at = -math.inf
