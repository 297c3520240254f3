"""Latency at an offered load: requests are sent when they are due, whether or not the server has answered those before.

A generator that waits for answers, like wrk, sends less while the server is slow and so never sees the queue that real users would
stand in. Here time counts from the moment at which a request was meant to be sent, waiting for a free connection included.
"""

import asyncio
import random
from collections.abc import Sequence

import uvloop

from bench import cores
from bench.http_client import Connection, request
from bench.servers import Server
from bench.workloads import Workload

CONNECTIONS = 128
# Above this many unanswered requests the server cannot keep up, and waiting longer would only say so in larger numbers.
BACKLOG = 2000


def measure(server: Server, workload: Workload, *, rate: int, seconds: float) -> dict[str, float]:
    """Milliseconds from due to answered: median, 99th percentile and most; `answered` by `due` is below 1 when it cannot keep up."""
    requests = [request(server.port, workload.body, token) for token in server.tokens]
    with cores.pinned(cores.LOAD), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        due, milliseconds = runner.run(_at_rate(server.port, requests, rate=rate, seconds=seconds))
    server.process.wait_until_quiet()
    milliseconds.sort()
    return {
        "rate": len(milliseconds) / seconds,
        "due": due,
        "answered": len(milliseconds),
        "p50_ms": percentile(milliseconds, 50),
        "p99_ms": percentile(milliseconds, 99),
        "max_ms": milliseconds[-1],
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in ascending order, at least one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def _at_rate(port: int, requests: Sequence[bytes], *, rate: int, seconds: float) -> tuple[int, list[float]]:
    """How many were due, and the milliseconds of each that was answered in time."""
    loop = asyncio.get_running_loop()
    # The same arrivals for every server: independent users, so the gaps between them are exponential.
    chance = random.Random(rate)
    queue: asyncio.Queue[float] = asyncio.Queue()
    milliseconds: list[float] = []
    end = loop.time() + seconds

    async def answer_in_turn(number: int) -> None:
        connection = await Connection.opened(port)
        try:
            turn = number
            while True:
                due = await queue.get()
                await connection.ask(requests[turn % len(requests)])
                turn += CONNECTIONS
                if loop.time() <= end:
                    milliseconds.append(1000 * (loop.time() - due))
        finally:
            await connection.close()

    tasks = [asyncio.create_task(answer_in_turn(number)) for number in range(CONNECTIONS)]
    due, count = loop.time() + chance.expovariate(rate), 0
    while due < end and queue.qsize() < BACKLOG:
        await asyncio.sleep(due - loop.time())
        queue.put_nowait(due)
        count += 1
        due += chance.expovariate(rate)
    await asyncio.sleep(max(0, end - loop.time()))
    failed = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise SystemExit(f"a request failed: {failed[0]}")
    return count, milliseconds
