"""Access tokens: what they say, how long, and everything that is not one."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import jwt
import pytest
from bson import ObjectId
from websockets.exceptions import ConnectionClosed

from tests.accounts.asking import RIGHT, VIEWER, another_session, codes, is_signed_in, nothing_written, object_id, sent, websocket
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.people import Person, unpriced

OTHER = "another secret that nobody told this server about"
CREATE = 'mutation { createTask(input: {title: "Break in"}) { task { id } } }'


def claims_of(token: str | None) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(str(token), options={"verify_signature": False})
    return claims


def kid_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def secret_of(server: Server) -> str:
    return server.settings.signing_secrets[0]


def signed(server: Server, claims: dict[str, Any], **header: Any) -> str:
    """A token that only the holder of the server's secret can make."""
    secret = secret_of(server)
    return jwt.encode(claims, secret, "HS256", headers={"kid": kid_of(secret)} | header)


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def test_it_names_user_and_session_and_lasts_fifteen_minutes(server: Server, someone: Someone) -> None:
    ada = someone()
    claims = claims_of(ada.token)
    [session] = server.mongo["sessions"].find({"userId": object_id(ada.id)})
    assert claims.keys() == {"sub", "sid", "iat", "exp"}
    assert (claims["sub"], claims["sid"]) == (str(object_id(ada.id)), str(session["_id"]))
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 60
    header = jwt.get_unverified_header(str(ada.token))
    assert header == {"alg": "HS256", "typ": "JWT", "kid": kid_of(secret_of(server))}


def test_its_kid_does_not_give_the_secret_away(server: Server, someone: Someone) -> None:
    assert secret_of(server) not in str(jwt.get_unverified_header(str(someone().token)))
    assert len(kid_of(secret_of(server))) == 8


def test_it_works_until_it_expires(server: Server, someone: Someone) -> None:
    ada = someone()
    claims = claims_of(ada.token)
    ada.token = signed(server, claims | {"exp": int(time.time()) + 30})
    assert is_signed_in(ada)
    ada.token = signed(server, claims | {"exp": int(time.time()) - 1})
    response = ada.post(VIEWER)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.json() == {
        "errors": [{"message": "The access token has expired; refresh the session.", "extensions": {"code": "UNAUTHENTICATED"}}]
    }


def tampered_claims(_server: Server, token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part(claims_of(token) | {'exp': int(time.time()) + 10**6})}.{signature}"


def tampered_signature(_server: Server, token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def without_signature(_server: Server, token: str) -> str:
    return f"{token.rpartition('.')[0]}."


def algorithm_none(server: Server, token: str) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid_of(secret_of(server))})}.{part(claims_of(token))}."


def algorithm_none_signed(server: Server, token: str) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT', 'kid': kid_of(secret_of(server))})}.{token.partition('.')[2]}"


def other_algorithm(server: Server, token: str) -> str:
    secret = secret_of(server)
    return jwt.encode(claims_of(token), secret.ljust(64, "="), "HS512", headers={"kid": kid_of(secret)})


def other_secret(server: Server, token: str) -> str:
    return jwt.encode(claims_of(token), OTHER, "HS256", headers={"kid": kid_of(secret_of(server))})


def other_secret_and_kid(_server: Server, token: str) -> str:
    return jwt.encode(claims_of(token), OTHER, "HS256", headers={"kid": kid_of(OTHER)})


def no_kid(server: Server, token: str) -> str:
    return jwt.encode(claims_of(token), secret_of(server), "HS256")


def no_expiry(server: Server, token: str) -> str:
    return signed(server, {name: value for name, value in claims_of(token).items() if name != "exp"})


def no_session(server: Server, token: str) -> str:
    return signed(server, {name: value for name, value in claims_of(token).items() if name != "sid"})


def unknown_session(server: Server, token: str) -> str:
    return signed(server, claims_of(token) | {"sid": str(ObjectId())})


def subject_no_id(server: Server, token: str) -> str:
    return signed(server, claims_of(token) | {"sub": "ada"})


def session_no_id(server: Server, token: str) -> str:
    return signed(server, claims_of(token) | {"sid": "tomorrow"})


def session_no_text(server: Server, token: str) -> str:
    return signed(server, claims_of(token) | {"sid": 7})


def halved(_server: Server, token: str) -> str:
    return token.partition(".")[0]


def no_token(_server: Server, _token: str) -> str:
    return "let.me.in"


