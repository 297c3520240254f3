"""The WebSocket of one subscriber in as little code as it takes: thousands share a process, which must not be what is measured."""

import asyncio
import base64
import secrets
import time
from collections.abc import Callable
from typing import cast

HANDSHAKE = (
    "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
FINAL = MASKED = 0x80
# A mask keeps scripts of a browser from writing to proxies what they like; there is none here, and zeros leave the text alone.
NO_MASK = b"\0\0\0\0"
# The length of a payload follows in so many bytes where the short one says so.
LONG = {126: 2, 127: 8}


class Wire(asyncio.Protocol):
    """Gives each text to `hear`; `ended` gets the close code, or what else ended it, and `opened` is called once it is one."""

    def __init__(self, port: int, *, opened: Callable[["Wire"], None], hear: Callable[["Wire", bytes], None]) -> None:
        self._port = port
        self._opened = opened
        self._hear = hear
        self._unread = b""
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self.heard_at = time.monotonic()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the upgrade."""
        # uvloop's has the methods without the class.
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport.write(HANDSHAKE.format(port=self._port, key=key).encode())

    def data_received(self, data: bytes) -> None:
        """Frames may come in pieces, and many at once."""
        self.heard_at = time.monotonic()
        self._unread += data
        if not self._is_open and not self._upgraded():
            return
        at = 0
        while (end := self._frame_end(at)) is not None:
            begin, stop = end
            self._take(self._unread[at] & 0x0F, self._unread[begin:stop])
            at = stop
        self._unread = self._unread[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a close frame it is 1006, as browsers call it."""
        self._end("1006" if exc is None else type(exc).__name__)

    def send(self, text: bytes, opcode: int = TEXT) -> None:
        """Of at most 65,535 bytes."""
        assert self._transport is not None  # noqa: S101 - nobody has this object before it is connected
        length = len(text)
        size = bytes([MASKED | length]) if length < min(LONG) else bytes([MASKED | min(LONG)]) + length.to_bytes(2, "big")
        self._transport.write(bytes([FINAL | opcode]) + size + NO_MASK + text)

    def abort(self, why: str) -> None:
        """Ends it at once, without a word to the server."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def stall(self) -> None:
        """Reads no more; what the system has no room for stays with the server."""
        assert self._transport is not None  # noqa: S101 - nobody has this object before it is connected
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _upgraded(self) -> bool:
        head, mark, rest = self._unread.partition(b"\r\n\r\n")
        if not mark:
            return False
        status = head.split(b" ", 2)[1].decode()
        if status != "101":
            self.abort(f"HTTP {status}")
            return False
        self._is_open, self._unread = True, rest
        self._opened(self)
        return True

    def _frame_end(self, at: int) -> tuple[int, int] | None:
        """Where the payload of the frame at `at` begins and ends; None while it is not all there."""
        begin = at + 2
        if len(self._unread) < begin:
            return None
        length = self._unread[at + 1]
        if more := LONG.get(length):
            begin += more
            length = int.from_bytes(self._unread[begin - more : begin], "big")
        return (begin, begin + length) if len(self._unread) >= begin + length else None

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._hear(self, payload)
        elif opcode == PING:
            self.send(payload, PONG)
        elif opcode == CLOSE:
            self._end(str(int.from_bytes(payload[:2], "big")))
            self.send(payload[:2], CLOSE)
            if self._transport is not None:
                self._transport.close()

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)
