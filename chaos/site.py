"""All of an installation on this machine: three mongod, a Valkey, two servers and nginx in front of them; gone at its end."""

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import redis.asyncio as redis
from redis.exceptions import RedisError

from bench.machine import ROOT
from bench.subscribers import allow_files
from chaos import program, proxy, replica_set
from chaos.program import HOST, Program
from chaos.replica_set import ReplicaSet
from taskgraph.storage import embedded

DATABASE = "chaos"
SERVERS = 2
# nginx has two for each WebSocket, the servers and the subscribers one each.
OPEN_FILES = 12_000
ANSWER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Site:
    """What runs, and access tokens of its accounts, one each."""

    folder: Path
    mongo: ReplicaSet
    valkey: Program
    servers: Sequence[Program]
    proxy: Program
    tokens: Sequence[str]

    @property
    def url(self) -> str:
        """Of the proxy, which is what clients know."""
        return f"http://{HOST}:{self.proxy.port}"

    async def flush_valkey(self) -> None:
        """Forgets all that it has."""
        async with redis.Redis(host=HOST, port=self.valkey.port) as client:
            await client.flushall()


@contextlib.asynccontextmanager
async def running(
    *, users: int, election_timeout_ms: int = 10_000, heartbeat_ms: int = 2000, is_weak: bool = False
) -> AsyncIterator[Site]:
    """Ready for traffic. With `is_weak` the servers are those of weak.py."""
    allow_files(OPEN_FILES)
    with tempfile.TemporaryDirectory(prefix="taskgraph-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        valkey_port, proxy_port, *server_ports = program.free_ports(2 + SERVERS)
        valkey = _valkey(folder, valkey_port)
        nginx = proxy.proxy(folder, proxy_port, server_ports)
        async with (
            httpx.AsyncClient(timeout=ANSWER_SECONDS) as client,
            program.ended([nginx, valkey]),
            replica_set.running(folder, election_timeout_ms=election_timeout_ms, heartbeat_ms=heartbeat_ms) as mongo,
        ):
            env = _environment(folder, mongo.url, f"redis://{HOST}:{valkey_port}/0")
            await asyncio.gather(valkey.start(), nginx.start(), _ran(env, folder, "migrate"))
            tokens = folder / "tokens"
            await _ran(env, folder, "seed", "--users", str(users), "--tasks-per-user", "0", "--tokens", str(tokens))
            servers = [_server(folder, number, port, env, client, is_weak=is_weak) for number, port in enumerate(server_ports)]
            async with program.ended(servers):
                await asyncio.gather(*(server.start() for server in servers))
                yield Site(folder, mongo, valkey, servers, nginx, tokens.read_text().split())


def _environment(folder: Path, mongo_url: str, redis_url: str) -> Mapping[str, str]:
    """As in production, but that nobody is limited."""
    secret = folder / "secret"
    secret.write_text(secrets.token_urlsafe(48), encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TASKGRAPH_")}
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "TASKGRAPH_ENVIRONMENT": "production",
        "TASKGRAPH_MONGO_URL": mongo_url,
        "TASKGRAPH_MONGO_DATABASE": DATABASE,
        "TASKGRAPH_REDIS_URL": redis_url,
        "TASKGRAPH_JWT_SECRETS_FILE": str(secret),
        "TASKGRAPH_TRUSTED_PROXIES": HOST,
        # The limits are meant to stop exactly what a load generator does.
        "TASKGRAPH_RATE_LIMITS": "off",
        "TASKGRAPH_LOG_LEVEL": "WARNING",
    }


def _server(folder: Path, number: int, port: int, env: Mapping[str, str], client: httpx.AsyncClient, *, is_weak: bool) -> Program:
    module = "chaos.weak" if is_weak else "taskgraph"
    command = (sys.executable, "-m", module, "serve", "--host", HOST, "--port", str(port))
    return Program(f"server{number}", command, port, folder, env, partial(_is_up, client, port))


async def _is_up(client: httpx.AsyncClient, port: int) -> bool:
    """Whether the server has its database and follows the events."""
    try:
        checks = (await client.get(f"http://{HOST}:{port}/health")).json()["checks"]
    except httpx.TransportError:
        return False
    return bool(checks["mongodb"] == checks["events"] == "up")


def _valkey(folder: Path, port: int) -> Program:
    command = (
        *(embedded.valkey_binary(), "--port", str(port), "--bind", HOST, "--dir", str(folder)),
        *("--save", "", "--appendonly", "no"),
    )

    async def is_ready() -> bool:
        try:
            async with redis.Redis(host=HOST, port=port, socket_timeout=ANSWER_SECONDS) as client:
                return bool(await client.ping())
        except RedisError:
            return False

    return Program("valkey", command, port, folder, {}, is_ready)


async def _ran(env: Mapping[str, str], folder: Path, *arguments: str) -> None:
    """One command of taskgraph to its end; NotReady with its words when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "taskgraph", *arguments),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise program.NotReady(f"taskgraph {' '.join(arguments)} failed:\n{said.decode()}")
