"""Whose word counts for where a request comes from: that of trusted proxies, each for the one before it, and nobody else's."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from taskgraph import app, serve
from taskgraph.settings import Settings
from tests.accounts.asking import another_session
from tests.conftest import MakeSettings, Someone, migrated, served
from tests.people import Person
from tests.processes import eventually
from tests.test_settings import refusal

IP = "{ sessions { ip isCurrent } }"


def seen_as(person: Person, **headers: str) -> str:
    """The address that a session opened with these headers is noted with."""
    session = another_session(person, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return next(str(each["ip"]) for each in session.ask(IP)["data"]["sessions"] if each["isCurrent"])


@pytest.fixture(scope="module")
def behind(settings: MakeSettings) -> Iterator[str]:
    """Two proxies in a row, and one at an IPv6 address."""
    made = settings(trusted_proxies="127.0.0.1, 10.0.0.0/8, 2001:db8:1::/48")
    migrated(made)
    with served(made) as url:
        yield url


@pytest.mark.parametrize(
    ("forwarded", "seen"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7, 10.1.2.3, 2001:db8:1::5", "203.0.113.7"),
        # What the client itself wrote stands to the left of what the first proxy saw.
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("10.9.9.9, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("127.0.0.1, 203.0.113.7", "203.0.113.7"),
        ("2001:db8:2::7", "2001:db8:2::7"),
        ("2001:db8:2::7, 2001:0db8:0001::0005", "2001:db8:2::7"),
        ("[2001:db8:2::7]:4711", "2001:db8:2::7"),
        ("203.0.113.7:4711, 10.1.2.3:80", "203.0.113.7"),
        ("", "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_who_is_no_trusted_proxy(behind: str, someone: Someone, forwarded: str, seen: str) -> None:
    assert seen_as(someone(url=behind), x_forwarded_for=forwarded) == seen


def test_without_trust_nobody_is_believed(someone: Someone) -> None:
    for name in ("x_forwarded_for", "forwarded", "x_real_ip", "cf_connecting_ip", "true_client_ip"):
        assert seen_as(someone(), **{name: "for=203.0.113.7" if name == "forwarded" else "203.0.113.7"}) == "127.0.0.1"


def test_an_untrusted_neighbour_is_not_believed(settings: MakeSettings, someone: Someone) -> None:
    made = settings(trusted_proxies="10.0.0.0/8")
    migrated(made)
    with served(made) as url:
        assert seen_as(someone(url=url), x_forwarded_for="203.0.113.7") == "127.0.0.1"


@contextmanager
def on_both_versions(made: Settings) -> Iterator[int]:
    """Served at `::`, which takes IPv4, too; gives the port."""
    with start_blocking_portal(backend_options={"use_uvloop": True}) as portal, serve.bound("::", 0) as sock:
        server = serve.Server(serve.config(partial(app.create_app, made), made), on_listening=lambda: None)
        future = portal.start_task_soon(server.serve, [sock])
        try:
            assert eventually(lambda: server.started or future.done(), within_seconds=20)
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            future.result(timeout=20)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv4_client_of_an_ipv6_socket_has_its_own_address(settings: MakeSettings, someone: Someone) -> None:
    """Else all of them would be one network to the rate limits."""
    made = settings(trusted_proxies="127.0.0.1")
    migrated(made)
    with on_both_versions(made) as port:
        ada = someone(url=f"http://127.0.0.1:{port}")
        assert seen_as(ada) == "127.0.0.1"
        assert seen_as(ada, x_forwarded_for="203.0.113.7") == "203.0.113.7"
        with httpx.Client(timeout=30) as client:
            over_ipv6 = Person(client, f"http://[::1]:{port}/graphql", email=ada.email, password=ada.password)
            assert seen_as(over_ipv6, x_forwarded_for="203.0.113.7") == "::1"


@pytest.mark.parametrize("proxy", ["*", "proxy.internal", "10.0.0.0/33", "10.0.0.7/8", "0.0.0.0.0"])
def test_a_proxy_is_named_by_its_address(proxy: str) -> None:
    wanted = "is not an address or a network such as 10.0.0.7 or 10.0.0.0/8"
    assert refusal(TRUSTED_PROXIES=proxy) == f"TASKGRAPH_TRUSTED_PROXIES: {proxy!r} {wanted}"
