"""Migrations: once each, in order, whoever else tries at the same time and whatever breaks on the way."""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskgraph.errors import ConfigurationError
from taskgraph.settings import Settings
from taskgraph.storage import migrate, mongo
from taskgraph.storage.migrate import MigrationFailed, Status
from taskgraph.storage.mongo import Database
from tests.conftest import MakeSettings
from tests.processes import until

pytestmark = pytest.mark.anyio

NOTE = """
async def up(db):
    await db["runs"].insert_one({{"name": "{name}"}})
"""
SLOW = """
import asyncio

async def up(db):
    await db["runs"].insert_one({"name": "slow"})
    await asyncio.sleep(%s)
"""
LONG_COMMAND = """
async def up(db):
    await db["runs"].insert_one({"name": "long"})
    await db["runs"].find_one({"$where": "sleep(1500) || true"})
"""
APPLY = """
import asyncio, json, os, pathlib, sys
from taskgraph import settings
from taskgraph.storage import migrate, mongo

migrate.LEASE_SECONDS, migrate.RENEW_SECONDS = 1, 0.2

async def run() -> None:
    db = mongo.connect(settings.load(env_file=None))
    print(json.dumps(await migrate.apply(db, folder=pathlib.Path(sys.argv[1]))))
    await db.close()

asyncio.run(run())
"""


@pytest.fixture
def chosen(settings: MakeSettings) -> Settings:
    return settings()


@pytest.fixture
async def db(chosen: Settings) -> AsyncIterator[Database]:
    """Empty, not migrated."""
    database = mongo.connect(chosen)
    yield database
    await database.close()


