"""What a foreign page can have a browser send is not believed for its cookie; and who may read answers may also open sockets."""

from collections.abc import Mapping

import httpx
import pytest

from taskgraph.server.csrf import HEADERS
from tests.accounts.asking import codes, refreshed
from tests.conftest import MakeSettings, Someone, migrated, served
from tests.live.sockets import Closed, connected, opened
from tests.people import Person

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TYPENAME = '{"query": "{ __typename }"}'
REFRESH = '{"query": "mutation { refreshSession { accessToken errors { code } } }"}'


def browser(person: Person, **headers: str) -> httpx.Client:
    """Holds the person's cookie among others, and nothing else."""
    person.client.cookies.clear()
    cookie = f"theme=dark; taskgraph_session={person.refresh_token}"
    return httpx.Client(headers={"cookie": cookie} | {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("content_type", ["text/plain", "text/plain; charset=utf-8", FORM, "multipart/form-data; boundary=x", ""])
def test_a_form_with_the_cookie_is_refused(someone: Someone, content_type: str) -> None:
    ada = someone()
    with browser(ada) as client:
        headers = {"content-type": content_type} if content_type else {}
        answer = client.post(ada.graphql_url, content=REFRESH.encode(), headers=headers)
    assert (answer.status_code, codes(answer)) == (403, ["CSRF_REFUSED"])
    assert "set-cookie" not in answer.headers
    # Nothing was done: the token is unspent.
    assert refreshed(ada)["errors"] == []


def test_a_link_with_the_cookie_is_refused(someone: Someone) -> None:
    ada = someone()
    with browser(ada) as client:
        for method in ("GET", "HEAD"):
            answer = client.request(method, ada.graphql_url, params={"query": "{ viewer { id } }"})
            assert answer.status_code == 403
        answer = client.get(ada.graphql_url, params={"query": "{ viewer { id } }"}, headers={"accept": "text/html, */*"})
    assert (answer.status_code, codes(answer)) == (403, ["CSRF_REFUSED"])


@pytest.mark.parametrize("name", [name for name in HEADERS if name != "Authorization"])
def test_a_header_that_pages_cannot_send_unasked_is_proof_enough(someone: Someone, name: str) -> None:
    ada = someone()
    with browser(ada, **{name: "1"}) as client:
        assert client.get(ada.graphql_url, params={"query": "{ __typename }"}).status_code == 200
        # It is still no JSON.
        assert client.post(ada.graphql_url, content=TYPENAME, headers={"content-type": "text/plain"}).status_code == 415


@pytest.mark.parametrize("given", [{"content-type": JSON}, {"authorization": ""}])
def test_so_is_what_only_scripts_send(someone: Someone, given: Mapping[str, str]) -> None:
    ada = someone()
    given = {name: value or f"Bearer {ada.token}" for name, value in given.items()}
    with browser(ada) as client:
        assert client.get(ada.graphql_url, params={"query": "{ __typename }"}, headers=given).status_code == 200
        assert client.post(ada.graphql_url, content=TYPENAME, headers={"content-type": JSON} | given).status_code == 200


def test_without_the_cookie_there_is_nothing_to_forge(anonymous: Person) -> None:
    for cookie in ("theme=dark", "other_session=x", ""):
        headers = {"cookie": cookie} if cookie else {}
        assert anonymous.client.get(anonymous.graphql_url, params={"query": "{ __typename }"}, headers=headers).status_code == 200
        sent = anonymous.client.post(anonymous.graphql_url, content=TYPENAME, headers=headers | {"content-type": "text/plain"})
        assert (sent.status_code, codes(sent)) == (415, ["BAD_USER_INPUT"])


def test_a_cookie_in_a_second_line_counts(someone: Someone) -> None:
    """As proxies that speak HTTP/2 to browsers pass them on."""
    ada = someone()
    headers = [("cookie", "theme=dark"), ("cookie", f"taskgraph_session={ada.refresh_token}")]
    with httpx.Client() as client:
        assert client.get(ada.graphql_url, params={"query": "{ __typename }"}, headers=headers).status_code == 403


def test_one_list_of_origins_decides_about_answers_and_sockets(settings: MakeSettings, someone: Someone) -> None:
    made = settings(allowed_origins="https://app.example.com, https://admin.example.com")
    migrated(made)
    with served(made) as url:
        ada, ws_url = someone(url=url), f"{url.replace('http', 'ws', 1)}/graphql"
        cookie = {"cookie": f"taskgraph_session={ada.refresh_token}"}
        for origin in ("https://app.example.com", "https://admin.example.com"):
            answer = ada.post("{ __typename }", headers={"origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin
            with connected(ws_url, headers=cookie, origin=origin) as socket:
                assert socket.ask("{ viewer { id } }") == {"data": {"viewer": {"id": ada.id}}}
        for origin in ("https://app.example.com.evil.com", "http://app.example.com", "https://APP.example.com:444", "null"):
            assert "access-control-allow-origin" not in ada.post("{ __typename }", headers={"origin": origin}).headers
            with opened(ws_url, headers=cookie, origin=origin) as socket:
                socket.send("connection_init")
                assert socket.closed() == Closed(4403, "Pages of this origin may not use the session cookie.")


@pytest.mark.parametrize("name", HEADERS)
def test_an_allowed_origin_may_send_these_headers(anonymous: Person, name: str) -> None:
    asked = {"access-control-request-method": "GET", "access-control-request-headers": name.lower()}
    answer = anonymous.client.options(anonymous.graphql_url, headers={"origin": "http://localhost:5173"} | asked)
    assert answer.status_code == 200
