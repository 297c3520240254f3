"""An account's export: everything that is stored about it, by a link for one download, and the same from the command line."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskgraph.accounts import export as accounts_export
from taskgraph.storage.embedded import Servers
from tests.accounts.asking import (
    RIGHT,
    WRONG,
    another_session,
    codes,
    done,
    problems,
    refreshed,
    set_back,
    stored_session,
    stored_user,
)
from tests.conftest import MakeSettings, Server, Someone, migrated, served
from tests.people import Person
from tests.processes import ran
from tests.tasks.operations import block, create, data, delete, update

EXPORT = """mutation($input: ExportMyDataInput!) { exportMyData(input: $input) {
  url expiresAt cursor replayed errors { code path } } }"""


def asked(person: Person, password: str = RIGHT) -> dict[str, Any]:
    """The payload of exportMyData."""
    payload: dict[str, Any] = data(person, EXPORT, {"input": {"password": password}})["exportMyData"]
    return payload


def fetched(server: Server, url: str) -> httpx.Response:
    """Without any cookie or token."""
    return httpx.get(f"{server.url}{url}", timeout=30)


def exported(server: Server, person: Person) -> dict[str, Any]:
    response = fetched(server, asked(person)["url"])
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def worked(person: Person) -> Mapping[str, Any]:
    """One task, one that waits for it, and one in the trash."""
    first, second, third = create(person, "First", description="Text"), create(person, "Second"), create(person, "Third")
    block(person, first, second)
    update(person, first, title="Changed", key="a key")
    delete(person, third)
    return {"first": first, "second": second, "third": third}


def test_it_holds_everything_about_the_account(server: Server, someone: Someone) -> None:
    ada = someone()
    tasks = worked(ada)
    another_session(ada)
    found = exported(server, ada)
    assert list(found) == [
        *("format", "exportedAt", "account", "sessions", "auditLog", "idempotencyKeys", "tasks", "dependencies", "events")
    ]
    assert found["format"] == "taskgraph-account/1"
    viewer = data(ada, "{ viewer { id name email tier createdAt } }")["viewer"]
    assert found["account"] == viewer
    assert sorted(each["id"] for each in found["sessions"]) == sorted(
        each["id"] for each in data(ada, "{ sessions { id } }")["sessions"]
    )
    assert [each["key"] for each in found["idempotencyKeys"]] == ["a key"]
    shown = data(
        ada, "{ tasks(filter: {includeDeleted: true}) { nodes { id title description status priority labels deletedAt } } }"
    )
    for task in shown["tasks"]["nodes"]:
        (same,) = [each for each in found["tasks"] if each["id"] == task["id"]]
        assert {name: same[name] for name in task} == task
    assert len(found["tasks"]) == 3
    ends = [(each["blockerId"], each["blockedId"]) for each in found["dependencies"]]
    assert ends == [(tasks["first"]["id"], tasks["second"]["id"])]
    history = "query($id: ID!) { task(id: $id) { history { nodes { id action changes { field before after } } } } }"
    for task in tasks.values():
        nodes = data(ada, history, {"id": task["id"]})["task"]["history"]["nodes"]
        mine = [each for each in found["events"] if each["taskId"] == task["id"]]
        assert [{name: each[name] for name in ("id", "action", "changes")} for each in mine] == nodes
    log = data(ada, "{ auditLog(first: 100) { nodes { at action outcome code address requestId sessionId targetIds } } }")
    assert found["auditLog"] == log["auditLog"]["nodes"]


def test_every_collection_that_names_the_account_is_in_it(server: Server, someone: Someone) -> None:
    """A new collection needs a section, or a reason."""
    ada = someone()
    worked(ada)
    user_id = stored_user(server.mongo, ada)["_id"]
    names = {
        name
        for name in server.mongo.list_collection_names()
        for document in server.mongo[name].find()
        if user_id in (document["_id"], document.get("ownerId"), document.get("userId"))
        or (isinstance(document["_id"], dict) and document["_id"].get("ownerId") == user_id)
    }
    # The lock of the graph and the mark of the version say nothing about anybody.
    assert names - {"graphs", "versions"} == {"users", "sessions", "audit", "idempotency", "tasks", "dependencies", "events"}


def test_no_secret_is_in_it(server: Server, someone: Someone) -> None:
    ada = someone()
    text = fetched(server, asked(ada)["url"]).text
    session, user = stored_session(server.mongo, ada), stored_user(server.mongo, ada)
    secrets = [user["passwordHash"], RIGHT, ada.token, ada.refresh_token]
    secrets += [session[name].hex() for name in ("handle", "tokenHash", "exportDigest") if session[name]]
    assert [secret for secret in secrets if str(secret) in text] == []
    assert not any(word in text.lower() for word in ("hash", "digest", "handle", "salt"))


def test_nothing_of_others_is_in_it(server: Server, someone: Someone) -> None:
    ada, stranger = someone(), someone()
    create(stranger, "Not hers")
    found = exported(server, ada)
    assert (found["tasks"], found["events"]) == ([], [])
    assert stranger.id not in json.dumps(found)


def test_a_link_is_good_for_one_download(server: Server, someone: Someone) -> None:
    url = asked(someone())["url"]
    assert httpx.head(f"{server.url}{url}").status_code == 405
    assert fetched(server, url).status_code == 200
    assert fetched(server, url).status_code == 404


def test_only_the_latest_link_is_good(server: Server, someone: Someone) -> None:
    ada = someone()
    former, latest = asked(ada)["url"], asked(ada)["url"]
    assert [fetched(server, each).status_code for each in (former, latest)] == [404, 200]


def test_a_link_ends_after_minutes(server: Server, someone: Someone) -> None:
    ada = someone()
    url = asked(ada)["url"]
    set_back(server.mongo, ada, exportUntil=1)
    assert fetched(server, url).status_code == 404


@pytest.mark.parametrize("mutation", ["logout", "deleteAccount"])
def test_a_link_ends_with_its_session(server: Server, someone: Someone, mutation: str) -> None:
    ada = someone()
    url = asked(ada)["url"]
    members: dict[str, Any] = {"password": RIGHT} if mutation == "deleteAccount" else {}
    done(ada, mutation, **members)
    assert fetched(server, url).status_code == 404


def test_a_refresh_leaves_the_link_alone(server: Server, someone: Someone) -> None:
    ada = someone()
    url = asked(ada)["url"]
    assert refreshed(ada)["errors"] == []
    assert fetched(server, url).status_code == 200


@pytest.mark.parametrize("secret", ["nonsense", "A" * 59, "%00", "../graphql", "a" * 5000])
def test_a_made_up_link_leads_nowhere(server: Server, secret: str) -> None:
    assert fetched(server, f"/export/{secret}").status_code in {400, 404}


def test_a_download_is_kept_by_nobody_in_between(server: Server, someone: Someone) -> None:
    headers = fetched(server, asked(someone())["url"]).headers
    assert headers["cache-control"] == "no-store"
    assert headers["content-disposition"] == 'attachment; filename="taskgraph-account.json"'
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-type"] == "application/json"


def test_a_download_is_told_in_the_audit_log_and_so_in_the_file(server: Server, someone: Someone) -> None:
    ada = someone()
    done(Person(ada.client, ada.graphql_url), "login", email=ada.email, password=WRONG)
    found = exported(server, ada)
    assert [each["action"] for each in found["auditLog"]] == ["downloadExport", "exportMyData", "login", "register"]
    latest = data(ada, "{ auditLog(first: 1) { nodes { action outcome address } } }")["auditLog"]["nodes"]
    assert latest == [{"action": "downloadExport", "outcome": "DONE", "address": "127.0.0.1"}]


def test_a_wrong_password_gives_no_link(server: Server, someone: Someone) -> None:
    ada = someone()
    payload = asked(ada, WRONG)
    assert problems(payload) == [("BAD_CREDENTIALS", ["input", "password"])]
    assert (payload["url"], payload["expiresAt"]) == (None, None)
    assert stored_session(server.mongo, ada)["exportDigest"] is None


def test_a_link_needs_a_viewer(anonymous: Person) -> None:
    response = anonymous.post(EXPORT, {"input": {"password": RIGHT}})
    assert (response.status_code, codes(response)) == (401, ["UNAUTHENTICATED"])


def test_attempts_count_as_operations_of_their_address(settings: MakeSettings) -> None:
    made = settings(rate_limits="on", rate_limit_anonymous=2)
    migrated(made)
    with served(made) as url:
        statuses = [httpx.get(f"{url}/export/nonsense").status_code for _ in range(3)]
    assert statuses == [404, 404, 429]


def test_a_large_account_comes_in_pieces(server: Server, someone: Someone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_export, "CHUNK_BYTES", 1000)
    ada = someone()
    for number in range(30):
        create(ada, f"Task {number}", description="x" * 500)
    with httpx.stream("GET", f"{server.url}{asked(ada)['url']}") as response:
        pieces = list(response.iter_raw())
        assert response.headers.get("transfer-encoding") == "chunked"
    assert len(json.loads(b"".join(pieces))["tasks"]) == 30


def test_the_command_writes_the_same(server: Server, someone: Someone, servers: Servers, tmp_path: Path) -> None:
    ada = someone()
    worked(ada)
    of_link = exported(server, ada)
    given = {"MONGO_URL": str(servers.mongo_url), "MONGO_DATABASE": server.settings.mongo_database}
    ended = ran("export-account", "--email", ada.email.upper(), given=given, folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = json.loads(ended.stdout)
    assert {**found, "exportedAt": None} == {**of_link, "exportedAt": None}
    ended = ran("export-account", "--email", ada.email, "--output", "ada.json", given=given, folder=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert stat.S_IMODE((tmp_path / "ada.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "ada.json").read_text())["tasks"] == found["tasks"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--email", "nobody@example.com"], "there is no account with the e-mail address nobody@example.com"),
        (["--email", "ADA", "--output", "there.json"], "there.json cannot be written: File exists"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    server: Server, someone: Someone, servers: Servers, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "there.json").write_text("kept")
    email = someone().email
    given = {"MONGO_URL": str(servers.mongo_url), "MONGO_DATABASE": server.settings.mongo_database}
    ended = ran("export-account", *(email if each == "ADA" else each for each in arguments), given=given, folder=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {said}\n")
    assert (tmp_path / "there.json").read_text() == "kept"
