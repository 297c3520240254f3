"""A WebSocket client that speaks graphql-transport-ws by hand, so that tests see every message and every close code."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

PROTOCOL = "graphql-transport-ws"
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Closed:
    """How the server ended the connection; 1006 when it did so without a word."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Socket:
    """An open connection; every wait has a bound, and running into it fails the test."""

    connection: ClientConnection

    def send(self, type: str, **rest: Any) -> None:
        self.connection.send(json.dumps({"type": type, **rest}))

    def receive(self, within_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.connection.recv(timeout=within_seconds))
        return decoded

    def closed(self, within_seconds: float = PATIENCE_SECONDS) -> Closed:
        """The end of the connection; what was sent before it is read and dropped."""
        try:
            while True:
                self.connection.recv(timeout=within_seconds)
        except ConnectionClosed as error:
            return Closed(1006, "") if error.rcvd is None else Closed(error.rcvd.code, error.rcvd.reason)

    def init(self, token: str | None = None) -> None:
        self.send("connection_init", **({} if token is None else {"payload": {"authorization": f"Bearer {token}"}}))
        assert self.receive() == {"type": "connection_ack"}

    def subscribe(self, query: str, variables: Mapping[str, Any] | None = None, *, id: str = "1") -> None:
        """Starts an operation of any kind."""
        self.send("subscribe", id=id, payload={"query": query, "variables": variables})

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, *, id: str = "ask") -> dict[str, Any]:
        """The one result of a query or mutation, when nothing else is running."""
        self.subscribe(query, variables, id=id)
        result = self.next(id=id)
        assert self.receive() == {"type": "complete", "id": id}
        return result

    def next(self, *, id: str = "1") -> dict[str, Any]:
        """The payload of the next message, which must be a result of this operation, but for its price."""
        message = self.receive()
        payload: dict[str, Any] = message.pop("payload", {})
        payload.pop("extensions", None)
        assert message == {"type": "next", "id": id}, (message, payload)
        return payload

    def error(self, *, id: str = "1") -> list[dict[str, Any]]:
        """The payload of the next message, which must end this operation before it began."""
        message = self.receive()
        payload: list[dict[str, Any]] = message.pop("payload", [])
        assert message == {"type": "error", "id": id}, (message, payload)
        return payload

    def expect_nothing_before_a_pong(self) -> None:
        """The server answers in order, so what it had to say before this ping would come first."""
        self.send("ping")
        assert self.receive() == {"type": "pong"}


@contextmanager
def opened(
    ws_url: str,
    *,
    protocols: Sequence[str] = (PROTOCOL,),
    headers: Mapping[str, str] | None = None,
    origin: str | None = None,
    max_queue: int = 16,
) -> Iterator[Socket]:
    """A connection before connection_init; with `max_queue` unread messages it stops reading from the network."""
    with connect(
        ws_url,
        subprotocols=[Subprotocol(each) for each in protocols] or None,
        additional_headers=dict(headers or {}),
        origin=None if origin is None else Origin(origin),
        compression=None,
        proxy=None,
        max_size=None,
        max_queue=max_queue,
        open_timeout=PATIENCE_SECONDS,
        close_timeout=1,
    ) as connection:
        yield Socket(connection)


@contextmanager
def connected(
    ws_url: str, token: str | None = None, *, headers: Mapping[str, str] | None = None, origin: str | None = None
) -> Iterator[Socket]:
    """A connection after connection_ack; anonymous without a token or a cookie."""
    with opened(ws_url, headers=headers, origin=origin) as socket:
        socket.init(token)
        yield socket
