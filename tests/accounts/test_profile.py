"""The viewer, and how they change their name and address."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.accounts.asking import RIGHT, codes, done, nothing_written, object_id, problems, sent, stored_user
from tests.conftest import Server, Someone
from tests.people import Person

VIEWER = "{ viewer { id name email tier createdAt } }"
NODE = "query($id: ID!) { node(id: $id) { id ... on User { email } } }"
NAME, EMAIL = ["input", "name"], ["input", "email"]


def test_the_viewer_is_who_signed_in(server: Server, someone: Someone) -> None:
    ada, stranger = someone(name="Ada"), someone(name="Mallory")
    for person, name in ((ada, "Ada"), (stranger, "Mallory")):
        created_at = stored_user(server.mongo, person)["createdAt"].isoformat(timespec="milliseconds")
        viewer = {"id": person.id, "name": name, "email": person.email, "tier": "FREE", "createdAt": f"{created_at}Z"}
        assert person.ask(VIEWER) == {"data": {"viewer": viewer}}


def test_the_anonymous_have_no_viewer(anonymous: Person) -> None:
    response = anonymous.post(VIEWER)
    assert (response.status_code, response.json()["data"]) == (200, {"viewer": None})


def test_a_user_is_a_node_for_themselves_alone(someone: Someone, anonymous: Person) -> None:
    ada, stranger = someone(), someone()
    assert ada.ask(NODE, {"id": ada.id}) == {"data": {"node": {"id": ada.id, "email": ada.email}}}
    assert stranger.ask(NODE, {"id": ada.id}) == {"data": {"node": None}}
    assert anonymous.ask(NODE, {"id": ada.id})["data"] == {"node": None}


@pytest.mark.parametrize(
    ("members", "changed"),
    [
        ({"name": "  Ada Lovelace "}, {"name": "Ada Lovelace"}),
        ({"name": "n" * 100}, {"name": "n" * 100}),
        ({"email": " Ada.Lovelace@EXAMPLE.com"}, {"email": "Ada.Lovelace@example.com"}),
        ({"name": "Countess", "email": "countess@example.com"}, {"name": "Countess", "email": "countess@example.com"}),
        ({"name": "Just Ada", "email": None}, {"name": "Just Ada"}),
        ({"name": None, "email": "just.ada@example.com"}, {"email": "just.ada@example.com"}),
        ({"name": None, "email": None}, {}),
        ({"name": None}, {}),
    ],
)
def test_what_is_given_is_changed_and_all_else_is_kept(
    server: Server, someone: Someone, members: dict[str, Any], changed: dict[str, str]
) -> None:
    ada = someone()
    before = stored_user(server.mongo, ada)
    payload = done(ada, "updateProfile", **members)
    after = before | changed
    assert stored_user(server.mongo, ada) == after
    viewer = {"id": ada.id, "name": after["name"], "email": after["email"]}
    assert payload == {"viewer": viewer, "errors": [], "cursor": None, "replayed": False}
    assert ada.ask("{ viewer { id name email } }") == {"data": {"viewer": viewer}}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"name": ""}, [("REQUIRED", NAME)]),
        ({"name": " \u200d "}, [("REQUIRED", NAME)]),
        ({"name": "n" * 101}, [("TOO_LONG", NAME)]),
        ({"name": "A\x07da"}, [("INVALID", NAME)]),
        ({"email": ""}, [("REQUIRED", EMAIL)]),
        ({"email": "ada"}, [("INVALID", EMAIL)]),
        ({"email": f"e@{'e' * 249}.com"}, [("TOO_LONG", EMAIL)]),
        ({"name": "", "email": "ada"}, [("REQUIRED", NAME), ("INVALID", EMAIL)]),
        ({"name": "Good", "email": "bad"}, [("INVALID", EMAIL)]),
    ],
)
def test_input_beyond_its_limits_is_refused(
    server: Server, someone: Someone, members: dict[str, Any], expected: list[tuple[str, list[str]]]
) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        payload = done(ada, "updateProfile", **members)
    assert (problems(payload), payload["viewer"]) == (expected, None)


def test_the_address_of_another_account_is_taken_in_any_case(server: Server, someone: Someone) -> None:
    ada, grace = someone(), someone()
    for email in (grace.email, grace.email.upper()):
        with nothing_written(server.mongo):
            payload = done(ada, "updateProfile", name="Impostor", email=email)
        assert (problems(payload), payload["viewer"]) == ([("EMAIL_TAKEN", EMAIL)], None)


def test_the_own_address_can_be_spelled_in_another_case(someone: Someone) -> None:
    ada = someone()
    local, _, domain = ada.email.partition("@")
    assert done(ada, "updateProfile", email=ada.email.upper())["viewer"]["email"] == f"{local.upper()}@{domain}"


def test_of_two_that_want_an_address_at_once_only_one_gets_it(server: Server, someone: Someone) -> None:
    people = [someone() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        payloads = list(threads.map(lambda person: done(person, "updateProfile", email="wanted.by.many@example.com"), people))
    assert sorted(problems(payload) for payload in payloads) == [[], *[[("EMAIL_TAKEN", EMAIL)]] * 2]
    assert server.mongo["users"].count_documents({"email": "wanted.by.many@example.com"}) == 1


def test_after_a_change_of_address_only_the_new_one_signs_in(someone: Someone, anonymous: Person) -> None:
    ada = someone()
    done(ada, "updateProfile", email="moved.to@example.com")
    assert problems(done(anonymous, "login", email=ada.email, password=RIGHT)) == [("BAD_CREDENTIALS", None)]
    assert done(anonymous, "login", email="moved.to@example.com", password=RIGHT)["viewer"]["id"] == ada.id


def test_an_address_that_was_given_up_is_free(someone: Someone) -> None:
    ada = someone()
    done(ada, "updateProfile", email="ada.has.moved@example.com")
    assert someone(email=ada.email).id != ada.id


def test_a_stranger_changes_only_themselves(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    before = stored_user(server.mongo, ada)
    assert done(stranger, "updateProfile", name="Mallory")["viewer"]["id"] == stranger.id
    assert stored_user(server.mongo, ada) == before


def test_changing_a_profile_needs_a_viewer(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, "updateProfile", name="Nobody")
    assert (response.status_code, codes(response), response.json()["data"]) == (401, ["UNAUTHENTICATED"], None)


def test_neither_tier_nor_password_is_part_of_a_profile(server: Server, someone: Someone) -> None:
    ada = someone()
    foreign: list[dict[str, Any]] = [{"tier": "PREMIUM"}, {"passwordHash": "x"}, {"id": ada.id}]
    for members in foreign:
        with nothing_written(server.mongo):
            assert codes(sent(ada, "updateProfile", **members)) == ["BAD_USER_INPUT"]
    assert server.mongo["users"].count_documents({"_id": object_id(ada.id), "tier": "FREE"}) == 1
