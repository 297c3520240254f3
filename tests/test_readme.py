"""The documentation is run: every operation, command and program that a page shows, in order, on a server of its own as Ada.

How a page is written:
- ```graphql is followed by ```json, the answer. A ```json under a line `Variables:` comes between them.
- An answer is compared exactly but for ids, cursors, tokens and times. What the page printed for one of these stands for this
  run's value from then on, so a page may use an id of an answer above.
- A subscription stays open: a ```json that answers nothing else is its next message.
- ```sh is run line by line, ```python and ```js as programs; the ```text after one is what it prints first.
- The server of a page is 127.0.0.1:8000.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from taskgraph import demo
from taskgraph.__main__ import app
from taskgraph.demo import DemoAccount
from taskgraph.errors import BadUserInput, Busy, ErrorCode, OperationTooExpensive, Unauthenticated
from taskgraph.server import websocket
from taskgraph.server.csrf import CsrfRefused
from taskgraph.server.persisted import PersistedQueryNotFound
from taskgraph.server.rate_limit import RateLimited
from taskgraph.settings import PREFIX, WITHOUT_EFFECT, Settings, load
from taskgraph.storage import data_folder, mongo
from tests.conftest import MakeSettings, Server, migrated, served
from tests.metrics import deoptimised, numbers
from tests.people import Person, unpriced
from tests.processes import environ, ran, started

ROOT = Path(__file__).parents[1]
PRINTED_HOST = "127.0.0.1:8000"
PAGES = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
ANSWER_SECONDS = 15
PROGRAM_SECONDS = 40
CUT = "…"  # ends a token that a page does not print whole
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# What differs from run to run, by the name of its field.
CHANGING = {
    **dict.fromkeys(("id", "taskId"), re.compile(r"[\w-]{34}|[\w-]{18}")),
    **dict.fromkeys(("cursor", "latestCursor", "startCursor", "endCursor", "from"), re.compile(r"[\w-]{14,60}")),
    "accessToken": re.compile(r"[\w-]+\.[\w-]+\.[\w-]+|eyJ[\w-]+…"),
    "refreshToken": re.compile(r"[\w-]{64}"),
}
MACHINE = re.compile(r"(?<![\w.:/<*])/(?:home|root|work|tmp|Users|usr|opt|mnt|srv|var)/")
REGISTRY = re.compile(r"pypi|pythonhosted|npmjs|registry\.|docker\.io|ghcr\.io|quay\.io|crates\.io|proxy\.golang", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; `line` is that of its opening fence."""

    page: str
    line: int
    language: str
    text: str
    is_variables: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks(page: str) -> list[Block]:
    text = TEXTS[page]
    found = []
    for fence in FENCE.finditer(text):
        above = text[: fence.start()].rstrip().rpartition("\n")[2]
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence["language"], fence["text"], above.strip() == "Variables:"))
    return found


def pages_with(*languages: str) -> list[str]:
    return [page for page in PAGES if any(block.language in languages for block in blocks(page))]


@dataclass
class Shown:
    """What a page printed, and what stands for it in this run."""

    actual: dict[str, str] = field(default_factory=dict)

    def translated(self, text: str) -> str:
        for printed, actual in self.actual.items():
            text = text.replace(printed, actual)
        return text

    def compare(self, printed: Any, actual: Any, *, sent: str, where: str) -> None:
        assert masked(actual, sent) == masked(printed, sent), where
        self._learn(printed, actual, where)

    def _learn(self, printed: Any, actual: Any, where: str, name: str = "") -> None:
        if isinstance(printed, dict):
            for key, value in printed.items():
                self._learn(value, actual[key], where, key)
        elif isinstance(printed, list):
            for one, other in zip(printed, actual, strict=True):
                self._learn(one, other, where, name)
        elif name in CHANGING and printed is not None and not printed.endswith(CUT):
            known = self.actual.setdefault(printed, actual)
            assert known == actual, f"{where}: {name} {printed} stood for something else above"


