"""The head and the body of an answer in one system call: on loopback and inside a data centre, a call costs as much as 2 KB."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taskgraph.server.security_headers import SecurityHeaders


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

    def close(self) -> None:
        """After what was written."""
        self._flush()
        self.transport.close()

    def _flush(self) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self.transport.write(first)


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, which writes an answer in two parts."""

    def __init__(self, *given: Any, security: SecurityHeaders, **named: Any) -> None:
        super().__init__(*given, **named)
        self._security = security

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Everything that uvicorn writes goes through the transport it is given here."""
        super().connection_made(Held(transport, self._security))  # type: ignore[arg-type]  # what uvicorn uses of one

    def handle_websocket_upgrade(self) -> None:
        """Messages are written whole, and have nothing to wait for."""
        assert isinstance(self.transport, Held)  # noqa: S101 - see above
        self.transport = self.transport.transport
        super().handle_websocket_upgrade()
