"""Whether operations have become more expensive: `python -m bench.regression` needs neither peers nor wrk, and takes under a minute.

A cost is CPU per request by CPU of a fixed loop of Python on the same core at the same time, so that it means the same on a fast and on
a slow machine. The best of several windows counts: others on the machine make windows worse, never better.
"""

import argparse
import asyncio
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from bench import answers, closed_loop, cores, data, databases, servers
from bench.databases import Databases
from bench.process import cpu_seconds
from bench.servers import HERE, Server
from bench.workloads import CREATE, HOT_PAGE, NESTED, PAGE, VIEWER, Workload

FOLDER = HERE / "run"
RECORD = Path(__file__).with_suffix(".toml")
USERS, TASKS_PER_USER = 20, 100
WINDOWS = 5
# For each workload, about half a second of the server's CPU.
REQUESTS = ((VIEWER, 1500), (PAGE, 600), (NESTED, 300), (HOT_PAGE, 600), (CREATE, 300))
HEAD = """\
# What operations cost: CPU per request by CPU of the calibration loop, best of several windows.
# Written by `make bench-check ARGS=--record`. The check fails at `bound` times these.
"""


def main() -> None:
    """Status 1 when something costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.regression", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write what is measured to {RECORD.name}")
    args = parser.parse_args()
    recorded = tomllib.loads(RECORD.read_text(encoding="utf-8"))
    costs = asyncio.run(_measured())
    if args.record:
        lines = [f"{name} = {cost:.4f}\n" for name, cost in costs.items()]
        RECORD.write_text(f"{HEAD}bound = {recorded['bound']}\n\n[costs]\n{''.join(lines)}", encoding="utf-8")
        return
    for name, cost in costs.items():
        print(f"{name}  {cost:.4f}  {cost / recorded['costs'][name]:.2f} times the record")
    if found := slower(costs, recorded["costs"], bound=recorded["bound"]):
        sys.exit(f"error: {'; '.join(found)}")


def slower(costs: Mapping[str, float], recorded: Mapping[str, float], *, bound: float) -> list[str]:
    """A sentence for each workload that costs more than `bound` times the record."""
    times = {name: cost / recorded[name] for name, cost in costs.items()}
    return [
        f"{name} costs {factor:.2f} times what was recorded, more than {bound:g}"
        for name, factor in times.items()
        if factor > bound
    ]


async def _measured() -> dict[str, float]:
    async with databases.running(FOLDER) as running:
        return await asyncio.to_thread(_costs, running)


def _costs(running: Databases) -> dict[str, float]:
    """By workload. The response cache is on for the hot page alone."""
    data.fill_taskgraph(running, users=USERS, tasks_per_user=TASKS_PER_USER)
    with servers.running((servers.OURS, servers.OURS_CACHED), running) as (plain, cached):
        return {
            workload.name: _cost(cached if workload is HOT_PAGE else plain, workload, requests) for workload, requests in REQUESTS
        }


def _cost(server: Server, workload: Workload, requests: int) -> float:
    answers.expect_right(server, workload)
    closed_loop.put_load(server, workload, requests=requests)
    best = min(_window(server, workload, requests) for _ in range(WINDOWS))
    answers.expect_right(server, workload)
    return best


def _window(server: Server, workload: Workload, requests: int) -> float:
    calibration_us = cores.calibration_us()
    before = cpu_seconds(server.process.pid)
    closed_loop.put_load(server, workload, requests=requests)
    cpu_us = 1e6 * (cpu_seconds(server.process.pid) - before) / requests
    # Before and after, because the core may have changed its pace meanwhile.
    return 2 * cpu_us / (calibration_us + cores.calibration_us())


if __name__ == "__main__":
    main()
