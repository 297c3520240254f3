"""How the time of a read grows with the number of tasks in the database: one request at a time, on databases of several sizes."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import uvloop

from bench import cores, library, servers
from bench.databases import Databases
from bench.http_client import Connection, request
from bench.library import Library
from bench.offered import percentile
from bench.servers import Server
from bench.workloads import NESTED, PAGE, Workload

FIRST_PORT, OTHER_PORT = 4120, 4121
_TASKS = "edges { cursor node { id title status priority dueDate createdAt } } pageInfo { hasNextPage endCursor }"
SEARCH = Workload(
    "search",
    "search",
    f"query($text: String!) {{ searchTasks(query: $text, first: 20) {{ {_TASKS} }} }}",
    {"text": library.RARE_WORD},
)
DEEP_PAGE = f"query($after: String) {{ tasks(first: 20, after: $after) {{ {_TASKS} }} }}"
CURSORS = "query($after: String) { tasks(first: 100, after: $after) { pageInfo { endCursor } } }"
# In the order of the report.
TITLES = {
    "page": "page of 20",
    "large": f"page of a list of {library.LARGE_LIST:,}",
    "deep": "page in the middle of that list",
    "search": "search",
    "nested": "nested page",
}


def measure(databases: Databases, *, sizes: Sequence[int], rounds: int, requests: int) -> dict[str, Any]:
    """By size, ascending: seconds that filling took, bytes, and the figures of each kind of read."""
    found: dict[str, Any] = {}
    with _serving(databases, sizes[0], FIRST_PORT) as (least, made):
        found[str(sizes[0])] = made | {"reads": _figures(databases, [least], rounds=rounds, requests=requests)}
        for size in sizes[1:]:
            # The least one stays up, so that every other is compared with it in turns.
            with _serving(databases, size, OTHER_PORT) as (server, also_made):
                found[str(size)] = also_made | {"reads": _figures(databases, [least, server], rounds=rounds, requests=requests)}
    return found


@contextlib.contextmanager
def _serving(databases: Databases, size: int, port: int) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server on a database that is made for it and dropped afterwards."""
    started = time.monotonic()
    filled = library.fill(databases, tasks=size)
    made = {"tasks": filled.tasks, "fill_seconds": time.monotonic() - started, "bytes": _stored_bytes(databases, filled)}
    print(f"growth: {filled.tasks:,} tasks, {made['bytes'] / 1e9:.1f} GB, made in {made['fill_seconds']:.0f} s", flush=True)
    try:
        kind = servers.taskgraph(f"taskgraph_{port}", "taskgraph", port)
        with servers.running([kind], databases, database=filled.database) as (server,):
            yield server, made
    finally:
        library.drop(databases, filled)


def _stored_bytes(databases: Databases, filled: Library) -> float:
    with databases.client() as client:
        return float(client[filled.database].command("dbStats")["totalSize"])


def _figures(databases: Databases, compared: Sequence[Server], *, rounds: int, requests: int) -> dict[str, dict[str, float]]:
    """By kind of read, those of the last server.

    `least_p50_ms` is what the first server, of the least database, took meanwhile, `ratio` the median over the rounds of both.
    """
    with cores.pinned(cores.LOAD), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measured(databases, compared, rounds=rounds, requests=requests))


async def _measured(databases: Databases, compared: Sequence[Server], *, rounds: int, requests: int) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    readings = [await _readings(server) for server in compared]
    connections = [await Connection.opened(server.port) for server in compared]
    for name in TITLES:
        sent = [reading[name] for reading in readings]
        for connection, bodies in zip(connections, sent, strict=True):
            await _times(connection, bodies, requests)
        examined = await _examined(databases, connections[-1], sent[-1])
        turns = [[await _times(*pair, requests) for pair in zip(connections, sent, strict=True)] for _ in range(rounds)]
        every = sorted(milliseconds for turn in turns for milliseconds in turn[-1])
        ratios = [statistics.median(turn[-1]) / statistics.median(turn[0]) for turn in turns]
        times = {
            "p50_ms": percentile(every, 50),
            "p99_ms": percentile(every, 99),
            "least_p50_ms": statistics.median(milliseconds for turn in turns for milliseconds in turn[0]),
            "ratio": statistics.median(ratios),
        }
        figures[name] = times | examined
    for connection in connections:
        await connection.close()
    return figures


async def _readings(server: Server) -> dict[str, list[bytes]]:
    """Requests by kind of read. Small lists are asked for by many users in turn, the large one has one owner."""
    large, *others = server.tokens
    after = await _middle_cursor(server, large)
    deep = json.dumps({"query": DEEP_PAGE, "variables": {"after": after}}).encode()
    return {
        "page": [request(server.port, PAGE.body, token) for token in others],
        "large": [request(server.port, PAGE.body, large)],
        "deep": [request(server.port, deep, large)],
        "search": [request(server.port, SEARCH.body, token) for token in others],
        "nested": [request(server.port, NESTED.body, token) for token in others],
    }


async def _middle_cursor(server: Server, token: str) -> str:
    connection = await Connection.opened(server.port)
    after = None
    for _ in range(library.LARGE_LIST // 2 // 100):
        body = json.dumps({"query": CURSORS, "variables": {"after": after}}).encode()
        answer = json.loads(await connection.ask(request(server.port, body, token)))
        after = answer["data"]["tasks"]["pageInfo"]["endCursor"]
    await connection.close()
    return str(after)


async def _times(connection: Connection, requests: Sequence[bytes], count: int) -> list[float]:
    """Milliseconds of `count` requests, one after the other."""
    found = []
    for number in range(count):
        started = time.perf_counter()
        await connection.ask(requests[number % len(requests)])
        found.append(1000 * (time.perf_counter() - started))
    return found


async def _examined(databases: Databases, connection: Connection, requests: Sequence[bytes]) -> dict[str, float]:
    """Index keys and documents that MongoDB looked at, per request."""
    with databases.client() as client:
        before = client.admin.command("serverStatus")["metrics"]["queryExecutor"]
        for each in requests:
            await connection.ask(each)
        after = client.admin.command("serverStatus")["metrics"]["queryExecutor"]
    names = {"keys": "scanned", "documents": "scannedObjects"}
    return {name: (after[theirs] - before[theirs]) / len(requests) for name, theirs in names.items()}
