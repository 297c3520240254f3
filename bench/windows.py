"""Measuring by windows: stretches of load of a few seconds, on one server after the other, again and again.

Interleaved, because a machine that is shared is slow at one time and fast at another: figures of windows that follow each other
can be compared, figures of different minutes cannot.
"""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import answers, cores
from bench.process import cpu_seconds
from bench.servers import Server
from bench.workloads import Workload

CONNECTIONS = 32
SCRIPT = Path(__file__).with_name("wrk.lua")
REQUEST_TIMEOUT_SECONDS = 10
# A shared machine, or its disk, may stand still for the seconds of a window; it is said, and a second time ends the run.
ATTEMPTS = 2
Window = dict[str, float]


def interleaved(
    servers: Sequence[Server], workload: Workload, *, mongod_pid: int, count: int, seconds: int, warm_up: float = 1
) -> dict[str, list[Window]]:
    """`count` windows of each server in turn; answers are checked before and after. `warm_up` scales the warm-up of each server."""
    for server in servers:
        answers.expect_right(server, workload)
        put_load(server, workload, seconds=max(1, round(server.kind.warm_up_seconds * warm_up)))
        server.process.wait_until_quiet()
    found = alternating(servers, workload, mongod_pid=mongod_pid, count=count, seconds=seconds)
    for server in servers:
        answers.expect_right(server, workload)
    return found


def alternating(
    servers: Iterable[Server], workload: Workload, *, mongod_pid: int, count: int, seconds: int, connections: int = CONNECTIONS
) -> dict[str, list[Window]]:
    """The windows alone: A B A B ..."""
    found: dict[str, list[Window]] = {server.name: [] for server in servers}
    for _ in range(count):
        for server in servers:
            found[server.name].append(window(server, workload, mongod_pid=mongod_pid, seconds=seconds, connections=connections))
    return found


def window(server: Server, workload: Workload, *, mongod_pid: int, seconds: int, connections: int = CONNECTIONS) -> Window:
    """Rate, latency, CPU of the server and of mongod per request, and how slow the core was just then."""
    pids = (server.process.pid, mongod_pid)
    for _ in range(ATTEMPTS):
        before = [cpu_seconds(pid) for pid in pids]
        load = put_load(server, workload, seconds=seconds, connections=connections)
        if load["requests"]:
            break
        print(f"{server.name} {workload.name}: not one answer within {seconds} s, so once more", flush=True)
    else:
        raise SystemExit(f"{server.name} {workload.name}: no answers: {server.process.log_tail()}")
    cpu, mongod = (1e6 * (cpu_seconds(pid) - start) / load["requests"] for pid, start in zip(pids, before, strict=True))
    server.process.wait_until_quiet()
    return {
        "rate": 1e6 * load["requests"] / load["duration_us"],
        "p50_ms": load["p50_us"] / 1e3,
        "p99_ms": load["p99_us"] / 1e3,
        "cpu_us": cpu,
        "mongod_us": mongod,
        "bytes": load["bytes"] / load["requests"],
        "calibration_us": cores.calibration_us(),
    }


def put_load(server: Server, workload: Workload, *, seconds: int, connections: int = CONNECTIONS) -> dict[str, Any]:
    """What wrk reports after so many seconds; SystemExit when a single request failed."""
    told = {
        "WRK_PATH": "/graphql",
        "WRK_BODY": workload.body.decode(),
        "WRK_USERS": str(workload.users or len(server.tokens)),
        "WRK_TOKENS": str(server.tokens_file),
    }
    command = ("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{REQUEST_TIMEOUT_SECONDS}s")
    with cores.pinned(cores.LOAD):
        done = subprocess.run(
            (*command, "-s", str(SCRIPT), f"http://127.0.0.1:{server.port}"),
            env=os.environ | told,
            capture_output=True,
            text=True,
            timeout=seconds + 60,
            check=False,
        )
    reports = [line for line in done.stdout.splitlines() if line.startswith("{")]
    report: dict[str, Any] = json.loads(reports[-1]) if reports else {}
    if not report or report["bad_status"] or report["socket_errors"]:
        raise SystemExit(f"{server.name} {workload.name}: load failed: {done.stdout}{done.stderr}{server.process.log_tail()}")
    return report
