"""Signing secrets are rotated while people work: nobody is refused, whichever server a token came from and whichever it is shown to."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.accounts.asking import RIGHT, VIEWER
from tests.conftest import Launch
from tests.people import PASSWORD, registered
from tests.processes import Launched, eventually

OLD, NEW = "the old secret that is long enough for us", "the new secret that is long enough for us"
# Each is rolled out to every server before the next: a token that one server signs must be known to the others already.
ACCEPTED, *STEPS = f"{OLD},{NEW}", f"{NEW},{OLD}", NEW
LOGIN = """mutation($input: LoginInput!) { login(input: $input) { accessToken refreshToken errors { code } } }"""
REFRESH = """mutation($input: RefreshSessionInput) { refreshSession(input: $input) { accessToken refreshToken errors { code } } }"""


@dataclass
class Crowd:
    """People who sign in, refresh and ask, each time on any of the servers that are in rotation."""

    urls: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[object] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def post(self, client: httpx.Client, document: str, token: str | None = None, **given: str) -> dict[str, object] | None:
        """The first payload; None when the server was just stopped, as a proxy would notice."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        body = {"query": document, "variables": {"input": given}}
        try:
            response = client.post(f"{random.choice(self.urls)}/graphql", json=body, headers=headers)
        except httpx.TransportError:
            return None
        self.statuses[response.status_code] += 1
        data: dict[str, dict[str, object] | None] = response.json().get("data") or {}
        payload = next(iter(data.values()), None) or {}
        if response.status_code != 200 or payload.get("errors"):
            self.problems.append(response.text)
        return payload

    def work(self, email: str) -> None:
        tokens: dict[str, object] = {}
        with httpx.Client(timeout=30) as client:
            while not self.is_over.is_set():
                if not tokens:
                    tokens = self.post(client, LOGIN, email=email, password=RIGHT) or {}
                for _ in range(5):
                    self.post(client, VIEWER, str(tokens["accessToken"])) if tokens else None
                # The access token of before still counts for a while, so it is shown once more, too.
                before = tokens
                tokens = self.post(client, REFRESH, refreshToken=str(tokens["refreshToken"])) or {} if tokens else {}
                if before:
                    self.post(client, VIEWER, str(before["accessToken"]))


def rolled_out(launch: Launch, crowd: Crowd, servers: Sequence[Launched], secrets: str) -> list[Launched]:
    """Each server replaced by one with these secrets, one after the other, with work done in between."""
    database, replaced = servers[0].database, []
    for server in servers:
        fresh = launch(database=database, JWT_SECRETS=secrets)
        replaced.append(fresh)
        crowd.urls.append(fresh.url)
        crowd.urls.remove(server.url)
        done = crowd.statuses.total()
        assert eventually(lambda: crowd.statuses.total() > done + 40, within_seconds=30)  # noqa: B023 - looked at at once
        server.stop()
    return replaced


def test_secrets_are_rotated_under_load_without_a_single_401(launch: Launch) -> None:
    first = launch(JWT_SECRETS=OLD)
    servers = [first, launch(database=first.database, JWT_SECRETS=ACCEPTED)]
    crowd = Crowd([each.url for each in servers])
    with httpx.Client(timeout=30) as client:
        people = [registered(client, f"{first.url}/graphql", name="Ada", email=None, password=PASSWORD) for _ in range(3)]
    threads = [threading.Thread(target=crowd.work, args=(person.email,)) for person in people]
    for thread in threads:
        thread.start()
    try:
        for secrets in STEPS:
            servers = rolled_out(launch, crowd, servers, secrets)
    finally:
        crowd.is_over.set()
        for thread in threads:
            thread.join(timeout=30)
    assert crowd.problems == []
    assert set(crowd.statuses) == {200}
