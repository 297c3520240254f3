"""`python -m bench`: measures everything once and writes the page of results; see README.md here."""

import argparse
import asyncio
import dataclasses
import datetime as dt
import json
import subprocess
from pathlib import Path
from typing import Any

from bench import data, databases, growth, machine, phases, servers
from bench.databases import Databases
from bench.scope import FULL, QUICK, Scope
from bench.servers import HERE, PEERS_PYTHON
from bench.workloads import WORKLOADS

FOLDER = HERE / "run"
RESULTS = HERE / "results.json"
# A quick run has few windows, so its figures never replace those of the page.
QUICK_FOLDER = HERE / "quick"


def main() -> None:
    """Measures, keeps the results, has them rendered."""
    args = _arguments()
    machine.expect_tools()
    scope = QUICK if args.quick else FULL
    if args.sizes:
        scope = dataclasses.replace(scope, sizes=tuple(sorted(args.sizes)))
    results = QUICK_FOLDER / "results.json" if args.quick else RESULTS
    results.parent.mkdir(exist_ok=True)
    asyncio.run(_measured(scope, args.only, results))
    docs = QUICK_FOLDER if args.quick else HERE.parent / "docs"
    # In the environment that has matplotlib.
    command = (str(PEERS_PYTHON), "-m", "bench.report", str(results), str(docs))
    subprocess.run(command, cwd=HERE.parent, check=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"a few minutes; writes to {QUICK_FOLDER.name}/ instead of docs/")
    parser.add_argument(
        "--only", type=_names, default=list(phases.PHASES), metavar="PHASE,PHASE", help=f"some of {', '.join(phases.PHASES)}"
    )
    parser.add_argument("--sizes", type=_sizes, metavar="N,N", help="tasks in the databases of phase growth")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - phases.PHASES.keys():
        raise argparse.ArgumentTypeError(f"there is no phase {', '.join(sorted(unknown))}")
    return [name for name in phases.PHASES if name in names]


def _sizes(text: str) -> list[int]:
    return [int(float(size)) for size in text.split(",")]


async def _measured(scope: Scope, names: list[str], file: Path) -> None:
    async with databases.running(FOLDER) as running:
        # The loop stays free to watch over the databases.
        await asyncio.to_thread(_measure, running, scope, names, file)


def _measure(running: Databases, scope: Scope, names: list[str], file: Path) -> None:
    """Adds each phase to the file as it ends, so that a run that is cut off has not measured in vain."""
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"phases": {}}
    results["machine"] = machine.described(running)
    results["titles"] = _titles()
    results["scope"] = dataclasses.asdict(scope)
    if set(names) != {"growth"}:
        print(f"making {scope.users} users with {scope.tasks_per_user} tasks each", flush=True)
        data.fill(running, users=scope.users, tasks_per_user=scope.tasks_per_user)
    for name in names:
        print(f"{name} ...", flush=True)
        measured = phases.PHASES[name](running, scope)
        at = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
        results["phases"][name] = {"at": at, "revision": machine.revision(), "found": measured}
        file.write_text(json.dumps(results, indent=1) + "\n")


def _titles() -> dict[str, str]:
    """What the page calls servers, workloads and kinds of reads: rendering knows nothing else about them."""
    kinds = (*servers.COMPARED, servers.OURS_INTERPRETED)
    return {each.name: each.title for each in (*kinds, *WORKLOADS)} | growth.TITLES


if __name__ == "__main__":
    main()
