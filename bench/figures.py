"""From windows to figures: medians, and ratios of what was measured side by side."""

import statistics
from collections.abc import Mapping, Sequence

Rows = Sequence[Mapping[str, float]]


def median(rows: Rows, key: str) -> float:
    """The middle one: an outlier in a window or two does not move it."""
    return statistics.median(row[key] for row in rows)


def ratio(rows: Rows, others: Rows, key: str) -> float:
    """Median over the turns of one server's figure by another's in the same turn."""
    return statistics.median(row[key] / other[key] for row, other in zip(rows, others, strict=True))


def shown(value: float) -> str:
    """Three digits are as many as such a figure has."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; every column but the first is aligned to the right."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def keeps_up(figures: Mapping[str, float]) -> bool:
    """Whether nearly all that was offered to a server was also answered meanwhile."""
    return figures["answered"] >= 0.98 * figures["due"]
