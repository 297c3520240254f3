"""The databases of a run: a real MongoDB and a real Valkey, those of `taskgraph dev`, in a folder that goes when the run ends."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient

from bench import cores
from taskgraph.storage import embedded
from taskgraph.storage.mongo import Document

# `taskgraph dev` runs MongoDB with its minimum of 0.25 GB. A database of 10^7 tasks would then be read from files, as no operator
# would have it; MongoDB's own default is half of the memory.
CACHE_GB = 4


@dataclass(frozen=True, slots=True)
class Databases:
    """Addresses of what runs, and the folder for files of the run."""

    folder: Path
    mongo_url: str
    redis_url: str
    mongod_pid: int
    cache_gb: float

    def client(self) -> MongoClient[Document]:
        """Synchronous, for making and counting data."""
        return MongoClient(self.mongo_url)


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Databases]:
    """Both on the core of the load; `folder` is emptied before and removed afterwards."""
    with _held(folder), cores.pinned(cores.LOAD):
        async with embedded.running(folder / "data") as servers:
            if servers.mongod is None or servers.mongo_url is None or servers.redis_url is None:
                raise AssertionError("both were asked for")
            cache_gb = min(CACHE_GB, round(memory_gb() / 2, 2))
            databases = Databases(folder, servers.mongo_url, servers.redis_url, servers.mongod.pid, cache_gb)
            with databases.client() as client:
                client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={int(cache_gb * 1024)}M")
            yield databases


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Two runs at once would measure each other; SystemExit when there is one. A killed run leaves gigabytes, which go here."""
    with folder.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("error: another run is under way; wait for its end") from None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def memory_gb() -> float:
    """Of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
