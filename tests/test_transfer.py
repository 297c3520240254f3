"""`taskgraph import` and `taskgraph export`: files of other programs become tasks, once, and come back."""

import csv
import io
import json
import random
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskgraph.formats.files import read, written
from taskgraph.formats.record import Contents, Format, NotThisFormat, Record, Unusable
from taskgraph.formats.table import COLUMNS
from taskgraph.tasks.model import TaskPriority, TaskStatus
from tests.conftest import Server, Someone
from tests.people import Person
from tests.processes import ran
from tests.tasks.documents import events_of, nothing_written, oid, tasks_of
from tests.tasks.operations import bulk, create, data, delete, done, update

UUID = "6e3b3f1e-1a3b-4c0f-9c7e-2f3c8f6a1b01"
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
EVERYTHING = {"description", "status", "priority", "labels", "dueDate", "isBlocked", "parent", "blockers"}
# The table of docs/operations.md.
CARRIED = {"csv": EVERYTHING, "taskwarrior": EVERYTHING, "github-issues": EVERYTHING - {"isBlocked", "parent", "blockers"}}
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

    def run(*arguments: str, email: str = ada.email, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return ran(*arguments, "--email", email, given=given, folder=tmp_path, stdin=stdin)

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


def carried(person: Person, form: str) -> dict[str, Any]:
    """The tasks by title, as far as the format tells of them."""
    return {title: {name: each[name] for name in CARRIED[form]} for title, each in stored(person).items()}


def test_taskwarriors_export_becomes_tasks(server: Server, ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(TASKWARRIOR)
    ended = command("import", "tasks.json")
    assert ended.stdout == "imported 3, there already 0, skipped 1, refused 0 of 4 tasks\n"
    assert (ended.returncode, ended.stderr) == (0, "")
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
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "imported 3, there already 0, skipped 0, refused 0 of 3 tasks\n",
        "",
    )
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
    assert ended.stdout == "imported 4, there already 0, skipped 0, refused 5 of 9 tasks\n"
    assert ended.stderr.splitlines() == [
        "refused  line 5: title is empty",
        'refused  line 6: status is "SOON", not TODO, IN_PROGRESS, DONE or CANCELED',
        'refused  line 7 ("Loop"): A task cannot wait for itself, by way of blockers, parents or subtasks.',
        'refused  line 8 ("Orphan"): its parent "nobody" is not in the file',
        'refused  line 9: line 2 has the id "a", too',
        "error: 5 of 9 tasks were refused; the lines above say why",
    ]
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
        assert command("import", "issues.json").stdout == "imported 0, there already 3, skipped 0, refused 0 of 3 tasks\n"
        assert command("import", "tasks.json").stdout == "imported 0, there already 3, skipped 1, refused 0 of 4 tasks\n"


def test_a_file_that_has_grown_is_imported_further(ada: Person, command: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("id,title\n1,First\n")
    command("import", "plan.csv")
    (tmp_path / "plan.csv").write_text("id,title,blocked_by\n2,Second,1\n1,First,\n")
    assert command("import", "plan.csv").stdout == "imported 1, there already 1, skipped 0, refused 0 of 2 tasks\n"
    assert stored(ada)["Second"]["blockers"] == ["First"]


def test_more_tasks_than_one_call_takes_are_imported(server: Server, ada: Person, command: Command, tmp_path: Path) -> None:
    # Each waits for the one below, so the file has to be taken from its end.
    lines = [f"{number},Task {number},{number + 1 if number < 1100 else ''}" for number in range(1, 1101)]
    (tmp_path / "plan.csv").write_text("\n".join(["id,title,blocked_by", *lines]))
    assert command("import", "plan.csv").stdout == "imported 1100, there already 0, skipped 0, refused 0 of 1100 tasks\n"
    assert server.mongo["dependencies"].count_documents({"ownerId": oid(ada.id)}) == 1099


@pytest.mark.parametrize("form", CARRIED)
def test_what_is_exported_can_be_imported_by_another(
    ada: Person, command: Command, someone: Someone, tmp_path: Path, form: str
) -> None:
    parent = create(ada, "Launch", labels=["web", "2030", "a; b", "c\\"], dueDate="2030-01-02T03:04:05Z", priority="HIGH")
    first = create(ada, "First, of two", description=' Says "hi"\r\nand\rbye\n', status="DONE", dueDate="0001-01-01T00:00:00Z")
    other = create(ada, "Other", status="CANCELED", priority="URGENT", labels=["priority: low"])
    create(ada, "Second", parent={"id": parent["id"]}, blockedBy=[{"id": other["id"]}], status="IN_PROGRESS")
    create(
        ada, "Third", parent={"id": parent["id"]}, blockedBy=[{"id": first["id"]}], labels=["priority: high", "status: in progress"]
    )
    done(delete(ada, create(ada, "Gone")))
    assert command("export", "file", "--format", form).stdout == "exported 5 tasks\n"
    assert command("export", "--format", form).stdout == (tmp_path / "file").read_text()
    grace = someone()
    ended = command("import", "file", email=grace.email)
    assert (ended.returncode, ended.stdout) == (0, "imported 5, there already 0, skipped 0, refused 0 of 5 tasks\n"), ended.stderr

    assert carried(grace, form) == carried(ada, form)


@pytest.mark.parametrize("form", CARRIED)
def test_any_tasks_are_exported_and_imported_as_they_are(ada: Person, command: Command, someone: Someone, form: str) -> None:
    chance = random.Random(form)
    letters = "aé☃𝄞 ,;\"'\\\n\r\t=:priority"

    def words(most: int) -> str:
        return "".join(chance.choices(letters, k=chance.randint(1, most)))

    def drafted(number: int) -> dict[str, Any]:
        others = [{"ref": str(each)} for each in chance.sample(range(number), min(number, chance.randint(0, 2)))]
        return {
            "ref": str(number),
            "title": f"{number} {words(20)}",
            "description": words(60),
            "status": chance.choice(["TODO", "IN_PROGRESS", "DONE", "CANCELED"]),
            "priority": chance.choice(["LOW", "MEDIUM", "HIGH", "URGENT"]),
            "labels": [f"{each}{words(9)}" for each in range(chance.randint(0, 3))],
            "dueDate": chance.choice([None, f"{chance.randint(1, 9998):04}-02-03T04:05:06Z"]),
            "parent": others[0] if others and chance.random() < 0.5 else None,
            "blockedBy": others,
        }

    payload = bulk(ada, "bulkCreateTasks", {"tasks": [drafted(number) for number in range(80)], "mode": "BEST_EFFORT"})
    made = sum(each["task"] is not None for each in payload["results"])
    assert made > 20
    assert command("export", "file", "--format", form).stdout == f"exported {made} tasks\n"
    grace = someone()
    ended = command("import", "file", email=grace.email)
    assert (ended.stderr, ended.stdout) == ("", summary(made, 0, made) + "\n")
    assert carried(grace, form) == carried(ada, form)


@pytest.mark.parametrize("form", CARRIED)
def test_a_later_export_brings_what_is_new(server: Server, ada: Person, command: Command, someone: Someone, form: str) -> None:
    grace = someone()
    gone = create(ada, "First")
    create(ada, "Second")
    command("export", "monday", "--format", form)
    command("import", "monday", email=grace.email)
    done(delete(ada, gone))
    create(ada, "Third")
    command("export", "tuesday", "--format", form)
    ended = command("import", "tuesday", email=grace.email)
    assert ended.stdout == "imported 1, there already 1, skipped 0, refused 0 of 2 tasks\n"
    assert sorted(stored(grace)) == ["First", "Second", "Third"]
    with nothing_written(server.mongo):
        ended = command("import", "tuesday")
    assert ended.stdout == "imported 0, there already 2, skipped 0, refused 0 of 2 tasks\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("missing.json", None, "missing.json cannot be read: No such file or directory"),
        ("empty", " \n", "the file is empty"),
        ("bad.json", "[{", "the file is no JSON: it breaks off or goes wrong at line 1, column 3"),
        ("deep.json", "[" * 100_000, "the file is no JSON of tasks: it is nested too deeply"),
        ("long.json", "[" + "1" * 5000 + "]", "the file is no JSON of tasks: a number in it is too long"),
        ("twice.csv", "title,Title\n", "the header has the column title twice"),
        ("long.csv", f'title\n"{"x" * 200_000}"\n', "the file is no CSV from line 2 on: "),
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


def imported(command: Command, folder: Path, name: str, text: str, *options: str) -> str:
    """What is said, refusals first."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode())
    ended = command("import", name, *options)
    return ended.stderr + ended.stdout


def summary(imported: int, there: int, of: int, *, skipped: int = 0, refused: int = 0) -> str:
    return f"imported {imported}, there already {there}, skipped {skipped}, refused {refused} of {of} tasks"


def issue(number: int, title: str, **fields: Any) -> dict[str, Any]:
    return {"number": number, "title": title, "state": "OPEN"} | fields


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("plan.csv", ["id,title,parent\n1,Paint,\n2,Walls,1\n", "id,title,parent\n1,Launch,\n3,Rocket,1\n"]),
        ("issues.json", [json.dumps([issue(1, "Red")]), json.dumps([issue(1, "Blue"), issue(2, "Green")])]),
        (
            "issues.json",
            [json.dumps([issue(1, "Renovate", createdAt=f"2026-01-0{day}T00:00:00Z"), issue(day, "Other")]) for day in (2, 3)],
        ),
    ],
)
def test_another_list_under_the_same_name_is_never_taken_for_the_first(
    server: Server, ada: Person, command: Command, tmp_path: Path, name: str, texts: list[str]
) -> None:
    one, other = texts
    assert imported(command, tmp_path, f"one/{name}", one).startswith("imported ")
    before = len(tasks_of(server.mongo, ada))
    with nothing_written(server.mongo):
        said = imported(command, tmp_path, f"other/{name}", other)
    assert said.startswith("error: nothing was imported: the id ")
    assert said.count("\n") == 1
    assert imported(command, tmp_path, f"other/{name}", other, "--source", "other") == summary(2, 0, 2) + "\n"
    assert len(tasks_of(server.mongo, ada)) == before + 2
    with nothing_written(server.mongo):
        assert imported(command, tmp_path, "renamed", other, "--source", "other") == summary(0, 2, 2) + "\n"


def test_a_changed_title_is_the_same_task_when_the_source_is_named(
    server: Server, ada: Person, command: Command, tmp_path: Path
) -> None:
    imported(command, tmp_path, "plan.csv", "id,title\n1,Paint\n")
    with nothing_written(server.mongo):
        assert "--source plan " in imported(command, tmp_path, "plan.csv", "id,title\n1,Paint it\n")
    again = imported(command, tmp_path, "plan.csv", "id,title,parent\n1,Paint it,\n2,Walls,1\n", "--source", "plan")
    assert again == summary(1, 1, 2) + "\n"
    assert stored(ada)["Walls"]["parent"] == "Paint"


def test_issues_of_two_repositories_are_told_by_their_addresses(ada: Person, command: Command, tmp_path: Path) -> None:
    for repository in ("a", "b"):
        found = [
            issue(number, f"{repository} {number}", url=f"https://github.com/o/{repository}/issues/{number}") for number in (1, 2)
        ]
        assert imported(command, tmp_path, "issues.json", json.dumps(found)) == summary(2, 0, 2) + "\n"
    found[0]["title"] = "Another title"
    assert imported(command, tmp_path, "later.json", json.dumps(found)) == summary(0, 2, 2) + "\n"
    assert len(stored(ada)) == 4


def test_rows_without_an_id_are_known_by_their_titles(command: Command, tmp_path: Path) -> None:
    assert imported(command, tmp_path, "plan.csv", "title\nMilk\nMilk\n") == summary(2, 0, 2) + "\n"
    assert imported(command, tmp_path, "plan.csv", "title\nBread\nMilk\nMilk\nMilk\n") == summary(2, 2, 4) + "\n"


def test_an_entry_without_a_title_is_refused_though_its_id_is_there(command: Command, tmp_path: Path) -> None:
    imported(command, tmp_path, "plan.csv", "id,title\n1,Paint\n")
    said = imported(command, tmp_path, "plan.csv", "id,title\n1,\n")
    assert said.startswith("refused  line 2: title is empty\n")


def test_a_subtask_of_what_was_deleted_here_is_refused(ada: Person, command: Command, tmp_path: Path) -> None:
    imported(command, tmp_path, "plan.csv", "id,title\n1,Paint\n")
    [shown] = data(ada, "{ tasks { nodes { id } } }")["tasks"]["nodes"]
    done(delete(ada, shown))
    said = imported(command, tmp_path, "plan.csv", "id,title,parent,blocked_by\n1,Paint,,\n2,Walls,1,\n3,Rest,,1\n")
    assert 'refused  line 3 ("Walls"): its parent "1" was deleted here\n' in said
    assert list(stored(ada)) == ["Rest"]


def test_who_waits_for_what_was_refused_is_refused_too(ada: Person, command: Command, tmp_path: Path) -> None:
    text = "id,title,status,parent,blocked_by\n1,Bad,SOON,,\n2,Child,,1,\n3,Waits,,,2\n4,Fine,,,gone\n"
    said = imported(command, tmp_path, "plan.csv", text)
    assert said.splitlines()[1:3] == [
        'refused  line 3 ("Child"): its parent "1" was refused',
        'refused  line 4 ("Waits"): its blocker "2" was refused',
    ]
    assert list(stored(ada)) == ["Fine"]


def test_attributes_of_ours_count_while_taskwarriors_say_the_same(ada: Person, command: Command, tmp_path: Path) -> None:
    given = {"taskgraphstatus": "CANCELED", "taskgraphpriority": "URGENT"}
    entries = [
        {"uuid": UUID, "description": "Both", "status": "completed", "priority": "H"} | given,
        {"uuid": UUID[:-1] + "9", "description": "None", "status": "pending", "priority": "L"} | given,
    ]
    imported(command, tmp_path, "file", json.dumps(entries))
    found = {title: (each["status"], each["priority"]) for title, each in stored(ada).items()}
    assert found == {"Both": ("CANCELED", "URGENT"), "None": ("TODO", "LOW")}


def test_labels_of_issues_tell_priority_and_progress_once(ada: Person, command: Command, tmp_path: Path) -> None:
    labels = [{"name": name} for name in ("Status: In Progress", "bug", "Priority:High", "priority: low")]
    imported(
        command,
        tmp_path,
        "file",
        json.dumps([issue(1, "Open", labels=labels), issue(2, "Shut", labels=labels) | {"state": "closed"}]),
    )
    found = {title: (each["status"], each["priority"], each["labels"]) for title, each in stored(ada).items()}
    assert found == {"Open": ("IN_PROGRESS", "HIGH", ["bug", "priority: low"]), "Shut": ("DONE", "HIGH", ["bug", "priority: low"])}


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_a_table_of_a_spreadsheet_is_understood(ada: Person, command: Command, tmp_path: Path, separator: str) -> None:
    rows = [
        ["ID", "Title", "Assignee", "Blocked By", "LABELS"],
        ["1", "One", "Ada", "", '"a;b"'],
        ["2", "Two", "", "1", ""],
        [""] * 5,
    ]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    assert imported(command, tmp_path, "plan.csv", text) == summary(2, 0, 2) + '; ignored columns: "Assignee"\n'
    assert stored(ada)["Two"]["blockers"] == ["One"]
    assert stored(ada)["One"]["labels"] == ["a", "b"]


def test_a_file_may_come_by_standard_input(ada: Person, command: Command) -> None:
    assert command("import", "-", stdin="title\nPiped\n").stdout == summary(1, 0, 1) + "\n"
    assert list(stored(ada)) == ["Piped"]


@pytest.mark.parametrize(
    ("form", "text", "likely"),
    [
        ("taskwarrior", ISSUES, "github-issues"),
        ("github-issues", TASKWARRIOR, "taskwarrior"),
        ("taskwarrior", CSV, "csv"),
        ("csv", ISSUES, "github-issues"),
    ],
)
def test_a_file_of_another_format_is_one_line_that_names_it(
    server: Server, command: Command, tmp_path: Path, form: str, text: str, likely: str
) -> None:
    with nothing_written(server.mongo):
        said = imported(command, tmp_path, "file", text, "--format", form)
    assert said == f"error: the file is not what --format {form} means; it looks like --format {likely}\n"


def test_only_the_first_refusals_are_listed(command: Command, tmp_path: Path) -> None:
    said = imported(command, tmp_path, "plan.csv", "title,status\n" + "Task,SOON\n" * 60)
    refused = [line for line in said.splitlines() if line.startswith("refused ")]
    assert refused[0].startswith("refused  line 2: ")
    assert (len(refused), refused[-1]) == (51, "refused  10 more")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"uuid": 5, "description": ["l"], "status": "pending"}, "uuid is 5, not text"),
        ({"uuid": "5", "description": "T", "status": "pending"}, 'uuid is "5", not a UUID'),
        ({"uuid": UUID, "description": ["l"], "status": "pending"}, "description is a list, not text"),
        (
            {"uuid": UUID, "description": "T", "status": "OPEN"},
            'status is "OPEN", not pending, waiting, completed, deleted or recurring',
        ),
        ({"uuid": UUID, "description": "T", "status": "pending", "priority": "HUGE"}, 'priority is "HUGE", not L, M or H'),
        (
            {"uuid": UUID, "description": "T", "status": "pending", "due": "soon"},
            'due is "soon", not a time such as 20301124T080000Z',
        ),
        ({"uuid": UUID, "description": "T"}, "status is missing"),
        (issue(1, "T", state="HUGE"), 'state is "HUGE", not OPEN or CLOSED'),
        (issue(1, "\ud800"), "title has half a character in it, such as \\ud800"),
        (issue(1, "T", labels=[5]), "labels is 5, not an object"),
    ],
)
def test_a_bad_field_is_told_in_words_of_the_file(command: Command, tmp_path: Path, entry: Any, said: str) -> None:
    assert imported(command, tmp_path, "file.json", json.dumps([entry])).splitlines()[0] == f"refused  entry 1: {said}"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(
        ["pending", "completed", "deleted", "OPEN", "CLOSED", "H", UUID, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "dueOn", "description"]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
TASKWARRIOR_FIELDS = (
    "uuid description status annotations start priority tags project due depends taskgraphstatus taskgraphpriority taskgraphparent"
)
ISSUE_FIELDS = "number url title body state stateReason labels milestone createdAt"


@pytest.mark.parametrize(
    ("of", "names", "sound"),
    [
        (Format.TASKWARRIOR, TASKWARRIOR_FIELDS, {"uuid": UUID, "description": "T", "status": "pending"}),
        (Format.GITHUB_ISSUES, ISSUE_FIELDS, issue(1, "T")),
    ],
)
@given(data=st.data())
def test_any_values_make_a_task_or_one_line(of: Format, names: str, sound: dict[str, Any], data: st.DataObject) -> None:
    entry = sound | data.draw(st.dictionaries(st.sampled_from(names.split()), VALUES, min_size=1, max_size=4))
    assert_told(read(json.dumps([entry]), of))


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8")) | st.sampled_from(["1", "HIGH", "DONE", "T"]), max_size=10), max_size=4)
)
def test_any_cells_make_a_task_or_one_line(rows: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([COLUMNS, *rows])
    assert_told(read(file.getvalue(), Format.CSV))


@given(st.text(st.characters(codec="utf-8")) | st.recursive(VALUES, st.lists).map(json.dumps), st.sampled_from(Format) | st.none())
def test_any_text_is_read_or_refused_as_a_whole(text: str, of: Format | None) -> None:
    with suppress(NotThisFormat):
        assert_told(read(text, of))


def assert_told(contents: Contents) -> None:
    for entry in contents.entries:
        match entry.found:
            case Unusable(reason):
                assert len(reason) < 300
                assert reason.isprintable()
                assert not any(word in reason for word in ("isoformat", "object is not", "Error", "TaskStatus"))
            case Record() as record:
                told = [
                    record.id,
                    record.title,
                    record.description,
                    *record.labels,
                    *record.blockers,
                    record.parent or "",
                    record.mark or "",
                ]
                "".join(told).encode()
                assert record.title.strip()


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
LABELS = st.lists(
    TEXTS.map(str.strip).filter(bool) | st.sampled_from(["priority: high", "status: todo", "a;b", "c\\"]), max_size=4, unique=True
)
IDS = [f"00000000-0000-4000-8000-{number:012}" for number in range(4)]


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    return [
        Record(
            id=each,
            title=draw(TEXTS.map(str.strip).filter(bool)),
            description=draw(TEXTS),
            status=draw(st.sampled_from(TaskStatus)),
            priority=draw(st.sampled_from(TaskPriority)),
            labels=draw(LABELS),
            due=draw(st.none() | st.datetimes().map(lambda at: at.replace(microsecond=0))),
            parent=draw(st.none() | st.sampled_from(IDS)),
            blockers=draw(st.lists(st.sampled_from(IDS), max_size=3)),
        )
        for each in IDS[: draw(st.integers(1, 4))]
    ]


@pytest.mark.parametrize("of", Format)
@given(given=records())
def test_what_is_written_is_read_again(of: Format, given: list[Record]) -> None:
    has_relatives = of is not Format.GITHUB_ISSUES
    contents = read(written(given, of), None)
    assert contents.of is of
    assert [entry.found for entry in contents.entries] == [
        each if has_relatives else replace(each, parent=None, blockers=()) for each in given
    ]