def masked(value: Any, sent: str, name: str = "") -> Any:
    """The value with what differs from run to run replaced; a time that the caller sent does not differ."""
    match value:
        case dict():
            return {key: masked(inner, sent, key) for key, inner in value.items()}
        case list():
            return [masked(inner, sent, name) for inner in value]
        case str() if name in CHANGING and CHANGING[name].fullmatch(value):
            return f"<{name}>"
        case str() if DATE_TIME.fullmatch(value) and value not in sent:
            return "<time>"
        case _:
            return value


@dataclass(frozen=True)
class Demo:
    """A server on a freshly loaded demo database."""

    url: str
    token: str
    settings: Settings

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def variables(self) -> dict[str, str]:
        """The settings that let a command work on the same database."""
        secrets = {"MONGO_URL": self.settings.mongo_url, "REDIS_URL": self.settings.redis_url, "JWT_SECRETS": None}
        given = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
        return given | {
            "MONGO_DATABASE": self.settings.mongo_database,
            "MONGO_POOL_MIN": "0",
            "JWT_SECRETS": ",".join(self.settings.signing_secrets),
        }


@contextmanager
def demonstrated(settings: MakeSettings) -> Iterator[Demo]:
    made = settings()
    migrated(made)

    async def accounts() -> Sequence[DemoAccount]:
        db = mongo.connect(made)
        try:
            return await demo.load(db, made)
        finally:
            await db.close()

    ada, _grace = asyncio.run(accounts())
    with served(made) as url:
        yield Demo(url, ada.access_token, made)


@dataclass(frozen=True)
class Asked:
    """An operation as it was sent."""

    document: str
    variables: dict[str, Any]

    @property
    def is_subscription(self) -> bool:
        return self.document.lstrip().startswith("subscription")


class Reader:
    """Goes through the operations of a page; `asked` are those that it has come to."""

    def __init__(self, server: Demo, stack: ExitStack) -> None:
        self._server = server
        self._stack = stack
        self._shown = Shown()
        self._asked: tuple[Block, str] | None = None
        self._variables: dict[str, Any] = {}
        self._socket: ClientConnection | None = None
        self._sent = ""
        self.asked: list[Asked] = []

    def read(self, block: Block) -> None:
        match block.language:
            case "graphql":
                self._ask(block)
            case "json" if block.is_variables:
                assert self._asked is not None, f"{block}: variables of no operation"
                self._variables = json.loads(self._shown.translated(block.text))
                self._sent += json.dumps(self._variables)
            case "json":
                self._answer(block)

    def finish(self) -> None:
        assert self._asked is None, f"{self._asked[0]}: no answer is printed"

    def _ask(self, block: Block) -> None:
        assert self._asked is None, f"{block}: the operation before has no answer"
        document = self._shown.translated(block.text)
        self._asked, self._variables, self._sent = (block, document), {}, document
        if document.lstrip().startswith("subscription"):
            self._socket = None

    def _answer(self, block: Block) -> None:
        printed = json.loads(block.text)
        if self._asked is None:
            assert self._socket is not None, f"{block}: nothing was asked"
            actual = self.next()
        else:
            asked = Asked(self._asked[1], self._variables)
            self.asked.append(asked)
            self._asked = None
            if asked.is_subscription:
                self.subscribe(asked)
            actual = self.next() if asked.is_subscription else self.post(asked)
        self._shown.compare(printed, actual, sent=self._sent, where=str(block))

    def post(self, asked: Asked) -> Any:
        """The answer."""
        response = httpx.post(
            f"{self._server.url}/graphql",
            json={"query": asked.document, "variables": asked.variables},
            headers={"authorization": f"Bearer {self._server.token}"},
            timeout=ANSWER_SECONDS,
        )
        return unpriced(response)

    def subscribe(self, asked: Asked) -> None:
        """From now on `next` gives the messages of this subscription."""
        self._socket = socket = self._stack.enter_context(
            connect(f"ws://{self._server.host}/graphql", subprotocols=[websocket.PROTOCOL], proxy=None)  # type: ignore[list-item]
        )
        socket.send(json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {self._server.token}"}}))
        assert json.loads(socket.recv(ANSWER_SECONDS)) == {"type": "connection_ack"}
        payload = {"query": asked.document, "variables": asked.variables}
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))

    def next(self) -> Any:
        """The next message of the subscription."""
        assert self._socket is not None
        message = json.loads(self._socket.recv(ANSWER_SECONDS))
        if message["type"] != "next":
            return message
        payload = message["payload"]
        del payload["extensions"]
        return payload


