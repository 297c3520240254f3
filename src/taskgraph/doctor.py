"""`taskgraph doctor`: looks at settings, connections and versions, and says what to do about each thing that is wrong.

Every check is bounded to a few seconds, and one that fails does not keep the others from being made.
"""

import asyncio
import platform
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata

import pymongo
from pymongo.errors import OperationFailure, PyMongoError
from redis.exceptions import RedisError

from taskgraph.errors import ConfigurationError
from taskgraph.serve import mongo_reason
from taskgraph.server import page, trusted_documents
from taskgraph.settings import DEVELOPMENT_SECRET, Settings, load, names_set_without_effect
from taskgraph.storage import migrate, mongo, redis
from taskgraph.storage.mongo import Database

MONGO_SECONDS = 3
REDIS_SECONDS = 1
# $topN, which cuts subtasks to a page within the database, came with 5.2; 6.0 is the first lasting release that has it, and is tested.
MIN_MONGO = (6, 0)
# 6.2 brought the options of SET and ZADD that rate limits use; every Valkey has them.
MIN_REDIS = (6, 2)
CLOCK_WARNING_SECONDS = 1.0
CLOCK_FAILURE_SECONDS = 30.0
LIBRARIES = ("pymongo", "odmantic", "strawberry-graphql", "graphql-core", "starlette", "uvicorn", "redis")


class Verdict(StrEnum):
    """How a check went; only FAILED makes the command fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; of anything but OK `what` says what to do."""

    verdict: Verdict
    check: str
    what: str


def ok(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(Verdict.OK, check, what)


def warning(check: str, what: str) -> Finding:
    """It works, but not as it should."""
    return Finding(Verdict.WARNING, check, what)


def failed(check: str, what: str) -> Finding:
    """The server would not start or not work."""
    return Finding(Verdict.FAILED, check, what)


async def examine() -> AsyncIterator[Finding]:
    """Every finding, as soon as it is known; without usable settings only those that need none."""
    for finding in _versions():
        yield finding
    try:
        settings = load()
    except ConfigurationError as error:
        for fault in str(error).split("; TASKGRAPH_"):
            yield failed("settings", f"TASKGRAPH_{fault.removeprefix('TASKGRAPH_')}")
        return
    for finding in _settings(settings):
        yield finding
    async for finding in _mongo(settings):
        yield finding
    yield await _redis(settings)


def _versions() -> Iterator[Finding]:
    yield ok("python", platform.python_version())
    yield ok("libraries", ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES))
    if page.is_built():
        yield ok("graphiql", "built")
    else:
        yield warning("graphiql", page.NOT_BUILT.strip())


def _settings(settings: Settings) -> Iterator[Finding]:
    yield ok("settings", f"{settings.environment}, database {settings.mongo_database}")
    for name in names_set_without_effect(settings):
        yield warning(
            "settings", f"{name} is set, but this version does not use it yet; remove it or wait for the version that does"
        )
    if DEVELOPMENT_SECRET in settings.signing_secrets:
        yield warning(
            "secrets", "tokens are signed with the built-in development secret; set TASKGRAPH_JWT_SECRETS to random bytes"
        )
    else:
        yield ok("secrets", f"{len(settings.signing_secrets)} of 32 bytes or more")
    if settings.trusted_documents != "off":
        yield _trusted(settings)


def _trusted(settings: Settings) -> Finding:
    try:
        count = len(trusted_documents.load(settings).texts)
    except ConfigurationError as error:
        return failed("documents", str(error))
    return ok("documents", f"{count} trusted, {settings.trusted_documents}")


async def _mongo(settings: Settings) -> AsyncIterator[Finding]:
    if settings.mongo_url is None:
        yield failed(
            "mongodb", "TASKGRAPH_MONGO_URL is not set; give a replica set's address (`taskgraph dev` brings its own server)"
        )
        return
    try:
        db = mongo.connect(settings)
    except ConfigurationError as error:
        yield failed("mongodb", str(error))
        return
    try:
        with pymongo.timeout(MONGO_SECONDS):
            before = time.time()
            hello = await db.client.admin.command("hello")
            elapsed = time.time() - before
            yield _clock(hello["localTime"], before + elapsed / 2)
            yield await _mongo_version(db)
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            yield failed(
                "replica set", "this is a standalone server without transactions; start it with --replSet and run rs.initiate()"
            )
            return
        yield ok("replica set", hello.get("setName", "sharded cluster"))
        yield await _majority_write(db)
        migrations = await _migrations(db)
        yield migrations
        if migrations.verdict is Verdict.OK:
            yield await _indexes(db)
    except PyMongoError as error:
        yield failed("mongodb", f"{mongo_reason(error)}; check TASKGRAPH_MONGO_URL, the network and that the server runs")
    finally:
        await db.close()


