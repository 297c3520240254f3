"""The head and the body of an answer in one system call: on loopback and inside a data centre, a call costs as much as 2 KB."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from taskgraph.server.security_headers import SecurityHeaders

# The name of the ASGI extension by which an application takes a whole body and hands over a whole answer.
WHOLE_EXCHANGE = "taskgraph.whole_exchange"
# What comes behind them is an answer's own, a cookie perhaps, and not to be kept.
USUAL_HEADERS = 4


class Held:
    """A transport that keeps what it is given until more comes, or until the turn of the event loop ends. Heads get more lines."""

    def __init__(self, transport: asyncio.Transport, headers: SecurityHeaders) -> None:
        self.transport = transport
        self._headers = headers
        self._first: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        """The second part takes the first along."""
        if self._first is None:
            self._first = self._headers.added(data)
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            first, self._first = self._first, None
            self.transport.writelines((first, data))

    def write_whole(self, head: bytes, body: bytes) -> None:
        """Both parts at once."""
        self._flush()
        self.transport.writelines((self._headers.added(head), body))

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self.transport.write(first)


class WholeExchange:
    """Reads one request and writes its answer, where nothing is special about them.

    uvicorn gives a body as messages that have to be awaited, though most are there from the beginning; it takes an answer in two
    messages, and checks and copies each header. Together that is a tenth of what a small query costs.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle: RequestResponseCycle | None = cycle

    def body(self) -> bytes | None:
        """All of it, where it is there already; None where it has to be awaited."""
        cycle = self._cycle
        return None if cycle is None or cycle.more_body or cycle.disconnected else bytes(cycle.body)

    def write(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """False where it is for uvicorn to write the answer; then nothing has been written. To be called once."""
        # The cycle has the scope in which this stands: both would wait for the garbage collector, with all that the request was.
        cycle, self._cycle = self._cycle, None
        assert cycle is not None  # noqa: S101 - it is called once
        is_usual = cycle.keep_alive and not (cycle.response_started or cycle.disconnected or cycle.waiting_for_100_continue)
        if not is_usual or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        # Those of uvicorn change each second, the others with the length of the body alone.
        usual, more = _usual_lines(tuple(headers[:USUAL_HEADERS])), _lines(tuple(headers[USUAL_HEADERS:]))
        own = _usual_lines(tuple(cycle.default_headers))
        if usual is None or more is None or own is None:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.transport.write_whole(b"%b%b%b%b\r\n" % (STATUS_LINE[status], usual, more, own), body)  # type: ignore[attr-defined]  # it is Held
        cycle.message_event.set()
        cycle.on_response()
        return True


def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """None where one would be more than it seems: a value with a line break in it is a header of its own; and who closes the
    connection has to say so to uvicorn.
    """
    lines = b"".join([b"%b: %b\r\n" % each for each in headers])
    return None if lines.count(b"\n") != len(headers) or b"\r\nconnection: " in b"\r\n" + lines else lines


_usual_lines = functools.lru_cache(maxsize=1024)(_lines)


class _Dropped(list[tuple[bytes, bytes]]):
    """Keeps nothing: there may be trailers without end."""

    def append(self, _trailer: tuple[bytes, bytes]) -> None:
        pass


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which writes an answer in two parts."""

    def __init__(self, *given: Any, security: SecurityHeaders, **named: Any) -> None:
        super().__init__(*given, **named)
        self._security = security

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Everything that uvicorn writes goes through the transport it is given here."""
        super().connection_made(Held(transport, self._security))  # type: ignore[arg-type]  # what uvicorn uses of one

    def on_headers_complete(self) -> None:
        """Of the parser: the application will be called, though not before this has returned."""
        super().on_headers_complete()
        if not self.parser.should_upgrade():
            # What comes behind the body, as a trailer, is no header of the request: proxies have not looked at it.
            self.headers = _Dropped()
            # An object where ASGI has options.
            self.scope["extensions"] = {WHOLE_EXCHANGE: WholeExchange(self.cycle)}  # type: ignore[dict-item]

    def handle_websocket_upgrade(self) -> None:
        """Messages are written whole, and have nothing to wait for. A head that the other protocol does not take is answered, too."""
        assert isinstance(self.transport, Held)  # noqa: S101 - see above
        self.transport = self.transport.transport
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        if not protocol.handshake_initiated:
            self.send_400_response("Invalid WebSocket request received.")
