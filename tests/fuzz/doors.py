"""The two doors of the server, for requests that need not be well-formed; each answer with what it took the server."""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.fuzz.attacks import Attack
from tests.fuzz.oracle import Answer
from tests.live.sockets import connected

TICKS = os.sysconf("SC_CLK_TCK")
TYPENAME = {"query": "{ __typename }"}
ALIVE = {"__typename": "Query"}
PATIENCE_SECONDS = 60


class Door(Protocol):
    """Takes one request after the other."""

    def send(self, attack: Attack) -> Answer:
        """The first answer to it."""

    def is_alive(self) -> bool:
        """Whether `{ __typename }` is answered."""

    def close(self) -> None:
        """Ends the connection."""


class Http:
    """POST /graphql."""

    def __init__(self, url: str, pid: int, token: str | None) -> None:
        signed_in = {} if token is None else {"authorization": f"Bearer {token}"}
        self._client = httpx.Client(
            base_url=url, timeout=PATIENCE_SECONDS, headers={"content-type": "application/json", **signed_in}
        )
        self._pid = pid

    def send(self, attack: Attack) -> Answer:
        """Subscriptions, too, which are refused here."""
        taken = measured(self._pid)
        response = self._client.post("/graphql", content=attack.body)
        text = response.content.decode("utf-8", "replace")
        return Answer(text, response.status_code, None, *taken())

    def is_alive(self) -> bool:
        """Over the same connection."""
        answer: dict[str, object] = self._client.post("/graphql", json=TYPENAME).json()
        return answer.get("data") == ALIVE

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


class WebSocket:
    """One connection, and a new one after each that the server has ended."""

    def __init__(self, url: str, pid: int, token: str | None) -> None:
        self._url = f"{url.replace('http', 'ws', 1)}/graphql"
        self._pid = pid
        self._token = token
        self._stack = ExitStack()
        self._socket = self._connected()

    def send(self, attack: Attack) -> Answer:
        """The first message of a subscription, which is ended then."""
        message = b'{"type":"subscribe","id":"1","payload":%b}' % attack.body
        taken = measured(self._pid)
        try:
            self._socket.send(message, text=True)
            return Answer(self._answer(), None, None, *taken())
        except ConnectionClosed as error:
            code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")
            self._socket = self._connected()
            return Answer(reason, None, code, *taken())

    def is_alive(self) -> bool:
        """Over the same connection."""
        self._socket.send(json.dumps({"type": "subscribe", "id": "alive", "payload": TYPENAME}))
        first, last = self._receive(), self._receive()
        return (first["payload"].get("data"), last) == (ALIVE, {"type": "complete", "id": "alive"})

    def close(self) -> None:
        """Ends the connection."""
        self._stack.close()

    def _answer(self) -> str:
        message = self._receive()
        assert message["id"] == "1", message
        if message["type"] == "error":
            return json.dumps({"errors": message["payload"]})
        assert message["type"] == "next", message
        self._socket.send('{"type":"complete","id":"1"}')
        self._socket.send('{"type":"ping"}')
        while self._receive()["type"] != "pong":
            pass
        return json.dumps(message["payload"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
        return message

    def _connected(self) -> ClientConnection:
        self._stack.close()
        return self._stack.enter_context(connected(self._url, self._token)).connection


DOORS: Mapping[str, Callable[[str, int, str | None], Door]] = {"http": Http, "websocket": WebSocket}


def measured(pid: int) -> Callable[[], tuple[float, float]]:
    """Gives the seconds of the processor that a process takes from now on, and how many have passed."""
    cpu_before, began = _cpu_seconds(pid), time.perf_counter()
    return lambda: (_cpu_seconds(pid) - cpu_before, time.perf_counter() - began)


def rss_bytes(pid: int) -> int:
    """The memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS
