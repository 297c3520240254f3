"""Creating an account: what it gives, what it stores, and every input that it refuses."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.accounts.asking import RIGHT, codes, done, nothing_written, object_id, problems, sent
from tests.conftest import Server, Someone
from tests.people import Person

NAME, EMAIL, SECRET = ["input", "name"], ["input", "email"], ["input", "password"]


def given(**members: Any) -> dict[str, Any]:
    return {"name": "Grace", "email": "grace@example.com", "password": RIGHT} | members


def test_a_new_account_is_signed_in_at_once(server: Server, anonymous: Person) -> None:
    payload = done(anonymous, "register", **given(email="new.account@example.com"))
    assert (payload["errors"], payload["cursor"], payload["replayed"]) == ([], None, False)
    viewer = payload["viewer"]
    assert (viewer["name"], viewer["email"], viewer["tier"]) == ("Grace", "new.account@example.com", "FREE")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", viewer["createdAt"])
    seconds_left = (datetime.fromisoformat(payload["accessTokenExpiresAt"]) - datetime.now(UTC)).total_seconds()
    assert 890 < seconds_left <= 900
    anonymous.token = payload["accessToken"]
    assert anonymous.ask("{ viewer { id email } }") == {"data": {"viewer": {"id": viewer["id"], "email": viewer["email"]}}}
    [session] = server.mongo["sessions"].find({"userId": object_id(viewer["id"])})
    assert session["endedAt"] is None


def test_a_password_is_stored_only_as_its_hash(server: Server, anonymous: Person) -> None:
    payload = done(anonymous, "register", **given(email="hashed@example.com", password="a very peculiar password"))
    user = server.mongo["users"].find_one({"_id": object_id(payload["viewer"]["id"])})
    assert user is not None
    assert user.keys() == {"_id", "name", "email", "passwordHash", "tier", "createdAt"}
    assert user["passwordHash"].startswith("$argon2id$")
    assert "peculiar" not in repr(user)


def test_name_and_address_are_kept_without_what_surrounds_them(anonymous: Person) -> None:
    payload = done(anonymous, "register", **given(name="  Grace Hopper\t", email=" Grace.Hopper@EXAMPLE.Com "))
    assert (payload["viewer"]["name"], payload["viewer"]["email"]) == ("Grace Hopper", "Grace.Hopper@example.com")


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"name": ""}, [("REQUIRED", NAME)]),
        ({"name": " \t\n "}, [("REQUIRED", NAME)]),
        ({"name": "n" * 101}, [("TOO_LONG", NAME)]),
        ({"name": "Gr\0ace"}, [("INVALID", NAME)]),
        ({"name": "Gr\nace"}, [("INVALID", NAME)]),
        ({"name": "Gr\u202eace"}, [("INVALID", NAME)]),
        ({"name": "\u200b"}, [("INVALID", NAME)]),
        ({"email": ""}, [("REQUIRED", EMAIL)]),
        ({"email": "  "}, [("REQUIRED", EMAIL)]),
        ({"email": "grace"}, [("INVALID", EMAIL)]),
        ({"email": "grace@"}, [("INVALID", EMAIL)]),
        ({"email": "grace@nodot"}, [("INVALID", EMAIL)]),
        ({"email": "grace hopper@example.com"}, [("INVALID", EMAIL)]),
        ({"email": "grace..hopper@example.com"}, [("INVALID", EMAIL)]),
        ({"email": "Grace <grace@example.com>"}, [("INVALID", EMAIL)]),
        ({"email": "gra\u00adce@example.com"}, [("INVALID", EMAIL)]),
        ({"email": f"e@{'e' * 249}.com"}, [("TOO_LONG", EMAIL)]),
        ({"password": ""}, [("INVALID", SECRET)]),
        ({"password": "p" * 11}, [("INVALID", SECRET)]),
        ({"password": "p" * 129}, [("TOO_LONG", SECRET)]),
        ({"name": "", "email": "grace", "password": "short"}, [("REQUIRED", NAME), ("INVALID", EMAIL), ("INVALID", SECRET)]),
    ],
)
def test_input_beyond_its_limits_is_refused(
    server: Server, anonymous: Person, members: dict[str, str], expected: list[tuple[str, list[str]]]
) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, "register", **given(**members))
    payload = response.json()["data"]["register"]
    assert problems(payload) == expected
    assert all(problem["message"] for problem in payload["errors"])
    signed_in = ("accessToken", "accessTokenExpiresAt", "refreshToken", "viewer")
    assert [payload[member] for member in signed_in] == [None] * 4
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize(
    "members",
    [
        {"name": "n", "email": "name1@example.com"},
        {"name": "n" * 100, "email": "name100@example.com"},
        {"name": f"  {'n' * 100}  ", "email": "name.trimmed@example.com"},
        {"name": "山田\u3000太郎", "email": "name.wide.space@example.com"},
        {"name": "نیک\u200cپی", "email": "name.non.joiner@example.com"},
        {"name": "Zoë O'Brien-Łuczak 👩\u200d🚀", "email": "name.emoji@example.com"},
        {"password": "p" * 12, "email": "password12@example.com"},
        {"password": "p" * 128, "email": "password128@example.com"},
        {"password": " Пароль 密码 🔑 ", "email": "password.any@example.com"},
        {"email": "grace+tag@sub.example.co.uk"},
        {"email": "grace@bücher.example"},
        {"email": f"{'e' * 64}@example.com"},
    ],
)
def test_input_at_its_limits_is_accepted(anonymous: Person, members: dict[str, str]) -> None:
    payload = done(anonymous, "register", **given(**members))
    assert payload["errors"] == []
    expected = given(**members)
    assert payload["viewer"]["name"] == str(expected["name"]).strip()
    signed_in = done(anonymous, "login", email=expected["email"], password=expected["password"])
    assert signed_in["viewer"] == payload["viewer"]


@pytest.mark.parametrize("change", [str, str.upper, str.title], ids=["same", "upper", "title"])
def test_an_address_that_another_account_has_in_any_case_is_taken(
    server: Server, someone: Someone, anonymous: Person, change: Any
) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        payload = done(anonymous, "register", **given(email=change(ada.email)))
    assert problems(payload) == [("EMAIL_TAKEN", EMAIL)]
    assert payload["accessToken"] is None


def test_of_two_that_register_an_address_at_once_only_one_gets_it(server: Server, anonymous: Person) -> None:
    def register(address: str) -> dict[str, Any]:
        return done(anonymous, "register", **given(email=address))

    with ThreadPoolExecutor(4) as threads:
        payloads = list(threads.map(register, ["race@example.com", "Race@example.com", "RACE@example.com", "race@Example.com"]))
    assert sorted(problems(payload) for payload in payloads) == [[], *[[("EMAIL_TAKEN", EMAIL)]] * 3]
    assert server.mongo["users"].count_documents({"email": {"$regex": "^race@", "$options": "i"}}) == 1


def test_the_signed_in_may_register_another_account(someone: Someone) -> None:
    ada = someone()
    payload = done(ada, "register", **given(email="second@example.com"))
    assert payload["errors"] == []
    assert payload["viewer"]["id"] != ada.id


def test_a_missing_member_is_bad_user_input(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, "register", name="Grace", email="missing@example.com")
    assert codes(response) == ["BAD_USER_INPUT"]
    assert "data" not in response.json()