@pytest.mark.parametrize("page", pages_with("graphql"))
def test_every_operation_of_a_page_is_answered_as_printed(page: str, settings: MakeSettings) -> None:
    with demonstrated(settings) as server, ExitStack() as stack:
        reader = Reader(server, stack)
        for block in blocks(page):
            reader.read(block)
        reader.finish()


def test_no_operation_of_the_readme_leaves_its_plan(settings: MakeSettings) -> None:
    with demonstrated(partial(settings, response_cache_seconds=0)) as server, ExitStack() as stack:
        reader = Reader(server, stack)
        for block in blocks("README.md"):
            reader.read(block)
        queries = [each for each in reader.asked if not each.is_subscription]
        before = numbers(server.url)["taskgraph_compiled_answers_total"]
        for each in queries * 2:
            assert "data" in reader.post(each)
        # Once for each of the second round, at least: in the first a document may still be new. Live events are shown besides.
        assert numbers(server.url)["taskgraph_compiled_answers_total"] >= before + len(queries)
        for each in reader.asked:
            if each.is_subscription:
                reader.subscribe(each)
                for query in queries:
                    reader.post(query)
                # The other creation has a key, and is not done again.
                assert [reader.next()["data"]["taskEvents"]["__typename"] for _ in range(2)][1:] == ["TaskEvent"]
        assert deoptimised(numbers(server.url)) == {}


@pytest.mark.parametrize("page", pages_with("sh", "bash"))
def test_every_command_of_a_page_works(page: str, settings: MakeSettings, tmp_path: Path) -> None:
    missing: set[str] = set()
    with demonstrated(settings) as server:
        for block in blocks(page):
            exported: dict[str, str] = {}
            for line in block.text.splitlines() if block.language in {"sh", "bash"} else ():
                words = shlex.split(line, comments=True)
                if words[:1] == ["export"]:
                    exported |= {name: value for name, _, value in (word.partition("=") for word in words[1:])}
                elif words:
                    missing |= try_command(words, line, server, f"{block}: {line}", tmp_path)
            expect_valid_settings(exported, tmp_path, str(block))
    if missing:
        pytest.skip(f"not installed here, so lines that use it were not run: {', '.join(sorted(missing))}")


def try_command(words: list[str], line: str, server: Demo, where: str, folder: Path) -> set[str]:
    """Tries one line as far as that is possible in a test; gives the program that it lacked, if any."""
    program, *arguments = words
    match Path(program).name:
        case "make":
            expect_success(["make", "-n", *arguments], where)
        case "docker":
            expect_container_files(arguments, where)
        case "pytest":
            assert [name for name in arguments if name.endswith(".py") and not (ROOT / name).is_file()] == [], where
        case "run":
            assert os.access(ROOT / program, os.X_OK), where
        case "taskgraph" if arguments[0] in {"serve", "dev"}:
            expect_to_listen(arguments, server, folder)
        case "taskgraph":
            done = ran(*arguments, given=server.variables, folder=ROOT)
            assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
        case _ if shutil.which(program) is None:
            return {program}
        case _:
            expect_success(["bash", "-c", line.replace(PRINTED_HOST, server.host)], where, TOKEN=server.token)
    return set()


def expect_success(command: list[str], where: str, **given: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stderr}"


