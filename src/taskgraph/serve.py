"""Serves the application through uvicorn, in this process or in several, and says where it listens.

The options of uvicorn stand here and nowhere else, so `serve`, `dev` and the tests speak HTTP and WebSocket the same way.
"""

import asyncio
import contextlib
import errno
import functools
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import uvicorn
import uvloop
from pymongo.errors import PyMongoError
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from taskgraph import logs
from taskgraph.app import create_app
from taskgraph.errors import ConfigurationError, TaskgraphError
from taskgraph.server import trusted_documents
from taskgraph.server.bounded_protocol import BoundedProtocol, Connections, PlainWebSocketProtocol
from taskgraph.server.security_headers import SecurityHeaders
from taskgraph.settings import DEVELOPMENT_SECRET, Settings, load
from taskgraph.storage import migrate, mongo, tether

DRAIN_SECONDS = 10
# Longer than the 60 s for which nginx and most load balancers keep an idle connection: who closes first must not be us, or a
# request that is already on its way meets a closed socket.
KEEP_ALIVE_SECONDS = 75
# A worker imports the whole application before it answers its supervisor for the first time.
WORKER_SILENCE_SECONDS = 30
WORKERS = "WEB_CONCURRENCY"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ServerDidNotStart(TaskgraphError):
    """The reason has been logged."""

    def __init__(self) -> None:
        super().__init__("the server did not start; the log above says why")


class Server(uvicorn.Server):
    """Calls `on_listening` once connections are accepted, and leaves signals to its caller: `handle_exit` drains and ends it."""

    def __init__(self, config: uvicorn.Config, *, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Otherwise uvicorn would raise the signal again at the end, and the process would die of it instead of ending with status 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """ServerDidNotStart instead of SystemExit, which would tear down the event loop around everybody else."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise ServerDidNotStart from error
        self._on_listening()


class Workers(Multiprocess):
    """uvicorn's supervisor, which announces when every worker accepts connections."""

    def __init__(self, config: uvicorn.Config, sock: socket.socket, *, on_listening: Callable[[], None]) -> None:
        super().__init__(config, [sock])
        self._on_listening = on_listening
        self._is_announced = False

    @property
    def has_failed(self) -> bool:
        """Whether a worker could not start, which ends them all."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def keep_subprocess_alive(self) -> None:
        """Called twice a second."""
        super().keep_subprocess_alive()
        if not self._is_announced and all(process.is_ready(timeout=1) for process in self.processes):
            self._is_announced = True
            self._on_listening()


def run(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serves until SIGINT or SIGTERM, then drains for at most DRAIN_SECONDS."""
    with bound(host, port) as sock:
        _refuse_known_secret(settings, host)
        trusted_documents.load(settings)  # Here it ends in one line, in a worker in the tracebacks of all of them.
        announce = functools.partial(print, f"taskgraph listening on {address(sock)}/graphql", flush=True)
        asyncio.run(_refuse_unmigrated(settings))
        if workers == 1:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve_here(settings, sock, announce))
            return
        # Workers are given nothing but their environment; uvicorn takes the number from this name, too.
        os.environ[WORKERS] = str(workers)
        supervisor = Workers(config("taskgraph.serve:worker", settings, workers=workers), sock, on_listening=announce)
        supervisor.run()
        if supervisor.has_failed:
            raise ServerDidNotStart


async def _serve_here(settings: Settings, sock: socket.socket, announce: Callable[[], None]) -> None:
    server = Server(config(functools.partial(create_app, settings), settings), on_listening=announce)
    with obeying(lambda number: server.handle_exit(number, None)):
        await server.serve([sock])


def worker() -> ASGIApp:
    """The application of one worker process; uvicorn finds it by its name."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and supervisor.pid is not None:
        # A killed supervisor would leave its workers on the port; SIGTERM lets them drain.
        tether.tie(supervisor.pid, signal.SIGTERM)
    settings = load()
    logs.configure(settings)
    return create_app(settings, processes=int(os.environ.get(WORKERS, "1")))


def config(app: str | Callable[[], ASGIApp], settings: Settings, *, workers: int = 1) -> uvicorn.Config:
    """The options of uvicorn; `app` makes the application, and is an import string where several processes are wanted."""
    proxies: dict[str, Any] = (
        {"proxy_headers": True, "forwarded_allow_ips": list(settings.trusted_proxies)}
        if settings.trusted_proxies
        else {"proxy_headers": False}  # Otherwise every caller could choose the address it is limited by.
    )
    # A class to uvicorn, which calls it for each connection.
    http: Any = functools.partial(
        BoundedProtocol, connections=Connections(idle_seconds=KEEP_ALIVE_SECONDS), security=SecurityHeaders(settings)
    )
    return uvicorn.Config(
        app,
        factory=True,
        workers=workers,
        loop="uvloop",
        http=http,
        ws=PlainWebSocketProtocol,
        # The application refuses earlier and says why, counting characters; this bounds what is held in memory until then.
        ws_max_size=4 * settings.max_body_bytes,
        # Compression keeps about 300 KB of zlib windows a connection and packs each message anew; messages are small.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=WORKER_SILENCE_SECONDS,
        **proxies,
    )


@contextlib.contextmanager
def obeying(stop: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM call `stop` in the running event loop and do nothing else."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def bound(host: str, port: int) -> socket.socket:
    """A socket that holds host:port and does not accept yet; port 0 takes any free one. ConfigurationError when it cannot be had."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(f"--host {host} is not an address or name of this machine") from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Connections of a former process that linger do not count.
        sock.bind(where)
        # Two sockets that only hold an address do not notice each other; listening makes the second one fail here, not later.
        sock.listen()
    except OSError as error:
        sock.close()
        raise ConfigurationError(_why_not_bound(error, host, port)) from error
    return sock


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken; stop the program that has it or choose another with --port"
        case errno.EACCES:
            return f"port {port} needs more rights than this process has; choose one above 1023 with --port"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror}; choose another --host or --port"


def address(sock: socket.socket) -> str:
    """`http://host:port` as a client on this machine would write it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_known_secret(settings: Settings, host: str) -> None:
    # Everybody knows the secret that development uses by default, so with it nobody else may reach the server.
    if DEVELOPMENT_SECRET in settings.signing_secrets and not _is_loopback(host):
        raise ConfigurationError(
            f"--host {host} can be reached from other machines, but tokens are signed with the built-in development secret; "
            "set TASKGRAPH_JWT_SECRETS or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _refuse_unmigrated(settings: Settings) -> None:
    db = mongo.connect(settings)
    try:
        missing = await migrate.pending(db)
    except PyMongoError as error:
        raise ConfigurationError(f"TASKGRAPH_MONGO_URL: MongoDB cannot be used: {mongo_reason(error)}") from error
    finally:
        await db.close()
    if missing:
        raise ConfigurationError(f"the database lacks migrations ({', '.join(missing)}); run `taskgraph migrate` first")


def mongo_reason(error: PyMongoError) -> str:
    """One line of it; PyMongo appends descriptions of its topology."""
    return str(error).partition(", Timeout: ")[0].partition(" (configured timeouts: ")[0].replace("\n", " ")
