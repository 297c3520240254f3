"""Writes the page of results and its pictures: `python -m bench.report RESULTS FOLDER`. It measures nothing."""

import json
import sys
from pathlib import Path

from bench import charts, page


def main() -> None:
    """The pictures go below the folder of the page."""
    file, folder = map(Path, sys.argv[1:])
    results = json.loads(file.read_text(encoding="utf-8"))
    charts.draw(results, folder / "images")
    (folder / "performance.md").write_text(page.text(results), encoding="utf-8")
    print(f"wrote {folder / 'performance.md'}")


if __name__ == "__main__":
    main()