def expect_valid_settings(given: dict[str, str], folder: Path, where: str) -> None:
    """They are settings, and their values are allowed; a file of a secret is replaced by one that is there."""
    assert all(name.startswith(PREFIX) for name in given), where
    secret = folder / "secret"
    secret.write_text("an example of random bytes: 0123456789abcdef", encoding="utf-8")
    load({name: str(secret) if name.endswith("_FILE") else value for name, value in given.items()}, env_file=None)


def expect_container_files(arguments: list[str], where: str) -> None:
    """The parts of a `docker build` and of a `docker run --env-file` that can be wrong without a container engine."""
    match arguments[0]:
        case "build":
            dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
            copied = [
                source for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE) for source in line.split()[:-1]
            ]
            assert [source for source in copied if not list(ROOT.glob(source.rstrip("/")))] == [], where
        case "run":
            assert "taskgraph" in arguments, where
        case other:
            pytest.fail(f"{where}: no rule says how to check docker {other}")


def expect_to_listen(arguments: list[str], server: Demo, folder: Path) -> None:
    """`taskgraph serve` or `dev` comes up, on a free port and with a data folder of its own, and ends with status 0."""
    free = re.sub(r"--port \d+", "", " ".join(arguments)).split()
    own = ["--data", str(folder / "data")] if arguments[0] == "dev" else []
    given = server.variables if arguments[0] == "serve" else {}
    with started(*free, "--port", "0", *own, given=given, folder=folder) as running:
        running.until(r"taskgraph listening on http://\S+/graphql")
        assert running.stop() == 0


@pytest.mark.parametrize("page", pages_with("python"))
def test_every_python_program_of_a_page_prints_what_it_should(page: str, settings: MakeSettings, tmp_path: Path) -> None:
    with demonstrated(settings) as server:
        for program, output in programs(page, "python"):
            file = tmp_path / "program.py"
            file.write_text(program.text.replace(PRINTED_HOST, server.host), encoding="utf-8")
            assert first_lines([sys.executable, str(file)], len(output)) == output, str(program)


@pytest.mark.parametrize("page", pages_with("js"))
def test_every_javascript_program_of_a_page_runs_or_at_least_parses(page: str, settings: MakeSettings, tmp_path: Path) -> None:
    node, packages = shutil.which("node"), ROOT / "web" / "node_modules"
    if node is None:
        pytest.skip("no node: the JavaScript of the documentation was not tried")
    if packages.is_dir():
        (tmp_path / "node_modules").symlink_to(packages)
    lacking = set()
    with demonstrated(settings) as server:
        for program, output in programs(page, "js"):
            file = tmp_path / "program.mjs"
            file.write_text(program.text.replace(PRINTED_HOST, server.host), encoding="utf-8")
            parsed = subprocess.run([node, "--check", str(file)], capture_output=True, text=True, check=False)
            assert parsed.returncode == 0, f"{program}\n{parsed.stderr}"
            needed = set(re.findall(r'from "((?:@[\w-]+/)?[\w-]+)', program.text))
            absent = {name for name in needed if not (packages / name).is_dir()}
            if absent:
                lacking |= absent
            else:
                # Browsers have WebSocket, Node 20 behind this flag.
                assert first_lines([node, "--experimental-websocket", str(file)], len(output)) == output, str(program)
    if lacking == {"graphql-ws"}:
        pytest.skip("web/node_modules is not set up: the JavaScript of the documentation was parsed, not run")


def programs(page: str, language: str) -> list[tuple[Block, list[str]]]:
    """Each program with the lines of the ```text that follows it before any other block."""
    listed = blocks(page)
    following = [*listed[1:], None]
    return [
        (block, after.text.splitlines() if after is not None and after.language == "text" else [])
        for block, after in zip(listed, following, strict=True)
        if block.language == language
    ]


