"""The cookie form of the refresh token: for browsers, out of the reach of scripts and of other sites."""

from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest

from tests.accounts.asking import RIGHT, VIEWER, WRONG, asked_over, done, is_signed_in, problems, sent, websocket
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import Closed, opened
from tests.people import Person

NAME = "taskgraph_session"
WEEK_SECONDS = "604800"


@pytest.fixture(scope="module")
def production(settings: MakeSettings) -> Iterator[str]:
    made = settings(environment="production")
    migrated(made)
    with served(made) as url:
        yield url


def given(response: httpx.Response) -> Morsel[str]:
    """The one cookie that a response sets."""
    assert len(response.headers.get_list("set-cookie")) == 1
    [morsel] = SimpleCookie(response.headers["set-cookie"]).values()
    return morsel


def attributes(morsel: Morsel[str]) -> dict[str, object]:
    return {name: value for name, value in morsel.items() if value}


def with_cookie(person: Person, token: str, name: str = NAME) -> Person:
    """A browser that holds this cookie and nothing else."""
    person.client.cookies.clear()
    person.client.headers["cookie"] = f"{name}={token}"
    return Person(person.client, person.graphql_url, id=person.id)


def test_a_browser_is_given_the_refresh_token_out_of_reach_of_scripts(someone: Someone) -> None:
    ada = someone()
    response = sent(ada, "login", email=ada.email, password=RIGHT)
    morsel = given(response)
    assert (morsel.key, morsel.value) == (NAME, response.json()["data"]["login"]["refreshToken"])
    assert attributes(morsel) == {"path": "/", "max-age": WEEK_SECONDS, "httponly": True, "samesite": "Strict"}


def test_register_and_refresh_give_it_too(anonymous: Person) -> None:
    response = sent(anonymous, "register", name="Ada", email="cookie@example.com", password=RIGHT)
    assert given(response).value == response.json()["data"]["register"]["refreshToken"]
    response = sent(anonymous, "refreshSession", refreshToken=given(response).value)
    assert given(response).value == response.json()["data"]["refreshSession"]["refreshToken"]


def test_outside_development_it_is_for_this_host_over_https_only(production: str, someone: Someone) -> None:
    ada = someone(url=production)
    for response in (
        sent(ada, "login", email=ada.email, password=RIGHT),
        sent(ada, "refreshSession", refreshToken=ada.refresh_token),
    ):
        morsel = given(response)
        assert morsel.key == "__Host-taskgraph_session"
        expected = {"path": "/", "max-age": WEEK_SECONDS, "httponly": True, "secure": True, "samesite": "Strict"}
        assert attributes(morsel) == expected


def test_outside_development_a_cookie_without_that_protection_is_ignored(production: str, someone: Someone) -> None:
    ada = someone(url=production)
    token = ada.refresh_token
    assert problems(done(with_cookie(ada, token), "refreshSession")) == [("BAD_CREDENTIALS", None)]
    assert done(with_cookie(ada, token, "__Host-taskgraph_session"), "refreshSession")["viewer"]["id"] == ada.id


def test_a_refresh_takes_the_token_from_it(someone: Someone) -> None:
    ada = someone()
    browser = with_cookie(ada, ada.refresh_token)
    response = sent(browser, "refreshSession")
    payload = response.json()["data"]["refreshSession"]
    assert (payload["errors"], payload["viewer"]["id"]) == ([], ada.id)
    assert given(response).value == payload["refreshToken"] != ada.refresh_token
    browser.token = payload["accessToken"]
    assert is_signed_in(browser)


def test_a_browser_that_only_keeps_cookies_stays_signed_in(someone: Someone) -> None:
    ada = someone()
    browser = Person(ada.client, ada.graphql_url, id=ada.id)
    for _ in range(3):
        assert done(browser, "refreshSession")["viewer"]["id"] == ada.id


def test_the_argument_wins_over_it(someone: Someone) -> None:
    ada, grace = someone(), someone()
    browser = with_cookie(ada, ada.refresh_token)
    assert done(browser, "refreshSession", refreshToken=grace.refresh_token)["viewer"]["id"] == grace.id
    assert problems(done(browser, "refreshSession", refreshToken="nonsense")) == [("BAD_CREDENTIALS", None)]