@pytest.fixture
async def impatient(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """The same through a client that waits half a second for an answer."""
    monkeypatch.setattr(mongo, "SOCKET_SECONDS", 0.5)
    database = mongo.connect(chosen)
    yield database
    await database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("0001_first", "0002_second"):
        (tmp_path / f"{name}.py").write_text(NOTE.format(name=name))
    return tmp_path


def process(chosen: Settings, folder: Path) -> subprocess.Popen[str]:
    assert chosen.mongo_url is not None
    environ = {"TASKGRAPH_MONGO_URL": chosen.mongo_url.get_secret_value(), "TASKGRAPH_MONGO_DATABASE": chosen.mongo_database}
    command = [sys.executable, "-c", textwrap.dedent(APPLY), str(folder)]
    paths = ":".join(path for path in sys.path if path)
    return subprocess.Popen(command, env=environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True)


async def runs(db: Database) -> list[str]:
    return [document["name"] async for document in db["runs"].find().sort("_id")]


async def recorded(db: Database) -> list[str]:
    return sorted([document["_id"] async for document in db["migrations"].find()])


async def has_begun(db: Database) -> bool:
    return await db["runs"].count_documents({}) > 0


async def test_each_is_applied_once_and_in_order(db: Database, folder: Path) -> None:
    assert await migrate.pending(db, folder=folder) == ["0001_first", "0002_second"]
    assert await migrate.apply(db, folder=folder) == ["0001_first", "0002_second"]
    assert await migrate.apply(db, folder=folder) == []
    assert await runs(db) == ["0001_first", "0002_second"]
    assert await migrate.pending(db, folder=folder) == []
    assert await db["locks"].count_documents({}) == 0


async def test_a_new_one_is_applied_alone(db: Database, folder: Path) -> None:
    await migrate.apply(db, folder=folder)
    (folder / "0003_third.py").write_text(NOTE.format(name="0003_third"))
    assert await migrate.apply(db, folder=folder) == ["0003_third"]
    assert await runs(db) == ["0001_first", "0002_second", "0003_third"]


async def test_status_tells_what_was_applied_when(db: Database, folder: Path) -> None:
    (folder / "0002_second.py").rename(folder.parent / "later.py")
    await migrate.apply(db, folder=folder)
    (folder.parent / "later.py").rename(folder / "0002_second.py")
    first, second = await migrate.status(db, folder=folder)
    document = await db["migrations"].find_one({"_id": "0001_first"})
    assert document is not None
    assert sorted(document) == ["_id", "appliedAt", "seconds"]
    assert first == Status("0001_first", document["appliedAt"])
    assert second == Status("0002_second", None)


async def test_several_processes_at_once_apply_it_once(db: Database, chosen: Settings, folder: Path) -> None:
    (folder / "0001_first.py").write_text(SLOW % 0.5)
    processes = [process(chosen, folder) for _ in range(4)]
    said = [json.loads(each.communicate(timeout=40)[0]) for each in processes]
    assert [each.returncode for each in processes] == [0, 0, 0, 0]
    assert sorted(said) == [[], [], [], ["0001_first", "0002_second"]]
    assert await runs(db) == ["slow", "0002_second"]


async def test_a_killed_process_is_succeeded_when_its_lease_runs_out(db: Database, chosen: Settings, folder: Path) -> None:
    (folder / "0001_first.py").write_text(SLOW % 60)
    killed = process(chosen, folder)
    await until(lambda: has_begun(db))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (folder / "0001_first.py").write_text(NOTE.format(name="0001_first"))
    began = time.monotonic()
    assert await migrate.apply(db, folder=folder) == ["0001_first", "0002_second"]
    assert time.monotonic() - began < 5
    assert await runs(db) == ["slow", "0001_first", "0002_second"]


async def test_a_migration_longer_than_the_lease_keeps_it(
    db: Database, chosen: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "0001_first.py").write_text(SLOW % 2)
    slow = process(chosen, folder)
    await until(lambda: has_begun(db))
    monkeypatch.setattr(migrate, "POLL_SECONDS", 0.02)
    assert await migrate.apply(db, folder=folder) == []
    assert json.loads(slow.communicate(timeout=10)[0]) == ["0001_first", "0002_second"]
    assert await runs(db) == ["slow", "0002_second"]


async def test_one_command_of_a_migration_may_outlast_the_socket_timeout(
    impatient: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As building an index on millions of tasks does; the lease is kept meanwhile, long past its end."""
    monkeypatch.setattr(migrate, "LEASE_SECONDS", 1)
    monkeypatch.setattr(migrate, "RENEW_SECONDS", 0.2)
    (folder / "0001_first.py").write_text(LONG_COMMAND)
    applying = asyncio.create_task(migrate.apply(impatient, folder=folder))
    await until(lambda: has_begun(impatient))
    assert await migrate.apply(impatient, folder=folder) == []
    assert await applying == ["0001_first", "0002_second"]
    first = await impatient["migrations"].find_one({"_id": "0001_first"})
    assert first is not None
    assert first["seconds"] > 1.5
    assert await runs(impatient) == ["long", "0002_second"]


async def test_a_migration_has_an_end(db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "UP_SECONDS", 0.5)
    (folder / "0001_first.py").write_text(LONG_COMMAND)
    with pytest.raises(MigrationFailed, match=r"^migration 0001_first failed and was not recorded: "):
        await migrate.apply(db, folder=folder)
    assert await recorded(db) == []


async def test_waiting_for_another_process_has_an_end(db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "WAIT_SECONDS", 0.3)
    async with migrate._lease(db):
        with pytest.raises(ConfigurationError, match=r"^another process has been migrating for 0\.3 s; wait for it and try again$"):
            await migrate.apply(db, folder=folder)
    assert await runs(db) == []


async def test_a_lost_lease_stops_the_migration_unrecorded(db: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "RENEW_SECONDS", 0.05)
    (folder / "0001_first.py").write_text(SLOW % 60)
    applying = asyncio.create_task(migrate.apply(db, folder=folder))
    await until(lambda: has_begun(db))
    await db["locks"].update_one({"_id": "migrations"}, {"$set": {"owner": "somebody else"}})
    with pytest.raises(ConfigurationError, match=r"^another process took over the migrations; see what it says, then try again$"):
        await applying
    assert await recorded(db) == []
    assert await db["locks"].distinct("owner") == ["somebody else"]


async def test_a_failure_names_the_migration_and_records_nothing_of_it(db: Database, folder: Path) -> None:
    (folder / "0002_second.py").write_text("async def up(db):\n    raise ValueError('no such field')\n")
    (folder / "0003_third.py").write_text(NOTE.format(name="0003_third"))
    with pytest.raises(
        MigrationFailed, match=r"^migration 0002_second failed and was not recorded: ValueError: no such field$"
    ) as failed:
        await migrate.apply(db, folder=folder)
    assert isinstance(failed.value.__cause__, ValueError)
    assert await recorded(db) == ["0001_first"]
    assert await runs(db) == ["0001_first"]
    assert await db["locks"].count_documents({}) == 0


async def test_a_repaired_migration_is_applied_the_next_time(db: Database, folder: Path) -> None:
    (folder / "0001_first.py").write_text("async def up(db:\n")
    with pytest.raises(MigrationFailed, match=r"^migration 0001_first failed and was not recorded: SyntaxError: "):
        await migrate.apply(db, folder=folder)
    (folder / "0001_first.py").write_text(NOTE.format(name="0001_first"))
    assert await migrate.apply(db, folder=folder) == ["0001_first", "0002_second"]


async def test_a_database_newer_than_the_code_is_not_migrated(db: Database, folder: Path) -> None:
    await migrate.apply(db, folder=folder)
    (folder / "0002_second.py").unlink()
    (folder / "0003_third.py").write_text(NOTE.format(name="0003_third"))
    with pytest.raises(ConfigurationError) as refused:
        await migrate.apply(db, folder=folder)
    assert str(refused.value) == ("the database is newer than this code, it has 0002_second; deploy the version that brought it")
    assert await runs(db) == ["0001_first", "0002_second"]
    statuses = await migrate.status(db, folder=folder)
    assert [(each.name, each.is_known) for each in statuses] == [
        ("0001_first", True),
        ("0002_second", False),
        ("0003_third", True),
    ]


async def test_a_long_one_reports_its_progress(db: Database, tmp_path: Path) -> None:
    (tmp_path / "0001_long.py").write_text("async def up(db, progress):\n    progress(5, 20)\n    progress(20, 20)\n")
    told: list[tuple[str, int, int]] = []
    await migrate.apply(db, folder=tmp_path, on_progress=lambda *what: told.append(what))
    assert told == [("0001_long", 0, 1), ("0001_long", 5, 20), ("0001_long", 20, 20), ("0001_long", 1, 1)]


async def test_a_file_that_is_no_migration_is_named(db: Database, folder: Path) -> None:
    (folder / "3_Third.py").touch()
    with pytest.raises(ConfigurationError) as refused:
        await migrate.apply(db, folder=folder)
    assert str(refused.value) == f"{folder / '3_Third.py'} is not named like a migration: 0001_what_it_does.py"
    assert await runs(db) == []


async def test_two_migrations_with_one_number_are_refused(db: Database, folder: Path) -> None:
    (folder / "0002_other.py").touch()
    with pytest.raises(ConfigurationError, match=r"^migrations 0002_other and 0002_second have the same number$"):
        await migrate.apply(db, folder=folder)
    assert await runs(db) == []