FORGERIES = [
    tampered_claims,
    tampered_signature,
    without_signature,
    algorithm_none,
    algorithm_none_signed,
    other_algorithm,
    other_secret,
    other_secret_and_kid,
    no_kid,
    no_expiry,
    no_session,
    unknown_session,
    subject_no_id,
    session_no_id,
    session_no_text,
    halved,
    no_token,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_what_was_not_issued_here_is_refused(server: Server, someone: Someone, forge: Callable[[Server, str], str]) -> None:
    ada = someone()
    ada.token = forge(server, str(ada.token))
    for document in (VIEWER, CREATE):
        response = ada.post(document)
        assert (response.status_code, codes(response), "data" in response.json()) == (401, ["UNAUTHENTICATED"], False)
    assert server.mongo["tasks"].count_documents({"ownerId": object_id(ada.id)}) == 0


def test_a_session_does_not_carry_another_users_name(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    claims = claims_of(stranger.token) | {"sub": claims_of(ada.token)["sub"]}
    stranger.token = signed(server, claims)
    assert not is_signed_in(stranger)


@pytest.mark.parametrize("value", ["{}", "Basic {}", "Bearer", "Token {}", "Bearer {} {}"])
def test_another_authorization_is_refused_rather_than_taken_for_anonymous(someone: Someone, anonymous: Person, value: str) -> None:
    token = someone().token
    response = anonymous.post(VIEWER, headers={"authorization": value.format(token, token)})
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])


def test_the_scheme_is_read_in_any_case(someone: Someone, anonymous: Person) -> None:
    ada = someone()
    for scheme in ("Bearer", "bearer", "BEARER"):
        response = anonymous.post(VIEWER, headers={"authorization": f"{scheme} {ada.token}"})
        assert unpriced(response) == {"data": {"viewer": {"id": ada.id}}}


@pytest.mark.parametrize(
    ("mutation", "members"),
    [
        ("login", {"email": "ada@example.com", "password": RIGHT}),
        ("register", {"name": "Ada", "email": "with.a.bad.token@example.com", "password": RIGHT}),
        ("refreshSession", {}),
    ],
)
def test_a_bad_token_is_refused_even_where_none_is_needed(
    server: Server, anonymous: Person, mutation: str, members: dict[str, Any]
) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, mutation, headers={"authorization": "Bearer let.me.in"}, **members)
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])


@pytest.mark.parametrize("forge", [algorithm_none, tampered_claims, no_token])
def test_a_socket_with_a_bad_token_is_closed(server: Server, someone: Someone, forge: Callable[[Server, str], str]) -> None:
    ada = someone()
    with pytest.raises(ConnectionClosed) as closed, websocket(server.ws_url, token=forge(server, str(ada.token))):
        pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4403


def test_its_lifetime_is_a_setting(settings: MakeSettings, someone: Someone) -> None:
    made = settings(access_token_seconds=42)
    migrated(made)
    with served(made) as url:
        claims = claims_of(someone(url=url).token)
    assert claims["exp"] - claims["iat"] == 42


@pytest.fixture
def with_secrets(settings: MakeSettings) -> Iterator[Callable[..., str]]:
    """with_secrets("new", "old") -> the address of a server with these secrets; all have one database."""
    database = settings().mongo_database
    with ExitStack() as stack:

        def serve(*secrets: str) -> str:
            made = settings(mongo_database=database, jwt_secrets=",".join(secrets))
            migrated(made)
            return stack.enter_context(served(made))

        yield serve


def test_secrets_are_rotated_without_refusing_anybody(someone: Someone, with_secrets: Callable[..., str]) -> None:
    old, new = "the old secret that is long enough for us", "the new secret that is long enough for us"
    # Each step is rolled out while servers of the step before still run.
    steps = [with_secrets(old), with_secrets(old, new), with_secrets(new, old), with_secrets(new)]
    ada = someone(url=steps[0])
    signed_at = [another_session(Person(ada.client, f"{url}/graphql", id=ada.id, email=ada.email, password=RIGHT)) for url in steps]
    kids = [jwt.get_unverified_header(str(person.token))["kid"] for person in signed_at]
    assert kids == [kid_of(old), kid_of(old), kid_of(new), kid_of(new)]
    for here, person in enumerate(signed_at):
        accepted = [is_signed_in(Person(ada.client, f"{url}/graphql", person.token, id=ada.id)) for url in steps]
        assert all(accepted[max(0, here - 1) : here + 2])
    # And a secret that was taken away is worth nothing.
    assert not is_signed_in(Person(ada.client, f"{steps[-1]}/graphql", signed_at[0].token))
