"""What browsers are told about every answer, whoever makes it: the application, its router, or the protocol below."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import MakeSettings, Server, migrated, served

ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
JSON = {"content-type": "application/json"}
ASKED = [
    ("POST", "/graphql", JSON, '{"query": "{ __typename }"}', 200),
    ("POST", "/graphql", JSON, '{"query": "{ tasks { totalCount } }"}', 401),
    ("POST", "/graphql", JSON, "{", 400),
    ("POST", "/graphql", {"content-type": "text/plain"}, "", 415),
    ("GET", "/graphql?query={__typename}", {}, "", 200),
    ("HEAD", "/graphql?query={__typename}", {}, "", 200),
    ("PUT", "/graphql", {}, "", 405),
    ("GET", "/nothing", {}, "", 404),
    ("GET", "/", {}, "", 307),
    ("GET", "/livez", {}, "", 200),
    ("GET", "/readyz", {}, "", 200),
    ("GET", "/health", {}, "", 200),
    ("GET", "/metrics", {}, "", 200),
    ("OPTIONS", "/graphql", {"origin": "https://evil.example", "access-control-request-method": "POST"}, "", 400),
]


@pytest.fixture(scope="module")
def production(settings: MakeSettings) -> Iterator[str]:
    made = settings(environment="production", allowed_origins="https://app.example.com")
    migrated(made)
    with served(made) as url:
        yield url


def of(answer: httpx.Response, *names: str) -> dict[str, list[str]]:
    return {name: answer.headers.get_list(name) for name in names}


@pytest.mark.parametrize(("method", "path", "headers", "body", "status"), ASKED)
def test_every_answer_says_that_it_is_data(
    production: str, method: str, path: str, headers: dict[str, str], body: str, status: int
) -> None:
    answer = httpx.request(method, f"{production}{path}", headers=headers, content=body)
    assert answer.status_code == status
    expected = ALWAYS | {"content-security-policy": POLICY, "strict-transport-security": "max-age=31536000"}
    assert of(answer, *expected) == {name: [value] for name, value in expected.items()}


@pytest.mark.parametrize("environment", ["development", "staging"])
def test_only_production_insists_on_https(settings: MakeSettings, environment: str) -> None:
    """Elsewhere a browser would refuse plain http for a year because of an afternoon's trial."""
    made = settings(environment=environment)
    migrated(made)
    with served(made) as url:
        answer = httpx.get(f"{url}/livez")
    assert "strict-transport-security" not in answer.headers
    assert of(answer, *ALWAYS) == {name: [value] for name, value in ALWAYS.items()}


def test_the_page_has_a_policy_of_its_own(server: Server) -> None:
    answer = httpx.get(f"{server.url}/graphql", headers={"accept": "text/html"})
    [policy] = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert of(answer, *ALWAYS) == {name: [value] for name, value in ALWAYS.items()}


def test_what_is_no_http_is_told_so_under_the_same_headers(production: str) -> None:
    address = urlsplit(production)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(b"NONSENSE\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert (head.split("\r\n")[0], body) == ("HTTP/1.1 400 Bad Request", "Invalid HTTP request received.")
    for name, value in ALWAYS.items():
        assert f"\r\n{name}: {value}" in head


def test_a_client_that_waits_for_leave_to_send_gets_it(server: Server) -> None:
    """`100 Continue` is no answer, and bears no headers."""
    address, body = urlsplit(server.url), b'{"query": "{ __typename }"}'
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        head = f"POST /graphql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        client.sendall(f"{head}expect: 100-continue\r\n\r\n".encode())
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
