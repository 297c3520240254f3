"""What other people's programs say of the API: the audit of GraphQL over HTTP, the compilers of clients, the linter of schemas.

They come from the package in judges/, which `make test` installs.
"""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest

from taskgraph import schema
from tests.conftest import MakeSettings, Server, migrated, served

JUDGES = Path(__file__).parent / "judges"
AUDITS = 61
PATIENCE_SECONDS = 120
LACKS = "query ($first: Int) { tasks(first: $first) { nodes { nothing } } }"


def ran(script: str, *arguments: str, folder: Path = JUDGES, given: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """One script of the package, or of what it has installed, run by Node; `given` adds to its environment."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: other people's programs were not asked; install Node 20 or newer")
    found = JUDGES / script
    assert found.exists(), "tests/judges is not set up: run `make test`, or `npm ci` there"
    return subprocess.run(
        [node, str(found), *arguments],
        cwd=folder,
        env={**os.environ, **(given or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture
def sdl(tmp_path: Path) -> Path:
    file = tmp_path / "schema.graphql"
    file.write_text(schema.sdl(), encoding="utf-8")
    return file


def audited(url: str) -> Counter[str]:
    """How many audits ended how; what is not ok is shown when it fails."""
    answer = ran("audit.mjs", f"{url}/graphql")
    assert answer.returncode == 0, answer.stderr
    results = json.loads(answer.stdout)
    print([result for result in results if result["status"] != "ok"])
    return Counter(result["status"] for result in results)


def test_every_audit_of_graphql_over_http_is_ok(server: Server) -> None:
    assert audited(server.url) == {"ok": AUDITS}


def test_every_audit_is_ok_in_production_too(settings: MakeSettings) -> None:
    """Where it describes itself: some audits ask for a type."""
    made = settings(environment="production", allowed_origins="https://app.example.com", introspection="true")
    migrated(made)
    with served(made) as url:
        assert audited(url) == {"ok": AUDITS}


def test_the_audit_finds_what_is_wrong(server: Server) -> None:
    """Of an address at which there is no GraphQL."""
    assert httpx.get(f"{server.url}/livez").status_code == 200
    assert audited(f"{server.url}/livez")["error"] > 0


def test_relay_compiles_pages_refetches_and_updates(tmp_path: Path, sdl: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "artifacts").mkdir()
    shutil.copy(JUDGES / "Tasks.ts", tmp_path / "src")
    configured = {"src": "./src", "schema": f"./{sdl.name}", "language": "typescript", "artifactDirectory": "./artifacts"}
    (tmp_path / "relay.config.json").write_text(json.dumps(configured), encoding="utf-8")
    compiled = ran("node_modules/relay-compiler/cli.js", folder=tmp_path)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    made = {file.name.removesuffix(".graphql.ts") for file in (tmp_path / "artifacts").iterdir()}
    assert {
        *("TasksQuery", "Tasks_page", "TasksPageQuery", "Tasks_task", "TasksTaskQuery"),
        *("TasksCreateMutation", "TasksSubscription"),
    } <= made


def test_graphql_codegen_makes_types_of_the_schema_and_of_operations(sdl: Path) -> None:
    made = ran("generate.mjs", str(sdl), "operation.graphql")
    assert made.returncode == 0, made.stderr
    assert "export type TasksQuery = { viewer: { id: string, name: string } | null, tasks: { totalCount: number" in made.stdout
    assert "export type CreateTaskInput = {" in made.stdout


def test_graphql_codegen_refuses_what_the_schema_lacks(tmp_path: Path, sdl: Path) -> None:
    (tmp_path / "wrong.graphql").write_text(LACKS, encoding="utf-8")
    refused = ran("generate.mjs", str(sdl), str(tmp_path / "wrong.graphql"))
    assert refused.returncode != 0
    assert 'Cannot query field "nothing" on type "Task"' in refused.stderr


def linted(sdl: Path) -> list[str]:
    """What the linter objects to, as `rule: message`."""
    found = ran(
        "node_modules/eslint/bin/eslint.js",
        *("--no-config-lookup", "--config", str(JUDGES / "eslint.config.mjs"), "--format", "json"),
        sdl.name,
        folder=sdl.parent,
        given={"SCHEMA": str(sdl)},
    )
    assert found.returncode in {0, 1}, found.stderr
    (file,) = json.loads(found.stdout)
    return [f"{message['ruleId']}: {message['message']}" for message in file["messages"]]


def test_the_rules_of_graphql_eslint_for_schemas_find_nothing(sdl: Path) -> None:
    assert linted(sdl) == []


def test_the_rules_of_graphql_eslint_would_find_something(sdl: Path) -> None:
    with sdl.open("a", encoding="utf-8") as file:
        file.write("type lonely { Some_field: Int }\n")
    assert "@graphql-eslint/no-unreachable-types: Object type `lonely` is unreachable." in linted(sdl)
