"""The composition root: opens the resources, builds the routes and the list of middleware, closes everything in reverse."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import structlog
from pymongo.errors import PyMongoError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from taskgraph import schema
from taskgraph.accounts import cookies
from taskgraph.accounts.credentials import Credentials
from taskgraph.accounts.download import Download
from taskgraph.accounts.erasure import Erasure
from taskgraph.accounts.gate import AccountGate
from taskgraph.accounts.live_sessions import LiveSessions
from taskgraph.accounts.login_throttle import LoginThrottle
from taskgraph.accounts.passwords import PasswordHasher
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.context import Resources
from taskgraph.errors import Busy
from taskgraph.server import csrf, page, trusted_documents
from taskgraph.server.admission import Admission
from taskgraph.server.cors import Cors
from taskgraph.server.csrf import CsrfGuard
from taskgraph.server.documents import Documents
from taskgraph.server.estimates import Estimates
from taskgraph.server.executor import Executor
from taskgraph.server.health import Check, Health
from taskgraph.server.http import GraphQLOverHttp, accepts_html
from taskgraph.server.limits import DocumentLimits
from taskgraph.server.metrics import Metrics
from taskgraph.server.persisted import PersistedDocuments
from taskgraph.server.plans import Plans
from taskgraph.server.rate_limit import RateLimits
from taskgraph.server.response_cache import ResponseCache
from taskgraph.server.websocket import GraphQLOverWebSocket
from taskgraph.settings import Settings, names_set_without_effect
from taskgraph.storage import mongo, redis
from taskgraph.storage.audit_log import AuditLog
from taskgraph.storage.cancelling import cancelled
from taskgraph.storage.change_tail import ChangeTail
from taskgraph.storage.event_hub import EventHub
from taskgraph.storage.event_positions import EventPositions
from taskgraph.storage.group_commit import GroupCommit
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database
from taskgraph.storage.redis import Redis
from taskgraph.storage.stored_events import StoredEvents
from taskgraph.storage.versions import Versions
from taskgraph.takeout import EXPORT
from taskgraph.tasks import erasure, retention
from taskgraph.tasks.purge import PurgedEdges

PATH = "/graphql"
GARBAGE_THRESHOLD = 20_000
log = structlog.get_logger(__name__)


def create_app(settings: Settings, *, processes: int = 1) -> ASGIApp:
    """The ASGI application; connections are opened by its lifespan, in the process that serves, one of at least `processes`."""
    for name in names_set_without_effect(settings):
        log.warning("setting has no effect in this version", name=name)
    db, cache = mongo.connect(settings), redis.connect(settings)
    tokens = AccessTokens(settings.signing_secrets, ttl_seconds=settings.access_token_seconds)
    credentials = Credentials(PasswordHasher(), LoginThrottle(cache, failures=settings.login_failures))
    merged, versions = MergedReads(db), Versions(db)
    stored, positions = StoredEvents(db, settings), EventPositions(db)
    audit = AuditLog(db, settings)
    live, hub, erasers = LiveSessions(merged), EventHub(stored), Erasure(audit, [erasure.erase])
    rates = RateLimits(cache, settings, processes=processes)
    limits = DocumentLimits(settings.max_depth, settings.max_aliases, settings.max_tokens)
    documents = Documents(schema.build(), limits, has_introspection=settings.has_introspection)
    persisted = PersistedDocuments(documents, trusted_documents.load(settings), cache, settings)
    resources = Resources(
        *(settings, db, merged, versions, GroupCommit(db, versions), cache, credentials, tokens, live, hub, erasers),
        *(audit, stored, positions, rates, Estimates(schema.build(), documents, max_cost=settings.max_cost)),
    )
    plans = Plans(schema.build()) if settings.compiled_execution == "on" else None
    executor = Executor(schema.build(), plans, has_introspection=settings.has_introspection)
    responses = ResponseCache(schema.build(), executor, versions, seconds=settings.response_cache_seconds)
    subscriptions = [hub.subscription, positions.subscription, live.subscription, PurgedEdges(db).subscription]
    tail = ChangeTail(db, [*subscriptions, *responses.subscriptions])
    over_http, over_websocket = _endpoints(resources, persisted, executor, responses)
    metrics = Metrics(persisted, plans, responses, rates, audit, over_http, over_websocket, has_live_events=tail.is_live.is_set)
    routes = [*_routes(resources, tail, over_http), *metrics.routes()]
    starlette = Starlette(routes=routes, lifespan=_lifespan(resources, tail, hub))
    app: ASGIApp = ShortPath(over_http, over_websocket, otherwise=starlette)
    for each in reversed(_middleware(settings)):
        app = each.cls(app, *each.args, **each.kwargs)
    return app


class ShortPath:
    """Hands operations, sent by POST or WebSocket, to their endpoints, and everything else to Starlette: its router and its own
    middleware cost as much as a small query. The endpoints show their errors themselves; middleware stands before all of them.
    """

    def __init__(self, over_http: ASGIApp, over_websocket: ASGIApp, *, otherwise: ASGIApp) -> None:
        self._over_http = over_http
        self._over_websocket = over_websocket
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        app = self._otherwise
        if scope["type"] != "lifespan" and scope["path"] == PATH:
            if scope["type"] == "websocket":
                app = self._over_websocket
            elif scope["method"] == "POST":
                app = self._over_http
        await app(scope, receive, send)


def _lifespan(resources: Resources, tail: ChangeTail, hub: EventHub) -> Callable[[Starlette], Any]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            db = resources[Database]
            stack.push_async_callback(db.close)
            stack.push_async_callback(resources[Redis].close)
            stack.push_async_callback(asyncio.to_thread, resources[Credentials].hasher.close)
            await retention.apply(db, resources[Settings])
            await resources[StoredEvents].apply_retention()
            await resources[AuditLog].apply_retention()
            stack.push_async_callback(resources[AuditLog].flush)
            works = {
                "change tail": tail.run(),
                "event positions": resources[EventPositions].run(),
                "rate limits": resources[RateLimits].run(),
                "audit log": resources[AuditLog].run(),
            }
            for name, work in works.items():
                stack.push_async_callback(cancelled, asyncio.create_task(work, name=name))
            # Those who lost another process will come here all at once.
            with suppress(TimeoutError, PyMongoError, Busy):
                async with asyncio.timeout(mongo.SERVER_SELECTION_SECONDS):
                    await tail.is_live.wait()
                    await hub.warm()
            _spare_garbage_collector()
            yield

    return lifespan


def _endpoints(
    resources: Resources, documents: PersistedDocuments, executor: Executor, responses: ResponseCache
) -> tuple[GraphQLOverHttp, GraphQLOverWebSocket]:
    settings, gate, guard = resources[Settings], AccountGate(resources), CsrfGuard(cookies.name(resources[Settings]))
    admission = Admission(documents, gate, resources[RateLimits])
    return (
        GraphQLOverHttp(admission, responses, gate, guard, max_body_bytes=settings.max_body_bytes),
        GraphQLOverWebSocket(admission, executor, gate, max_message_bytes=settings.max_body_bytes),
    )


def _routes(resources: Resources, tail: ChangeTail, over_http: GraphQLOverHttp) -> list[BaseRoute]:
    graphiql = page.load() if resources[Settings].has_graphiql else None

    async def graphql(request: Request) -> Response:
        if graphiql is not None and request.method == "GET" and accepts_html(request):
            return graphiql.index(request)
        return await over_http.answer(request)

    health = Health(
        {
            "mongodb": Check(lambda: _answers(resources[Database]), is_essential=True),
            # Without it live updates and revocations stand still, but it comes back by itself.
            "events": Check(lambda: _is_set(tail.is_live), is_essential=False),
            "redis": Check(resources[Redis].is_reachable, is_essential=False),
        }
    )

    async def home(_request: Request) -> Response:
        return RedirectResponse(PATH)

    return [
        Route("/", home),
        Route(PATH, graphql, methods=["GET", "POST"]),
        *health.routes(),
        *Download(resources[Database], EXPORT, resources[AuditLog], resources[RateLimits]).routes(),
        *(graphiql.routes() if graphiql is not None else []),
    ]


def _middleware(settings: Settings) -> list[Middleware]:
    cors = Middleware(
        Cors,
        allow_origin_regex=settings.origin_pattern,
        allow_methods=["GET", "POST"],
        allow_headers=["content-type", "read-after", *csrf.HEADERS],
        expose_headers=["etag", "ratelimit", "ratelimit-policy", "retry-after"],
        allow_credentials=True,
        max_age=3600,
    )
    return [cors] if settings.origin_pattern else []


async def _answers(db: Database) -> bool:
    """Whether there is a primary to write to."""
    reply = await db.client.admin.command("hello")
    return bool(reply.get("isWritablePrimary"))


async def _is_set(event: asyncio.Event) -> bool:
    return event.is_set()


def _spare_garbage_collector() -> None:
    """What was made up to now lives as long as the process: it need not be walked again and again. And an answer makes thousands
    of objects that die with it, by reference count, so a look for cycles is due less often than Python assumes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
