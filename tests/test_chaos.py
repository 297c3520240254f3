"""What of chaos/ can be wrong without its run: its checks and its page; and a short run of it, with each kind of fault once."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from graphql import build_schema, parse, validate

from chaos import audience, bars, page, proxy, site, subscriber, traffic, trials, writer
from chaos.checks import Finding, Kind, breaches, delays
from chaos.history import Acknowledged, Failure, History, Seen, Stored, StoredEvent, Stream
from chaos.traffic import Load
from taskgraph import schema

ASKED = {
    "create": writer.CREATE,
    "update": writer.UPDATE,
    "titles": writer.TITLES,
    "subscription": subscriber.DOCUMENT,
    "large subscription": audience.large_document(),
}
# One user, two tasks: the first is created and changed twice, the second created.
WRITES = [("a", 1, "k1"), ("b", 1, "k2"), ("a", 2, "k3"), ("a", 3, "k4")]


def acknowledged() -> list[Acknowledged]:
    return [
        Acknowledged(key, task, version, version == 1, sent_at=number, answered_sent_at=number, at=number + 0.5)
        for number, (task, version, key) in enumerate(WRITES)
    ]


def seen() -> list[Seen]:
    return [Seen(f"event-{key}", task, version, number + 0.75, key, key) for number, (task, version, key) in enumerate(WRITES)]


def history(
    *,
    told: list[Seen] | None = None,
    titles: tuple[str, ...] = ("k1", "k2"),
    events: list[StoredEvent] | None = None,
    failures: tuple[Failure, ...] = (),
    gaps: tuple[str, ...] = (),
    refusals: tuple[str, ...] = (),
) -> History:
    """One in which nothing is wrong, but for what is given."""
    stream = Stream("Ada", 0, seen() if told is None else told, list(gaps), list(refusals))
    stored = [StoredEvent(*write) for write in WRITES] if events is None else events
    return History([acknowledged()], failures, [stream], Stored(titles, stored))


def kinds(found: list[Finding]) -> list[Kind]:
    return [finding.kind for finding in found]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert breaches(history(), may_fail=False) == []


def test_an_event_that_comes_twice_under_its_id_is_as_promised() -> None:
    first, *others = seen()
    assert breaches(history(told=[first, *others, first]), may_fail=False) == []


@pytest.mark.parametrize(
    ("damaged", "found"),
    [
        (history(titles=("k1",)), Kind.LOST),
        (history(titles=("k1", "k2", "k2")), Kind.DOUBLED),
        (history(events=[StoredEvent(*write) for write in WRITES[:-1]]), Kind.LOST),
        (history(events=[StoredEvent(*write) for write in [*WRITES, ("a", 4, "k4")]]), Kind.DOUBLED),
        (history(events=[StoredEvent(*write) for write in [*WRITES, ("a", 5, None)]]), Kind.HOLE),
        (history(told=seen()[:-1]), Kind.MISSING),
        (history(told=[*seen(), replace(seen()[0], event_id="another")]), Kind.REPEATED),
        (history(told=[seen()[2], seen()[0], seen()[1], seen()[3]]), Kind.DISORDERED),
        (history(told=[*seen(), replace(seen()[3], event_id="e", version=5)]), Kind.HOLE),
        (history(told=[replace(seen()[0], shown="k4"), *seen()[1:]]), Kind.FALSE),
        (history(gaps=("too old",)), Kind.GAP),
        (history(refusals=("4400",)), Kind.REFUSED),
        (history(failures=(Failure("k1", 0, "HTTP 500", may_be_repeated=False),)), Kind.REFUSED),
    ],
    ids=lambda value: value.value if isinstance(value, Kind) else None,
)
def test_each_kind_of_damage_is_found(damaged: History, found: Kind) -> None:
    assert kinds(breaches(damaged, may_fail=True)) == [found]


def test_a_request_that_may_be_repeated_counts_where_none_may_fail() -> None:
    failed = history(failures=(Failure("k1", 0, "BUSY", may_be_repeated=True),))
    assert breaches(failed, may_fail=True) == []
    assert kinds(breaches(failed, may_fail=False)) == [Kind.REFUSED]


def test_the_delay_of_a_delivery_counts_from_the_acknowledgement_to_the_first_time() -> None:
    stream = Stream("Ada", 0, [*seen(), replace(seen()[0], at=99)])
    assert delays([stream], acknowledged()) == [0.25] * len(WRITES)


@pytest.mark.parametrize("name", ASKED)
def test_an_operation_that_is_sent_is_one_of_the_schema(name: str) -> None:
    assert validate(build_schema(schema.sdl()), parse(ASKED[name])) == []


def results(found: dict[str, Any]) -> dict[str, Any]:
    trial = {"at": "2026-11-22T09:30+00:00", "revision": "0123456789ab", "found": found}
    scope = {"load": {"users": 4, "writers": 2, "pace_seconds": 0.15, "subscribers": 3, "restless": 1}}
    return {"trials": {"server_kill": trial}, "machine": {"machine": "2 cores"}, "scope": scope}


def test_the_page_says_what_held_and_what_did_not() -> None:
    found = trials.summary(history(titles=("k1",)), may_fail=True) | {"faults": 5}
    shown = page.text(results(found))
    first = "| kill -9 of a server, started again, 5 times | each acknowledged write is stored exactly once |"
    assert f"{first} 1 of 4 lost or doubled | **broken** |" in shown
    assert "| 0 breaches; 4 events delivered to 1 subscribers | held |" in shown
    assert bars.broken("server_kill", found) == ["each acknowledged write is stored exactly once: 1 of 4 lost or doubled"]


def test_the_page_is_that_of_the_results() -> None:
    """After a change of its text: `make chaos-page`."""
    assert page.PAGE.read_text(encoding="utf-8") == page.text(json.loads(page.RESULTS.read_text(encoding="utf-8")))


def test_the_control_fails_when_it_finds_nothing_wrong() -> None:
    assert bars.broken("control", trials.summary(history(), may_fail=True)) != []
    assert bars.broken("control", trials.summary(history(titles=("k1",)), may_fail=True)) == []


@pytest.mark.skipif(proxy.missing() is not None, reason=f"the short run of chaos was not made: {proxy.missing()}")
@pytest.mark.xdist_group("chaos")
def test_whatever_is_killed_no_acknowledged_write_and_no_event_is_lost() -> None:
    load = Load(users=2, writers=2, subscribers=2, restless=1, restless_seconds=1)

    async def run() -> None:
        async with (
            site.running(users=load.users, election_timeout_ms=1500, heartbeat_ms=500) as running,
            traffic.flowing(running, load) as flow,
        ):
            await running.valkey.kill()
            statuses = [status for _, status in await trials.rolled(running)]
            assert statuses == [0, 0]
            # Up to here the proxy has had a server that answers, so nobody was refused.
            assert [notes.failures for notes in flow.notes] == [[], []]
            await trials.killed_server(running, 0)
            await trials.killed_primary(running, flow)
            found = await flow.finish(drain_seconds=10)
        assert breaches(found, may_fail=True) == []
        assert {each.why for stream in found.streams for each in stream.interruptions} >= {"1012", "left"}

    asyncio.run(run())
