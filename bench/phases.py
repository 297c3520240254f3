"""The parts of a run, in their order. Each starts the servers that it compares and stops them; each gives what it measured, as JSON."""

import json
from typing import Any

from bench import cores, data, growth, offered, servers, subscribers, windows
from bench.databases import Databases
from bench.scope import Scope
from bench.servers import Server
from bench.workloads import CREATE, HOT_PAGE, PAGE, READING, Workload, shapes

SHAPE_SECONDS = 3
CONNECTION_SECONDS = 5
CONNECTION_WINDOWS = 3
CHECKED_USERS = 5
WORKERS_PORT = 4130


def requests(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Windows by workload and server: the comparison itself."""
    found: dict[str, Any] = {}
    with servers.running(servers.COMPARED, databases) as running:
        without_cache = [server for server in running if server.kind is not servers.OURS_CACHED]
        for workload in (*READING, CREATE):
            found[workload.name] = windows.interleaved(
                running if workload is HOT_PAGE else without_cache,
                workload,
                mongod_pid=databases.mongod_pid,
                count=scope.windows,
                seconds=scope.window_seconds,
                warm_up=scope.warm_up,
            )
            print(f"requests: {workload.name} done", flush=True)
    data.remove_written(databases)
    return found


def other_shapes(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Windows by shape, for taskgraph as it is and with compiling switched off; the answers of both are the same bytes."""
    found: dict[str, Any] = {}
    with servers.running((servers.OURS, servers.OURS_INTERPRETED), databases) as running:
        for workload in shapes(node_id=_some_task(running[0])):
            _expect_same_answers(running, workload)
            for server in running:
                windows.put_load(server, workload, seconds=1)
                server.process.wait_until_quiet()
            measured = windows.alternating(
                running, workload, mongod_pid=databases.mongod_pid, count=scope.shape_windows, seconds=SHAPE_SECONDS
            )
            _expect_same_answers(running, workload)
            found[workload.name] = {"title": workload.title, "windows": measured}
    return found


def _some_task(server: Server) -> str:
    answer = json.loads(server.post(PAGE.body, server.tokens[0])[1])
    return str(answer["data"]["tasks"]["edges"][0]["node"]["id"])


def _expect_same_answers(running: tuple[Server, ...], workload: Workload) -> None:
    tokens = running[0].tokens[: workload.users or CHECKED_USERS]
    for token in tokens:
        # Twice: an operation is compiled when it comes again.
        (status, raw), *others = [server.post(workload.body, token) for server in (*running, *running)]
        if status != 200 or b'"errors"' in raw or any(other != (status, raw) for other in others):
            raise SystemExit(f"{workload.title}: wrong or different answers: {raw[:600]!r} {[other[1][:600] for other in others]}")


def connections(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Windows of the page by number of connections."""
    found: dict[str, Any] = {}
    with servers.running((servers.MERCURIUS, servers.OURS), databases) as running:
        for server in running:
            windows.put_load(server, PAGE, seconds=max(1, round(server.kind.warm_up_seconds * scope.warm_up)))
        for count in scope.connections:
            found[str(count)] = windows.alternating(
                running,
                PAGE,
                mongod_pid=databases.mongod_pid,
                count=min(scope.windows, CONNECTION_WINDOWS),
                seconds=CONNECTION_SECONDS,
                connections=count,
            )
    return found


def offered_load(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Latency of the page by requests offered a second."""
    found: dict[str, Any] = {}
    with servers.running((servers.MERCURIUS, servers.OURS), databases) as running:
        for server in running:
            windows.put_load(server, PAGE, seconds=max(1, round(server.kind.warm_up_seconds * scope.warm_up)))
        for rate in scope.rates:
            found[str(rate)] = {
                server.name: offered.measure(server, PAGE, rate=rate, seconds=scope.rate_seconds) for server in running
            }
    return found


def workers(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Windows of the page by number of processes, which here may use every core."""
    found: dict[str, Any] = {}
    kinds = [servers.taskgraph(f"workers_{count}", "taskgraph", WORKERS_PORT + count, workers=count) for count in (1, 2)]
    with servers.running(kinds, databases, on=cores.ALL) as running:
        for server in running:
            windows.put_load(server, PAGE, seconds=server.kind.warm_up_seconds)
        measured = windows.alternating(
            running, PAGE, mongod_pid=databases.mongod_pid, count=scope.windows, seconds=CONNECTION_SECONDS
        )
        for count, server in zip((1, 2), running, strict=True):
            found[str(count)] = measured[server.name]
    return found


def subscriptions(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Rounds by number of sockets and server; at `compared_sockets` the peers take turns with taskgraph."""
    found: dict[str, Any] = {}
    for sockets in scope.sockets:
        kinds = (servers.MERCURIUS, servers.YOGA, servers.OURS) if sockets == scope.compared_sockets else (servers.OURS,)
        rounds: dict[str, list[subscribers.Round]] = {kind.name: [] for kind in kinds}
        for _ in range(scope.subscription_rounds):
            for kind in kinds:
                rounds[kind.name].append(subscribers.measure(kind, databases, sockets=sockets, events=scope.events))
        found[str(sockets)] = rounds
        print(f"subscriptions: {sockets} sockets done", flush=True)
    data.remove_written(databases)
    return found


def growing(databases: Databases, scope: Scope) -> dict[str, Any]:
    """Time of reads by the number of tasks in the database."""
    return growth.measure(databases, sizes=scope.sizes, rounds=scope.growth_rounds, requests=scope.growth_requests)


# Reading comes before writing, and the databases of millions last.
PHASES = {
    "requests": requests,
    "shapes": other_shapes,
    "connections": connections,
    "offered": offered_load,
    "workers": workers,
    "subscriptions": subscriptions,
    "growth": growing,
}
