"""`taskgraph import` and `taskgraph export`: files of other programs become tasks, once, and come back."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server, Someone
from tests.people import Person
from tests.processes import ran
from tests.tasks.documents import events_of, nothing_written, oid, tasks_of
from tests.tasks.operations import create, data, delete, done, update

# As `task export` prints it.
TASKWARRIOR = """[
{"id":1,"description":"Order the paint","due":"20301124T080000Z","entry":"20261120T101112Z","modified":"20261121T101112Z","priority":"H","project":"Shop","start":"20261121T101112Z","status":"pending","tags":["buy","paint"],"uuid":"6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b01","urgency":14.9},
{"id":2,"depends":["6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b01","00000000-0000-4000-8000-000000000000"],"description":"Paint the walls","entry":"20261120T101212Z","annotations":[{"entry":"20261120T101213Z","description":"Twice"},{"entry":"20261120T101214Z","description":"White"}],"modified":"20261120T101212Z","status":"waiting","wait":"20261201T000000Z","uuid":"6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b02","urgency":-3},
{"id":0,"depends":"6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b01","description":"Sign the lease","end":"20261119T101112Z","entry":"20261110T101112Z","modified":"20261119T101112Z","status":"completed","uuid":"6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b03","urgency":0},
{"id":0,"description":"Gone","end":"20261119T101112Z","entry":"20261110T101112Z","status":"deleted","uuid":"6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b04"}
]
"""
# As `gh issue list --state all --json number,title,body,state,stateReason,labels,milestone,url` prints it.
ISSUES = json.dumps(
    [
        {
            "body": "It is **red**.\r\n",
            "labels": [{"id": "LA_1", "name": "bug", "description": "Something", "color": "d73a4a"}],
            "milestone": {"number": 1, "title": "v1", "description": "", "dueOn": "2030-12-01T00:00:00Z"},
            "number": 12,
            "state": "OPEN",
            "stateReason": "",
            "title": "The button is red",
            "url": "https://github.com/o/r/issues/12",
        },
        {"body": "", "labels": [], "milestone": None, "number": 9, "state": "CLOSED", "stateReason": "COMPLETED", "title": "Done"},
        {"body": "", "labels": [], "milestone": None, "number": 7, "state": "CLOSED", "stateReason": "NOT_PLANNED", "title": "No"},
    ]
)
CSV = """\
id,title,status,priority,labels,due,parent,blocked_by
a,Open the shop,,urgent,shop; web,2030-01-02T10:00:00+02:00,p,b;c
b,"Paint, twice",in_progress,,,,p,
c,Fill the shelves,DONE,LOW,,2030-01-02,p,
d,,,,,,,
e,Wrong,SOON,,,,,
f,Loop,,,,,,f
g,Orphan,,,,,nobody,
a,Again,,,,,,
p,Shop,,,,,,
"""
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ada(someone: Someone) -> Person:
    return someone()


@pytest.fixture
def command(server: Server, ada: Person, tmp_path: Path) -> Command:
    """Runs a command of the account's owner."""
    secrets = {"MONGO_URL": server.settings.mongo_url, "REDIS_URL": server.settings.redis_url}
    given = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    given |= {"MONGO_DATABASE": server.settings.mongo_database, "MONGO_POOL_MIN": "0"}

    def run(*arguments: str, email: str = ada.email) -> subprocess.CompletedProcess[str]:
        return ran(*arguments, "--email", email, given=given, folder=tmp_path)

    return run


def stored(person: Person) -> dict[str, Any]:
    """The tasks by title."""
    fields = "title description status priority labels dueDate isBlocked parent { title } blockedBy { nodes { title } }"
    found = data(person, f"{{ tasks(first: 100) {{ nodes {{ {fields} }} }} }}")["tasks"]["nodes"]
    shown = {}
    for each in found:
        title, parent, blockers = each.pop("title"), each.pop("parent"), [one["title"] for one in each.pop("blockedBy")["nodes"]]
        shown[title] = each | {"parent": parent and parent["title"], "blockers": blockers}
    return shown


