"""The promises of docs/events.md, held against a history. Pure: given the same history they find the same."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from chaos.history import Acknowledged, Failure, History, Seen, Stored, Stream

Place = tuple[str, int]


class Kind(StrEnum):
    """Which promise is broken."""

    LOST = "lost"
    DOUBLED = "doubled"
    MISSING = "missing"
    REPEATED = "repeated"
    DISORDERED = "disordered"
    HOLE = "hole"
    GAP = "gap"
    FALSE = "false"
    REFUSED = "refused"


OF_WRITES = frozenset({Kind.LOST, Kind.DOUBLED})
OF_EVENTS = frozenset({Kind.MISSING, Kind.REPEATED, Kind.DISORDERED, Kind.HOLE, Kind.GAP, Kind.FALSE})


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach, with what it was found by."""

    kind: Kind
    what: str


def breaches(history: History, *, may_fail: bool) -> list[Finding]:
    """All of them. Where requests `may_fail`, only those count that could not be repeated."""
    found = [*writes(history.writes, history.stored), *requests(history.failures, may_fail=may_fail)]
    for stream in history.streams:
        found += told(stream, history.acknowledged[stream.user])
    return found


def writes(acknowledged: Iterable[Acknowledged], stored: Stored) -> Iterator[Finding]:
    """Each is one event, and each creation one task; and per task the versions of the events count up from 1."""
    tasks = Counter(stored.titles)
    events = Counter(event.key for event in stored.events)
    for write in acknowledged:
        # A creation is a task and an event; either alone would be half a write.
        counts = [events[write.key], *([tasks[write.key]] if write.is_creation else [])]
        if min(counts) < 1:
            yield Finding(Kind.LOST, f"{write.key} was acknowledged and is not stored")
        elif max(counts) > 1:
            yield Finding(Kind.DOUBLED, f"{write.key} is stored {max(counts)} times")
    versions = defaultdict(list)
    for event in stored.events:
        versions[event.task_id].append(event.version)
    for task_id, found in versions.items():
        if sorted(found) != list(range(1, len(found) + 1)):
            yield Finding(Kind.HOLE, f"the stored events of {task_id} have the versions {sorted(found)}")


def requests(failures: Iterable[Failure], *, may_fail: bool) -> Iterator[Finding]:
    """Where none may fail each failure counts."""
    for failure in failures:
        if not (may_fail and failure.may_be_repeated):
            yield Finding(Kind.REFUSED, f"{failure.key} was answered with {failure.what}")


def told(stream: Stream, acknowledged: Iterable[Acknowledged]) -> Iterator[Finding]:
    """Every acknowledged change, once after de-duplication by id, per task in the order of versions, without a hole or a gap."""
    for reason in stream.gaps:
        yield Finding(Kind.GAP, f"{stream.name} was told of a gap: {reason}")
    for refusal in stream.refusals:
        yield Finding(Kind.REFUSED, f"{stream.name} was refused: {refusal}")
    ids: set[str] = set()
    places: set[Place] = set()
    latest: dict[str, int] = {}
    for event in stream.seen:
        if event.event_id in ids:
            continue
        ids.add(event.event_id)
        place = (event.task_id, event.version)
        if place in places:
            yield Finding(Kind.REPEATED, f"{stream.name} was told version {event.version} of {event.task_id} under two ids")
        elif event.version < latest.get(event.task_id, 0):
            yield Finding(Kind.DISORDERED, f"{stream.name} was told version {event.version} of {event.task_id} behind a later one")
        if event.shown != event.key:
            yield Finding(Kind.FALSE, f"{stream.name} was shown {event.shown} as the task right after {event.key}")
        places.add(place)
        latest[event.task_id] = max(event.version, latest.get(event.task_id, 0))
    yield from _untold(stream, acknowledged, places)


def _untold(stream: Stream, acknowledged: Iterable[Acknowledged], places: set[Place]) -> Iterator[Finding]:
    known = {(write.task_id, write.version) for write in acknowledged}
    for task_id, version in sorted(known - places):
        yield Finding(Kind.MISSING, f"{stream.name} was never told version {version} of {task_id}")
    versions = defaultdict(list)
    for task_id, version in places:
        versions[task_id].append(version)
    for task_id, found in versions.items():
        # What was acknowledged is missed already; what was not must be there all the same once something later is.
        for version in sorted(set(range(min(found), max(found))) - set(found)):
            if (task_id, version) not in known:
                yield Finding(Kind.HOLE, f"{stream.name} was told versions around {version} of {task_id}, but not that one")


def delays(
    streams: Iterable[Stream], acknowledged: Iterable[Acknowledged], *, since: Literal["at", "sent_at"] = "at"
) -> list[float]:
    """Seconds from the acknowledgement of a write to each of its deliveries, sorted; below 0 where the event came first."""
    at = {(write.task_id, write.version): getattr(write, since) for write in acknowledged}
    places = ((event.at, (event.task_id, event.version)) for stream in streams for event in firsts(stream.seen))
    return sorted(heard_at - at[place] for heard_at, place in places if place in at)


def firsts(seen: Iterable[Seen]) -> Iterator[Seen]:
    """De-duplicated by id, as a client does it."""
    ids: set[str] = set()
    for event in seen:
        if event.event_id not in ids:
            ids.add(event.event_id)
            yield event


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that so great a share of them does not pass."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
