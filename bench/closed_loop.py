"""A load of its own, for where wrk is not: a number of requests over a few connections, each sending when it has an answer."""

import asyncio
import itertools
from collections.abc import Sequence

import uvloop

from bench import cores
from bench.http_client import Connection, request
from bench.servers import Server
from bench.workloads import Workload

CONNECTIONS = 32


def put_load(server: Server, workload: Workload, *, requests: int) -> None:
    """Returns when all are answered; Refused when one is not answered well."""
    tokens = server.tokens[: workload.users or len(server.tokens)]
    texts = [request(server.port, workload.body, token) for token in tokens]
    with cores.pinned(cores.LOAD), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_send(server.port, list(itertools.islice(itertools.cycle(texts), requests))))


async def _send(port: int, requests: Sequence[bytes]) -> None:
    waiting = iter(requests)

    async def keep_busy() -> None:
        connection = await Connection.opened(port)
        try:
            for each in waiting:
                await connection.ask(each)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(keep_busy())
