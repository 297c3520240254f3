"""The pictures of the report, as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.figures import keeps_up, median, shown
from bench.goals import PAGE_GROWTH

OURS, CACHED, REFERENCE, OTHERS = "#1b6e53", "#69b79a", "#b0562c", "#b9bec6"
COLOURS = {"taskgraph": OURS, "taskgraph_cached": CACHED, "mercurius": REFERENCE}
THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:g}")
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    # The same figures give the same file, byte for byte.
    "svg.hashsalt": "taskgraph",
    # Letters stay letters: smaller, and readable in a diff.
    "svg.fonttype": "none",
}


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """One file for each phase that was measured and has a picture."""
    mpl.use("svg")
    mpl.rcParams.update(STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "requests": _requests,
        "shapes": _shapes,
        "growth": _growth,
        "offered": _offered,
        "connections": _connections,
    }
    for phase, picture in pictures.items():
        if phase in results["phases"]:
            figure = picture(results["phases"][phase]["found"], results["titles"])
            file = folder / f"performance-{phase}.svg"
            figure.savefig(file, format="svg", metadata={"Date": None})
            plt.close(figure)
            # matplotlib ends lines with spaces, which version control calls a mistake.
            file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines()))


def _requests(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    """A panel for each workload, a bar for each server."""
    figure, grid = plt.subplots(len(found), 1, figsize=(8, 1.75 * len(found)))
    for axes, workload in zip(grid, sorted(found), strict=True):
        # Ours first; the others as they were measured.
        names = sorted(found[workload], key=lambda name: not name.startswith("taskgraph"))
        bars = {titles[name]: median(found[workload][name], "cpu_us") for name in names}
        _bars(axes, bars, [COLOURS.get(name, OTHERS) for name in names])
        axes.set_title(f"{workload} {titles[workload]}")
    figure.supxlabel("CPU microseconds of the server per request; less is better", fontsize=9)
    return figure


def _bars(axes: Axes, bars: Mapping[str, float], colours: Sequence[str]) -> None:
    drawn = axes.barh(list(bars), list(bars.values()), color=colours, height=0.7)
    axes.bar_label(drawn, labels=[shown(value) for value in bars.values()], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(bars.values()))
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.tick_params(left=False)


def _shapes(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    figure, axes = plt.subplots(figsize=(8, 0.55 * len(found) + 1))
    for offset, name, colour in ((-0.2, "taskgraph", OURS), (0.2, "taskgraph_interpreted", OTHERS)):
        values = [median(shape["windows"][name], "cpu_us") for shape in found.values()]
        drawn = axes.barh([place + offset for place in range(len(found))], values, 0.38, color=colour, label=titles[name])
        axes.bar_label(drawn, labels=[shown(value) for value in values], padding=3)
    axes.set_yticks(range(len(found)), [shape["title"] for shape in found.values()])
    axes.tick_params(left=False)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.set_xlabel("CPU microseconds of the server per request; less is better")
    axes.legend(loc="lower right")
    return figure


def _growth(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    """Ratios, because they were measured in turns; lines that stay level mean that the size of the database does not matter."""
    figure, axes = plt.subplots(figsize=(8, 4))
    sizes = [int(size) for size in found]
    for name in next(iter(found.values()))["reads"]:
        axes.plot(sizes, [at["reads"][name]["ratio"] for at in found.values()], marker="o", label=titles[name])
    axes.axhline(PAGE_GROWTH, color=OTHERS, linestyle="--", label="goal of a page")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("tasks in the database")
    axes.set_ylabel(f"times the median with {sizes[0]:,} tasks")
    figure.legend(loc="outside right upper")
    return figure


def _offered(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    """A line ends where the server cannot keep up."""
    figure, axes = plt.subplots(figsize=(8, 4))
    for name in next(iter(found.values())):
        kept = {int(rate): servers[name] for rate, servers in found.items() if keeps_up(servers[name])}
        for key, style, label in (("p50_ms", "-", "median"), ("p99_ms", "--", "99th percentile")):
            values = [figures[key] for figures in kept.values()]
            axes.plot(list(kept), values, style, marker="o", color=COLOURS[name], label=f"{titles[name]}, {label}")
    _logarithmic(axes)
    axes.set_xlabel("requests offered a second")
    axes.set_ylabel("milliseconds since a request was due")
    axes.legend(loc="upper left")
    return figure


def _connections(found: Mapping[str, Any], titles: Mapping[str, str]) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5))
    places = range(len(found))
    for axes, key, label in ((left, "rate", "requests a second"), (right, "p99_ms", "99th percentile, milliseconds")):
        for name in next(iter(found.values())):
            values = [median(servers[name], key) for servers in found.values()]
            axes.plot(places, values, marker="o", color=COLOURS[name], label=titles[name])
        axes.set_xticks(places, list(found))
        axes.set_xlabel("connections")
        axes.set_title(label)
        axes.grid(axis="y")
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter(THOUSANDS)
    _logarithmic(right)
    left.legend()
    return figure


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
