"""How passwords are kept, changed and checked without letting a storm of sign-ins take the server down."""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator

import argon2
import pytest

from taskgraph.accounts.passwords import NICE, PasswordHasher, Verdict
from taskgraph.errors import Busy
from tests.accounts.asking import (
    RIGHT,
    WRONG,
    another_session,
    codes,
    done,
    is_signed_in,
    nothing_written,
    object_id,
    problems,
    sent,
    stored_user,
)
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.people import Person

NEW = "another good password"
CURRENT, WANTED = ["input", "currentPassword"], ["input", "newPassword"]
# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html: argon2id, m=19 MiB, t=2, p=1
OWASP = "$argon2id$v=19$m=19456,t=2,p=1$"


def keep_weakly(server: Server, person: Person) -> str:
    """As a version of this server with lower parameters would have stored the password."""
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(person.password)
    server.mongo["users"].update_one({"_id": object_id(person.id)}, {"$set": {"passwordHash": weak}})
    return weak


def opens(person: Person, password: str) -> bool:
    return problems(done(Person(person.client, person.graphql_url), "login", email=person.email, password=password)) == []


def test_a_password_is_hashed_at_owasp_strength(server: Server, someone: Someone) -> None:
    ada = someone()
    stored = stored_user(server.mongo, ada)["passwordHash"]
    assert stored.startswith(OWASP)
    salt, digest = stored.removeprefix(OWASP).split("$")
    assert (len(salt), len(digest)) == (22, 43)
    assert argon2.PasswordHasher().verify(stored, RIGHT)


def test_the_same_password_is_stored_differently_for_each(server: Server, someone: Someone) -> None:
    assert len({stored_user(server.mongo, someone())["passwordHash"] for _ in range(3)}) == 3


def test_a_hash_of_weaker_parameters_is_made_anew_at_login(server: Server, someone: Someone) -> None:
    ada = someone()
    weak = keep_weakly(server, ada)
    assert opens(ada, RIGHT)
    stored = stored_user(server.mongo, ada)["passwordHash"]
    assert stored.startswith(OWASP)
    assert stored != weak
    assert opens(ada, RIGHT)
    assert stored_user(server.mongo, ada)["passwordHash"] == stored


def test_a_wrong_password_makes_no_hash_anew(server: Server, someone: Someone) -> None:
    ada = someone()
    weak = keep_weakly(server, ada)
    with nothing_written(server.mongo):
        assert not opens(ada, WRONG)
    assert stored_user(server.mongo, ada)["passwordHash"] == weak


def test_after_a_change_only_the_new_password_opens_the_account(server: Server, someone: Someone) -> None:
    ada = someone()
    payload = done(ada, "changePassword", currentPassword=RIGHT, newPassword=NEW)
    assert payload == {"viewer": {"id": ada.id}, "errors": [], "cursor": None, "replayed": False}
    assert not opens(ada, RIGHT)
    assert opens(ada, NEW)
    assert stored_user(server.mongo, ada)["passwordHash"].startswith(OWASP)


