"""uvicorn's WebSockets with a bound on what a client can pile up in frames: parts of a message without end, pings that nobody reads."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

# The bytes of a message are bounded already, but empty parts have none.
FRAGMENTS = 1_000


class FramesProtocol(WebSocketsSansIOProtocol):
    """One connection."""

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
