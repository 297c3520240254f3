"""`taskgraph dev`: everything on one machine, from empty folder to signed-in GraphiQL, and away again without a trace but the data.

Whatever happens, the order is: application, Valkey, MongoDB. A first SIGINT or SIGTERM ends all of it in that order, further ones
are ignored; if we are killed, the kernel ends the servers (storage.tether).
"""

import asyncio
import functools
from collections.abc import Coroutine, Sequence
from pathlib import Path
from socket import socket

import structlog
import uvloop
from pydantic import SecretStr
from rich.console import Console

from taskgraph import demo, serve
from taskgraph.app import create_app
from taskgraph.demo import DemoAccount
from taskgraph.errors import ConfigurationError
from taskgraph.server import page, trusted_documents
from taskgraph.settings import Settings
from taskgraph.storage import embedded, migrate, mongo
from taskgraph.storage.embedded import Servers

# uvicorn drains for DRAIN_SECONDS, then the application closes what it has opened.
CLOSE_SECONDS = serve.DRAIN_SECONDS + 10
log = structlog.get_logger(__name__)


def run(settings: Settings, *, host: str, port: int, folder: Path, has_demo: bool) -> None:
    """Returns when told to stop; ConfigurationError, ServerDidNotStart or ChildKeepsDying otherwise, with nothing left running."""
    if has_demo and not settings.is_development:
        raise ConfigurationError("--demo makes accounts with a known password; outside development use --no-demo")
    trusted_documents.load(settings)  # Before anything is started that would have to be stopped again.
    with serve.bound(host, port) as sock, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_told(_everything(settings, sock, folder=folder, has_demo=has_demo)))
        print("stopped", flush=True)


async def _until_told(work: Coroutine[None, None, None]) -> None:
    task = asyncio.create_task(work)
    # Once only: a second cancellation would interrupt the orderly end that the first one began.
    with serve.obeying(lambda _number: task.cancelling() or task.cancel()):
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def _everything(settings: Settings, sock: socket, *, folder: Path, has_demo: bool) -> None:
    async with embedded.running(folder, mongo=settings.mongo_url is None, redis=settings.redis_url is None) as servers:
        settings = _completed(settings, servers)
        accounts = await _prepared(settings, has_demo=has_demo)
        announce = functools.partial(_announce, serve.address(sock), folder, servers, accounts)
        server = serve.Server(serve.config(functools.partial(create_app, settings), settings), on_listening=announce)
        await _serve(server, sock, servers)


def _completed(settings: Settings, servers: Servers) -> Settings:
    """What the operator has not set points to the embedded servers and the data folder's secret."""
    found = {"mongo_url": servers.mongo_url, "redis_url": servers.redis_url}
    update: dict[str, object] = {name: SecretStr(url) for name, url in found.items() if url is not None}
    if not settings.jwt_secrets:
        update["jwt_secrets"] = (SecretStr(servers.jwt_secret),)
    return settings.model_copy(update=update)


async def _prepared(settings: Settings, *, has_demo: bool) -> Sequence[DemoAccount]:
    db = mongo.connect(settings)
    try:
        for name in await migrate.apply(db):
            log.info("migration applied", migration=name)
        return await demo.load(db, settings) if has_demo else ()
    finally:
        await db.close()


async def _serve(server: serve.Server, sock: socket, servers: Servers) -> None:
    """Serves until cancelled, or until the server or those below it fail; either way the application is closed when this ends."""
    serving = asyncio.create_task(server.serve([sock]))
    failing = asyncio.create_task(servers.failed())
    try:
        await asyncio.wait({serving, failing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        failing.cancel()
        # Not cancel: uvicorn would skip the drain and the end of the application's lifespan.
        server.should_exit = True
        _, unfinished = await asyncio.wait({serving}, timeout=CLOSE_SECONDS)
        if unfinished:
            log.error("the application did not close in time", seconds=CLOSE_SECONDS)
            serving.cancel()
    if failing.done():
        failing.result()
    serving.result()


def _announce(address: str, folder: Path, servers: Servers, accounts: Sequence[DemoAccount]) -> None:
    # Plain text when nobody watches; never wrapped, so that addresses and tokens can be copied in one piece.
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    graphiql = f"{address}/graphql"
    console.print(f"taskgraph listening on {graphiql}", style="bold green")
    console.print(f"data folder  {folder.absolute()}")
    for name, url in (("MongoDB", servers.mongo_url), ("Valkey", servers.redis_url)):
        if url is not None:
            console.print(f"{name:12} {url}")
    if page.is_built():
        console.print(f"GraphiQL     {graphiql}")
    else:
        console.print(page.NOT_BUILT.strip(), style="yellow")
    for account in accounts:
        console.print()
        console.print(f"account      {account.email}  password: {account.password}", style="bold")
        console.print(f"token        {account.access_token}")
        if page.is_built():
            console.print(f"signed in    {graphiql}#token={account.access_token}")
    console.print("\nCtrl-C stops everything; the data stays.")