def _clock(theirs: datetime, ours: float) -> Finding:
    # Their time has whole milliseconds, and the answer may have been made at any moment between question and receipt.
    difference = ours - theirs.replace(tzinfo=UTC).timestamp()
    what = f"{abs(difference):.3f} s {'ahead of' if difference > 0 else 'behind'} MongoDB's"
    if abs(difference) > CLOCK_FAILURE_SECONDS:
        return failed("clock", f"{what}; tokens expire at the wrong time: synchronise both machines with NTP")
    if abs(difference) > CLOCK_WARNING_SECONDS:
        return warning("clock", f"{what}; synchronise both machines with NTP")
    return ok("clock", what)


async def _mongo_version(db: Database) -> Finding:
    version = (await db.client.admin.command("buildInfo"))["version"]
    if _number(version) < MIN_MONGO:
        return failed("mongodb", f"version {version} is too old; at least {MIN_MONGO[0]}.{MIN_MONGO[1]} is needed")
    return ok("mongodb", f"reachable, version {version}")


async def _majority_write(db: Database) -> Finding:
    try:
        with pymongo.timeout(MONGO_SECONDS):
            await db["doctor"].update_one({"_id": "write"}, {"$currentDate": {"at": True}}, upsert=True)
            await db["doctor"].delete_one({"_id": "write"})
    except OperationFailure as error:
        return failed("write", f"{mongo_reason(error)}; the user of TASKGRAPH_MONGO_URL needs readWrite on {db.name}")
    except PyMongoError as error:
        return failed("write", f"no majority took a write within {MONGO_SECONDS} s: {mongo_reason(error)}; bring the members back")
    return ok("write", "acknowledged by a majority")


async def _migrations(db: Database) -> Finding:
    try:
        with pymongo.timeout(MONGO_SECONDS):
            statuses = await migrate.status(db)
    except ConfigurationError as error:
        return failed("migrations", str(error))
    missing = [each.name for each in statuses if each.applied_at is None]
    if missing:
        return failed("migrations", f"{', '.join(missing)} not applied; run `taskgraph migrate`")
    unknown = [each.name for each in statuses if not each.is_known]
    if unknown:
        return warning(
            "migrations", f"the database is newer than this code ({', '.join(unknown)}); deploy the version that brought it"
        )
    return ok("migrations", f"{len(statuses)} applied")


async def _indexes(db: Database) -> Finding:
    with pymongo.timeout(MONGO_SECONDS):
        missing = [
            f"{collection}.{name}"
            for collection, names in migrate.declared_indexes().items()
            for name in sorted(names - (await db[collection].index_information()).keys())
        ]
    if missing:
        # A migration that is recorded does not run again, so only a person can bring them back.
        return failed("indexes", f"missing: {', '.join(missing)}; make them as the migrations' INDEXES say")
    return ok("indexes", "all there")


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return warning("redis", "TASKGRAPH_REDIS_URL is not set; failed logins are counted by each process alone")
    consequence = "the API works without it, with limits counted by each process alone"
    try:
        held = redis.connect(settings)
    except ConfigurationError as error:
        return failed("redis", str(error))
    try:
        if held.client is None:
            return warning("redis", consequence)
        async with asyncio.timeout(REDIS_SECONDS):
            info = await held.client.info("server")
        version = str(info.get("valkey_version") or info["redis_version"])
        name = "Valkey" if "valkey_version" in info else "Redis"
        if name == "Redis" and _number(version) < MIN_REDIS:
            return warning(
                "redis", f"version {version} is too old, at least {MIN_REDIS[0]}.{MIN_REDIS[1]} is needed; {consequence}"
            )
        return ok("redis", f"reachable, {name} {version}")
    except (RedisError, OSError, TimeoutError) as error:
        return warning("redis", f"not reachable ({str(error) or 'timeout'}); check TASKGRAPH_REDIS_URL; {consequence}")
    finally:
        await held.close()


def _number(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
