"""Who may come in: an access token over HTTP or WebSocket, or the session cookie of a browser on an allowed origin."""

import asyncio
import functools
import re
from datetime import datetime

from starlette.requests import HTTPConnection

from taskgraph.accounts import cookies, sessions
from taskgraph.accounts.live_sessions import LiveSession, LiveSessions
from taskgraph.accounts.model import Tier
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.context import Context, Resources, Viewer
from taskgraph.errors import Busy, Unauthenticated
from taskgraph.server.gate import Caller, Purse, Reply
from taskgraph.settings import Settings
from taskgraph.storage.event_hub import EventHub
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.mongo import Database
from taskgraph.storage.versions import PROFILES

SCHEME = "bearer "
REACH_SECONDS = 5


class AccountGate:
    """The Gate of server/gate.py, backed by accounts."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._settings = resources[Settings]

    async def admit(self, authorization: str | None) -> Caller:
        """The caller behind `Bearer <access token>`; anonymous without a value; Unauthenticated for a bad one."""
        if not authorization:
            return Caller()
        if authorization[: len(SCHEME)].lower() != SCHEME:
            raise Unauthenticated("Send the access token as Authorization: Bearer <token>.")
        claims = self._resources[AccessTokens].verify(authorization[len(SCHEME) :].strip())
        return self._caller(await self._resources[LiveSessions].of(claims), claims.expires_at)

    async def admit_by_cookie(self, connection: HTTPConnection) -> Caller:
        """The caller behind the session cookie, which is not spent; anonymous without a cookie; Unauthenticated from a foreign origin."""
        token, origin = cookies.read(connection, self._settings), connection.headers.get("origin")
        # Browsers always name the origin; whatever else holds a cookie has a token to send.
        if token is None or origin is None:
            return Caller()
        if not self._is_allowed(origin, connection):
            raise Unauthenticated("Pages of this origin may not use the session cookie.")
        session = await sessions.holder(self._resources[Database], token)
        if session is None:
            return Caller()
        return self._caller(self._resources[LiveSessions].remember(session), session["expiresAt"])

    async def reach(self, position: str) -> None:
        """Returns when this process has heard of that write: what it says of the log is then as new as what it reads of the data,
        which always comes from the primary.
        """
        cursor = EventCursor.parse(position)
        try:
            async with asyncio.timeout(REACH_SECONDS):
                await self._resources[EventHub].reached(cursor)
        except TimeoutError as error:
            late = f"This server has not heard of that write within {REACH_SECONDS} s; try again shortly."
            raise Busy(late, retry_after_seconds=REACH_SECONDS) from error

    def context(self, caller: Caller, connection: HTTPConnection, reply: Reply, cost: int = 0) -> Context:
        """A fresh context for one operation."""
        viewer = caller.viewer if isinstance(caller.viewer, Viewer) else None
        return Context(self._resources, viewer, connection, reply, caller.purse, cost)

    def _caller(self, session: LiveSession, expires_at: datetime) -> Caller:
        if session.caller is None or session.caller.expires_at != expires_at:
            session.caller = self._new_caller(session, expires_at)
        return session.caller

    def _new_caller(self, session: LiveSession, expires_at: datetime) -> Caller:
        until_ended = functools.partial(self._resources[LiveSessions].until_ended, session)
        purse = Purse(str(session.user_id), functools.partial(self._points, session))
        return Caller(
            Viewer(session.user_id, session.id), expires_at, until_ended, versions=(session.user_id, PROFILES), purse=purse
        )

    async def _points(self, session: LiveSession) -> int:
        tier = await self._resources[LiveSessions].tier(session)
        return self._settings.rate_limit_premium if tier is Tier.PREMIUM else self._settings.rate_limit_free

    def _is_allowed(self, origin: str, connection: HTTPConnection) -> bool:
        """Browsers send cookies along with WebSockets that foreign pages open; only the Origin tells them apart."""
        is_own = origin in {f"{scheme}://{connection.headers.get('host')}" for scheme in ("http", "https")}
        return is_own or re.fullmatch(self._settings.origin_pattern, origin) is not None