def test_it_signs_nobody_in_by_itself(someone: Someone) -> None:
    # Else any page could act for its visitors.
    ada = someone()
    assert with_cookie(ada, ada.refresh_token).ask(VIEWER) == {"data": {"viewer": None}}


@pytest.mark.parametrize(("mutation", "members"), [("logout", {}), ("deleteAccount", {"password": RIGHT})])
def test_it_is_taken_away_with_the_session(someone: Someone, mutation: str, members: dict[str, Any]) -> None:
    ada = someone()
    morsel = given(sent(ada, mutation, **members))
    assert (morsel.key, morsel.value) == (NAME, "")
    assert attributes(morsel) == {"path": "/", "max-age": "0", "httponly": True, "samesite": "Strict"}
    assert NAME not in ada.client.cookies


@pytest.mark.parametrize(
    ("mutation", "members"),
    [
        ("login", {"email": "nobody.with.cookies@example.com", "password": WRONG}),
        ("register", {"name": "", "email": "x", "password": ""}),
        ("refreshSession", {"refreshToken": "nonsense"}),
        ("deleteAccount", {"password": WRONG}),
    ],
)
def test_a_refusal_neither_gives_nor_takes_it(someone: Someone, mutation: str, members: dict[str, Any]) -> None:
    assert "set-cookie" not in sent(someone(), mutation, **members).headers


def viewer_over_socket(ws_url: str, person: Person, **headers: str) -> object:
    cookie = f"{NAME}={person.refresh_token}"
    with websocket(ws_url, headers={"cookie": cookie, **headers}) as (socket, first):
        assert first == {"type": "connection_ack"}
        return asked_over(socket, VIEWER)["data"]["viewer"]


def is_refused(ws_url: str, person: Person, origin: str) -> bool:
    headers = {"cookie": f"{NAME}={person.refresh_token}", "origin": origin}
    with opened(ws_url, headers=headers) as socket:
        socket.send("connection_init")
        return socket.closed() == Closed(4403, "Pages of this origin may not use the session cookie.")


def test_it_opens_a_socket_for_pages_of_this_machine_alone(server: Server, someone: Someone) -> None:
    ada = someone()
    # The second is a frontend's development server.
    for origin in (server.url, "http://localhost:5173"):
        assert viewer_over_socket(server.ws_url, ada, origin=origin) == {"id": ada.id}
    for origin in ("https://evil.example", "null", f"{server.url}.evil.example", "http://localhost.evil.example"):
        assert is_refused(server.ws_url, ada, origin)
    assert viewer_over_socket(server.ws_url, ada) is None


def test_it_opens_a_socket_for_pages_of_allowed_origins(settings: MakeSettings, someone: Someone) -> None:
    made = settings(allowed_origins="https://app.example.com")
    migrated(made)
    with served(made) as url:
        ada, ws_url = someone(url=url), f"{url.replace('http', 'ws', 1)}/graphql"
        assert viewer_over_socket(ws_url, ada, origin="https://app.example.com") == {"id": ada.id}
        for origin in ("http://app.example.com", "https://appXexample.com", "http://localhost:5173"):
            assert is_refused(ws_url, ada, origin)


def test_it_is_not_spent_over_a_socket_which_could_not_bring_the_next_one(server: Server, someone: Someone) -> None:
    ada = someone()
    headers = {"cookie": f"{NAME}={ada.refresh_token}", "origin": server.url}
    with websocket(server.ws_url, headers=headers) as (socket, _):
        payload = asked_over(socket, "mutation { refreshSession { accessToken errors { code } } }")["data"]["refreshSession"]
    assert payload == {"accessToken": None, "errors": [{"code": "BAD_CREDENTIALS"}]}
    assert done(with_cookie(ada, ada.refresh_token), "refreshSession")["errors"] == []


def test_opening_a_socket_does_not_spend_it(server: Server, someone: Someone) -> None:
    ada = someone()
    for _ in range(2):
        assert viewer_over_socket(server.ws_url, ada, origin=server.url) == {"id": ada.id}
    assert done(with_cookie(ada, ada.refresh_token), "refreshSession")["errors"] == []
    # Another tab has renewed it a moment ago.
    assert viewer_over_socket(server.ws_url, ada, origin=server.url) == {"id": ada.id}
