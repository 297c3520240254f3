"""Refresh tokens: spent at every use, forgiven for ten seconds, and never stored."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import bson
import pytest

from taskgraph.accounts.tokens import RefreshToken
from taskgraph.storage import clock
from tests.accounts.asking import (
    another_session,
    done,
    is_ended,
    is_signed_in,
    nothing_written,
    problems,
    refreshed,
    sent,
    set_back,
    stored_session,
)
from tests.conftest import Server, Someone
from tests.people import Person
from tests.processes import eventually

BAD_CREDENTIALS = [("BAD_CREDENTIALS", None)]
TOKEN_REUSED = [("TOKEN_REUSED", None)]
WEEK = timedelta(days=7)


def carry_on(person: Person) -> None:
    """Spends the person's refresh token and keeps the new pair."""
    payload = refreshed(person)
    assert payload["errors"] == []
    person.token, person.refresh_token = payload["accessToken"], payload["refreshToken"]


def test_a_refresh_gives_the_same_session_new_tokens(server: Server, someone: Someone) -> None:
    ada = someone()
    session, spent = stored_session(server.mongo, ada), ada.refresh_token
    set_back(server.mongo, ada, lastUsedAt=3600, expiresAt=-3600)
    payload = refreshed(ada)
    assert (payload["errors"], payload["cursor"], payload["replayed"]) == ([], None, False)
    assert (payload["viewer"]["id"], payload["viewer"]["email"]) == (ada.id, ada.email)
    assert payload["refreshToken"] != spent
    after = stored_session(server.mongo, Person(ada.client, ada.graphql_url, payload["accessToken"]))
    assert after["_id"] == session["_id"]
    assert clock.now() - after["lastUsedAt"] < timedelta(seconds=60)
    assert after["expiresAt"] - after["lastUsedAt"] == WEEK
    assert after["createdAt"] == session["createdAt"]


def test_the_access_token_of_before_a_refresh_still_works(someone: Someone) -> None:
    ada = someone()
    refreshed(ada)
    assert is_signed_in(ada)


def test_a_session_can_be_carried_on_again_and_again(server: Server, someone: Someone) -> None:
    ada = someone()
    session = stored_session(server.mongo, ada)
    tokens = {ada.refresh_token}
    for _ in range(4):
        carry_on(ada)
        tokens.add(ada.refresh_token)
    assert len(tokens) == 5
    assert stored_session(server.mongo, ada)["_id"] == session["_id"]


def test_the_refresh_token_decides_whose_session_goes_on(someone: Someone) -> None:
    ada, stranger = someone(), someone()
    assert done(stranger, "refreshSession", refreshToken=ada.refresh_token)["viewer"]["id"] == ada.id


@pytest.mark.parametrize("seconds_ago", [0, 7])
def test_the_token_spent_last_has_a_grace_of_ten_seconds(server: Server, someone: Someone, seconds_ago: int) -> None:
    ada = someone()
    first = refreshed(ada)["refreshToken"]
    set_back(server.mongo, ada, lastUsedAt=seconds_ago)
    with nothing_written(server.mongo):
        payload = refreshed(ada)
    assert (payload["errors"], payload["refreshToken"]) == ([], first)
    assert refreshed(ada, first)["errors"] == []


def test_a_token_spent_longer_ago_ends_the_session(server: Server, someone: Someone) -> None:
    ada = someone()
    session = stored_session(server.mongo, ada)
    newest = refreshed(ada)["refreshToken"]
    set_back(server.mongo, ada, lastUsedAt=11)
    response = sent(ada, "refreshSession", refreshToken=ada.refresh_token)
    payload = response.json()["data"]["refreshSession"]
    assert problems(payload) == TOKEN_REUSED
    assert (payload["viewer"], payload["accessToken"], payload["refreshToken"]) == (None, None, None)
    assert "set-cookie" not in response.headers
    assert is_ended(server.mongo, session)
    assert problems(refreshed(ada, newest)) == BAD_CREDENTIALS
    assert problems(refreshed(ada)) == BAD_CREDENTIALS
    assert eventually(lambda: not is_signed_in(ada), within_seconds=2)


def test_a_token_before_the_one_spent_last_has_no_grace(server: Server, someone: Someone) -> None:
    ada = someone()
    session, oldest = stored_session(server.mongo, ada), ada.refresh_token
    carry_on(ada)
    carry_on(ada)
    assert problems(refreshed(ada, oldest)) == TOKEN_REUSED
    assert is_ended(server.mongo, session)


def test_a_reused_token_ends_no_other_session(server: Server, someone: Someone) -> None:
    ada = someone()
    other = another_session(ada)
    refreshed(ada)
    set_back(server.mongo, ada, lastUsedAt=11)
    assert problems(refreshed(ada)) == TOKEN_REUSED
    assert is_signed_in(other)
    assert refreshed(other)["errors"] == []


def test_two_tabs_that_refresh_at_once_get_the_same_tokens(someone: Someone) -> None:
    ada = someone()
    with ThreadPoolExecutor(8) as tabs:
        payloads = list(tabs.map(lambda _tab: refreshed(ada), range(8)))
    assert [payload["errors"] for payload in payloads] == [[]] * 8
    [successor] = {payload["refreshToken"] for payload in payloads}
    assert refreshed(ada, successor)["errors"] == []


def test_an_expired_session_cannot_be_carried_on(server: Server, someone: Someone) -> None:
    ada = someone()
    viewing = another_session(ada)
    set_back(server.mongo, ada, expiresAt=1)
    with nothing_written(server.mongo):
        assert problems(refreshed(ada)) == BAD_CREDENTIALS
    assert [each["isCurrent"] for each in viewing.ask("{ sessions { isCurrent } }")["data"]["sessions"]] == [True]


@pytest.mark.parametrize(
    "token",
    ["nonsense", "ä", "A" * 64, "A" * 10_000, str(RefreshToken.new()), "\0"],
    ids=["text", "not ascii", "zeros", "long", "unknown", "nul"],
)
def test_a_token_that_nobody_was_given_is_refused(server: Server, anonymous: Person, token: str) -> None:
    with nothing_written(server.mongo):
        assert problems(refreshed(anonymous, token)) == BAD_CREDENTIALS


def test_a_refresh_without_token_and_cookie_is_refused(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        assert problems(done(anonymous, "refreshSession")) == BAD_CREDENTIALS
        assert problems(refreshed(anonymous, "")) == BAD_CREDENTIALS


def test_an_access_token_is_no_refresh_token(server: Server, someone: Someone, anonymous: Person) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        assert problems(refreshed(anonymous, str(ada.token))) == BAD_CREDENTIALS


def test_no_half_of_a_refresh_token_is_stored(server: Server, someone: Someone) -> None:
    ada = someone()
    given = [ada.refresh_token]
    carry_on(ada)
    given.append(ada.refresh_token)
    raw = bson.encode(stored_session(server.mongo, ada))
    for text in given:
        token = RefreshToken.parse(text)
        assert token is not None
        assert not any(part in raw for part in (text.encode(), token.handle, token.secret))
