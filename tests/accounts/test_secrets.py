"""What must stay secret reaches neither the log, nor an error, nor a metric, nor any document, whatever goes wrong with it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bson
import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.accounts.asking import SELECTED, document_of
from tests.conftest import Launch
from tests.people import Person, registered
from tests.processes import Launched

MARK = "Zq7Secret"
RIGHT, WRONG, NEXT = f"{MARK} right password", f"{MARK} wrong password", f"{MARK} next password"
PROTOCOL = "graphql-transport-ws"


@dataclass
class Spy:
    """Sends and remembers: `secrets` are what nobody may repeat, `answers` what came back, but for fresh tokens in their places."""

    server: Launched
    client: httpx.Client
    secrets: set[str] = field(default_factory=lambda: {MARK})
    answers: list[str] = field(default_factory=list)

    def post(self, body: object, **headers: str) -> None:
        content = body if isinstance(body, str) else json.dumps(body)
        headers = {"content-type": "application/json"} | headers
        self.heard(self.client.post(f"{self.server.url}/graphql", content=content, headers=headers))

    def heard(self, response: httpx.Response) -> None:
        headers = "\n".join(f"{name}: {value}" for name, value in response.headers.items() if name != "set-cookie")
        self.secrets |= set(response.cookies.values())
        self.answers.append(f"{response.status_code}\n{headers}\n{self.without_tokens(response.text)}")

    def without_tokens(self, text: str) -> str:
        """The answer without fresh tokens in their places, which are secrets from now on."""
        for token in re.findall(r'"(?:accessToken|refreshToken|url)": ?"([^"]+)"', text):
            self.secrets.add(token)
            text = text.replace(token, "fresh", 1)
        return text

    def socket(self, init: object, *operations: object) -> None:
        """One connection; what it says, and why it closes."""
        with connect(f"{self.server.ws_url}?token={MARK}", subprotocols=[PROTOCOL]) as socket:  # type: ignore[list-item]
            try:
                socket.send(json.dumps({"type": "connection_init", "payload": init}))
                self.answers.append(str(socket.recv(timeout=10)))
                for number, payload in enumerate(operations):
                    socket.send(json.dumps({"type": "subscribe", "id": str(number), "payload": payload}))
                    self.answers.append(self.without_tokens(str(socket.recv(timeout=10))))
            except ConnectionClosed as closed:
                self.answers.append(str(closed))


@pytest.fixture
def spy(launch: Launch) -> Iterator[Spy]:
    with httpx.Client(timeout=30) as client:
        yield Spy(launch(LOG_LEVEL="DEBUG", LOG_FORMAT="console", LOGIN_FAILURES="1000"), client)


def inputs_of(mutation: str, person: Person) -> list[dict[str, Any]]:
    """Right, wrong, and of the wrong kind; never what ends the person's session or account."""
    odd: list[Any] = [[WRONG], {"$ne": WRONG}, f"{WRONG}\u0000", WRONG * 500, "\ud800" + MARK]
    members = {
        "register": [{"name": "Ada", "email": person.email, "password": each} for each in (RIGHT, "short" + MARK[:4], *odd)],
        "login": [{"email": person.email, "password": each} for each in (RIGHT, WRONG, *odd)]
        + [{"email": each, "password": WRONG} for each in (f"{MARK}@example.com", [MARK])],
        "refreshSession": [{"refreshToken": each} for each in (person.refresh_token, MARK, *odd)],
        "revokeSession": [{"id": each} for each in (MARK, *odd)],
        "changePassword": [{"currentPassword": one, "newPassword": two} for one in (WRONG, [WRONG]) for two in (NEXT, *odd)]
        + [{"currentPassword": RIGHT, "newPassword": RIGHT}],
        "updateProfile": [{"name": "Ada", "password": WRONG}],
        "exportMyData": [{"password": each} for each in (RIGHT, WRONG, *odd)],
        "deleteAccount": [{"password": each} for each in (WRONG, *odd)],
    }
    return members.get(mutation, [])


def inline(value: object) -> str:
    """As a literal of GraphQL."""
    match value:
        case dict():
            return "{" + ", ".join(f"{name.strip('$')}: {inline(inner)}" for name, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(inline, value)) + "]"
        case _:
            return json.dumps(value)


def asked_in_every_way(spy: Spy, person: Person) -> None:
    """Every mutation with every input: by variables and inline, by POST and GET, over a socket."""
    authorization = {"authorization": f"Bearer {person.token}"}
    over_socket: list[object] = []
    for mutation in (*SELECTED, "exportMyData"):
        document = document_of(mutation) if mutation in SELECTED else EXPORT
        for given in inputs_of(mutation, person):
            body = {"query": document, "variables": {"input": given}}
            literal = {"query": f"mutation {{ {mutation}(input: {inline(given)}) {{ errors {{ code message path }} }} }}"}
            for each in (body, literal):
                spy.post(each, **authorization)
                address = f"{spy.server.url}/graphql"
                spy.heard(spy.client.get(address, params={name: str(value) for name, value in each.items()}))
            over_socket.append(body)
    spy.socket({"authorization": f"Bearer {person.token}"}, *(each for each in over_socket if "\\ud800" not in json.dumps(each)))


EXPORT = "mutation($input: ExportMyDataInput!) { exportMyData(input: $input) { url errors { code message path } } }"


def test_no_secret_is_repeated_anywhere(spy: Spy) -> None:
    server = spy.server
    ada = registered(spy.client, f"{server.url}/graphql", name="Ada", email=None, password=RIGHT)
    spy.secrets |= {str(ada.token), ada.refresh_token}
    asked_in_every_way(spy, ada)
    for authorization in (f"Bearer {MARK}", f"Basic {MARK}", MARK, f"Bearer {ada.token}{MARK}", f"Bearer {MARK}.{MARK}.{MARK}"):
        spy.post({"query": "{ viewer { id } }"}, authorization=authorization)
        spy.socket({"authorization": authorization})
    spy.socket({"authorization": [MARK]})
    spy.socket([MARK])
    spy.post({"query": "{ viewer { id } }"}, cookie=f"taskgraph_session={MARK}; other={MARK}")
    spy.post(f'{{"query": "mutation {{ login(input: {{password: \\"{WRONG}\\"')
    spy.post({"query": f'mutation {{ login(input: {{email: "a", password: "{WRONG}"'})
    spy.post({"query": "{ viewer { id } }", "variables": MARK, "extensions": MARK, "operationName": MARK})
    for path in (f"/graphql?access_token={MARK}", f"/graphql/{MARK}?{MARK}", f"/export/{MARK}", f"/livez?{MARK}", f"/{MARK}"):
        spy.heard(spy.client.get(f"{server.url}{path}"))
    spy.answers.append(spy.client.get(f"{server.url}/metrics").text)
    spy.answers += [str(bson.encode(each)) for name in ("audit", "users", "sessions") for each in server.mongo[name].find()]
    assert server.stop() == 0
    log = "\n".join(server.running.rest())
    assert "refused" in log
    assert len(spy.answers) > 200
    assert [line for line in log.splitlines() if any(secret in line for secret in spy.secrets)] == []
    assert [each for each in spy.answers if any(secret in each for secret in spy.secrets)] == []