def test_a_change_ends_every_session_but_its_own(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    others = [another_session(ada) for _ in range(2)]
    done(ada, "changePassword", currentPassword=RIGHT, newPassword=NEW)
    assert [is_signed_in(person) for person in (ada, stranger, *others)] == [True, True, False, False]
    assert server.mongo["sessions"].count_documents({"userId": object_id(ada.id), "endedAt": None}) == 1


def test_a_change_needs_the_current_password(server: Server, someone: Someone) -> None:
    ada = someone()
    other = another_session(ada)
    with nothing_written(server.mongo):
        payload = done(ada, "changePassword", currentPassword=WRONG, newPassword=NEW)
    assert (problems(payload), payload["viewer"]) == ([("BAD_CREDENTIALS", CURRENT)], None)
    assert is_signed_in(other)


@pytest.mark.parametrize(
    ("new", "expected"),
    [("", ("INVALID", WANTED)), ("p" * 11, ("INVALID", WANTED)), ("p" * 129, ("TOO_LONG", WANTED))],
    ids=["empty", "11", "129"],
)
def test_a_new_password_beyond_the_limits_is_refused(
    server: Server, someone: Someone, new: str, expected: tuple[str, list[str]]
) -> None:
    ada = someone()
    with nothing_written(server.mongo):
        payload = done(ada, "changePassword", currentPassword=RIGHT, newPassword=new)
    assert (problems(payload), payload["viewer"]) == ([expected], None)


@pytest.mark.parametrize(
    "new", ["password1234", "PassWord1234", "\uff50assword1234", "1qaz2wsx3edc", "ADA@example.com", "Ada Lovelace"]
)
def test_a_password_that_is_tried_first_is_refused(server: Server, someone: Someone, anonymous: Person, new: str) -> None:
    email = f"{uuid.uuid4().hex}@example.com"
    new = email.upper() if new == "ADA@example.com" else new
    with nothing_written(server.mongo):
        payload = done(anonymous, "register", name="Ada Lovelace", email=email, password=new)
    assert problems(payload) == [("INVALID", ["input", "password"])]
    ada = someone(name="Ada Lovelace", email=email)
    payload = done(ada, "changePassword", currentPassword=RIGHT, newPassword=new)
    assert problems(payload) == [("INVALID", WANTED)]
    assert opens(ada, RIGHT)


@pytest.mark.parametrize("new", ["p" * 12, "p" * 128], ids=["12", "128"])
def test_a_new_password_at_the_limits_is_accepted(someone: Someone, new: str) -> None:
    ada = someone()
    assert done(ada, "changePassword", currentPassword=RIGHT, newPassword=new)["errors"] == []
    assert opens(ada, new)


def test_a_stranger_cannot_change_it_by_knowing_it(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone(password="the strangers password")
    with nothing_written(server.mongo):
        payload = done(stranger, "changePassword", currentPassword=ada.password, newPassword=NEW)
    assert problems(payload) == [("BAD_CREDENTIALS", CURRENT)]


def test_changing_it_needs_a_viewer(server: Server, anonymous: Person) -> None:
    with nothing_written(server.mongo):
        response = sent(anonymous, "changePassword", currentPassword=RIGHT, newPassword=NEW)
    assert (response.status_code, codes(response), response.json()["data"]) == (401, ["UNAUTHENTICATED"], None)


@pytest.fixture
def hasher() -> Iterator[PasswordHasher]:
    """One at work and two waiting, quickly."""
    hasher = PasswordHasher(memory_kib=64, passes=1, queue=2)
    yield hasher
    hasher.close()


def test_hashing_gives_way_to_requests_where_processors_are_scarce(hasher: PasswordHasher) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert hasher._thread.submit(niceness).result() == min(niceness() + NICE, 19)


@pytest.mark.anyio
async def test_hashing_takes_no_more_than_half_of_a_processor() -> None:
    hasher = PasswordHasher(memory_kib=8192, passes=2)
    began, used = time.monotonic(), hasher._thread.submit(time.thread_time).result()
    await asyncio.gather(*(hasher.hash(RIGHT) for _ in range(10)))
    passed, used = time.monotonic() - began, hasher._thread.submit(time.thread_time).result() - used
    hasher.close()
    # Twice, but for the last one, which need not be rested from.
    assert passed > 1.7 * used


@pytest.mark.anyio
async def test_whoever_finds_the_queue_full_is_told_to_come_back(hasher: PasswordHasher) -> None:
    stored = await hasher.hash(RIGHT)
    outcomes = await asyncio.gather(*(hasher.verify(stored, RIGHT) for _ in range(5)), return_exceptions=True)
    assert outcomes[:3] == [Verdict(is_right=True)] * 3
    for refused in outcomes[3:]:
        assert isinstance(refused, Busy)
        assert refused.retry_after_seconds == 2
    assert await hasher.verify(stored, RIGHT) == Verdict(is_right=True)


@pytest.mark.anyio
async def test_who_gives_up_waiting_leaves_the_queue(hasher: PasswordHasher) -> None:
    stored = await hasher.hash(RIGHT)
    waiting = [asyncio.ensure_future(hasher.verify(stored, RIGHT)) for _ in range(3)]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    outcomes = await asyncio.gather(*(hasher.verify(stored, WRONG) for _ in range(3)))
    assert outcomes == [Verdict(is_right=False)] * 3


def test_with_a_full_queue_the_server_is_busy_and_nothing_is_counted_or_written(
    server: Server, settings: MakeSettings, someone: Someone, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = PasswordHasher()
    monkeypatch.setattr("taskgraph.app.PasswordHasher", lambda: full)
    made = settings(mongo_database=server.settings.mongo_database)
    migrated(made)
    ada = someone()
    with served(made) as url:
        here = Person(ada.client, f"{url}/graphql", ada.token, id=ada.id)
        places, full._places = full._places, 0
        with nothing_written(server.mongo):
            for response in (
                *(sent(here, "login", email=ada.email, password=WRONG) for _ in range(5)),
                sent(here, "login", email="unknown.while.busy@example.com", password=WRONG),
                sent(here, "register", name="Ada", email="register.while.busy@example.com", password=RIGHT),
                sent(here, "changePassword", currentPassword=WRONG, newPassword=NEW),
                sent(here, "deleteAccount", password=WRONG),
                sent(here, "deleteAccount", password=RIGHT),
            ):
                assert (response.status_code, response.headers["retry-after"]) == (503, "2")
                [error] = response.json()["errors"]
                assert error["extensions"] == {"code": "BUSY", "retryAfterSeconds": 2}
                assert response.json()["data"] is None
        assert is_signed_in(here)
        full._places = places
        assert done(here, "login", email=ada.email, password=RIGHT)["errors"] == []
