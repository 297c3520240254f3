"""`GET /export/<secret>`: an account's export as a file. The link is the proof; neither cookies nor tokens count here."""

import asyncio
import uuid
from http import HTTPStatus

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from taskgraph.accounts import export_links
from taskgraph.accounts.export import Export
from taskgraph.accounts.schema import EXPORT_PATH
from taskgraph.server.rate_limit import REFUSED, RateLimited, RateLimits
from taskgraph.storage.audit_log import AuditLog, Trail
from taskgraph.storage.mongo import Database

# Between two pieces that a client takes; MongoDB keeps a cursor for it meanwhile.
SEND_SECONDS = 30
# In the audit log.
ACTION = "downloadExport"
HEADERS = {
    "cache-control": "no-store",
    "content-disposition": 'attachment; filename="taskgraph-account.json"',
}
log = structlog.get_logger(__name__)


class Download:
    """The endpoint; each attempt counts as an operation of its address."""

    def __init__(self, db: Database, export: Export, audit: AuditLog, rates: RateLimits) -> None:
        self._db = db
        self._export = export
        self._audit = audit
        self._rates = rates

    def routes(self) -> list[Route]:
        """One."""
        return [Route(f"{EXPORT_PATH}/{{secret}}", self.answer, methods=["GET"])]

    async def answer(self, request: Request) -> Response:
        """The file; 404 for a link that is not valid, or not any more."""
        if request.method != "GET":
            # Who only looks, as programs do that preview links, must not use it up.
            return PlainTextResponse("Get it.", HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "GET", **HEADERS})
        address = request.client.host if request.client else None
        if self._rates.is_on:
            try:
                await self._rates.admit(None, address, REFUSED)
            except RateLimited as error:
                wait = {"cache-control": "no-store", "retry-after": str(error.retry_after_seconds)}
                return PlainTextResponse(str(error), HTTPStatus.TOO_MANY_REQUESTS, wait)
        trail = Trail(ACTION, None, None, address, uuid.uuid4().hex)
        user = await export_links.redeem(self._db, request.path_params["secret"], trail)
        if user is None:
            gone = "This link is not valid any more; ask for a new one by exportMyData."
            return PlainTextResponse(gone, HTTPStatus.NOT_FOUND, {"cache-control": "no-store"})
        # What was told a moment ago belongs into the file, too.
        await self._audit.flush()
        return _Bounded(self._export.stream(self._db, user), media_type="application/json", headers=HEADERS)


class _Bounded(StreamingResponse):
    """Given up when the client does not take the next piece in time: the connection is cut, and so is the JSON."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        except TimeoutError:
            log.info("download given up: its client has stopped taking it")
