"""The servers that are compared: how each is started, and one that runs."""

import contextlib
import http.client
import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import cores
from bench.databases import Databases
from bench.process import Process

HERE = Path(__file__).parent
PEERS = HERE / "peers"
PEERS_PYTHON = HERE / ".venv" / "bin" / "python"
TASKGRAPH = Path(sys.executable).with_name("taskgraph")
# Every run has its own; nothing of a run outlives it.
SECRET = secrets.token_urlsafe(48)
UVICORN = ("--host", "127.0.0.1", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")


@dataclass(frozen=True, slots=True)
class Kind:
    """A server to be measured. `warm_up_seconds` of load come before each measurement: Node's compiler settles slowly."""

    name: str
    title: str
    command: tuple[str, ...]
    port: int
    health: str = "/health"
    folder: Path = PEERS
    env: Mapping[str, str] = field(default_factory=dict)
    warm_up_seconds: int = 3
    is_ours: bool = False


def _node(name: str, title: str, port: int) -> Kind:
    return Kind(name, title, ("node", f"{name}.mjs"), port, env={"NODE_ENV": "production"}, warm_up_seconds=20)


def _strawberry(name: str, title: str, port: int, *, caches: str) -> Kind:
    command = (str(PEERS_PYTHON), "-m", "uvicorn", "strawberry_odmantic:app", "--port", str(port), *UVICORN)
    return Kind(name, title, command, port, env={"STRAWBERRY_CACHES": caches})


def taskgraph(name: str, title: str, port: int, *, workers: int = 1, **given: str) -> Kind:
    """The project, in production's configuration; `given` are settings in lower case without their prefix."""
    command = (str(TASKGRAPH), "serve", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers))
    settings = {
        "environment": "production",
        "response_cache_seconds": "0",
        # The limits are meant to stop exactly what a load generator does.
        "rate_limits": "off",
        "log_level": "WARNING",
        **given,
    }
    env = {f"TASKGRAPH_{setting.upper()}": value for setting, value in settings.items()}
    return Kind(name, title, command, port, "/readyz", HERE, env, is_ours=True)


MERCURIUS = _node("mercurius", "Mercurius + JIT", 4101)
YOGA = _node("yoga", "GraphQL Yoga", 4102)
APOLLO = _node("apollo", "Apollo + Mongoose", 4103)
STRAWBERRY = _strawberry("strawberry", "Strawberry + ODMantic", 4104, caches="0")
STRAWBERRY_CACHED = _strawberry("strawberry_cached", "Strawberry, its caches on", 4105, caches="1")
OURS = taskgraph("taskgraph", "taskgraph", 4110)
OURS_CACHED = taskgraph("taskgraph_cached", "taskgraph, response cache on", 4111, response_cache_seconds="30")
OURS_INTERPRETED = taskgraph("taskgraph_interpreted", "taskgraph, compiling off", 4112, compiled_execution="off")
# In the order of their turns: what is compared with Mercurius follows it at once.
COMPARED = (MERCURIUS, OURS, OURS_CACHED, YOGA, APOLLO, STRAWBERRY_CACHED, STRAWBERRY)


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs; `tokens_file` has an access token a line."""

    kind: Kind
    process: Process
    tokens_file: Path
    tokens: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its kind."""
        return self.kind.name

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return self.kind.port

    def post(self, body: bytes, token: str) -> tuple[int, bytes]:
        """Status and body of one operation, on a connection of its own."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        return _request(self.port, "POST", "/graphql", body, headers)


@contextlib.contextmanager
def running(
    kinds: Sequence[Kind], databases: Databases, *, database: str | None = None, on: Collection[int] = cores.SERVER
) -> Iterator[tuple[Server, ...]]:
    """All of `kinds` at once, each ready. `database` is taskgraph's; by default the one that is compared with the peers'."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(_running(kind, databases, database, on)) for kind in kinds)


@contextlib.contextmanager
def _running(kind: Kind, databases: Databases, database: str | None, on: Collection[int]) -> Iterator[Server]:
    if _answers(kind):
        raise SystemExit(f"port {kind.port}, which {kind.title} should have, is taken; stop the program that has it")
    name = database or ("taskgraph" if kind.is_ours else "peers")
    tokens_file = databases.folder / f"{name}.tokens"
    process = Process(
        (_path(kind.command[0]), *kind.command[1:]),
        folder=kind.folder,
        env=environment(kind, databases, name),
        on=on,
        log_file=databases.folder / f"{kind.name}.log",
    )
    try:
        process.wait_until(lambda: _answers(kind))
        yield Server(kind, process, tokens_file, tuple(tokens_file.read_text().split()))
    finally:
        process.stop()


def environment(kind: Kind, databases: Databases, database: str) -> dict[str, str]:
    """What the process of a server, or a command of taskgraph, is told."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKGRAPH_")}
    if kind.is_ours:
        return {
            **inherited,
            "TASKGRAPH_MONGO_URL": databases.mongo_url,
            "TASKGRAPH_MONGO_DATABASE": database,
            "TASKGRAPH_REDIS_URL": databases.redis_url,
            "TASKGRAPH_JWT_SECRETS": SECRET,
            **kind.env,
        }
    told = {"PORT": str(kind.port), "MONGO_URL": databases.mongo_url, "MONGO_DATABASE": database, "JWT_SECRET": SECRET}
    return {**inherited, **told, **kind.env}


def _path(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} was not found")
    return found


def _answers(kind: Kind) -> bool:
    try:
        return _request(kind.port, "GET", kind.health, None, {})[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _request(port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
