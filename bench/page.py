"""The text of the page of results: figures as they were measured; what is said about them holds for any run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import keeps_up, median, ratio, shown, table
from bench.goals import GOALS

HERE = Path(__file__).parent
PEERS = ("mercurius", "yoga", "apollo", "strawberry", "strawberry_cached")
Phase = Mapping[str, Any]
# By the phase that a picture shows.
CHARTS = {
    "requests": "CPU per request, by workload and server",
    "shapes": "CPU per request of other operations, compiled or not",
    "growth": "Time of reads by the number of tasks in the database, as a multiple of the time in the smallest",
    "offered": "Latency of W2 by the requests offered a second; a line ends where the server cannot keep up",
    "connections": "Requests a second and latency of W2 by the number of connections",
}
_WORKLOADS = """\
- **W1** `viewer`: what any request costs.
- **W2** a page of 20 tasks with six fields each.
- **W3** the same page with owner, assignee and five subtasks of each task.
- **W4** `createTask`. taskgraph writes the task and its event in one transaction, the others the task alone.
- **W5** W2, always as the same user: what a response cache is for."""


def text(results: Mapping[str, Any]) -> str:
    """In Markdown; a phase that was not measured leaves its section out."""
    phases, titles = results["phases"], results["titles"]
    sections = {
        "requests": _requests,
        "shapes": _shapes,
        "subscriptions": _subscriptions,
        "growth": _growth,
        "offered": _offered,
        "connections": _connections,
        "workers": _workers,
    }
    found = [section(phases[name]["found"], titles) for name, section in sections.items() if name in phases]
    parts = [
        _opening(results),
        _goals(phases),
        _charts(phases),
        *found,
        _method(results),
        (HERE / "method.md").read_text(encoding="utf-8"),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _opening(results: Mapping[str, Any]) -> str:
    phases, titles = results["phases"], results["titles"]
    opening = """# Performance

What an operation costs the server, beside servers that one could take instead: the same operations over the same data, on one
machine, each measured in turns with the others. `us` are microseconds."""
    if "requests" not in phases:
        return opening
    found = phases["requests"]["found"]
    rows = [_line(found, workload, titles, "taskgraph") for workload in sorted(found)]
    rows.append(_line(found, "W5", titles, "taskgraph_cached"))
    heads = ["CPU us per request", "taskgraph", *(titles[peer] for peer in PEERS), "taskgraph to Mercurius"]
    return f"{opening}\n\n{table(heads, rows)}"


def _line(found: Phase, workload: str, titles: Mapping[str, str], ours: str) -> list[str]:
    servers = found[workload]
    name = f"{workload} {titles[workload]}" + (", response cache on" if ours == "taskgraph_cached" else "")
    costs = [shown(median(servers[server], "cpu_us")) for server in (ours, *PEERS)]
    return [name, f"**{costs[0]}**", *costs[1:], f"{ratio(servers[ours], servers['mercurius'], 'cpu_us'):.2f}"]


def _goals(phases: Phase) -> str:
    rows = []
    for goal in GOALS:
        if goal.phase in phases:
            try:
                value = goal.read(phases[goal.phase]["found"])
            except KeyError:
                continue  # A quick run leaves sizes out.
            sign = "at least" if goal.is_factor else "at most"
            aim = "" if goal.aim is None else f"{goal.aim:g}"
            rows.append([goal.title, f"{sign} {goal.must:g}", aim, shown(value), goal.verdict(value)])
    return f"## Goals\n\n{table(['', 'must', 'aim', 'measured', ''], rows)}" if rows else ""


def _charts(phases: Phase) -> str:
    drawn = [f"![{caption}](images/performance-{name}.svg)\n\n*{caption}.*" for name, caption in CHARTS.items() if name in phases]
    return "\n\n".join(["## In pictures", *drawn]) if drawn else ""


def _requests(found: Phase, titles: Mapping[str, str]) -> str:
    heads = ["", "req/s", "p50 ms", "p99 ms", "CPU us", "to Mercurius", "mongod us", "bytes"]
    tables = []
    for workload in sorted(found):
        servers = found[workload]
        rows = [
            [
                titles[name],
                *(shown(median(windows, key)) for key in ("rate", "p50_ms", "p99_ms", "cpu_us")),
                f"{ratio(windows, servers['mercurius'], 'cpu_us'):.2f}",
                *(shown(median(windows, key)) for key in ("mongod_us", "bytes")),
            ]
            for name, windows in sorted(servers.items(), key=_ours_first)
        ]
        tables.append(f"### {workload} {titles[workload]}\n\n{table(heads, rows)}")
    return "\n\n".join(
        [
            "## Requests",
            _WORKLOADS,
            *tables,
        ]
    )


def _ours_first(item: tuple[str, Any]) -> bool:
    return not item[0].startswith("taskgraph")


def _shapes(found: Phase, titles: Mapping[str, str]) -> str:
    rows = []
    for shape in found.values():
        compiled, interpreted = (shape["windows"][name] for name in ("taskgraph", "taskgraph_interpreted"))
        costs = [shown(median(windows, "cpu_us")) for windows in (compiled, interpreted)]
        rows.append([shape["title"], *costs, shown(ratio(interpreted, compiled, "cpu_us")), shown(median(compiled, "rate"))])
    heads = ["", titles["taskgraph"], titles["taskgraph_interpreted"], "times cheaper", "req/s"]
    return f"""## Other shapes

