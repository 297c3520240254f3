"""Writers of known keys: each write is asked for again under its own key until it is acknowledged, and everything is noted."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.history import Acknowledged, Failure

CREATE = """mutation($key: String!, $title: String!, $description: String!) {
  createTask(input: {title: $title, description: $description, idempotencyKey: $key}) {
    task { id version } replayed errors { code message }
  }
}"""
UPDATE = """mutation($key: String!, $id: ID!, $description: String!) {
  updateTask(input: {id: $id, patch: {description: $description}, idempotencyKey: $key}) {
    task { id version } replayed errors { code message }
  }
}"""
TITLES = "query($after: String) { tasks(first: 100, after: $after) { nodes { title } pageInfo { hasNextPage endCursor } } }"
# The server asks for 5 s; who comes back sooner sees how soon it could.
PAUSE_SECONDS = (0.1, 0.3)
# A write has 10 s, in each of the servers behind the proxy.
ANSWER_SECONDS = 30
BAD_GATEWAYS = frozenset({502, 504})


class Refused(Exception):
    """An answer that repeating the request would not change."""


class Later(Exception):
    """An answer, or none, upon which a client may ask again."""


@dataclass(slots=True)
class Notes:
    """Of one user's writers."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(slots=True)
class Writer:
    """One write at a time, not more often than every `pace_seconds`: a task with key and title in one, then a change of its first
    task, whose description is then the key, and so on. `padding` makes the tasks larger.
    """

    name: str
    client: httpx.AsyncClient
    token: str
    notes: Notes
    pace_seconds: float
    padding: int = 0
    _first_task: str | None = None

    async def run(self, is_over: asyncio.Event) -> None:
        """Ends with the write that is under way."""
        number, due = 0, time.monotonic() + random.uniform(0, self.pace_seconds)
        while not is_over.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            # A late write is not made up for: after an outage a client does not send all at once what it would have sent.
            due = max(due, time.monotonic() - self.pace_seconds) + self.pace_seconds
            await self._write(f"{self.name}-{number}", is_creation=self._first_task is None or number % 2 == 0)
            number += 1

    async def _write(self, key: str, *, is_creation: bool) -> None:
        description = f"{key} {'x' * self.padding}".rstrip()
        variables = {"key": key, "description": description} | ({"title": key} if is_creation else {"id": self._first_task})
        began = time.monotonic()
        while True:
            sent_at = time.monotonic()
            try:
                payload = await self._asked(CREATE if is_creation else UPDATE, variables)
            except Later as failure:
                self.notes.failures.append(Failure(key, time.monotonic(), str(failure), may_be_repeated=True))
                await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            except Refused as failure:
                self.notes.failures.append(Failure(key, time.monotonic(), str(failure), may_be_repeated=False))
                return
            else:
                break
        task = payload["task"]
        self._first_task = self._first_task or task["id"]
        self.notes.acknowledged.append(
            Acknowledged(
                key,
                task["id"],
                task["version"],
                is_creation,
                sent_at=began,
                answered_sent_at=sent_at,
                at=time.monotonic(),
                is_replayed=payload["replayed"],
            )
        )

    async def _asked(self, document: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The payload of a mutation that was done; Later or Refused."""
        try:
            response = await self.client.post(
                "/graphql",
                json={"query": document, "variables": variables},
                headers={"authorization": f"Bearer {self.token}"},
                timeout=ANSWER_SECONDS,
            )
        except httpx.TransportError as error:
            raise Later(type(error).__name__) from error
        if response.status_code in BAD_GATEWAYS:
            raise Later(f"HTTP {response.status_code}")
        answer = response.json()
        if errors := answer.get("errors"):
            code = errors[0]["extensions"]["code"]
            if code == "BUSY":
                raise Later(code)
            raise Refused(f"HTTP {response.status_code}: {errors}")
        (payload,) = answer["data"].values()
        if payload["errors"]:
            raise Refused(str(payload["errors"]))
        found: dict[str, Any] = payload
        return found


async def titles(client: httpx.AsyncClient, token: str) -> Sequence[str]:
    """Of all tasks of an account, page by page."""
    found: list[str] = []
    after = None
    while True:
        response = await client.post(
            "/graphql",
            json={"query": TITLES, "variables": {"after": after}},
            headers={"authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
        )
        page = response.raise_for_status().json()["data"]["tasks"]
        found += [task["title"] for task in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]
