"""Signing in with address and password."""

import argon2
import pytest

from tests.accounts.asking import (
    RIGHT,
    WRONG,
    another_session,
    done,
    is_signed_in,
    nothing_written,
    object_id,
    problems,
    sent,
    session_id_of,
    stored_session,
)
from tests.conftest import Server, Someone
from tests.people import Person

REFUSED = [("BAD_CREDENTIALS", None)]


def test_each_login_opens_a_session_of_its_own(server: Server, someone: Someone) -> None:
    ada = someone()
    again = another_session(ada)
    assert session_id_of(again) != session_id_of(ada)
    assert again.refresh_token != ada.refresh_token
    assert server.mongo["sessions"].count_documents({"userId": object_id(ada.id)}) == 2


def test_it_answers_with_the_account(someone: Someone, anonymous: Person) -> None:
    ada = someone(name="Ada Lovelace")
    payload = done(anonymous, "login", email=ada.email, password=RIGHT)
    assert (payload["errors"], payload["cursor"], payload["replayed"]) == ([], None, False)
    viewer = payload["viewer"]
    assert (viewer["id"], viewer["name"], viewer["email"], viewer["tier"]) == (ada.id, "Ada Lovelace", ada.email, "FREE")
    anonymous.token, anonymous.id = payload["accessToken"], ada.id
    assert is_signed_in(anonymous)


@pytest.mark.parametrize("spelled", [str.upper, str.title, "  {}\t".format], ids=["upper", "title", "spaces"])
def test_an_address_is_found_in_any_case(someone: Someone, anonymous: Person, spelled: type[str]) -> None:
    ada = someone()
    assert done(anonymous, "login", email=spelled(ada.email), password=RIGHT)["viewer"]["id"] == ada.id


@pytest.mark.parametrize(
    "spelled",
    [
        lambda email: f"\uff41{email[1:]}",
        lambda email: f"a\u00ad{email[1:]}",
        lambda email: f"a\u200b{email[1:]}",
        lambda email: f"a\0{email[1:]}",
        lambda email: f"á{email[1:]}",
    ],
    ids=["full width", "soft hyphen", "zero-width space", "nul", "accent"],
)
def test_an_address_that_differs_in_more_than_case_is_unknown(
    server: Server, someone: Someone, anonymous: Person, spelled: type[str]
) -> None:
    ada = someone(email=None)
    done(ada, "updateProfile", email=f"a{ada.email}")
    with nothing_written(server.mongo):
        payload = done(anonymous, "login", email=spelled(f"a{ada.email}"), password=RIGHT)
    assert problems(payload) == REFUSED


def test_unknown_address_and_wrong_password_get_the_same_answer(server: Server, someone: Someone, anonymous: Person) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        wrong = sent(anonymous, "login", email=ada.email, password=WRONG)
        unknown = sent(anonymous, "login", email="nobody.at.all@example.com", password=WRONG)
    assert wrong.content == unknown.content
    assert wrong.status_code == unknown.status_code == 200
    assert wrong.headers.keys() == unknown.headers.keys()
    assert "set-cookie" not in wrong.headers
    assert wrong.json()["data"]["login"] == {
        "accessToken": None,
        "accessTokenExpiresAt": None,
        "refreshToken": None,
        "viewer": None,
        "cursor": None,
        "replayed": False,
        "errors": [
            {
                "code": "BAD_CREDENTIALS",
                "message": "The e-mail address or the password is wrong.",
                "path": None,
                "retryAfterSeconds": None,
            }
        ],
    }


def test_unknown_address_and_wrong_password_cost_the_same_work(
    someone: Someone, anonymous: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = someone()
    parameters: list[argon2.Parameters] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, stored: str, password: str) -> bool:
        parameters.append(argon2.extract_parameters(stored))
        return verify(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    for email in (ada.email, "unknown.to.us@example.com"):
        assert problems(done(anonymous, "login", email=email, password=WRONG)) == REFUSED
    of_known, of_unknown = parameters
    assert of_known == of_unknown


def test_the_password_of_nobody_opens_nothing(anonymous: Person) -> None:
    # The text that an unknown address is compared with.
    payload = done(anonymous, "login", email="still.nobody@example.com", password="nobody has this password")
    assert problems(payload) == REFUSED


@pytest.mark.parametrize("password", ["", "p" * 129, RIGHT.upper(), f"{RIGHT} "])
def test_another_password_is_wrong_whatever_its_length(server: Server, someone: Someone, anonymous: Person, password: str) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        assert problems(done(anonymous, "login", email=ada.email, password=password)) == REFUSED


def test_a_password_is_the_same_however_its_letters_are_composed(someone: Someone, anonymous: Person) -> None:
    ada = someone(password="crème brûlée, please")
    payload = done(anonymous, "login", email=ada.email, password="cre\u0300me bru\u0302le\u0301e, please")
    assert payload["viewer"]["id"] == ada.id


def test_an_account_without_a_usable_hash_is_closed_not_broken(server: Server, someone: Someone, anonymous: Person) -> None:
    ada = someone()
    server.mongo["users"].update_one({"_id": object_id(ada.id)}, {"$set": {"passwordHash": "nobody can sign in with this"}})
    assert problems(done(anonymous, "login", email=ada.email, password=RIGHT)) == REFUSED


def test_a_session_remembers_where_it_was_opened_from(server: Server, someone: Someone) -> None:
    ada = someone()
    # Nobody asked for proxies to be trusted, so what a client claims about its address is worth nothing.
    claimed = {"user-agent": "b" * 300, "x-forwarded-for": "203.0.113.7"}
    session = stored_session(server.mongo, another_session(ada, headers=claimed))
    assert (session["ip"], session["userAgent"]) == ("127.0.0.1", "b" * 200)


def test_a_stranger_may_sign_in_as_who_they_prove_to_be(someone: Someone) -> None:
    ada, stranger = someone(), someone()
    assert done(stranger, "login", email=ada.email, password=RIGHT)["viewer"]["id"] == ada.id
