"""The faults. Each trial starts an installation of its own, puts it under traffic and gives what it found, as JSON."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from chaos import site, traffic
from chaos.checks import OF_EVENTS, OF_WRITES, Finding, Kind, breaches
from chaos.history import History
from chaos.scope import Scope
from chaos.site import Site
from chaos.traffic import Traffic

Found = dict[str, Any]
# Of each kind of breach; one is enough to know, some more help to find out why.
EXAMPLES = 5
# The secondaries are away for so long before the primary dies: less than it takes the primary to notice and step down.
CUT_OFF_SECONDS = 3
LOST_FOR_EVER_SECONDS = 5


async def primary_kills(scope: Scope, *, election_timeout_ms: int) -> Found:
    """The MongoDB primary gets a kill -9; it comes back once the others have another."""
    elected: list[float] = []
    again: list[float] = []
    async with _under_traffic(scope, election_timeout_ms=election_timeout_ms) as (running, flow):
        for _ in range(scope.primary_kills):
            seconds = await killed_primary(running, flow)
            elected.append(seconds[0])
            again.append(seconds[1])
            await asyncio.sleep(scope.calm_seconds)
        history = await flow.finish()
    counts = {"faults": scope.primary_kills, "elected_seconds": elected, "again_seconds": again}
    return summary(history, may_fail=True) | counts


async def killed_primary(running: Site, flow: Traffic) -> tuple[float, float]:
    """Kills the primary of a whole set; the seconds until there is another, and until a write is acknowledged again. The set is
    whole at the end.
    """
    primary = await running.mongo.primary()
    killed_at = time.monotonic()
    await primary.kill()

    async def elected() -> float:
        await running.mongo.primary()
        return time.monotonic() - killed_at

    seconds = await asyncio.gather(elected(), flow.written_since(killed_at))
    await primary.start()
    await running.mongo.settled()
    return seconds


async def primary_pauses(scope: Scope) -> Found:
    """The primary is stopped by SIGSTOP until the others have elected another; then it goes on, and must not take itself for the primary."""
    again: list[float] = []
    async with _under_traffic(scope) as (running, flow):
        for _ in range(scope.primary_pauses):
            primary = await running.mongo.primary()
            stopped_at = time.monotonic()
            async with primary.frozen():
                again.append(await flow.written_since(stopped_at))
                await asyncio.sleep(scope.fault_seconds)
            await running.mongo.settled()
            await asyncio.sleep(scope.calm_seconds)
        history = await flow.finish()
    return summary(history, may_fail=True) | {"faults": scope.primary_pauses, "again_seconds": again}


async def server_kills(scope: Scope) -> Found:
    """A server gets a kill -9, one and the other in turn; it is started again while the other serves."""
    async with _under_traffic(scope) as (running, flow):
        for number in range(scope.server_kills):
            await killed_server(running, number)
            await asyncio.sleep(scope.calm_seconds)
        history = await flow.finish()
    return summary(history, may_fail=True) | {"faults": scope.server_kills}


async def killed_server(running: Site, number: int) -> None:
    """Kills one and starts it again."""
    server = running.servers[number % len(running.servers)]
    await server.kill()
    await server.start()


async def rolling_restarts(scope: Scope) -> Found:
    """SIGTERM, wait for the end, start again, wait until it is ready: one server after the other, as a deployment does it."""
    drains: list[float] = []
    statuses: list[int] = []
    async with _under_traffic(scope) as (running, flow):
        for _ in range(scope.rolling_restarts):
            for seconds, status in await rolled(running):
                drains.append(seconds)
                statuses.append(status)
            await asyncio.sleep(scope.calm_seconds)
        history = await flow.finish()
    counts = {"faults": scope.rolling_restarts, "drain_seconds": drains, "statuses": statuses}
    return summary(history, may_fail=False) | counts


async def rolled(running: Site) -> list[tuple[float, int]]:
    """Restarts each server; how long it took to end, and its status."""
    found = []
    for server in running.servers:
        began = time.monotonic()
        status = await server.stop()
        found.append((time.monotonic() - began, status))
        await server.start()
    return found


async def without_valkey(scope: Scope) -> Found:
    """Valkey killed, started, flushed, frozen and thawed."""
    async with _under_traffic(scope) as (running, flow):
        for _ in range(scope.redis_rounds):
            await running.valkey.kill()
            await asyncio.sleep(scope.fault_seconds)
            await running.valkey.start()
            await asyncio.sleep(scope.calm_seconds)
            await running.flush_valkey()
            await asyncio.sleep(scope.calm_seconds)
            async with running.valkey.frozen():
                await asyncio.sleep(scope.fault_seconds)
            await asyncio.sleep(scope.calm_seconds)
        history = await flow.finish()
    return summary(history, may_fail=False) | {"faults": scope.redis_rounds}


async def majority_lost(scope: Scope) -> Found:
    """Both secondaries killed, then the primary; the secondaries come back first and elect one of them."""
    async with _under_traffic(scope) as (running, flow):
        await _lost_majority(running, flow)
        history = await flow.finish()
    return summary(history, may_fail=True) | {"faults": 1}


async def control(scope: Scope) -> Found:
    """The same with servers for which a write is done when the primary has it: the checks must find what is lost."""
    async with _under_traffic(scope, is_weak=True) as (running, flow):
        await _lost_majority(running, flow)
        # What is lost never comes.
        history = await flow.finish(drain_seconds=LOST_FOR_EVER_SECONDS)
    return summary(history, may_fail=True) | {"faults": 1}


async def _lost_majority(running: Site, flow: Traffic) -> None:
    primary, secondaries = await running.mongo.primary(), await running.mongo.secondaries()
    await asyncio.gather(*(member.kill() for member in secondaries))
    await asyncio.sleep(CUT_OFF_SECONDS)
    await primary.kill()
    killed_at = time.monotonic()
    for member in secondaries:
        member.launch()
    await asyncio.gather(*(member.ready() for member in secondaries))
    # It comes back to a set that has gone on without it, and must give up what only it had.
    await flow.written_since(killed_at)
    await primary.start()
    await running.mongo.settled()


@contextlib.asynccontextmanager
async def _under_traffic(
    scope: Scope, *, election_timeout_ms: int | None = None, is_weak: bool = False
) -> AsyncIterator[tuple[Site, Traffic]]:
    election_timeout_ms = election_timeout_ms or scope.election_timeouts_ms[0]
    async with (
        site.running(users=scope.load.users, election_timeout_ms=election_timeout_ms, is_weak=is_weak) as running,
        traffic.flowing(running, scope.load) as flow,
    ):
        await asyncio.sleep(scope.calm_seconds)
        yield running, flow


def summary(history: History, *, may_fail: bool) -> Found:
    """Counts of what happened, and what the checks have found."""
    found = breaches(history, may_fail=may_fail)
    writes = history.writes
    return {
        "writes": len(writes),
        "replayed": sum(write.is_replayed for write in writes),
        "slowest_write_seconds": max((write.at - write.sent_at for write in writes), default=0),
        "failures": dict(Counter(failure.what for failure in history.failures)),
        "subscribers": len(history.streams),
        "delivered": sum(len(stream.seen) for stream in history.streams),
        "interruptions": dict(Counter(each.why for stream in history.streams for each in stream.interruptions)),
        "breaches": counted(found),
    }


def counted(found: Sequence[Finding]) -> Found:
    """By what they break, with examples."""
    counts = Counter(finding.kind for finding in found)
    return {
        "writes": sum(counts[kind] for kind in OF_WRITES),
        "events": sum(counts[kind] for kind in OF_EVENTS),
        "requests": counts[Kind.REFUSED],
        "counts": {kind.value: count for kind, count in sorted(counts.items())},
        "examples": [finding.what for kind in Kind for finding in [each for each in found if each.kind is kind][:EXAMPLES]],
    }
