"""uvicorn's protocols with bounds on what they wait for: how long a request may be on its way, how much its head may hold, how long
an answer may lie there untaken.

Neither uvicorn nor httptools has any: a client that sends a byte now and then keeps its connection for ever, one header may fill the
memory. The application has a deadline of its own for bodies, with a better answer.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from taskgraph.server.frames import FramesProtocol
from taskgraph.server.one_write import OneWriteProtocol
from taskgraph.server.waiting import Waiting

REQUEST_SECONDS = 20.0
# Requests that one process waits for at a time; for more, those that have taken longest must go.
REQUESTS = 1000
HEAD_BYTES = 32 * 1024
HEADER_LINES = 100
TAKE_SECONDS = 60.0
MAPPED = "::ffff:"


class Connections:
    """Those of one process that wait for something of their clients: for the rest of a request, or for the next one."""

    def __init__(self, *, idle_seconds: float) -> None:
        self._arriving: Waiting[BoundedProtocol] = Waiting(REQUEST_SECONDS, BoundedProtocol.give_up)
        self.idle: Waiting[BoundedProtocol] = Waiting(idle_seconds, BoundedProtocol.timeout_keep_alive_handler)

    def await_request(self, protocol: "BoundedProtocol") -> None:
        """Its time begins."""
        self._arriving.add(protocol)
        if len(self._arriving) > REQUESTS:
            self._arriving.end_longest()

    def request_is_here(self, protocol: "BoundedProtocol") -> None:
        """It has arrived, or the connection is gone."""
        self._arriving.remove(protocol)


class HeadTooLarge(Exception):
    """The parser turns it into an error of its own, which ends in `send_400_response`."""


class BoundedProtocol(OneWriteProtocol):
    """HTTP."""

    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # there is none at first, whatever uvicorn declares

    def __init__(self, *given: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._waiting = connections
        self._is_awaited = self._is_too_large = self._is_upgraded = False
        self._head_bytes = self._segment_bytes = 0
        # uvicorn makes a new list for each head.
        self._complete_headers = self.headers
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A request is awaited from here on."""
        super().connection_made(transport)
        self.client = plain(self.client)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is."""
        self._request_is_here()
        self._is_taken()
        self._waiting.idle.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Most requests arrive in one piece, and are then only looked at."""
        self._segment_bytes = len(data)
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body or self.headers is not self._complete_headers:
            self._await_rest(len(data))
        elif self._is_awaited:
            self._request_is_here()

    def on_headers_complete(self) -> None:
        """Of the parser: the application takes over. HeadTooLarge."""
        self._complete_headers = self.headers
        is_long = self._head_bytes + self._segment_bytes > HEAD_BYTES and self._length_of_head() > HEAD_BYTES
        if is_long or len(self.headers) > HEADER_LINES:
            self._is_too_large = True
            raise HeadTooLarge
        self._head_bytes = 0
        super().on_headers_complete()
        # Another list by now, for what may come behind the body.
        self._complete_headers = self.headers

    def handle_websocket_upgrade(self) -> None:
        """From here on the other protocol's connection."""
        self._is_upgraded = True
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too much of it."""
        if self._is_too_large:
            msg = f"The head of a request may have {HEAD_BYTES} bytes and {HEADER_LINES} lines."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, msg)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def give_up(self) -> None:
        """Ends the connection, whose client is too slow."""
        self._request_is_here()
        if self._is_in_head and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request did not arrive within {REQUEST_SECONDS:.0f} s.")
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def pause_writing(self) -> None:
        """The client is slow to take its answer."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken most of it."""
        super().resume_writing()
        self._is_taken()

    def on_response_complete(self) -> None:
        """The next request is awaited; for that uvicorn makes a timer each time."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._waiting.idle.add(self)

    def _unset_keepalive_if_required(self) -> None:
        """Of uvicorn, called when more has come."""
        self._waiting.idle.remove(self)

    def timeout_keep_alive_handler(self) -> None:
        """An answer that is still there by now would be waited for without end."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    @property
    def _is_in_head(self) -> bool:
        return self.headers is not self._complete_headers

    def _await_rest(self, received_bytes: int) -> None:
        if self._is_upgraded or self.transport.is_closing():
            self._request_is_here()
            return
        self._await_request()
        if self._is_in_head:
            self._head_bytes += received_bytes
            if self._head_bytes > HEAD_BYTES:
                self._is_too_large = True
                self.send_400_response("")

    def _await_request(self) -> None:
        if not self._is_awaited:
            self._is_awaited = True
            self._waiting.await_request(self)

    def _request_is_here(self) -> None:
        if self._is_awaited:
            self._is_awaited = False
            self._waiting.request_is_here(self)

    def _is_taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _length_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(message)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(self._security.added(head.encode()) + message.encode())
        self.transport.close()


class PlainWebSocketProtocol(FramesProtocol):
    """WebSockets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `plain`."""
        super().connection_made(transport)
        self.client = plain(self.client)


def plain(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """An IPv4 client of a socket for both versions by its own address: behind `::ffff:` all would count as one IPv6 network, and none
    would be a trusted proxy.
    """
    return client if client is None or not client[0].startswith(MAPPED) else (client[0].removeprefix(MAPPED), client[1])
