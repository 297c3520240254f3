"""A MongoDB replica set of three members on this machine, each of which can be killed, frozen and started again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from chaos import program
from chaos.program import HOST, Program, until
from taskgraph.storage import embedded
from taskgraph.storage.mongo import Document

MEMBERS = 3
NAME = "chaos"
OPLOG_MB = 256
CACHE_GB = 0.25
ANSWER_MS = 1000
# An election takes its time-out, and a member that was killed replays its journal.
SETTLE_SECONDS = 90
# How far a secondary may be behind and still count as caught up: the primary writes a no-op every 10 s, and a steady load goes on.
BEHIND_SECONDS = 2
PRIMARY, SECONDARY = 1, 2


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """Its members, with a client of each alone, and the address that all of them share."""

    members: Sequence[Program]
    _clients: Sequence[MongoClient[Document]]

    @property
    def url(self) -> str:
        """For a client that follows the primary."""
        return f"mongodb://{','.join(f'{HOST}:{member.port}' for member in self.members)}/?replicaSet={NAME}"

    def client(self) -> MongoClient[Document]:
        """Reads what a majority has. It is synchronous: PyMongo's other one leaves sockets open when it is closed while it connects."""
        return MongoClient(self.url, readConcernLevel="majority", serverSelectionTimeoutMS=SETTLE_SECONDS * 1000)

    async def primary(self) -> Program:
        """The member that takes writes now, waiting for an election if need be; of two, as after a freeze, the one elected last."""
        found: list[tuple[Any, Program]] = []

        async def is_there() -> bool:
            found[:] = [(hello["electionId"], member) for member, hello in await self._hellos() if hello.get("isWritablePrimary")]
            return bool(found)

        await until(is_there, what="a primary", within_seconds=SETTLE_SECONDS)
        return max(found, key=lambda one: one[0])[1]

    async def secondaries(self) -> list[Program]:
        """All members but the primary."""
        primary = await self.primary()
        return [member for member in self.members if member is not primary]

    async def settled(self) -> None:
        """Returns once there are a primary and two secondaries that have caught up: the next fault meets a whole set."""
        await until(self._is_settled, what="a primary and two secondaries", within_seconds=SETTLE_SECONDS)

    async def _is_settled(self) -> bool:
        # Any member knows of all.
        status = await _asked(self._clients[0], "replSetGetStatus")
        if status is None:
            return False
        states = sorted(member["state"] for member in status["members"])
        written = [member["optimeDate"].timestamp() for member in status["members"] if "optimeDate" in member]
        whole = [PRIMARY, *[SECONDARY] * (MEMBERS - 1)]
        return states == whole and len(written) == MEMBERS and max(written) - min(written) <= BEHIND_SECONDS

    async def _hellos(self) -> list[tuple[Program, Document]]:
        # Whoever is gone would hold up the answer.
        there = [(member, client) for member, client in zip(self.members, self._clients, strict=True) if member.is_running]
        answers = await asyncio.gather(*(_asked(client, "hello") for _, client in there))
        return [(member, answer) for (member, _), answer in zip(there, answers, strict=True) if answer is not None]


@contextlib.asynccontextmanager
async def running(folder: Path, *, election_timeout_ms: int, heartbeat_ms: int = 2000) -> AsyncIterator[ReplicaSet]:
    """A set that has elected its primary. Both times are MongoDB's settings of the same names."""
    ports = program.free_ports(MEMBERS)
    clients = [_direct(port) for port in ports]
    members = [_member(folder, number, port, client) for number, (port, client) in enumerate(zip(ports, clients, strict=True))]
    async with program.ended(members), _closed(clients):
        for member in members:
            member.launch()
        await asyncio.gather(*(member.ready() for member in members))
        config = {
            "_id": NAME,
            "members": [{"_id": number, "host": f"{HOST}:{port}"} for number, port in enumerate(ports)],
            "settings": {"electionTimeoutMillis": election_timeout_ms, "heartbeatIntervalMillis": heartbeat_ms},
        }
        await asyncio.to_thread(clients[0].admin.command, "replSetInitiate", config)
        replica_set = ReplicaSet(members, clients)
        await replica_set.settled()
        yield replica_set


@contextlib.asynccontextmanager
async def _closed(clients: Sequence[MongoClient[Document]]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for client in clients:
            client.close()


def _member(folder: Path, number: int, port: int, client: MongoClient[Document]) -> Program:
    name = f"mongod{number}"
    data = folder / name
    data.mkdir()
    command = (
        *(embedded.mongod_binary(), "--dbpath", str(data), "--port", str(port), "--bind_ip", HOST, "--nounixsocket"),
        *("--replSet", NAME, "--wiredTigerCacheSizeGB", str(CACHE_GB), "--oplogSize", str(OPLOG_MB)),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # As docs/operations.md advises: what a killed server leaves open blocks its tasks for so long.
        *("--setParameter", "transactionLifetimeLimitSeconds=11"),
    )

    async def is_ready() -> bool:
        return await _asked(client, "hello") is not None

    # mongod refuses to start in a locale that it does not know.
    return Program(name, command, port, folder, {"LC_ALL": "C"}, is_ready)


async def _asked(client: MongoClient[Document], command: str) -> Document | None:
    """What the member says; None when it says nothing."""
    try:
        return await asyncio.to_thread(client.admin.command, command)
    except PyMongoError:
        return None


def _direct(port: int) -> MongoClient[Document]:
    """Of one member, whatever its state."""
    return MongoClient(
        HOST,
        port,
        directConnection=True,
        serverSelectionTimeoutMS=ANSWER_MS,
        connectTimeoutMS=ANSWER_MS,
        socketTimeoutMS=ANSWER_MS,
        heartbeatFrequencyMS=ANSWER_MS // 2,
    )
