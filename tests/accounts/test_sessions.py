"""Sessions: listed to their owner, and ended everywhere at once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from bson import ObjectId
from websockets.exceptions import ConnectionClosed

from tests.accounts.asking import (
    another_session,
    codes,
    done,
    is_ended,
    is_signed_in,
    nothing_written,
    problems,
    refreshed,
    sent,
    session_id_of,
    set_back,
    stored_session,
    websocket,
)
from tests.conftest import Launch, Server, Someone
from tests.people import Person
from tests.processes import eventually

SESSIONS = "{ sessions { id createdAt lastUsedAt expiresAt ip userAgent isCurrent } }"
BAD_CREDENTIALS = [("BAD_CREDENTIALS", None)]
NOT_FOUND = [("NOT_FOUND", ["input", "id"])]


def is_refused(person: Person) -> bool:
    return not is_signed_in(person)


def test_the_viewer_sees_their_live_sessions_used_last_first(server: Server, someone: Someone) -> None:
    ada = someone()
    phone = another_session(ada, headers={"user-agent": "phone"})
    gone = another_session(ada)
    done(gone, "logout")
    set_back(server.mongo, ada, lastUsedAt=60)
    of_ada, of_phone = stored_session(server.mongo, ada), stored_session(server.mongo, phone)

    def shown(moment: Any) -> str:
        return f"{moment.isoformat(timespec='milliseconds')}Z"

    assert phone.ask(SESSIONS)["data"]["sessions"] == [
        {
            "id": session_id_of(person),
            "createdAt": shown(stored["createdAt"]),
            "lastUsedAt": shown(stored["lastUsedAt"]),
            "expiresAt": shown(stored["expiresAt"]),
            "ip": "127.0.0.1",
            "userAgent": stored["userAgent"],
            "isCurrent": person is phone,
        }
        for person, stored in ((phone, of_phone), (ada, of_ada))
    ]
    assert of_phone["userAgent"] == "phone"


def test_the_101st_sign_in_ends_the_session_used_longest_ago(server: Server, someone: Someone) -> None:
    ada = someone()
    stored = stored_session(server.mongo, ada)
    copies = [stored | {"_id": ObjectId(), "handle": bytes([number]) * 32} for number in range(99)]
    server.mongo["sessions"].insert_many(copies)
    set_back(server.mongo, ada, lastUsedAt=3600)
    newest = another_session(ada)
    listed = newest.ask(SESSIONS)["data"]["sessions"]
    assert len(listed) == 100
    assert is_signed_in(newest)
    assert eventually(lambda: is_refused(ada))


def test_a_stranger_sees_only_their_own_sessions(someone: Someone) -> None:
    ada, stranger = someone(), someone()
    [seen] = stranger.ask(SESSIONS)["data"]["sessions"]
    assert seen["isCurrent"]
    assert seen["id"] != session_id_of(ada)


def test_sessions_need_a_viewer(anonymous: Person) -> None:
    response = anonymous.post(SESSIONS)
    assert (response.status_code, codes(response), response.json()["data"]) == (401, ["UNAUTHENTICATED"], None)


def test_a_session_is_a_node_for_its_owner_alone(someone: Someone, anonymous: Person) -> None:
    ada, stranger = someone(), someone()
    node = "query($id: ID!) { node(id: $id) { id ... on Session { isCurrent } } }"
    session = {"id": session_id_of(ada)}
    assert ada.ask(node, session) == {"data": {"node": {"id": session["id"], "isCurrent": True}}}
    assert another_session(ada).ask(node, session)["data"]["node"]["isCurrent"] is False
    assert stranger.ask(node, session) == {"data": {"node": None}}
    assert anonymous.ask(node, session)["data"]["node"] is None


def ended_by_logout(_ada: Person, lost: Person) -> None:
    assert done(lost, "logout") == {"errors": [], "cursor": None, "replayed": False}


def ended_by_revocation(ada: Person, lost: Person) -> None:
    assert done(ada, "revokeSession", id=session_id_of(lost))["revokedCount"] == 1


def ended_by_itself(_ada: Person, lost: Person) -> None:
    assert done(lost, "revokeSession", id=session_id_of(lost))["revokedCount"] == 1


def ended_with_the_others(ada: Person, _lost: Person) -> None:
    assert done(ada, "revokeOtherSessions")["revokedCount"] == 1


def ended_by_a_new_password(ada: Person, _lost: Person) -> None:
    old, ada.password = ada.password, "another good password"
    assert done(ada, "changePassword", currentPassword=old, newPassword=ada.password)["errors"] == []


def ended_with_the_account(ada: Person, _lost: Person) -> None:
    assert done(ada, "deleteAccount", password=ada.password)["errors"] == []


WAYS = [ended_by_logout, ended_by_revocation, ended_by_itself, ended_with_the_others, ended_by_a_new_password]


@pytest.mark.parametrize("end", WAYS)
def test_both_tokens_of_an_ended_session_are_worthless_at_once(
    server: Server, someone: Someone, end: Callable[[Person, Person], None]
) -> None:
    ada = someone()
    lost = another_session(ada)
    session = stored_session(server.mongo, lost)
    end(ada, lost)
    assert not is_signed_in(lost)
    assert problems(refreshed(lost)) == BAD_CREDENTIALS
    assert is_ended(server.mongo, session)
    assert is_signed_in(ada)
    assert len(ada.ask(SESSIONS)["data"]["sessions"]) == 1


@pytest.mark.parametrize("end", WAYS)
def test_a_socket_of_an_ended_session_is_closed(server: Server, someone: Someone, end: Callable[[Person, Person], None]) -> None:
    ada = someone()
    lost = another_session(ada)
    with websocket(server.ws_url, token=ada.token) as (of_ada, _), websocket(server.ws_url, token=lost.token) as (of_lost, _):
        end(ada, lost)
        with pytest.raises(ConnectionClosed):
            of_lost.recv(timeout=5)
        assert of_lost.close_code == 4410
        of_ada.send('{"type": "ping"}')
        assert of_ada.recv(timeout=5) == '{"type":"pong"}'


def test_other_processes_learn_that_a_session_has_ended(server: Server, launch: Launch, someone: Someone) -> None:
    other = launch(database=server.mongo.name)
    ada = someone()
    for end in (*WAYS, ended_with_the_account):
        lost = another_session(ada)
        there = Person(lost.client, f"{other.url}/graphql", lost.token, id=ada.id)
        assert is_signed_in(there)
        with websocket(other.ws_url, token=lost.token) as (socket, first):
            assert first == {"type": "connection_ack"}
            end(ada, lost)
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=3)
            assert socket.close_code == 4410
        assert eventually(partial(is_refused, there), within_seconds=3), end.__name__


def test_somebody_elses_session_is_not_found(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    session = session_id_of(ada)
    with nothing_written(server.mongo):
        payload = done(stranger, "revokeSession", id=session)
    assert (problems(payload), payload["revokedCount"]) == (NOT_FOUND, 0)
    assert is_signed_in(ada)


def test_an_ended_session_is_not_found(server: Server, someone: Someone) -> None:
    ada = someone()
    session = session_id_of(another_session(ada))
    assert done(ada, "revokeSession", id=session)["revokedCount"] == 1
    with nothing_written(server.mongo):
        assert problems(done(ada, "revokeSession", id=session)) == NOT_FOUND


def test_what_is_no_session_is_not_found(server: Server, someone: Someone) -> None:
    ada = someone()
    session = str(stored_session(server.mongo, ada)["_id"])
    with nothing_written(server.mongo):
        for id_ in (ada.id, session, "", "nonsense", "ä", "A" * 1000):
            assert problems(done(ada, "revokeSession", id=id_)) == NOT_FOUND


def test_revoking_the_others_ends_all_of_them_and_nobody_elses(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    others = [another_session(ada) for _ in range(3)]
    assert done(ada, "revokeOtherSessions") == {"revokedCount": 3, "errors": [], "cursor": None, "replayed": False}
    assert [is_signed_in(other) for other in others] == [False] * 3
    assert is_signed_in(ada)
    assert is_signed_in(stranger)
    with nothing_written(server.mongo):
        assert done(ada, "revokeOtherSessions")["revokedCount"] == 0


def test_expired_sessions_are_not_counted_among_the_revoked(server: Server, someone: Someone) -> None:
    ada = someone()
    expired = another_session(ada)
    set_back(server.mongo, expired, expiresAt=1)
    assert done(ada, "revokeOtherSessions")["revokedCount"] == 0


@pytest.mark.parametrize(("mutation", "members"), [("logout", {}), ("revokeSession", {"id": "x"}), ("revokeOtherSessions", {})])
def test_ending_a_session_needs_a_viewer(server: Server, anonymous: Person, mutation: str, members: dict[str, Any]) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, mutation, **members)
    assert (response.status_code, codes(response), response.json()["data"]) == (401, ["UNAUTHENTICATED"], None)
