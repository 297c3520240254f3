"""Trials with many subscribers: how soon they hear, what one of them costs who stops listening, and how all of them come back."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from bench.process import resident_kb
from chaos import crowd, site, traffic
from chaos.checks import Finding, delays, percentile, told
from chaos.history import Acknowledged, History, Stream
from chaos.program import HOST, Program, until
from chaos.scope import Scope
from chaos.site import Site
from chaos.subscriber import STALLED_BUFFER_BYTES, Subscriber
from chaos.traffic import Load, Traffic, heard
from chaos.trials import Found, counted

WARM_UP_SECONDS = 5
# What is under way when the writers stop has arrived by then.
LAST_SECONDS = 2
SAMPLE_SECONDS = 0.25
USERS = 50
# Messages of some 60 KB about events of 2 KB: the buffers of the network are full soon, and what the server keeps of recent events
# does not grow by much.
PADDING = 2000
ALIASES = 28
HERD_SECONDS = 180
HERD_PACE_SECONDS = 10


async def deliveries(scope: Scope) -> Found:
    """How soon after its acknowledgement an event is there: for subscribers of many users, and for as many of a single one."""
    return {
        "many": await _delivered(scope, users=USERS, events_per_second=scope.events_per_second),
        "one": await _delivered(scope, users=1, events_per_second=scope.events_per_second // 5),
    }


async def _delivered(scope: Scope, *, users: int, events_per_second: int) -> Found:
    writers = max(1, 4 // users)
    load = _silent(users=users, writers=writers, pace_seconds=users * writers / events_per_second)
    async with (
        site.running(users=users) as running,
        crowd.subscribed(running, subscribers=scope.listeners, users=users) as listeners,
        traffic.flowing(running, load) as flow,
    ):
        await asyncio.sleep(WARM_UP_SECONDS)
        began = time.monotonic()
        await asyncio.sleep(scope.listening_seconds)
        history = await flow.finish()
        await asyncio.sleep(LAST_SECONDS)
        streams = await listeners.report()
    measured = [write for write in history.writes if write.sent_at > began]
    return {
        "subscribers": scope.listeners,
        "users": users,
        "events_per_second": len(measured) / (max(write.at for write in measured) - began),
        **_latency(streams, measured),
        "breaches": counted(_broken(streams, history)),
    }


async def stalled(scope: Scope) -> Found:
    """A subscriber that stops reading: its server's memory, and what the other subscribers notice. It resumes in the end."""
    load = _silent(users=2, writers=2, pace_seconds=2 * 2 / scope.events_per_second, padding=PADDING)
    async with site.running(users=load.users) as running:
        server = running.servers[0]
        async with (
            crowd.subscribed(running, subscribers=scope.bystanders, users=load.users, port=server.port) as bystanders,
            traffic.flowing(running, load) as flow,
            asyncio.TaskGroup() as tasks,
        ):
            await asyncio.sleep(WARM_UP_SECONDS)
            before = await _window(server, scope.stall_seconds)
            stream = Stream("the stalled one", user=0)
            subscriber = Subscriber(
                server.port,
                running.tokens[0],
                partial(heard, stream),
                document=large_document(),
                buffer_bytes=STALLED_BUFFER_BYTES,
            )
            task = tasks.create_task(subscriber.run())
            await subscriber.is_live.wait()
            # What was acknowledged up to now may have happened before it came.
            await asyncio.sleep(LAST_SECONDS)
            joined = len(flow.notes[0].acknowledged)
            subscriber.stall()
            during = await _window(server, scope.stall_seconds)
            subscriber.go_on()
            history = await flow.finish()
            mine = history.acknowledged[0][joined:]
            await until(partial(_has_all, stream, mine), what="every event for the stalled one", within_seconds=60)
            task.cancel()
            streams = await bystanders.report()
    stream.gaps, stream.refusals = subscriber.gaps, subscriber.refusals
    growth = [window.growth_kb / 1024 for window in (before, during)]
    return {
        "subscribers": scope.bystanders,
        "without": {"growth_mb": growth[0], **_latency(streams, before.writes(history))},
        "with": {"growth_mb": growth[1], **_latency(streams, during.writes(history))},
        "cost_mb": growth[1] - growth[0],
        "cut": [each.why for each in subscriber.interruptions],
        "resumed": len(stream.seen),
        "breaches": counted([*_broken(streams, history), *told(stream, mine)]),
    }


