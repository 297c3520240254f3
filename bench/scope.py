"""How much a run measures: all of it, or enough to see that it works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """Counts and lengths of everything that is measured. `warm_up` scales the warm-up of each server."""

    users: int
    tasks_per_user: int
    windows: int
    window_seconds: int
    warm_up: float
    shape_windows: int
    connections: tuple[int, ...]
    rates: tuple[int, ...]
    rate_seconds: int
    sockets: tuple[int, ...]
    compared_sockets: int
    subscription_rounds: int
    events: int
    sizes: tuple[int, ...]
    growth_rounds: int
    growth_requests: int


FULL = Scope(
    users=1000,
    tasks_per_user=200,
    windows=4,
    window_seconds=3,
    warm_up=0.6,
    shape_windows=2,
    connections=(1, 8, 32, 128, 512),
    rates=(100, 400, 800, 1200, 1600, 2000),
    rate_seconds=6,
    sockets=(100, 1000, 5000),
    compared_sockets=1000,
    subscription_rounds=3,
    events=20,
    sizes=(10_000, 100_000, 1_000_000, 10_000_000),
    growth_rounds=10,
    growth_requests=100,
)
QUICK = Scope(
    users=100,
    tasks_per_user=200,
    windows=2,
    window_seconds=2,
    warm_up=0.2,
    shape_windows=1,
    connections=(1, 32, 512),
    rates=(100, 400, 800),
    rate_seconds=3,
    sockets=(100, 1000),
    compared_sockets=1000,
    subscription_rounds=1,
    events=10,
    sizes=(10_000, 100_000),
    growth_rounds=3,
    growth_requests=50,
)
