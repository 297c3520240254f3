"""What every test may ask for: real servers, the application on a real port, accounts, and further processes.

servers     the embedded mongod and Valkey of this test worker
settings    settings(max_depth=5) -> Settings on those servers, a database of its own unless mongo_database is given
server      the application served in this process: .url (http://host:port), .ws_url (.../graphql), .settings, .mongo
launch      launch(MAX_DEPTH="5") -> another `taskgraph serve` process; database="..." shares one
someone     someone() -> a caller with a fresh account; url=... registers elsewhere
anonymous   a caller without one
"""

import asyncio
import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from pymongo import MongoClient
from pymongo.database import Database

from taskgraph.settings import Settings, load
from taskgraph.storage import embedded, migrate, mongo
from taskgraph.storage.embedded import Servers
from tests.people import PASSWORD, Person, registered
from tests.processes import Launched, eventually, started

STOP_SECONDS = 20
MakeSettings = Callable[..., Settings]
Documents = Database[dict[str, Any]]


@dataclass(frozen=True)
class Server:
    """The application, served by uvicorn on a thread of this process, with a database of its own."""

    url: str
    settings: Settings
    mongo: Documents

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/graphql"


class Someone(Protocol):
    def __call__(
        self, *, url: str | None = None, name: str = "Ada", email: str | None = None, password: str = PASSWORD
    ) -> Person: ...


class Launch(Protocol):
    def __call__(self, *, database: str | None = None, workers: int = 1, without: Sequence[str] = (), **given: str) -> Launched: ...


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked with pytest.mark.anyio may be coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One MongoDB and one Valkey per test worker, on a thread that lives as long as they do."""
    with (
        tempfile.TemporaryDirectory(prefix="taskgraph-tests-") as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded.running(Path(folder))) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def mongo_client(servers: Servers) -> Iterator[MongoClient[dict[str, Any]]]:
    """For a look at the databases from outside, synchronously."""
    with MongoClient[dict[str, Any]](servers.mongo_url, tz_aware=False) as client:
        yield client


@pytest.fixture(scope="session")
def settings(servers: Servers, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[MakeSettings]:
    """Settings as the environment would give them: settings(access_token_seconds=1); None leaves a name out."""
    names: list[str] = []

    def make(**given: object) -> Settings:
        usual = {
            "mongo_url": servers.mongo_url,
            "redis_url": servers.redis_url,
            "mongo_database": f"test_{uuid.uuid4().hex[:12]}",
            "mongo_pool_min": 0,
            "jwt_secrets": servers.jwt_secret,
            # Many tests write past the server, which then need not notice for a while.
            "response_cache_seconds": 0,
            # Every query of the suite runs compiled; by hand, with COMPILED_EXECUTION=off, every one by graphql-core.
            "compiled_execution": os.environ.get("COMPILED_EXECUTION", "on"),
        }
        merged = {name: value for name, value in (usual | given).items() if value is not None}
        made = load({f"TASKGRAPH_{name.upper()}": str(value) for name, value in merged.items()}, env_file=None)
        names.append(made.mongo_database)
        return made

    yield make
    for name in names:
        mongo_client.drop_database(name)


@pytest.fixture(scope="session")
def server(settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]]) -> Iterator[Server]:
    """The application of most tests; its database is shared by them, so each looks only at what it made."""
    made = settings()
    migrated(made)
    with served(made) as url:
        yield Server(url, made, mongo_client[made.mongo_database])


@pytest.fixture
def someone(server: Server) -> Iterator[Someone]:
    """Registers a fresh account with each call."""
    with ExitStack() as stack:

        def make(*, url: str | None = None, name: str = "Ada", email: str | None = None, password: str = PASSWORD) -> Person:
            # A client each: the cookie jar of one must not sign in another.
            client = stack.enter_context(httpx.Client(timeout=30))
            return registered(client, f"{url or server.url}/graphql", name=name, email=email, password=password)

        yield make


@pytest.fixture
def anonymous(server: Server) -> Iterator[Person]:
    """Has no account and no cookie."""
    with httpx.Client(timeout=30) as client:
        yield Person(client, f"{server.url}/graphql")


@pytest.fixture
def launch(servers: Servers, settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], tmp_path: Path) -> Iterator[Launch]:
    """Starts real processes; at the end each must stop within bounds when asked to, or the test fails."""
    with ExitStack() as stack:

        def make(*, database: str | None = None, workers: int = 1, without: Sequence[str] = (), **given: str) -> Launched:
            made = settings() if database is None else settings(mongo_database=database)
            migrated(made)
            given = {
                "MONGO_URL": str(servers.mongo_url),
                "REDIS_URL": str(servers.redis_url),
                "MONGO_DATABASE": made.mongo_database,
                "MONGO_POOL_MIN": "0",
                "JWT_SECRETS": servers.jwt_secret,
            } | given
            arguments = ("serve", "--port", "0", "--workers", str(workers))
            running = stack.enter_context(started(*arguments, given=given, folder=tmp_path, without=without))
            url = running.until(r"taskgraph listening on (http://\S+)/graphql")[1]
            return Launched(running, url, made.mongo_database, mongo_client[made.mongo_database])

        yield make


def migrated(made: Settings) -> None:
    """Brings the database of these settings up to date."""

    async def run() -> None:
        db = mongo.connect(made)
        try:
            await migrate.apply(db)
        finally:
            await db.close()

    asyncio.run(run())


@contextlib.contextmanager
def served(made: Settings) -> Iterator[str]:
    """The application on a free port of a thread of this process; gives `http://host:port`."""
    from taskgraph import app, serve
    from taskgraph.server.plans import Plans

    with (
        pytest.MonkeyPatch.context() as patch,
        start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
        serve.bound("127.0.0.1", 0) as sock,
    ):
        # Most queries of a test come once, and would otherwise never be compiled.
        patch.setattr(app, "Plans", partial(Plans, min_calls=1))
        server = serve.Server(serve.config(partial(app.create_app, made), made), on_listening=lambda: None)
        future = portal.start_task_soon(server.serve, [sock])
        try:
            assert eventually(lambda: server.started or future.done(), within_seconds=STOP_SECONDS), "the server did not start"
            if future.done():
                future.result()
            yield serve.address(sock)
        finally:
            server.should_exit = True
            future.result(timeout=STOP_SECONDS)
