"""Subscriptions over graphql-transport-ws: CPU per delivered message, time to the last delivery, memory of an idle socket."""

import json
import os
import resource
import statistics
import subprocess
from pathlib import Path
from typing import Any

from bench import cores, servers
from bench.databases import Databases
from bench.process import cpu_seconds, resident_kb
from bench.servers import Kind, Server
from bench.workloads import NEW_TITLE

CLIENT = Path(__file__).with_name("subscribe.mjs")
TRIGGER = f'mutation {{ createTask(input: {{title: "{NEW_TITLE}"}}) {{ task {{ id }} }} }}'
THEIR_DOCUMENT = "subscription { taskEvents { id title status } }"
OUR_DOCUMENT = "subscription { taskEvents { __typename ... on TaskEvent { id task { id title status } } } }"
WARM_SOCKETS = 50
WARM_EVENTS = 100
SPARE_FILES = 500
Round = dict[str, float]


def measure(kind: Kind, databases: Databases, *, sockets: int, events: int) -> Round:
    """One round on a server that is started for it. All sockets are one user's, so that each event goes to all of them."""
    allow_files(sockets + SPARE_FILES)
    with servers.running([kind], databases) as (server,):
        told = {
            "port": server.port,
            "token": server.tokens[0],
            "document": OUR_DOCUMENT if kind.is_ours else THEIR_DOCUMENT,
            "trigger": TRIGGER,
            "subscribers": sockets,
            "events": events,
            "warmSockets": WARM_SOCKETS,
            "warmEvents": WARM_EVENTS,
        }
        with cores.pinned(cores.LOAD):
            client = subprocess.Popen(
                ("node", str(CLIENT)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"SUBSCRIBE": json.dumps(told)},
            )
        try:
            return _figures(server, client, sockets)
        finally:
            client.kill()
            client.wait()


def allow_files(count: int) -> None:
    """This process and those it starts may open so many; SystemExit where the system says no."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < count:
        raise SystemExit(f"the limit of open files is {hard}, this needs {count}; raise it with ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _figures(server: Server, client: subprocess.Popen[str], sockets: int) -> Round:
    """Takes the client through its steps and reads /proc when the server is quiet, so that connecting does not count."""
    pid = server.process.pid
    _next(client, server)
    _proceed(client)
    _next(client, server)
    before_kb = resident_kb(pid)
    _proceed(client)
    _next(client, server)
    _proceed(client)
    _next(client, server)
    connected_kb, cpu_before = resident_kb(pid), cpu_seconds(pid)
    _proceed(client)
    done = _report(client)
    cpu = cpu_seconds(pid) - cpu_before
    return {
        "cpu_us": 1e6 * cpu / done["delivered"],
        "last_ms": statistics.median(done["lastMs"]),
        "last_ms_max": max(done["lastMs"]),
        "socket_kb": (connected_kb - before_kb) / sockets,
        "bytes": done["messageBytes"],
        "delivered": done["delivered"],
    }


def _next(client: subprocess.Popen[str], server: Server) -> None:
    _report(client)
    server.process.wait_until_quiet()


def _report(client: subprocess.Popen[str]) -> dict[str, Any]:
    assert client.stdout is not None  # noqa: S101 - it is a pipe
    line = client.stdout.readline()
    if not line:
        raise SystemExit("the subscribing client gave up; its reason stands above")
    report: dict[str, Any] = json.loads(line)
    return report


def _proceed(client: subprocess.Popen[str]) -> None:
    assert client.stdin is not None  # noqa: S101 - it is a pipe
    client.stdin.write("\n")
    client.stdin.flush()
