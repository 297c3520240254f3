"""What no client library sends: requests and frames written by hand, at the edge of HTTP and of WebSocket and beyond it."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.fuzz.campaign import Site
from tests.fuzz.doors import rss_bytes
from tests.fuzz.oracle import INSIDE
from tests.live.sockets import connected

BODY = b'{"query":"{ __typename }"}'
CHUNKED = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
UPGRADE = b"GET /graphql HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
FIN, RSV1 = 0x80, 0x40
# What one client may leave behind.
KEPT_BYTES = 16 * 1024 * 1024
pytestmark = pytest.mark.xdist_group("fuzz")


def post(
    *headers: bytes, body: bytes = BODY, length: bytes = b"Content-Length: 26", line: bytes = b"POST /graphql HTTP/1.1"
) -> bytes:
    """A request with these lines beside the usual ones."""
    return b"\r\n".join([line, b"Host: x", b"Content-Type: application/json", *headers, *([length] if length else []), b"", body])


def get(target: bytes, *, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """A request without a body."""
    return b"%b %b HTTP/%b\r\nHost: x\r\n\r\n" % (method, target, version)


@contextmanager
def wire(site: Site, *, within_seconds: float = 10) -> Iterator[socket.socket]:
    """A connection that nothing has been said on."""
    address = urlsplit(site.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 0), timeout=within_seconds) as raw:
        yield raw


def statuses(site: Site, sent: bytes, *, count: int = 1) -> tuple[list[int], bytes]:
    """Of the answers, until there are so many or the server has ended the connection, and everything that it said."""
    said = b""
    with wire(site) as raw:
        raw.sendall(sent)
        while said.count(b"HTTP/1.1 ") < count or not said.endswith((b"}", b"\n", b".", b"Found", b"Allowed")):
            part = raw.recv(65536)
            if not part:
                break
            said += part
    return [int(each[:3]) for each in said.split(b"HTTP/1.1 ")[1:]], said


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(length=b"Content-Length: 26\r\nContent-Length: 26"), 400),
        (post(length=b"Content-Length: 26\r\nContent-Length: 5"), 400),
        (post(length=b"Content-Length: 10"), 400),
        (post(length=b"Content-Length: -1"), 400),
        (post(length=b"Content-Length: +26"), 400),
        (post(length=b"Content-Length: 99999999999999999999999"), 400),
        (post(length=b""), 400),
        (post(b"Transfer-Encoding: chunked", body=CHUNKED + b"\r\n"), 400),
        (post(b"Transfer-Encoding: chunked", body=CHUNKED + b"\r\n", length=b""), 200),
        (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED + b"\r\n", length=b""), 400),
        (post(b"Transfer-Encoding: xchunked", body=CHUNKED + b"\r\n", length=b""), 400),
        (post(b"Transfer-Encoding : chunked", body=CHUNKED + b"\r\n", length=b""), 400),
        (post(b"Transfer-Encoding: chunked", body=b"zz\r\nab\r\n", length=b""), 400),
        (post(b"Transfer-Encoding: chunked", body=b"f" * 20 + b"\r\nab\r\n", length=b""), 400),
        (post(b"X: a\nY: b"), 400),
        (post(b"X: a\r\n b"), 400),
        (post(b"X: a\0b"), 400),
        (post(b": b"), 400),
        (post(b"X Y: b"), 400),
        (post(b"Authorization: \xff\xfe"), 401),
        (post(b"Authorization: Bearer x", b"Authorization: Bearer y"), 401),
        (post(b"Content-Type: text/plain"), 200),
        (post(b"Accept: " + b"a/b;q=0.1," * 2_000 + b"*/*"), 200),
        (post(b"Accept: application/json;q=-1e999"), 406),
        (post(line=b"POST /gr\0aphql HTTP/1.1"), 400),
        (post(line=b"POST /x/../graphql HTTP/1.1"), 404),
        (post(line=b"FOO /graphql HTTP/1.1"), 400),
        (post(line=b"post /graphql HTTP/1.1"), 400),
        (post(line=b"PATCH /graphql HTTP/1.1"), 405),
        (post(line=b"TRACE /graphql HTTP/1.1"), 405),
        (post(line=b"CONNECT a:1 HTTP/1.1"), 400),
        (post(line=b"OPTIONS * HTTP/1.1"), 404),
        (post(line=b"POST /graphql HTTP/1.0"), 200),
        (post(line=b"POST /graphql HTTP/9.9"), 400),
        (get(b"/graphql?query=%zz%"), 200),
        (get(b"/graphql?query=%00"), 200),
        (get(b"/graphql?query=%ff%fe"), 200),
        (get(b"/graphql?" + b"a=1&" * 2_000 + b"query={__typename}"), 200),
        (get(b"/graphql?query={__typename}", method=b"TRACE"), 405),
        (get(b"/graphiql/assets/..%2f..%2f..%2fetc%2fpasswd"), 404),
        (get(b"/" + b"a" * 100_000), 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 100, 400),
        (b"GET /livez HTTP/1.1\nHost: x\n\n", 400),
        (b"\0" * 1_000, 400),
        (UPGRADE + b"\r\n", 400),
        (UPGRADE + b"Sec-WebSocket-Key: x\r\n\r\n", 400),
        (UPGRADE.replace(b"13", b"99") + KEY + b"\r\n", 400),
        (UPGRADE.replace(b"GET", b"POST") + KEY + b"\r\n", 405),
        (UPGRADE.replace(b"/graphql", b"/other") + KEY + b"\r\n", 403),
        (UPGRADE + KEY + b"Content-Length: 5\r\n\r\nhello", 400),
        (UPGRADE + KEY + b"Cookie: " + b"a" * 10_000 + b"\r\n\r\n", 400),
    ],
    ids=lambda each: (
        each if isinstance(each, int) else repr(each.replace(b"\r\nHost: x\r\nContent-Type: application/json", b"")[:70])
    ),
)
def test_a_request_is_answered_or_refused_whatever_it_is(site: Site, sent: bytes, status: int) -> None:
    given, said = statuses(site, sent)
    assert given[0] == status, said
    assert INSIDE.search(said.decode("latin-1")) is None


def test_what_follows_a_body_is_no_header(site: Site) -> None:
    """Proxies do not look at it, so it could say whom a request comes from."""
    trailed = post(b"Transfer-Encoding: chunked", body=CHUNKED + b"Authorization: Bearer x\r\n\r\n", length=b"")
    assert statuses(site, trailed)[0] == [200]


def test_nothing_can_be_hidden_in_the_body_of_another_request(site: Site) -> None:
    hidden = b"0\r\n\r\n" + get(b"/livez")
    assert statuses(site, post(b"Transfer-Encoding: chunked", body=hidden, length=b"Content-Length: 6"), count=2)[0] == [400]


def test_requests_behind_each_other_are_answered_in_order(site: Site) -> None:
    given, said = statuses(site, post() * 500 + post(b"Authorization: x"), count=501)
    assert given == [200] * 500 + [401]
    assert said.count(b"__typename") == 500


def frame(kind: int, content: bytes = b"", *, flags: int = FIN, length: int | None = None) -> bytes:
    """As a client sends it; `length` is what it claims to be."""
    size, mask = len(content) if length is None else length, b"mask"
    sized = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + struct.pack(">H", size)
        if size < 65536
        else b"\xff" + struct.pack(">Q", size)
    )
    return bytes([flags | kind]) + sized + mask + bytes(byte ^ mask[number % 4] for number, byte in enumerate(content))


@contextmanager
def upgraded(site: Site) -> Iterator[socket.socket]:
    """A socket that has been accepted, before connection_init."""
    with wire(site) as raw:
        raw.sendall(UPGRADE + KEY + b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n")
        said = b""
        while not said.endswith(b"\r\n\r\n"):
            said += raw.recv(1)
        assert said.startswith(b"HTTP/1.1 101")
        yield raw


def closed(raw: socket.socket) -> int:
    """The code that the server ends the connection with."""
    said = b""
    while len(said.partition(b"\x88")[2]) < 3:
        part = raw.recv(65536)
        assert part, said
        said += part
    return int(struct.unpack(">H", said.partition(b"\x88")[2][1:3])[0])


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"{}", flags=FIN | RSV1), 1002),
        (frame(3, b"{}"), 1002),
        (frame(CONTINUATION, b"{}"), 1002),
        (frame(TEXT, b"{", flags=0) + frame(TEXT, b"}"), 1002),
        (frame(PING, flags=0), 1002),
        (frame(PING, b"a" * 126), 1002),
        (b"\x81\x02{}", 1002),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(CLOSE, b"\x00"), 1002),
        (frame(CLOSE, struct.pack(">H", 999)), 1002),
        (frame(CLOSE, struct.pack(">H", 1000) + b"\xff"), 1007),
        (frame(TEXT, b"{", length=2**40), 1009),
        (frame(TEXT, b"{", length=2**63 - 1), 1009),
        (frame(TEXT, b"{", flags=0) + frame(CONTINUATION, flags=0) * 2_000, 1009),
        (frame(BINARY, b"{}"), 4400),
        (frame(TEXT, b"[" * 5_000), 4400),
    ],
)
def test_a_frame_that_is_none_ends_the_connection(site: Site, sent: bytes, code: int) -> None:
    with upgraded(site) as raw:
        raw.sendall(sent)
        assert closed(raw) == code


def test_pings_of_a_client_that_reads_nothing_fill_no_memory(site: Site) -> None:
    before, pings = rss_bytes(site.pid), frame(PING, b"a" * 125) * 1_000
    with upgraded(site) as raw:
        for _ in range(250):
            raw.sendall(pings)
        assert rss_bytes(site.pid) - before < KEPT_BYTES
    with connected(f"{site.url.replace('http', 'ws', 1)}/graphql") as other:
        assert other.ask("{ __typename }") == {"data": {"__typename": "Query"}}