def first_lines(command: list[str], count: int) -> list[str]:
    """What a program prints first; then it is stopped, because it may well run for ever. One that should print nothing must end well."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ({})) as process:
        deadline = threading.Timer(PROGRAM_SECONDS, process.kill)
        deadline.start()
        try:
            assert process.stdout is not None
            printed = [process.stdout.readline().rstrip("\n") for _ in range(count)]
            if count == 0:
                assert process.wait() == 0
        finally:
            deadline.cancel()
            process.kill()
    return printed


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    prose = FENCE.sub("", TEXTS[page])
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            dead.append(target)
    assert dead == []


def anchors(text: str) -> set[str]:
    """The names that a heading is linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_path_of_some_machine_or_the_host_of_a_registry(page: str) -> None:
    lines = enumerate(TEXTS[page].splitlines(), start=1)
    assert [f"{page}:{number}: {line}" for number, line in lines if MACHINE.search(line) or REGISTRY.search(line)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_says_what_it_is_written_in(page: str) -> None:
    known = {"graphql", "json", "sh", "bash", "python", "js", "text", "nginx"}
    assert [str(block) for block in blocks(page) if block.language not in known] == []


def test_the_two_commands_and_a_query_are_on_the_first_screen_of_the_readme() -> None:
    screen = "\n".join(TEXTS["README.md"].splitlines()[:30])
    assert [word for word in ("make run", "make test", "```graphql") if word not in screen] == []


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    _, _, section = TEXTS[page].partition(f"\n## {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None, f"{page}: no table under {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows("docs/operations.md", "Settings")}
    defaults = {f"{PREFIX}{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    assert documented.keys() == defaults.keys()
    # Those without a default of their own have one that depends on the environment; a page says that in words.
    fixed = {name: str(default) for name, default in defaults.items() if default not in {None, ()}}
    assert {name: documented[name] for name in fixed} == fixed


def test_settings_without_effect_are_documented_as_such() -> None:
    said = {row[0].strip("`") for row in rows("docs/operations.md", "Settings") if "no effect yet" in row[2].lower()}
    assert said == {f"{PREFIX}{name.upper()}" for name in WITHOUT_EFFECT}


def test_every_command_is_documented() -> None:
    documented = {row[0].strip("`").split()[1] for row in rows("docs/operations.md", "Commands")}
    assert documented == {each.name or each.callback.__name__ for each in app.registered_commands if each.callback is not None}


def test_every_metric_is_documented(server: Server, anonymous: Person) -> None:
    for _ in range(2):
        anonymous.ask("{ __schema { queryType { name } } }")  # has no plan, so there is a reason to show
    names = {re.sub(r"(_bucket|_count|_sum)?({.*)?$", "", name) for name in numbers(server.url) if name.startswith("taskgraph_")}
    assert names == {row[0].strip("`") for row in rows("docs/operations.md", "Metrics")}


def test_every_close_code_is_documented() -> None:
    used = set(re.findall(r"(?:CloseSocket|close)\((\d{4})", Path(websocket.__file__).read_text(encoding="utf-8")))
    documented = {row[0] for row in rows("docs/operations.md", "Close codes of the WebSocket")}
    # These two come from uvicorn: a message beyond every bound, and the end of the process.
    assert documented == used | {"1009", "1012"}


def test_every_error_code_is_documented() -> None:
    problems = {row[0].strip("`") for row in rows("docs/api.md", "Errors as data")}
    request_errors = {row[0].strip("`") for row in rows("docs/api.md", "Request errors")}
    assert problems == {code.value for code in ErrorCode}
    kinds = (BadUserInput, Unauthenticated, OperationTooExpensive, RateLimited, Busy, CsrfRefused, PersistedQueryNotFound)
    raised = {error.code for error in kinds}
    assert request_errors == raised | {"GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "INTERNAL"}


def test_every_file_of_the_data_folder_is_documented(tmp_path: Path) -> None:
    with data_folder.claimed(tmp_path / "data") as folder:
        folder.jwt_secret()
        made = {path.name for path in folder.path.iterdir()} | {"mongo", "valkey", "mongod.log", "valkey.log"}
    cells = " ".join(row[0] for row in rows("docs/operations.md", "Embedded data folder"))
    assert set(re.findall("`(.+?)`", cells)) == made


def test_the_changelog_has_an_entry_for_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", TEXTS["CHANGELOG.md"], re.MULTILINE)
