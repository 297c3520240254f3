"""uvicorn's WebSockets with a bound on what a client can pile up in frames: parts of a message without end, pings that nobody reads.

And with a short way out for text: an event goes to thousands of sockets, and to most of them there is nothing to wait for.
"""

import struct

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

# The bytes of a message are bounded already, but empty parts have none.
FRAGMENTS = 1_000
# The name of the ASGI extension by which an application sends a text at once: a function that gives whether it could.
TEXT_AT_ONCE = "taskgraph.text_at_once"
# The first byte of a whole text message, and the second where two or eight bytes with the length follow (RFC 6455, section 5.2).
TEXT, LENGTH_16, LENGTH_64 = 0x81, 126, 127
SHORT, MEDIUM, LONG = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")


class FramesProtocol(WebSocketsSansIOProtocol):
    """One connection."""

    def handle_connect(self, event: Request) -> None:
        """The application will be called, though not before this has returned; or the handshake was refused."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"][TEXT_AT_ONCE] = self.send_at_once  # type: ignore[assignment]  # a function where ASGI has options

    def send_at_once(self, text: str) -> bool:
        """False where a message cannot be written now, or ever; then nothing has been."""
        is_open = self.handshake_complete and not (self.disconnected or self.close_sent or self.initial_response)
        if not is_open or not self.writable.is_set() or self.conn.state is not State.OPEN or self.conn.extensions:
            return False
        self.transport.write(text_frame(text.encode()))
        return True

    def handle_cont(self, event: Frame) -> None:
        """Ends the connection, instead of keeping ever more parts of one message."""
        if self.close_sent:
            return
        if len(self.frames) >= FRAGMENTS:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"A message may have at most {FRAGMENTS} frames")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """While the client does not read, its pongs are dropped: it may be sent the last one only, and they would fill the memory."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()


def text_frame(payload: bytes) -> bytes:
    """A whole text message as a server sends it: not masked."""
    length = len(payload)
    if length < LENGTH_16:
        return SHORT.pack(TEXT, length) + payload
    if length < 1 << 16:
        return MEDIUM.pack(TEXT, LENGTH_16, length) + payload
    return LONG.pack(TEXT, LENGTH_64, length) + payload
