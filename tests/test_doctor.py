"""`taskgraph doctor`: each thing that can be wrong is one line that says what to do; only FAILED is status 1."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient

from taskgraph.__main__ import run
from taskgraph.settings import Settings
from taskgraph.storage import embedded
from taskgraph.storage.embedded import Servers
from tests.conftest import Documents, MakeSettings, migrated
from tests.processes import eventually, ran

STRONG = "Zm9yIHRlc3RzIG9ubHksIGJ1dCBsb25nIGVub3VnaA"


class Doctor:
    """`taskgraph doctor` with the environment of a healthy installation, changed by `given`."""

    def __init__(self, made: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        assert made.mongo_url is not None
        assert made.redis_url is not None
        self.database = made.mongo_database
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.given(
            MONGO_URL=made.mongo_url.get_secret_value(),
            MONGO_DATABASE=made.mongo_database,
            REDIS_URL=made.redis_url.get_secret_value(),
            JWT_SECRETS=STRONG,
        )

    def given(self, **environ: str) -> None:
        for name, value in environ.items():
            self._monkeypatch.setenv(f"TASKGRAPH_{name}", value)

    def without(self, name: str) -> None:
        self._monkeypatch.delenv(f"TASKGRAPH_{name}")

    def examine(self) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        """Exit status, and the verdicts and words of each check."""
        status = run(["doctor"])
        said = self._capsys.readouterr()
        findings: dict[str, list[tuple[str, str]]] = {}
        for line in said.out.splitlines():
            verdict, check, what = line[:9].strip(), line[9:22].strip(), line[22:]
            findings.setdefault(check, []).append((verdict, what))
        assert said.err == ("" if status == 0 else "error: some checks FAILED; the lines above say what to do\n")
        return status, findings


@pytest.fixture
def doctor(settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Doctor:
    monkeypatch.chdir(tmp_path)
    made = settings()
    migrated(made)
    return Doctor(made, monkeypatch, capsys)


@pytest.fixture
def documents(doctor: Doctor, mongo_client: MongoClient[dict[str, object]]) -> Documents:
    return mongo_client[doctor.database]


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is held, but on which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_healthy_installation_has_nothing_to_do(doctor: Doctor) -> None:
    status, findings = doctor.examine()
    assert status == 0
    checks = ["python", "libraries", "graphiql", "settings", "secrets", "clock", "mongodb", "replica set", "write", "migrations"]
    assert list(findings) == [*checks, "indexes", "redis"]
    assert {verdict for check in findings if check != "graphiql" for verdict, _ in findings[check]} == {"ok"}
    assert findings["mongodb"] == [("ok", "reachable, version 6.0.5")]
    assert findings["replica set"] == [("ok", "taskgraph")]
    assert findings["secrets"] == [("ok", "1 of 32 bytes or more")]


def test_it_writes_nothing_that_stays(doctor: Doctor, documents: Documents) -> None:
    before = {name: documents[name].count_documents({}) for name in documents.list_collection_names()}
    doctor.examine()
    assert {name: documents[name].count_documents({}) for name in before} == before
    assert documents["doctor"].count_documents({}) == 0


def test_an_absent_database_is_a_failure_within_seconds(nobody: int, tmp_path: Path) -> None:
    """In a process of its own: a PyMongo client that is closed while it connects leaves a socket to the garbage collector."""
    began = time.monotonic()
    ended = ran("doctor", given={"MONGO_URL": f"mongodb://127.0.0.1:{nobody}"}, folder=tmp_path)
    assert time.monotonic() - began < 8
    assert ended.returncode == 1
    assert ended.stderr == "error: some checks FAILED; the lines above say what to do\n"
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("FAILED")]
    assert line == (
        f"FAILED   mongodb      127.0.0.1:{nobody}: [Errno 111] Connect call failed ('127.0.0.1', {nobody}); "
        "check TASKGRAPH_MONGO_URL, the network and that the server runs"
    )
    assert ended.stdout.splitlines()[-1].startswith("warning  redis")


def test_an_absent_redis_is_only_a_warning(doctor: Doctor, nobody: int) -> None:
    doctor.given(REDIS_URL=f"redis://127.0.0.1:{nobody}")
    status, findings = doctor.examine()
    assert status == 0
    ((verdict, what),) = findings["redis"]
    assert verdict == "warning"
    assert what.endswith("check TASKGRAPH_REDIS_URL; the API works without it, with limits counted by each process alone")


def test_missing_urls_are_told_apart(doctor: Doctor) -> None:
    doctor.without("MONGO_URL")
    doctor.without("REDIS_URL")
    status, findings = doctor.examine()
    assert status == 1
    assert findings["mongodb"] == [
        ("FAILED", "TASKGRAPH_MONGO_URL is not set; give a replica set's address (`taskgraph dev` brings its own server)")
    ]
    assert findings["redis"] == [("warning", "TASKGRAPH_REDIS_URL is not set; failed logins are counted by each process alone")]


def test_a_standalone_server_is_refused(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "standalone").mkdir()
    port = embedded._free_port()
    command = (embedded.mongod_binary(), "--dbpath", "standalone", "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={"LC_ALL": "C"})
    try:
        assert eventually(lambda: not embedded._is_free(port))
        asyncio.run(embedded._accepts(port))
        doctor.given(MONGO_URL=f"mongodb://127.0.0.1:{port}")
        status, findings = doctor.examine()
    finally:
        process.kill()
        process.wait()
    assert status == 1
    assert findings["replica set"] == [
        ("FAILED", "this is a standalone server without transactions; start it with --replSet and run rs.initiate()")
    ]
    assert "migrations" not in findings


def test_a_missing_migration_says_which_and_what_to_do(doctor: Doctor, documents: Documents) -> None:
    name = documents["migrations"].distinct("_id")[0]
    documents["migrations"].delete_one({"_id": name})
    status, findings = doctor.examine()
    assert status == 1
    assert findings["migrations"] == [("FAILED", f"{name} not applied; run `taskgraph migrate`")]
    assert "indexes" not in findings


def test_a_newer_database_is_a_warning(doctor: Doctor, documents: Documents) -> None:
    applied = documents["migrations"].find_one()
    assert applied is not None
    documents["migrations"].insert_one(applied | {"_id": "9999_future"})
    status, findings = doctor.examine()
    assert status == 0
    assert findings["migrations"] == [
        ("warning", "the database is newer than this code (9999_future); deploy the version that brought it")
    ]


def test_a_missing_index_is_named(doctor: Doctor, documents: Documents) -> None:
    documents["tasks"].drop_index("owner_created")
    status, findings = doctor.examine()
    assert status == 1
    assert findings["indexes"] == [("FAILED", "missing: tasks.owner_created; make them as the migrations' INDEXES say")]


def test_every_wrong_setting_has_its_own_line_and_stops_the_rest(doctor: Doctor) -> None:
    doctor.given(MAX_DEPTH="many", NONSENSE="1", JWT_SECRETS="short")
    status, findings = doctor.examine()
    assert status == 1
    assert findings["settings"] == [
        ("FAILED", "TASKGRAPH_NONSENSE is not a setting"),
        ("FAILED", "TASKGRAPH_MAX_DEPTH: input should be a valid integer, unable to parse string as an integer"),
    ]
    assert "mongodb" not in findings


def test_the_built_in_secret_is_a_warning_in_development(doctor: Doctor) -> None:
    doctor.without("JWT_SECRETS")
    status, findings = doctor.examine()
    assert status == 0
    assert findings["secrets"] == [
        ("warning", "tokens are signed with the built-in development secret; set TASKGRAPH_JWT_SECRETS to random bytes")
    ]


def test_a_setting_without_effect_is_a_warning(doctor: Doctor) -> None:
    doctor.given(OTLP_ENDPOINT="http://127.0.0.1:4318")
    status, findings = doctor.examine()
    assert status == 0
    assert findings["settings"][1:] == [
        (
            "warning",
            "TASKGRAPH_OTLP_ENDPOINT is set, but this version does not use it yet; remove it or wait for the version that does",
        )
    ]


@pytest.mark.parametrize(("ahead", "verdict", "status"), [(0.0, "ok", 0), (5.0, "warning", 0), (-40.0, "FAILED", 1)])
def test_clocks_that_differ_are_noticed(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, ahead: float, verdict: str, status: int
) -> None:
    real = time.time
    monkeypatch.setattr("taskgraph.doctor.time.time", lambda: real() + ahead)
    said, findings = doctor.examine()
    assert said == status
    ((found, what),) = findings["clock"]
    assert found == verdict
    assert abs(float(what.split()[0]) - abs(ahead)) < 0.9


def test_no_secret_is_shown(doctor: Doctor, capsys: pytest.CaptureFixture[str], servers: Servers) -> None:
    doctor.given(MONGO_URL=str(servers.mongo_url).replace("mongodb://", "mongodb://ada:hunter22@"))
    run(["doctor"])
    said = capsys.readouterr()
    assert "hunter22" not in said.out + said.err
    assert STRONG not in said.out + said.err


def test_trusted_documents_are_counted_or_their_fault_is_named(doctor: Doctor, tmp_path: Path) -> None:
    file = tmp_path / "documents.json"
    doctor.given(TRUSTED_DOCUMENTS="enforce", TRUSTED_DOCUMENTS_FILE=str(file))
    file.write_text('{"a": "{ __typename }", "b": "{ viewer { id } }"}')
    status, findings = doctor.examine()
    assert (status, findings["documents"]) == (0, [("ok", "2 trusted, enforce")])
    file.write_text("{")
    status, findings = doctor.examine()
    assert (status, findings["documents"]) == (
        1,
        [("FAILED", f"TASKGRAPH_TRUSTED_DOCUMENTS_FILE: {str(file)!r} is no JSON in UTF-8")],
    )