Operations that only taskgraph knows, with `TASKGRAPH_COMPILED_EXECUTION` on and off; both answer with the same bytes.
[How an operation travels](execution.md) says what that setting does. CPU in microseconds per request.

{table(heads, rows)}"""


def _subscriptions(found: Phase, titles: Mapping[str, str]) -> str:
    rows = []
    for sockets, servers in found.items():
        for name, rounds in servers.items():
            compared = f"{ratio(rounds, servers['mercurius'], 'cpu_us'):.2f}" if "mercurius" in servers else ""
            figures = [shown(median(rounds, key)) for key in ("last_ms", "socket_kb", "bytes")]
            rows.append([f"{int(sockets):,} sockets, {titles[name]}", shown(median(rounds, "cpu_us")), compared, *figures])
    heads = ["", "CPU us per message", "to Mercurius", "last delivery ms", "KB per socket", "bytes"]
    return f"""## Subscriptions

Sockets of one user, all of which receive each event; an event is a `createTask`. Connecting is not counted, the mutation is. The last
delivery counts from sending the mutation.

{table(heads, rows)}"""


def _growth(found: Phase, titles: Mapping[str, str]) -> str:
    reads = list(next(iter(found.values()))["reads"])
    rows = []
    for name in reads:
        for size, at in found.items():
            figures = at["reads"][name]
            times = [f"{figures[key]:.2f}" for key in ("p50_ms", "p99_ms", "least_p50_ms", "ratio")]
            examined = [f"{figures[key]:,.0f}" for key in ("keys", "documents")]
            rows.append([f"{titles[name]}, {int(size):,} tasks", *times, *examined])
    made = [[f"{int(size):,}", f"{at['bytes'] / 1e9:.2f}", f"{at['fill_seconds']:,.0f}"] for size, at in found.items()]
    least = f"{int(next(iter(found))):,}"
    return f"""## Growth

One request at a time, on databases that differ in the number of tasks. One user has 5,000 of them, every other user 200. Each database was
asked in turns with that of {least} tasks; the ratio is the median of the turns. Keys and documents are what MongoDB looked at for one request.

{table(["", "p50 ms", "p99 ms", f"{least} tasks meanwhile, p50 ms", "ratio", "keys", "documents"], rows)}

{table(["tasks", "GB stored, indexes included", "seconds to make"], made)}"""


def _offered(found: Phase, titles: Mapping[str, str]) -> str:
    names = list(next(iter(found.values())))
    rows = []
    for rate, servers in found.items():
        cells = [rate]
        for name in names:
            figures = servers[name]
            if keeps_up(figures):
                cells += [shown(figures["p50_ms"]), shown(figures["p99_ms"])]
            else:
                cells += [f"answers {figures['rate']:,.0f} a second", ""]
        rows.append(cells)
    heads = ["requests a second", *(f"{titles[name]}, {key} ms" for name in names for key in ("p50", "p99"))]
    return f"""## Latency at an offered load

W2, sent at random moments whether or not earlier requests are answered, over at most 128 connections. Time counts from the moment
at which a request was due, so waiting for a server that is behind counts too.

{table(heads, rows)}"""


def _connections(found: Phase, titles: Mapping[str, str]) -> str:
    names = list(next(iter(found.values())))
    keys = {"rate": "req/s", "p99_ms": "p99 ms", "cpu_us": "CPU us"}
    rows = [[count, *(shown(median(servers[name], key)) for name in names for key in keys)] for count, servers in found.items()]
    heads = ["connections", *(f"{titles[name]}, {head}" for name in names for head in keys.values())]
    return f"""## Connections

W2 over so many connections, each of which sends its next request when it has an answer.

{table(heads, rows)}"""


def _workers(found: Phase, _titles: Mapping[str, str]) -> str:
    keys = ("rate", "p50_ms", "p99_ms", "cpu_us")
    rows = [[count, *(shown(median(windows, key)) for key in keys)] for count, windows in found.items()]
    return f"""## Processes

W2 by `serve --workers N`, 32 connections. Here the server may use every core; load and databases keep theirs and compete with it.

{table(["workers", "req/s", "p50 ms", "p99 ms", "CPU us"], rows)}"""


def _method(results: Mapping[str, Any]) -> str:
    facts = "\n".join(f"- {name}: {fact}" for name, fact in results["machine"].items())
    when = [
        [name, phase["at"].replace("T", " ").replace("+00:00", " UTC"), phase["revision"]]
        for name, phase in results["phases"].items()
    ]
    calibrations = sorted(
        window["calibration_us"]
        for servers in results["phases"].get("requests", {"found": {}})["found"].values()
        for windows in servers.values()
        for window in windows
    )
    spread = (
        f"\n\nThe calibration loop took {calibrations[0] / 1000:.1f} to {calibrations[-1] / 1000:.1f} ms of CPU, "
        f"in the median {calibrations[len(calibrations) // 2] / 1000:.1f} ms."
        if calibrations
        else ""
    )
    scope = results["scope"]
    return f"""## Measured with

{facts}

{table(["phase", "ended", "revision"], when)}

{scope["users"]:,} users with {scope["tasks_per_user"]} tasks each; {scope["windows"]} windows of {scope["window_seconds"]} s for each server and workload.{spread}"""
