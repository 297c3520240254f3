"""The command line as an operator meets it: help, exit statuses, and one clear line for everything that is expected to go wrong."""

import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from taskgraph.__main__ import run
from taskgraph.settings import DEVELOPMENT_SECRET
from taskgraph.storage.embedded import Servers
from tests.conftest import Launch, MakeSettings
from tests.processes import children_of, eventually, is_alive, ran, started

COMMANDS = {
    "dev": {"--host", "--port", "--data", "--demo", "--no-demo"},
    "serve": {"--host", "--port", "--workers"},
    "migrate": {"--status"},
    "schema": {"--check"},
    "seed": {"--users", "--tasks-per-user", "--tokens", "--password"},
    "import": {"--email", "--format", "--source"},
    "export": {"--email", "--format"},
    "export-account": {"--email", "--output"},
    "doctor": set(),
}


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a `.env` of the repository nor settings of the one who runs the tests."""
    monkeypatch.chdir(tmp_path)


def given(servers: Servers, database: str) -> dict[str, str]:
    return {"MONGO_URL": str(servers.mongo_url), "MONGO_DATABASE": database, "REDIS_URL": str(servers.redis_url)}


def refusal(*arguments: str, folder: Path, given: Mapping[str, str] | None = None) -> str:
    """The one line of a command that fails as expected."""
    ended = ran(*arguments, folder=folder, given=given)
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    told = capsys.readouterr().out
    options = {word.strip(",") for word in told.replace("/", " ").split() if word.startswith("--")}
    assert options == COMMANDS[command] | {"--help"}


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed if line.strip()] == list(COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"taskgraph {version('taskgraph')}\n"


def test_no_command_is_misuse_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["sevre"], "sevre"),
        (["serve", "--prot", "1"], "--prot"),
        (["serve", "--port", "http"], "--port"),
        (["serve", "--workers", "0"], "--workers"),
        (["seed", "--users", "3"], "--tasks-per-user"),
        (["migrate", "up"], "up"),
    ],
)
def test_misuse_is_status_2_and_one_line(arguments: list[str], culprit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert culprit in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_a_taken_port_is_one_line_before_any_other_work(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refusal(command, "--port", str(port), folder=tmp_path) == (
            f"port {port} on 127.0.0.1 is taken; stop the program that has it or choose another with --port"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_data_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert refusal("dev", "--port", "0", "--data", str(tmp_path), folder=tmp_path) == (
        f"data folder {tmp_path} is not empty and not made by taskgraph; nothing was touched, choose another folder with --data"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("command", [["dev"], ["serve"], ["migrate"], ["seed", "--users", "1", "--tasks-per-user", "1"]])
def test_an_unknown_setting_stops_the_start(command: list[str], tmp_path: Path) -> None:
    assert refusal(*command, folder=tmp_path, given={"MONGO_ULR": "x"}) == (
        "TASKGRAPH_MONGO_ULR is not a setting; did you mean TASKGRAPH_MONGO_URL?"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_weak_secret_stops_the_start(tmp_path: Path) -> None:
    assert refusal("serve", folder=tmp_path, given={"ENVIRONMENT": "production", "JWT_SECRETS": "short"}) == (
        "TASKGRAPH_JWT_SECRETS: secret 1 is shorter than 32 bytes"
    )


def test_production_without_a_secret_does_not_start(tmp_path: Path) -> None:
    assert refusal("serve", folder=tmp_path, given={"ENVIRONMENT": "production"}).startswith("TASKGRAPH_JWT_SECRETS is not set; ")


def test_serve_needs_a_database(tmp_path: Path) -> None:
    assert refusal("serve", "--port", "0", folder=tmp_path) == (
        "TASKGRAPH_MONGO_URL is not set; give the address of a MongoDB replica set, or use `taskgraph dev`"
    )


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["migrate"]])
def test_an_unreachable_database_is_one_line(command: list[str], tmp_path: Path) -> None:
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        said = refusal(*command, folder=tmp_path, given={"MONGO_URL": f"mongodb://127.0.0.1:{port}"})
    assert said.endswith(f"127.0.0.1:{port}: [Errno 111] Connect call failed ('127.0.0.1', {port})")


def test_serve_does_not_start_on_a_database_without_its_migrations(
    tmp_path: Path, servers: Servers, settings: MakeSettings
) -> None:
    said = refusal("serve", "--port", "0", folder=tmp_path, given=given(servers, settings().mongo_database))
    assert said.startswith("the database lacks migrations (0001_")
    assert said.endswith("); run `taskgraph migrate` first")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - refused, that is the point
def test_the_built_in_secret_does_not_leave_this_machine(host: str, tmp_path: Path, servers: Servers) -> None:
    said = refusal("serve", "--port", "0", "--host", host, folder=tmp_path, given=given(servers, "unused"))
    assert said == (
        f"--host {host} can be reached from other machines, but tokens are signed with the built-in development secret; "
        "set TASKGRAPH_JWT_SECRETS or listen on 127.0.0.1"
    )
    assert DEVELOPMENT_SECRET not in said


def test_demo_accounts_are_for_development_only(tmp_path: Path) -> None:
    said = refusal(
        "dev", "--demo", "--port", "0", folder=tmp_path, given={"ENVIRONMENT": "production", "JWT_SECRETS": "0123456789abcdef" * 3}
    )
    assert said == "--demo makes accounts with a known password; outside development use --no-demo"
    assert list(tmp_path.iterdir()) == []


def test_migrate_applies_once_and_status_says_when(tmp_path: Path, servers: Servers, settings: MakeSettings) -> None:
    environ = given(servers, settings().mongo_database)
    before = ran("migrate", "--status", folder=tmp_path, given=environ)
    names = [line.split()[0] for line in before.stdout.splitlines()]
    assert before.stdout.splitlines() == [f"{name}  pending" for name in names]
    first, second = (ran("migrate", folder=tmp_path, given=environ) for _ in range(2))
    assert (first.returncode, first.stdout, first.stderr) == (0, "".join(f"applied {name}\n" for name in names), "")
    assert (second.returncode, second.stdout, second.stderr) == (0, "nothing to do\n", "")
    after = ran("migrate", "--status", folder=tmp_path, given=environ).stdout.splitlines()
    assert [line.split()[:2] for line in after] == [[name, "applied"] for name in names]


def test_schema_needs_neither_settings_nor_database(tmp_path: Path) -> None:
    printed = ran("schema", folder=tmp_path, given={"NONSENSE": "1"})
    assert (printed.returncode, printed.stderr) == (0, "")
    (tmp_path / "fresh.graphql").write_text(printed.stdout)
    (tmp_path / "stale.graphql").write_text(printed.stdout + "# old\n")
    fresh = ran("schema", "--check", "fresh.graphql", folder=tmp_path)
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")
    assert refusal("schema", "--check", "stale.graphql", folder=tmp_path) == (
        "stale.graphql is stale; write it anew with `taskgraph schema > stale.graphql`"
    )
    assert refusal("schema", "--check", "none.graphql", folder=tmp_path) == "none.graphql cannot be read: No such file or directory"


def test_serve_answers_and_drains_with_status_0(launch: Launch) -> None:
    process = launch()
    answer = httpx.post(f"{process.url}/graphql", json={"query": "{ __typename }"})
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert process.stop() == 0
    assert not is_alive(process.pid)
    assert "Traceback" not in "\n".join(process.running.lines)


def test_messages_are_not_compressed(launch: Launch) -> None:
    process = launch()
    with connect(process.ws_url, subprotocols=["graphql-transport-ws"]) as ws:  # type: ignore[list-item]
        assert ws.protocol.extensions == []


def test_several_workers_answer_on_one_port_and_end_together(launch: Launch) -> None:
    process = launch(workers=2)
    workers = children_of(process.pid)
    assert httpx.get(f"{process.url}/livez").status_code == 200
    assert process.stop() == 0
    assert not any(is_alive(pid) for pid in workers.values())


def test_workers_do_not_outlive_a_killed_supervisor(launch: Launch) -> None:
    process = launch(workers=2)
    workers = set(children_of(process.pid).values())
    process.running.process.kill()
    process.running.process.wait()
    assert eventually(lambda: not any(is_alive(pid) for pid in workers), within_seconds=15)


def test_the_module_and_the_console_script_are_the_same(tmp_path: Path) -> None:
    with started("schema", given={}, folder=tmp_path) as running:
        assert running.process.wait(20) == 0
        printed = "\n".join(running.rest())
    assert printed == ran("schema", folder=tmp_path).stdout.rstrip("\n")
    assert Path(sys.executable).with_name("taskgraph").is_file()
