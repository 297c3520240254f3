"""A subscriber as docs/events.md wants it: it remembers the cursor of the last message, and reconnects with it whatever happens."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from chaos.history import Interruption
from chaos.wire import Wire

DOCUMENT = """subscription($after: EventCursor) { taskEvents(after: $after) {
  __typename
  ... on TaskEvent { id cursor taskId version causedBy task { description } }
  ... on StreamCheckpoint { cursor }
  ... on StreamGap { cursor reason }
} }"""
# Clients that all come back at the same moment are the worst case, and what graphql-ws does at its first attempt.
PAUSE_SECONDS = (0.05, 0.5)
CONNECT_SECONDS = 5
# A checkpoint comes at least every 30 s, so whoever hears nothing for longer is connected to nobody.
SILENCE_SECONDS = 40
SILENCE_POLL_SECONDS = 10
STALLED_BUFFER_BYTES = 4096
Told = Callable[[dict[str, Any], float], None]


@dataclass(slots=True)
class Subscriber:
    """Runs until cancelled. `told` gets each event with the time of its arrival; a gap or an error is noted and not passed over."""

    port: int
    token: str
    told: Told
    document: str = DOCUMENT
    # Like somebody on a train: ends its own connection about so often.
    restless_seconds: float | None = None
    buffer_bytes: int | None = None
    cursor: str | None = None
    gaps: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    is_live: asyncio.Event = field(default_factory=asyncio.Event)
    _wire: Wire | None = None
    _lost: tuple[float, str] | None = None

    async def run(self) -> None:
        """Connects again and again."""
        while True:
            why = await self._connection()
            self.is_live.clear()
            # What is told is the whole time without a word: further attempts that fail belong to it.
            self._lost = self._lost or (time.monotonic(), why)
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))

    def finish(self) -> None:
        """Notes an interruption that has not ended; after the run."""
        if self._lost is not None:
            self.interruptions.append(Interruption(self._lost[0], None, self._lost[1]))

    def stall(self) -> None:
        """Reads no more of this connection until `go_on`."""
        if self._wire is not None:
            self._wire.stall()

    def go_on(self) -> None:
        """Reads what has come meanwhile."""
        if self._wire is not None:
            self._wire.heard_at = time.monotonic()
            self._wire.go_on()

    async def _connection(self) -> str:
        """From its beginning to its end; why it ended."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, wire = await loop.create_connection(
                    lambda: Wire(self.port, opened=self._introduce, hear=self._hear), sock=await self._connected(loop)
                )
        except (OSError, TimeoutError) as error:
            return type(error).__name__
        self._wire = wire
        leaves_at = time.monotonic() + random.uniform(0.5, 1.5) * self.restless_seconds if self.restless_seconds else float("inf")
        try:
            while not wire.ended.done():
                now = time.monotonic()
                if now > leaves_at:
                    wire.abort("left")
                elif now > wire.heard_at + SILENCE_SECONDS:
                    wire.abort("silence")
                await asyncio.wait([wire.ended], timeout=min(SILENCE_POLL_SECONDS, max(0.01, leaves_at - now)))
            return wire.ended.result()
        finally:
            wire.abort("cancelled")

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if self.buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _introduce(self, wire: Wire) -> None:
        wire.send(orjson.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {self.token}"}}))

    def _hear(self, wire: Wire, text: bytes) -> None:
        message = orjson.loads(text)
        match message["type"]:
            case "connection_ack":
                variables = {"after": self.cursor}
                payload = {"query": self.document, "variables": variables}
                wire.send(orjson.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            case "next" if "errors" not in message["payload"]:
                self._note(message["payload"]["data"]["taskEvents"], wire.heard_at)
            case "ping":
                wire.send(b'{"type":"pong"}')
            case _:
                self.refusals.append(text[:300].decode())
                wire.abort("refused")

    def _note(self, message: dict[str, Any], at: float) -> None:
        if not self.is_live.is_set():
            self.is_live.set()
            if self._lost is not None:
                self.interruptions.append(Interruption(self._lost[0], at, self._lost[1]))
                self._lost = None
        self.cursor = message["cursor"]
        if message["__typename"] == "TaskEvent":
            self.told(message, at)
        elif message["__typename"] == "StreamGap":
            self.gaps.append(message["reason"])
