"""One WebSocket in the terms of ASGI and nothing between: a layer more is a call for each message and a frame for each idle client."""

from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from taskgraph.server.frames import TEXT_AT_ONCE


class Disconnected(Exception):
    """The client is gone."""


class Socket(HTTPConnection):
    """The connection of one client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope)
        self._receive = receive
        self._send = send
        self._send_at_once: Callable[[str], bool] | None = scope.get("extensions", {}).get(TEXT_AT_ONCE)

    async def accept(self, subprotocol: str | None = None) -> None:
        """Comes first, and once."""
        await self.receive()
        await self._deliver({"type": "websocket.accept", "subprotocol": subprotocol})

    async def receive(self) -> Message:
        """The next ASGI message; Disconnected."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        return message

    def sent_at_once(self, text: str) -> bool:
        """Sends the text if there is nothing to wait for; whether it did."""
        return self._send_at_once is not None and self._send_at_once(text)

    async def send_text(self, text: str) -> None:
        """Waits while the client is slow to take what it was sent; Disconnected."""
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError as error:
            raise Disconnected from error

    async def close(self, code: int, reason: str) -> None:
        """Comes last, and once; Disconnected."""
        await self._deliver({"type": "websocket.close", "code": code, "reason": reason})

    async def _deliver(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:
            raise Disconnected from error
