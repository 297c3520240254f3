"""The text of docs/reliability.md: figures as they were measured; what is said about them holds for any run.

`python -m chaos.page` writes it anew from results.json. It tries nothing.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chaos.bars import TRIALS

HERE = Path(__file__).parent
METHOD = HERE / "method.md"
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs" / "reliability.md"
HEADS = ("Fault", "What must hold", "What was measured", "")


def text(results: Mapping[str, Any]) -> str:
    """In Markdown; a trial that was not made leaves its rows out."""
    opening = """# Reliability

What fails in practice, done on purpose to a whole installation under load: what must hold meanwhile, and what was measured. [events.md](events.md) has the
promises that are tried here."""
    parts = [opening, table(results["trials"]), measured_with(results), METHOD.read_text(encoding="utf-8").strip()]
    return "\n\n".join(parts) + "\n"


def table(trials: Mapping[str, Any]) -> str:
    """All that was tried, in Markdown."""
    lines = [HEADS, ["---"] * len(HEADS), *rows(trials)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def rows(trials: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row for each bar; the first of a trial names its fault."""
    for name, trial in TRIALS.items():
        if name in trials:
            found = trials[name]["found"]
            times = f", {found['faults']} times" if found.get("faults", 1) > 1 else ""
            for number, bar in enumerate(trial.bars):
                verdict = "held" if bar.holds(found) else "**broken**"
                yield ["" if number else f"{trial.title}{times}", bar.what, bar.measured(found), verdict]


def measured_with(results: Mapping[str, Any]) -> str:
    """Where, when and how much."""
    facts = "\n".join(f"- {name}: {fact}" for name, fact in results["machine"].items())
    when = [
        f"| {name} | {trial['at'].replace('T', ' ').replace('+00:00', ' UTC')} | {trial['revision']} |"
        for name, trial in results["trials"].items()
    ]
    load = results["scope"]["load"]
    writers, subscribers = (load["users"] * count for count in (load["writers"], load["subscribers"] + load["restless"]))
    return "\n".join(
        [
            "## Measured with",
            "",
            facts,
            f"- traffic during a fault: {writers} writers, each with a write every {load['pace_seconds']:g} s at most, {subscribers} subscribers",
            "",
            "| trial | ended | revision |",
            "| --- | --- | --- |",
            *when,
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(text(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {PAGE}")
