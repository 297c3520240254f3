"""A client that costs little: keep-alive connections over plain HTTP, requests made beforehand."""

import asyncio
import re
from dataclasses import dataclass
from typing import Self

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER_SECONDS = 30


class Refused(Exception):
    """An answer that is no success."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One request at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def opened(cls, port: int) -> Self:
        """To this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer; Refused when it has errors or another status than 200."""
        async with asyncio.timeout(ANSWER_SECONDS):
            self.writer.write(request)
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length is None:
                raise Refused(f"an answer without content-length: {head!r}")
            body = await self.reader.readexactly(int(length[1]))
        if not head.startswith(b"HTTP/1.1 200") or body.startswith(b'{"errors"') or b'"errors":[{' in body[-2000:]:
            raise Refused(f"{head!r} {body[:600]!r}")
        return body

    async def close(self) -> None:
        """The server may be gone already."""
        self.writer.close()


def request(port: int, body: bytes, token: str) -> bytes:
    """A POST of one operation, ready to be sent."""
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
