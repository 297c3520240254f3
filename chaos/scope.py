"""How much a run does: all that docs/reliability.md promises, or enough to see that it works."""

from dataclasses import dataclass, field

from chaos.traffic import Load


@dataclass(frozen=True, slots=True)
class Scope:
    """How often each fault comes, and how much there is of everything. `calm_seconds` pass between two faults."""

    primary_kills: int = 5
    primary_pauses: int = 2
    server_kills: int = 5
    rolling_restarts: int = 2
    redis_rounds: int = 1
    calm_seconds: float = 4
    # How long something is frozen, or Valkey away.
    fault_seconds: float = 5
    # MongoDB's default and what docs/operations.md suggests to those who want to wait less.
    election_timeouts_ms: tuple[int, ...] = (10_000, 2_000)
    load: Load = field(default_factory=Load)
    listeners: int = 1000
    listening_seconds: float = 20
    events_per_second: int = 50
    stall_seconds: float = 25
    bystanders: int = 100
    herd: int = 5000


FULL = Scope()
QUICK = Scope(
    primary_kills=1,
    primary_pauses=1,
    server_kills=2,
    rolling_restarts=1,
    calm_seconds=2,
    fault_seconds=3,
    listeners=200,
    listening_seconds=8,
    herd=500,
)
