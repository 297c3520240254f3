"""A server under attack: what it holds, who attacks it, and what is found."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pymongo.database import Database

from taskgraph import schema
from tests.fuzz import oracle
from tests.fuzz.attacks import Attack, Attacks, Known
from tests.fuzz.doors import DOORS
from tests.people import Person

SHOWN = 160
SCHEMA = schema.build()._schema
SECRET = "the secret of the owner"  # noqa: S105 - a text to look for
# All that a refused operation must leave alone. Positions of events are filled in later, so those are counted.
HASHED = ["users", "sessions", "tasks", "dependencies", "graphs", "idempotency"]
MADE = """mutation($text: String!) {
  createTask(input: {title: $text, description: $text, labels: [$text], dueDate: "2026-11-22T09:30:00Z"}) { cursor task { id } }
}"""
FOUND = """{
  viewer { id } sessions { id } tasks(first: 1) { pageInfo { endCursor } }
  byTitle: tasks(first: 1, orderBy: {field: TITLE}) { pageInfo { endCursor } }
}"""


@dataclass(frozen=True, slots=True)
class Site:
    """A server in a process of its own, with an owner of things and a stranger to them."""

    url: str
    pid: int
    mongo: Database[dict[str, Any]]
    owner: Person
    stranger: Person
    # The memory that it had before anybody attacked it.
    rss_bytes: int

    def token(self, caller: str) -> str | None:
        """None for the anonymous."""
        return {"anonymous": None, "owner": self.owner.token, "stranger": self.stranger.token}[caller]

    def secrets(self, caller: str) -> Sequence[str]:
        """What this caller must not be shown."""
        return () if caller == "owner" else (SECRET, self.owner.email)

    def written(self) -> object:
        """Changes with everything that is stored for callers."""
        hashes = self.mongo.command("dbHash", collections=HASHED)["collections"]
        return hashes, self.mongo["events"].estimated_document_count()

    def of_owner(self) -> list[dict[str, Any]]:
        """What the owner has."""
        return list(self.mongo["tasks"].find({"description": SECRET}).sort("_id"))

    def attacks(self, caller: str) -> Attacks:
        """With what the caller knows; forged are ids and cursors of the owner, of the stranger and of another kind."""
        owners, strangers = _made(self.owner, SECRET), _made(self.stranger, "no secret")
        mine, other = (owners, self.stranger) if caller == "owner" else (strangers, self.owner)
        forged = [*_ids(self.owner, owners), *_ids(self.stranger, strangers)]
        # Not the session of the caller, who would end it.
        return Attacks(SCHEMA, Known(mine["task"]["id"], [*forged, _found(other)["sessions"][0]["id"]]))


@dataclass(slots=True)
class Findings:
    """What a campaign has seen. `count` is how many inputs were sent."""

    count: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, attack: Attack, answer: oracle.Answer, faults: Iterable[str]) -> None:
        """One more input."""
        self.count += 1
        asked = f"{attack.place}: {_short(attack.document, attack.variables)} -> {_short(answer.text)}"
        self.faults += [f"{fault} at {asked}" for fault in faults]


def spread(attacks: Attacks, count: int, *, start: int) -> Iterator[Attack]:
    """So many of them from all places, each with other values; others with another start."""
    step = max(1, len(attacks) // count)
    # A step without a common divisor meets every value at some place.
    while math.gcd(step, attacks.values) != 1:
        step += 1
    return islice(attacks, start % step, None, step)


def ran(site: Site, caller: str, door: str, attacks: Iterable[Attack]) -> Findings:
    """One caller's attacks at one door."""
    findings, secrets, written = Findings(), site.secrets(caller), site.written()
    sending = DOORS[door](site.url, site.pid, site.token(caller))
    try:
        for attack in attacks:
            answer = sending.send(attack)
            faults = oracle.faults(answer, secrets=secrets)
            if not sending.is_alive():
                faults.append("does not answer { __typename } afterwards")
            before, written = written, site.written()
            if before != written and (not attack.is_mutation or answer.closed or oracle.is_refused(answer.text)):
                faults.append("has written")
            findings.note(attack, answer, faults)
    finally:
        sending.close()
    return findings


def _short(*texts: str) -> str:
    return " with ".join(text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}" for text in texts)


def _made(person: Person, text: str) -> dict[str, Any]:
    made: dict[str, Any] = person.ask(MADE, {"text": text})["data"]["createTask"]
    return made


def _found(person: Person) -> dict[str, Any]:
    found: dict[str, Any] = person.ask(FOUND)["data"]
    return found


def _ids(person: Person, made: dict[str, Any]) -> list[str]:
    """Of what a person has, right and broken, and cursors."""
    found, task_id = _found(person), str(made["task"]["id"])
    cursors = [made["cursor"], found["tasks"]["pageInfo"]["endCursor"], found["byTitle"]["pageInfo"]["endCursor"]]
    broken = ["U" + task_id[1:], task_id[:17] + task_id[:17], task_id[:-1], task_id.lower(), cursors[0][:-1], cursors[1][:-1]]
    return [task_id, found["viewer"]["id"], *cursors, *broken]
