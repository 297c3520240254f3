"""What the project wants to reach, and whether a run has reached it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.figures import median, ratio

# How much longer a page may take in the largest database than in the smallest.
PAGE_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that should be low: at most `must`, better at most `aim`. `read` takes it from what the phases have found."""

    title: str
    must: float
    aim: float | None
    phase: str
    read: Callable[[Any], float]
    is_factor: bool = False

    def verdict(self, value: float) -> str:
        """In a word or two."""
        if self.is_factor:
            return "reached" if value >= self.must else "missed"
        if self.aim is not None and value <= self.aim:
            return "aim reached"
        return "reached" if value <= self.must else "missed"


def _requests(workload: str, ours: str = "taskgraph") -> Callable[[Any], float]:
    return lambda found: ratio(found[workload][ours], found[workload]["mercurius"], "cpu_us")


def _faster_than_strawberry(workload: str) -> Callable[[Any], float]:
    return lambda found: ratio(found[workload]["strawberry_cached"], found[workload]["taskgraph"], "cpu_us")


def _socket_kb(found: Any) -> float:
    rounds = found[max(found, key=int)]["taskgraph"]
    return median(rounds, "socket_kb")


def _page_growth(found: Any) -> float:
    return float(found[max(found, key=int)]["reads"]["page"]["ratio"])


GOALS = (
    Goal("W1 viewer, CPU to Mercurius", 0.5, 0.3, "requests", _requests("W1")),
    Goal("W2 page of 20, CPU to Mercurius", 0.8, 0.6, "requests", _requests("W2")),
    Goal("W3 nested page, CPU to Mercurius", 1.0, 0.7, "requests", _requests("W3")),
    Goal(
        "W4 create, CPU to Mercurius (taskgraph also writes the event, in one transaction)", 2.0, 1.2, "requests", _requests("W4")
    ),
    Goal("W5 hot page with response cache, CPU to Mercurius", 0.15, 0.06, "requests", _requests("W5", "taskgraph_cached")),
    Goal("W2, times cheaper than Strawberry with its caches", 10, None, "requests", _faster_than_strawberry("W2"), is_factor=True),
    Goal("W3, times cheaper than Strawberry with its caches", 10, None, "requests", _faster_than_strawberry("W3"), is_factor=True),
    Goal(
        "subscription, CPU of a delivered message to Mercurius, 1,000 subscribers",
        1.0,
        0.7,
        "subscriptions",
        lambda found: ratio(found["1000"]["taskgraph"], found["1000"]["mercurius"], "cpu_us"),
    ),
    Goal("memory of an idle subscriber, KB", 60, 35, "subscriptions", _socket_kb),
    Goal("time of a page in the largest database to that in the smallest", PAGE_GROWTH, 1.15, "growth", _page_growth),
)