async def herd(scope: Scope) -> Found:
    """All subscribers of a server that is killed, at once on the other."""
    load = _silent(users=USERS, writers=1, pace_seconds=HERD_PACE_SECONDS)
    async with site.running(users=USERS) as running:
        first, second = running.servers
        await second.stop()
        async with (
            crowd.subscribed(running, subscribers=scope.herd, users=USERS) as everybody,
            traffic.flowing(running, load) as flow,
        ):
            await second.start()
            await asyncio.sleep(WARM_UP_SECONDS)
            finds = await asyncio.to_thread(_finds, running)
            await first.kill()
            await until(
                partial(_has_subscriptions, flow, second.port, scope.herd), what="all subscribers", within_seconds=HERD_SECONDS
            )
            finds = await asyncio.to_thread(_finds, running) - finds
            await asyncio.sleep(WARM_UP_SECONDS)
            history = await flow.finish()
            await asyncio.sleep(LAST_SECONDS)
            streams = await everybody.report()
    away = sorted(
        float("inf") if each.back_at is None else each.back_at - each.lost_at for stream in streams for each in stream.interruptions
    )
    return {
        "subscribers": scope.herd,
        "away": len(away),
        "back_p50_seconds": percentile(away, 0.5),
        "back_max_seconds": away[-1],
        "finds": finds,
        "writes": len(history.writes),
        "breaches": counted(_broken(streams, history)),
    }


class _Window:
    """A while in which the memory of a server was watched."""

    def __init__(self, server: Program) -> None:
        self._server = server
        self._began_kb = self._most_kb = resident_kb(server.pid)
        self._began = self._ended = time.monotonic()

    @property
    def growth_kb(self) -> int:
        """From the beginning to the most."""
        return self._most_kb - self._began_kb

    def look(self) -> None:
        """Now."""
        self._most_kb = max(self._most_kb, resident_kb(self._server.pid))
        self._ended = time.monotonic()

    def writes(self, history: History) -> list[Acknowledged]:
        """Those that were acknowledged meanwhile."""
        return [write for write in history.writes if self._began < write.at < self._ended]


async def _window(server: Program, seconds: float) -> _Window:
    window = _Window(server)
    for _ in range(int(seconds / SAMPLE_SECONDS)):
        await asyncio.sleep(SAMPLE_SECONDS)
        window.look()
    return window


def _silent(*, users: int, writers: int, pace_seconds: float, padding: int = 0) -> Load:
    """Writers alone."""
    return Load(users, writers, pace_seconds, subscribers=0, restless=0, padding=padding)


def large_document() -> str:
    """Shows the description of a task again and again."""
    copies = " ".join(f"d{number}: description" for number in range(ALIASES))
    return f"""subscription($after: EventCursor) {{ taskEvents(after: $after) {{
      __typename
      ... on TaskEvent {{ id cursor taskId version causedBy task {{ description {copies} }} }}
      ... on StreamCheckpoint {{ cursor }}
      ... on StreamGap {{ cursor reason }}
    }} }}"""


def _latency(streams: Sequence[Stream], writes: Sequence[Acknowledged]) -> Found:
    ordered = delays(streams, writes)
    return {
        "deliveries": len(ordered),
        "since_sent_p50_ms": 1000 * percentile(delays(streams, writes, since="sent_at"), 0.5),
        "p50_ms": 1000 * percentile(ordered, 0.5),
        "p99_ms": 1000 * percentile(ordered, 0.99),
        "max_ms": 1000 * ordered[-1],
    }


def _broken(streams: Sequence[Stream], history: History) -> list[Finding]:
    return [finding for stream in streams for finding in told(stream, history.acknowledged[stream.user])]


async def _has_all(stream: Stream, writes: Sequence[Acknowledged]) -> bool:
    return {(write.task_id, write.version) for write in writes} <= {(seen.task_id, seen.version) for seen in stream.seen}


async def _has_subscriptions(flow: Traffic, port: int, count: int) -> bool:
    text = (await flow.client.get(f"http://{HOST}:{port}/metrics", timeout=30)).text
    return f"\ntaskgraph_subscriptions {float(count)}\n" in text


def _finds(running: Site) -> int:
    """How often MongoDB was asked for documents."""
    with running.mongo.client() as client:
        status = client.admin.command("serverStatus")
    return int(status["metrics"]["commands"]["find"]["total"])
