"""How long things took, counted in buckets, in a fraction of the two microseconds that a histogram of prometheus-client takes."""

from bisect import bisect_left
from itertools import accumulate, chain

BOUNDS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Durations:
    """A histogram."""

    __slots__ = ("_counts", "total_seconds")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self.total_seconds = 0.0

    def note(self, seconds: float) -> None:
        """One more, that took so long."""
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        self.total_seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so long, in the words of Prometheus."""
        bounds = chain(map(str, BOUNDS_SECONDS), ["+Inf"])
        return list(zip(bounds, accumulate(self._counts), strict=True))
