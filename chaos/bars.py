"""The trials by name, what must hold in each, and how that is read from what it found."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos import audience, trials
from chaos.scope import Scope
from chaos.trials import Found


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold, and for a trial that was made: whether it did, and what was measured."""

    what: str
    holds: Callable[[Found], bool]
    measured: Callable[[Found], str]


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of fault."""

    title: str
    run: Callable[[Scope], Coroutine[Any, Any, Found]]
    bars: Sequence[Bar]


def _unbroken(found: Found, kind: str) -> bool:
    return bool(found["breaches"][kind] == 0)


def _failures(found: Found) -> str:
    listed = ", ".join(f"{count} x {what}" for what, count in sorted(found["failures"].items()))
    return f"{sum(found['failures'].values())} failed ({listed})" if listed else "0 failed"


def _again(found: Found) -> str:
    again, elected = (", ".join(f"{seconds:.1f}" for seconds in found[f"{name}_seconds"]) for name in ("again", "elected"))
    return f"after {again} s; MongoDB had a new primary after {elected} s"


def _back_within(seconds: float) -> Bar:
    # To the tenth that is shown.
    return Bar(f"writes are back within {seconds:g} s", lambda found: round(max(found["again_seconds"]), 1) <= seconds, _again)


WRITES = Bar(
    "each acknowledged write is stored exactly once",
    lambda found: _unbroken(found, "writes"),
    lambda found: f"{found['breaches']['writes']} of {found['writes']:,} lost or doubled",
)
EVENTS = Bar(
    "each subscriber sees every event, in order per task, without a gap",
    lambda found: _unbroken(found, "events"),
    lambda found: (
        f"{found['breaches']['events']} breaches; {found['delivered']:,} events delivered to {found['subscribers']} subscribers"
    ),
)
NO_FAILURE = Bar("no request fails", lambda found: _unbroken(found, "requests") and not found["failures"], _failures)
RETRIED = Bar(
    "a request that fails may be repeated with its key, and then succeeds",
    lambda found: _unbroken(found, "requests"),
    lambda found: (
        f"{_failures(found)}, {found['breaches']['requests']} for good; the slowest write took {found['slowest_write_seconds']:.1f} s"
    ),
)
SLOWEST = Bar(
    "no write waits longer than a second",
    lambda found: bool(found["slowest_write_seconds"] <= 1),
    lambda found: f"{found['slowest_write_seconds']:.2f} s the slowest",
)
DRAINED = Bar(
    "each server ends by itself within 10 s of SIGTERM",
    lambda found: max(found["drain_seconds"]) <= 10.5 and not any(found["statuses"]),
    lambda found: f"{max(found['drain_seconds']):.1f} s the longest, status {', '.join(map(str, sorted(set(found['statuses']))))}",
)


def _soon(kind: str, percentile: str, most_ms: float) -> Bar:
    def measured(found: Found) -> str:
        of = found[kind]
        since_sent = f", {of['since_sent_p50_ms']:.1f} ms after the write was sent," if percentile == "p50_ms" else ""
        return (
            f"{of[percentile]:.1f} ms{since_sent} at {of['events_per_second']:.0f} events/s and {of['subscribers']:,} subscribers"
        )

    what = f"{percentile.removesuffix('_ms')} of delivery after the acknowledgement below {most_ms:g} ms"
    return Bar(what, lambda found: bool(found[kind][percentile] < most_ms), measured)


def _one_users(found: Found) -> str:
    of = found["one"]
    return f"p50 {of['p50_ms']:.1f}, p99 {of['p99_ms']:.1f} ms at {of['events_per_second']:.0f} events/s, each for all {of['subscribers']:,}"


TRIALS: Mapping[str, Trial] = {
    "primary_kill": Trial(
        "kill -9 of the MongoDB primary, electionTimeoutMillis 10000 (the default)",
        lambda scope: trials.primary_kills(scope, election_timeout_ms=scope.election_timeouts_ms[0]),
        (WRITES, EVENTS, RETRIED, _back_within(12)),
    ),
    "primary_kill_2s": Trial(
        "kill -9 of the MongoDB primary, electionTimeoutMillis 2000",
        lambda scope: trials.primary_kills(scope, election_timeout_ms=scope.election_timeouts_ms[1]),
        (WRITES, EVENTS, RETRIED, _back_within(4)),
    ),
    "primary_pause": Trial(
        "SIGSTOP of the primary, SIGCONT when there is another", trials.primary_pauses, (WRITES, EVENTS, RETRIED)
    ),
    "majority_lost": Trial(
        "kill -9 of both secondaries, then of the primary, which comes back last", trials.majority_lost, (WRITES, EVENTS, RETRIED)
    ),
    "server_kill": Trial("kill -9 of a server, started again", trials.server_kills, (WRITES, EVENTS, RETRIED)),
    "rolling_restart": Trial(
        "rolling restart: SIGTERM, wait, start, one server after the other",
        trials.rolling_restarts,
        (WRITES, EVENTS, NO_FAILURE, DRAINED),
    ),
    "valkey": Trial("Valkey killed, flushed, frozen", trials.without_valkey, (WRITES, EVENTS, NO_FAILURE, SLOWEST)),
    "delivery": Trial(
        "none; subscribers of 50 users",
        audience.deliveries,
        (
            _soon("many", "p50_ms", 10),
            _soon("many", "p99_ms", 100),
            Bar("events of one user come to all of its subscribers", lambda found: _unbroken(found["one"], "events"), _one_users),
        ),
    ),
    "stalled": Trial(
        "a subscriber that stops reading",
        audience.stalled,
        (
            Bar(
                "it costs its server less than 8 MB",
                lambda found: bool(found["cost_mb"] < 8),
                lambda found: (
                    f"it grew by {found['with']['growth_mb']:.1f} MB, before by {found['without']['growth_mb']:.1f} MB in the same time"
                ),
            ),
            Bar(
                "nobody else's p99 doubles",
                lambda found: bool(found["with"]["p99_ms"] < 2 * found["without"]["p99_ms"]),
                lambda found: f"{found['with']['p99_ms']:.1f} ms, without it {found['without']['p99_ms']:.1f} ms",
            ),
            Bar(
                "it is cut off, resumes, and has missed nothing",
                lambda found: _unbroken(found, "events") and bool(found["cut"]),
                lambda found: (
                    f"{found['breaches']['events']} breaches; {found['resumed']:,} events, cut off by {', '.join(found['cut'])}"
                ),
            ),
        ),
    ),
    "herd": Trial(
        "kill -9 of the server that all subscribers are on",
        audience.herd,
        (
            Bar(
                "all are back on the other within 60 s",
                lambda found: bool(found["back_max_seconds"] <= 60),
                lambda found: (
                    f"{found['subscribers']:,} subscribers: half after {found['back_p50_seconds']:.1f} s, "
                    f"the last after {found['back_max_seconds']:.1f} s"
                ),
            ),
            Bar(
                "none misses an event",
                lambda found: _unbroken(found, "events"),
                lambda found: f"{found['breaches']['events']} breaches; {found['writes']} events meanwhile",
            ),
            Bar(
                "without a database query each",
                lambda found: bool(found["finds"] < found["subscribers"]),
                lambda found: f"{found['finds']} queries",
            ),
        ),
    ),
    "control": Trial(
        "negative control: both secondaries and the primary as above, but the servers write with w:1",
        trials.control,
        (
            Bar(
                "the checks notice that acknowledged writes are lost",
                lambda found: bool(found["breaches"]["counts"].get("lost", 0) > 0),
                lambda found: f"{found['breaches']['counts'].get('lost', 0)} of {found['writes']:,} lost",
            ),
        ),
    ),
}


def broken(name: str, found: Found) -> list[str]:
    """What does not hold."""
    return [f"{bar.what}: {bar.measured(found)}" for bar in TRIALS[name].bars if not bar.holds(found)]
