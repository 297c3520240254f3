"""`python -m chaos`: tries every fault, prints what held, and writes the page of results; see README.md here."""

import argparse
import asyncio
import dataclasses
import datetime as dt
import json
import traceback
from pathlib import Path
from typing import Any

import uvloop

from bench import machine as code
from chaos import machine, page, proxy
from chaos.bars import TRIALS, broken
from chaos.program import NotReady
from chaos.scope import FULL, QUICK, Scope

HERE = Path(__file__).parent
# A quick run tries each fault once or twice, so it never replaces the page.
QUICK_FOLDER = HERE / "quick"


def main() -> None:
    """Status 1 when something that must hold did not."""
    args = _arguments()
    if hint := proxy.missing():
        raise SystemExit(f"error: {hint}")
    scope = QUICK if args.quick else FULL
    if args.herd:
        scope = dataclasses.replace(scope, herd=args.herd)
    file = QUICK_FOLDER / "results.json" if args.quick else page.RESULTS
    file.parent.mkdir(exist_ok=True)
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"trials": {}}
    results |= {"machine": machine.described(), "scope": dataclasses.asdict(scope)}
    failed = [name for name in args.only if not _held(name, scope, results, file)]
    written = QUICK_FOLDER / "reliability.md" if args.quick else page.PAGE
    written.write_text(page.text(results), encoding="utf-8")
    print(f"\n{page.table(results['trials'])}\n\nwrote {written}")
    if failed:
        raise SystemExit(f"error: not everything held in {', '.join(failed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"some minutes; writes to {QUICK_FOLDER.name}/ instead of docs/")
    parser.add_argument("--only", type=_names, default=list(TRIALS), metavar="TRIAL,TRIAL", help=f"some of {', '.join(TRIALS)}")
    parser.add_argument("--herd", type=int, metavar="N", help="subscribers of trial herd")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - TRIALS.keys():
        raise argparse.ArgumentTypeError(f"there is no trial {', '.join(sorted(unknown))}")
    return [name for name in TRIALS if name in names]


def _held(name: str, scope: Scope, results: dict[str, Any], file: Path) -> bool:
    """Makes a trial and keeps what it found at once, so that a run that is cut off has not tried in vain."""
    print(f"{name}: {TRIALS[name].title} ...", flush=True)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(TRIALS[name].run(scope))
    except (NotReady, ExceptionGroup) as error:
        # The other trials say more than the end of the run would.
        traceback.print_exception(error)
        return False
    at = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    results["trials"][name] = {"at": at, "revision": code.revision(), "found": found}
    file.write_text(json.dumps(results, indent=1) + "\n")
    for what in broken(name, found):
        print(f"  BROKEN {what}")
    for example in found.get("breaches", {}).get("examples", []):
        print(f"    {example}")
    return not broken(name, found)


if __name__ == "__main__":
    main()
