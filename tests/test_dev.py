"""`taskgraph dev` as a real process: what it prints works, it survives what it should, and it leaves nothing behind."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from taskgraph.storage.embedded import Servers
from tests.conftest import MakeSettings
from tests.people import PASSWORD, Person, registered
from tests.processes import Running, children_of, eventually, is_alive, started

VIEWER = "{ viewer { email } }"
SERVERS = {"mongod", "valkey-server"}


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30) as client:
        yield client


@contextmanager
def dev(folder: Path, *arguments: str, **given: str) -> Iterator[tuple[Running, str]]:
    """A running `taskgraph dev` on the data folder `data`, and the address of its GraphQL."""
    with started("dev", "--port", "0", "--data", "data", *arguments, given=given, folder=folder) as running:
        yield running, running.until(r"^taskgraph listening on (http://127\.0\.0\.1:\d+/graphql)$")[1]


def account(http: httpx.Client, url: str) -> Person:
    return registered(http, url, name="Ada", email=None, password=PASSWORD)


def are_gone(pids: dict[str, int]) -> bool:
    return not any(is_alive(pid) for pid in pids.values())


def test_both_printed_accounts_are_ready_to_use(tmp_path: Path, http: httpx.Client) -> None:
    with dev(tmp_path, "--demo") as (running, url):
        tokens = []
        for _ in range(2):
            email = running.until(r"^account +(\S+@\S+)  password: \S.{11,}$")[1]
            tokens.append(running.until(r"^token +(\S+)$")[1])
            assert Person(http, url, tokens[-1]).ask(VIEWER) == {"data": {"viewer": {"email": email}}}
            assert running.until(r"^signed in +(\S+)$")[1] == f"{url}#token={tokens[-1]}"
        running.until("^Ctrl-C stops everything; the data stays.$")
    assert len(set(tokens)) == 2


def test_without_demo_there_are_no_accounts(tmp_path: Path) -> None:
    with dev(tmp_path) as (running, _):
        running.until("^Ctrl-C stops everything")
        assert not any(line.startswith(("account", "token")) for line in running.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with dev(tmp_path) as (running, _):
        children = children_of(running.pid)
        assert children.keys() == SERVERS
        assert running.stop(number) == 0
        assert are_gone(children)
        assert "Traceback" not in "\n".join(running.lines)


def test_a_signal_during_the_start_ends_it_with_status_0_and_leaves_no_process(tmp_path: Path) -> None:
    with started("dev", "--port", "0", "--data", "data", given={}, folder=tmp_path) as running:
        assert eventually(lambda: "mongod" in children_of(running.pid))
        children = children_of(running.pid)
        assert running.stop() == 0
        assert are_gone(children)
        assert running.lines == ["stopped"]


def test_killing_it_leaves_no_process(tmp_path: Path) -> None:
    with dev(tmp_path) as (running, _):
        children = children_of(running.pid)
        assert children.keys() == SERVERS
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert eventually(lambda: are_gone(children))


def test_data_and_tokens_survive_a_kill(tmp_path: Path, http: httpx.Client) -> None:
    with dev(tmp_path) as (running, url):
        person = account(http, url)
        running.stop(signal.SIGKILL)
    with dev(tmp_path) as (running, url):
        assert Person(http, url, person.token).ask(VIEWER) == {"data": {"viewer": {"email": person.email}}}
        assert running.stop() == 0


def test_a_killed_mongod_comes_back_with_everything_acknowledged(tmp_path: Path, http: httpx.Client) -> None:
    with dev(tmp_path) as (running, url):
        person = account(http, url)
        os.kill(children_of(running.pid)["mongod"], signal.SIGKILL)
        running.until("embedded server died and was started again .*server=mongod")
        assert eventually(lambda: person.ask(VIEWER) == {"data": {"viewer": {"email": person.email}}})
        assert account(http, url).token is not None


def test_a_server_that_keeps_dying_ends_it_with_one_clear_line(tmp_path: Path) -> None:
    with dev(tmp_path) as (running, _):
        killed = [0]
        for _ in range(6):
            assert eventually(lambda: children_of(running.pid).get("valkey-server", 0) not in killed)
            killed.append(children_of(running.pid)["valkey-server"])
            os.kill(killed[-1], signal.SIGKILL)
        running.until(r"^error: valkey died 6 times within 60 s; its reason is at the end of \S+/data/valkey\.log$")
        children = children_of(running.pid)
        assert running.process.wait(30) == 1
        assert are_gone(children)


def test_a_configured_url_wins_over_the_embedded_server(tmp_path: Path, servers: Servers, settings: MakeSettings) -> None:
    database = settings().mongo_database
    given = {"MONGO_URL": str(servers.mongo_url), "MONGO_DATABASE": database}
    with dev(tmp_path, **given) as (running, _):
        assert children_of(running.pid).keys() == {"valkey-server"}
        assert not (tmp_path / "data" / "mongo").exists()


def test_a_second_one_on_the_same_data_names_the_first(tmp_path: Path) -> None:
    with dev(tmp_path) as (first, _):
        with started("dev", "--port", "0", "--data", "data", given={}, folder=tmp_path) as second:
            assert second.process.wait(20) == 1
            (line,) = second.rest()
            assert line == (
                f"error: data folder {tmp_path / 'data'} is in use by process {first.pid}; "
                "stop it first or choose another folder with --data"
            )
        assert is_alive(first.pid)


def test_the_log_holds_no_token(tmp_path: Path) -> None:
    """What is printed for people is on stdout; the log is kept by others."""
    with dev(tmp_path, "--demo", LOG_LEVEL="DEBUG") as (running, _):
        token = running.until(r"^token +(\S+)$")[1]
        running.until("^Ctrl-C stops everything")
        running.stop()
    said = [line for line in running.lines if token in line]
    assert [re.sub(r" +", " ", line).split()[0] for line in said] == ["token", "signed"]