def test_taskwarriors_export_becomes_tasks(server: Server, ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(TASKWARRIOR)
    ended = command("import", "tasks.json")
    assert ended.stdout == "imported 3, there already 0, refused 1 of 4 tasks\n"
    assert ended.stderr == "refused  entry 4: it is deleted\nerror: 1 of 4 tasks were refused; the lines above say why\n"
    assert ended.returncode == 1
    bare: dict[str, Any] = {
        "description": "",
        "priority": "MEDIUM",
        "labels": [],
        "dueDate": None,
        "isBlocked": False,
        "parent": None,
        "blockers": [],
    }
    assert stored(ada) == {
        "Order the paint": bare
        | {"status": "IN_PROGRESS", "priority": "HIGH", "labels": ["buy", "paint", "Shop"], "dueDate": "2030-11-24T08:00:00.000Z"},
        "Paint the walls": bare
        | {"status": "TODO", "description": "Twice\nWhite", "isBlocked": True, "blockers": ["Order the paint"]},
        "Sign the lease": bare | {"status": "DONE"},
    }
    assert len(events_of(server.mongo, ada)) == 3


def test_github_issues_become_tasks(ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "issues.json").write_text(ISSUES)
    ended = command("import", "issues.json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "imported 3, there already 0, refused 0 of 3 tasks\n", "")
    found = stored(ada)
    assert {title: each["status"] for title, each in found.items()} == {
        "The button is red": "TODO",
        "Done": "DONE",
        "No": "CANCELED",
    }
    red = found["The button is red"]
    assert (red["description"], red["labels"], red["dueDate"]) == ("It is **red**.\r\n", ["bug"], "2030-12-01T00:00:00.000Z")


def test_a_table_becomes_tasks_and_every_refused_line_is_told(ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text(CSV)
    ended = command("import", "plan.csv")
    assert ended.stdout == "imported 4, there already 0, refused 5 of 9 tasks\n"
    refused = [line.removeprefix("refused  ").partition(": ") for line in ended.stderr.splitlines()[:-1]]
    assert {place: reason for place, _, reason in refused} == {
        "line 6": "'SOON' is not a valid TaskStatus",
        "line 9": "another task has the id a, too",
        "line 5 ()": "A title is required.",
        "line 7 (Loop)": "A task cannot wait for itself, by way of blockers, parents or subtasks.",
        "line 8 (Orphan)": "No item of this call has this ref.",
    }
    found = stored(ada)
    assert sorted(found) == ["Fill the shelves", "Open the shop", "Paint, twice", "Shop"]
    assert found["Open the shop"] == {
        "description": "",
        "status": "TODO",
        "priority": "URGENT",
        "labels": ["shop", "web"],
        "dueDate": "2030-01-02T08:00:00.000Z",
        "isBlocked": True,
        "parent": "Shop",
        "blockers": ["Paint, twice", "Fill the shelves"],
    }


def test_importing_again_changes_nothing(server: Server, ada: Person, command: Command, tmp_path: Path) -> None:
    for name, text in (("tasks.json", TASKWARRIOR), ("issues.json", ISSUES)):
        (tmp_path / name).write_text(text)
        command("import", name)
    red = next(each for each in tasks_of(server.mongo, ada) if each["title"] == "The button is red")
    document = "query($title: String!) { tasks(filter: {title: {eq: $title}}) { nodes { id } } }"
    [shown] = data(ada, document, {"title": red["title"]})["tasks"]["nodes"]
    done(update(ada, shown, title="Renamed here"))
    done(delete(ada, shown))
    with nothing_written(server.mongo):
        assert command("import", "issues.json").stdout == "imported 0, there already 3, refused 0 of 3 tasks\n"
        assert command("import", "tasks.json").stdout == "imported 0, there already 3, refused 1 of 4 tasks\n"


def test_a_file_that_has_grown_is_imported_further(ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("id,title\n1,First\n")
    command("import", "plan.csv")
    (tmp_path / "plan.csv").write_text("id,title,blocked_by\n2,Second,1\n1,First,\n")
    assert command("import", "plan.csv").stdout == "imported 1, there already 1, refused 0 of 2 tasks\n"
    assert stored(ada)["Second"]["blockers"] == ["First"]


def test_more_tasks_than_one_call_takes_are_imported(server: Server, ada: Person, command: Command, tmp_path: Path) -> None:
    # Each waits for the one below, so the file has to be taken from its end.
    lines = [f"{number},Task {number},{number + 1 if number < 1100 else ''}" for number in range(1, 1101)]
    (tmp_path / "plan.csv").write_text("\n".join(["id,title,blocked_by", *lines]))
    assert command("import", "plan.csv").stdout == "imported 1100, there already 0, refused 0 of 1100 tasks\n"
    assert server.mongo["dependencies"].count_documents({"ownerId": oid(ada.id)}) == 1099


@pytest.mark.parametrize("form", ["csv", "taskwarrior", "github-issues"])
def test_what_is_exported_can_be_imported_by_another(
    ada: Person, command: Command, someone: Someone, tmp_path: Path, form: str
) -> None:
    parent = create(ada, "Launch", labels=["web", "2030"], dueDate="2030-01-02T03:04:05Z", priority="HIGH")
    first = create(ada, "First, of two", description='Says "hi"\nand bye', status="DONE")
    other = create(ada, "Other")
    create(ada, "Second", parent={"id": parent["id"]}, blockedBy=[{"id": other["id"]}])
    create(ada, "Third", parent={"id": parent["id"]}, blockedBy=[{"id": first["id"]}])
    done(delete(ada, create(ada, "Gone")))
    assert command("export", "file", "--format", form).stdout == "exported 5 tasks\n"
    assert command("export", "--format", form).stdout == (tmp_path / "file").read_text()
    grace = someone()
    ended = command("import", "file", "--format", form, email=grace.email)
    assert (ended.returncode, ended.stdout) == (0, "imported 5, there already 0, refused 0 of 5 tasks\n"), ended.stderr
    kept = {"csv": set[str](), "taskwarrior": {"parent"}, "github-issues": {"parent", "priority", "blockers", "isBlocked"}}[form]

    def comparable(person: Person) -> dict[str, Any]:
        return {title: {name: value for name, value in each.items() if name not in kept} for title, each in stored(person).items()}

    assert comparable(grace) == comparable(ada)


@pytest.mark.parametrize("form", ["csv", "taskwarrior"])
def test_an_account_knows_its_own_export(server: Server, ada: Person, command: Command, form: str) -> None:
    create(ada, "Mine")
    command("export", "file", "--format", form)
    with nothing_written(server.mongo):
        ended = command("import", "file", "--format", form)
    assert ended.stdout == "imported 0, there already 1, refused 0 of 1 tasks\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.json", None, "missing.json cannot be read: No such file or directory"),
        ("bad.json", "[{", "the file is no JSON: "),
        ("bad.csv", "name\nFirst\n", "the file is no CSV with a header that has a column title"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    server: Server, command: Command, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with nothing_written(server.mongo):
        ended = command("import", name)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(f"error: {said}")


@pytest.mark.parametrize("arguments", [["import", "plan.csv"], ["export"]])
def test_an_unknown_account_is_one_line(command: Command, arguments: list[str]) -> None:
    ended = command(*arguments, email="nobody@example.com")
    assert ended.stderr == "error: there is no account with the e-mail address nobody@example.com\n"
