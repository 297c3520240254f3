"""The compiled way and graphql-core give the same answer, byte for byte: random operations, random data, injected errors."""

import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from bson import ObjectId, Timestamp
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    Node,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as search
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from taskgraph import schema, seed
from taskgraph.accounts import reads as account_reads
from taskgraph.accounts import sessions
from taskgraph.accounts.schema import USER
from taskgraph.accounts.sessions import SESSION
from taskgraph.context import Context, Resources, Viewer
from taskgraph.server.documents import DocumentRefused, Documents, Prepared
from taskgraph.server.estimates import Estimates
from taskgraph.server.executor import Answer, Executor, Operation
from taskgraph.server.gate import Reply
from taskgraph.server.limits import DocumentLimits
from taskgraph.server.plans import Plans, compiled
from taskgraph.server.prices import Price
from taskgraph.server.rate_limit import RateLimits
from taskgraph.server.relay import global_id
from taskgraph.settings import Settings
from taskgraph.storage import migrate, mongo
from taskgraph.storage.audit_log import AuditLog
from taskgraph.storage.event_hub import EventHub
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.idempotency import Key
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database, Document, Projection
from taskgraph.storage.redis import Redis
from taskgraph.storage.stored_events import StoredEvents
from taskgraph.storage.versions import Versions
from taskgraph.tasks import reads as task_reads
from taskgraph.tasks import writes as task_writes
from taskgraph.tasks.model import TASK
from taskgraph.tasks.writes import Patch
from tests.conftest import MakeSettings
from tests.server.operations import operations
from tests.server.positions import give_positions

# The same cases each time, so that a change fails for a reason of its own; by hand others, as many as this variable says.
BY_HAND = os.environ.get("DIFFERENTIAL_CASES")
CASES = int(BY_HAND or "300")
SCHEMA = schema.build()
CORE = Executor(SCHEMA, None, has_introspection=True)
FREE = Price(None, ())
TRIES = 3
LIMITS = DocumentLimits(max_depth=50, max_aliases=500, max_tokens=20_000)
exhaustive = search(
    max_examples=CASES,
    derandomize=BY_HAND is None,
    database=None,
    deadline=None,
    print_blob=False,
    # A found case is shown as it is: making it smaller would take minutes, at some 50 ms for each attempt.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Bench:
    """Both ways of executing, on the same data."""

    portal: BlockingPortal
    resources: Resources
    viewer: Viewer
    ids: list[str]
    documents: Documents
    plans: Plans

    def run(self, executor: Executor, prepared: Prepared, variables: dict[str, Any]) -> Answer:
        """The answer; once more where the database was too slow to be asked, which is no matter of who asks."""
        for _ in range(TRIES):
            answer: Answer = self.portal.call(self._run, executor, prepared, variables)
            if "BUSY" not in answer.codes:
                return answer
        raise AssertionError(f"the database was away {TRIES} times")

    async def _run(self, executor: Executor, prepared: Prepared, variables: dict[str, Any]) -> Answer:
        connection = HTTPConnection({"type": "http", "headers": [], "client": ("127.0.0.1", 1)})
        context = Context(self.resources, self.viewer, connection, Reply())
        return await executor.run(Operation(prepared.document, prepared.operation(None), variables), context)

    def expect_same(self, text: str, variables: dict[str, Any]) -> None:
        """Compares the answers of both ways to a valid document."""
        prepared = self.documents.prepare(text)
        core = self.run(CORE, prepared, variables)
        compiled = self.run(Executor(SCHEMA, self.plans, has_introspection=True), prepared, variables)
        if shown(compiled) != shown(core) and in_any_order(compiled) != in_any_order(core):
            self.expect_errors_heard_in_another_order(text, variables, core, compiled)

    def expect_errors_heard_in_another_order(self, text: str, variables: dict[str, Any], core: Answer, compiled: Answer) -> None:
        """When data is null, which of the errors of several root fields, and of the items of a list, have been heard by then is a
        matter of timing.
        """
        assert core.data is None, (shown(core), shown(compiled))
        assert compiled.data is None, (shown(core), shown(compiled))
        alone = [self.run(CORE, unchecked(each), variables) for each in one_root_each(text)]
        assert len(alone) > 1
        possible = {error for answer in alone for error in errors_of(answer)}
        assert errors_of(compiled) <= possible
        assert errors_of(core) <= possible


def shown(answer: Answer) -> bytes:
    """The bytes that would be sent, order of keys included; only the id of an internal error differs from time to time."""
    return without_request_ids(orjson.dumps(answer.body))


def in_any_order(answer: Answer) -> tuple[bytes, list[bytes]]:
    """The data, and the errors, of which those of different root fields are heard in the order in which these happen to fail."""
    return orjson.dumps(answer.data), sorted(without_request_ids(orjson.dumps(error)) for error in answer.errors)


def errors_of(answer: Answer) -> set[bytes]:
    """Whichever item of a list they are of."""
    anywhere = [error | {"path": ["*" if type(key) is int else key for key in error["path"]]} for error in answer.errors]
    return {without_request_ids(orjson.dumps(error)) for error in anywhere}


def without_request_ids(text: bytes) -> bytes:
    return re.sub(rb'"requestId":"\w+"', b'"requestId":""', text)


def unchecked(text: str) -> Prepared:
    """A document that declares variables and fragments which it may no longer use, so it cannot be validated."""
    document = parse(text)
    return Prepared(document, compiled(document, lambda _operation: FREE))


def one_root_each(text: str) -> Iterator[str]:
    """The same document, with all but one of its root fields skipped, in whatever fragments they stand; locations stay as they are."""
    document = parse(text)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}

    def others(selection_set: SelectionSetNode) -> Iterator[list[Node]]:
        """For each of the fields what stands beside it, and beside what it stands in."""
        for kept in selection_set.selections:
            beside: list[Node] = [each for each in selection_set.selections if each is not kept]
            if isinstance(kept, FieldNode):
                yield beside
            else:
                fragment = fragments[kept.name.value] if isinstance(kept, FragmentSpreadNode) else kept
                assert isinstance(fragment, FragmentDefinitionNode | InlineFragmentNode)
                for each in others(fragment.selection_set):
                    yield [*beside, *each]

    for nodes in others(operation.selection_set):
        characters = list(text)
        for node in nodes:
            assert node.loc is not None
            characters[node.loc.start : node.loc.end] = " " * (node.loc.end - node.loc.start)
        yield "".join(characters)


def test_each_root_field_is_told_apart_wherever_it_stands() -> None:
    text = "{ a ... { b ...F } } fragment F on Query { c d }"
    assert [" ".join(each.split()) for each in one_root_each(text)] == [
        "{ a } fragment F on Query { c d }",
        "{ ... { b } } fragment F on Query { c d }",
        "{ ... { ...F } } fragment F on Query { c }",
        "{ ... { ...F } } fragment F on Query { d }",
    ]


@pytest.fixture(scope="module")
def bench(settings: MakeSettings) -> Iterator[Bench]:
    """Two accounts with tasks; every kind of id that an operation may ask for."""
    made = settings()
    with start_blocking_portal() as portal:
        db = portal.call(_connected, mongo.connect, made)
        random.seed(11)
        portal.call(_prepare, db, made)
        users, tasks = portal.call(_documents, db, "users"), portal.call(_documents, db, "tasks")
        viewer_id = users[0]["_id"]
        session = portal.call(_session, db, users[0])
        viewer = Viewer(viewer_id, session["_id"])
        own = [global_id(TASK, task["_id"], task["ownerId"]) for task in tasks if task["ownerId"] == viewer_id]
        others = [global_id(TASK, task["_id"], task["ownerId"]) for task in tasks if task["ownerId"] != viewer_id]
        ids = [
            *own[:6],
            *others[:1],
            global_id(USER, viewer_id),
            global_id(USER, users[1]["_id"]),
            global_id(SESSION, session["_id"], viewer_id),
            "nonsense",
        ]
        documents = Documents(SCHEMA, LIMITS, has_introspection=True)
        yield Bench(
            portal,
            Resources(
                made,
                db,
                MergedReads(db),
                GroupCommit(db, Versions(db)),
                _hub(db, made),
                AuditLog(db, made),
                StoredEvents(db, made),
                _estimates(),
                _unlimited(made),
            ),
            viewer,
            [str(each) for each in ids],
            documents,
            Plans(SCHEMA, min_calls=1),
        )
        portal.call(db.close)


@given(data=st.data())
@exhaustive
def test_random_operations_are_answered_as_graphql_core_answers_them(bench: Bench, data: st.DataObject) -> None:
    text, variables = data.draw(operations(SCHEMA._schema, bench.ids))
    try:
        bench.documents.prepare(text)
    except DocumentRefused:
        return
    bench.expect_same(text, variables)


@given(data=st.data(), fault=st.sampled_from(["no users", "failing users", "failing subtasks", "short titles"]))
@exhaustive
def test_errors_within_random_operations_are_those_of_graphql_core(
    bench: Bench, data: st.DataObject, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, variables = data.draw(operations(SCHEMA._schema, bench.ids))
    try:
        bench.documents.prepare(text)
    except DocumentRefused:
        return
    with monkeypatch.context() as patch:
        inject(patch, fault)
        bench.expect_same(text, variables)


def test_most_random_operations_are_answered_by_their_plan(bench: Bench) -> None:
    plans = Plans(SCHEMA, min_calls=1)

    @search(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        text, variables = data.draw(operations(SCHEMA._schema, bench.ids))
        with suppress(DocumentRefused):
            bench.run(Executor(SCHEMA, plans, has_introspection=True), bench.documents.prepare(text), variables)

    run()
    assert plans.answered > sum(plans.deoptimised.values())


@pytest.mark.parametrize(
    "text",
    [
        "{ viewer { id name email } }",
        "query ($n: Int!) { tasks(first: $n) { edges { cursor node { id title status priority dueDate } } pageInfo { endCursor } } }",
        "{ tasks { nodes { owner { name } assignee { name } parent { title } subtasks(first: 2) { nodes { id } totalCount } } } }",
        "{ a: viewer { n: name ...Same } b: viewer { ...Same } } fragment Same on User { id email: email }",
        'query ($id: ID = "nonsense") { node(id: $id) { __typename id ... on Task { title } } }',
    ],
)
def test_ordinary_operations_never_leave_their_plan(bench: Bench, text: str) -> None:
    before = sum(bench.plans.deoptimised.values())
    bench.expect_same(text, {"n": 3} if "$n" in text else {})
    assert sum(bench.plans.deoptimised.values()) == before


def test_no_root_field_runs_twice_when_a_plan_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    pages = task_reads.pages

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append("pages")
        return await pages(*args, **kwargs)

    monkeypatch.setattr(task_reads, "pages", counted)
    inject(monkeypatch, "no users")
    prepared = bench.documents.prepare("{ tasks(first: 3) { nodes { id owner { name } } } viewer { id } }")
    answer = bench.run(Executor(SCHEMA, bench.plans, has_introspection=True), prepared, {})
    assert [error["path"] for error in answer.errors]
    assert calls == ["pages"]


def test_a_bug_of_the_compiler_costs_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: object) -> None:
        raise KeyError("injected")

    monkeypatch.setattr("taskgraph.server.plans.compile_operation", fails)
    before = bench.plans.deoptimised["compiler failed"]
    bench.expect_same("{ viewer { id name } tasks(first: 2) { nodes { title } } }", {})
    assert bench.plans.deoptimised["compiler failed"] == before + 1


def test_a_short_document_that_unfolds_into_thousands_of_fields_has_no_plan(bench: Bench) -> None:
    level = "fragment F%d on Task { id title status a: parent { ...F%d } b: parent { ...F%d } }"
    unfolding = "{ tasks(first: 1) { nodes { ...F0 } } } " + " ".join(level % (each, each + 1, each + 1) for each in range(7))
    before = bench.plans.deoptimised["unsupported: too many fields"]
    bench.expect_same(f"{unfolding} fragment F7 on Task {{ id title status priority }}", {})
    assert bench.plans.deoptimised["unsupported: too many fields"] == before + 1


def test_a_write_is_not_repeated_when_a_plan_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = 'a: createTask(input: {title: "once"}) { task { id owner { name } } }'
    second = 'b: createTask(input: {title: "once"}) { task { id } }'
    prepared = bench.documents.prepare(f"mutation {{ {first} {second} }}")
    inject(monkeypatch, "no users")
    before = sum(bench.plans.deoptimised.values())
    answer = bench.run(Executor(SCHEMA, bench.plans, has_introspection=True), prepared, {})
    assert sum(bench.plans.deoptimised.values()) == before + 1
    assert [error["path"] for error in answer.errors] == [["a", "task", "owner"]]
    assert answer.data["a"] == {"task": None}
    assert answer.data["b"]["task"]["id"]
    db = bench.resources[Database]
    assert len([task for task in bench.portal.call(_documents, db, "tasks") if task["title"] == "once"]) == 2
    bench.portal.call(give_positions, db)


def inject(patch: pytest.MonkeyPatch, fault: str) -> None:
    """Makes one read misbehave, for both ways alike."""

    async def nobody(_db: Database, ids: Sequence[ObjectId], _projection: Projection = None) -> list[Document | None]:
        return [None for _ in ids]

    async def fails(_db: Database, _keys: Sequence[Any], _projection: Projection = None) -> list[Any]:
        raise RuntimeError("injected")

    async def without_titles(db: Database, keys: Sequence[Any], projection: Projection = None) -> list[Any]:
        found = await tasks_by_key(db, keys, projection)
        return [task and {name: value for name, value in task.items() if name != "title"} for task in found]

    tasks_by_key = task_reads.tasks_by_key
    match fault:
        case "no users":
            patch.setattr(account_reads, "users_by_id", nobody)
        case "failing users":
            patch.setattr(account_reads, "users_by_id", fails)
        case "failing subtasks":
            patch.setattr(task_reads, "subtasks", fails)
        case _:
            patch.setattr(task_reads, "tasks_by_key", without_titles)


async def _connected(connect: Any, made: Any) -> Database:
    db: Database = connect(made)
    return db


async def _prepare(db: Database, made: Any) -> None:
    await migrate.apply(db)
    await seed.fill(db, made, users=2, tasks_per_user=25, tokens=None, password=None)
    commits = Commits(GroupCommit(db, Versions(db)))
    for task in await db["tasks"].find({}).limit(20).to_list():
        patch = Patch({"title": f"{task['title']}, once more", "dueDate": None}, add_labels=["changed"])
        key = Key(task["ownerId"], f"key of {task['_id']}", b"")
        await task_writes.update_task(commits, task["ownerId"], task["_id"], patch, key=key)
    await give_positions(db)


def _estimates() -> Estimates:
    return Estimates(SCHEMA, Documents(SCHEMA, LIMITS, has_introspection=True), max_cost=5000)


def _unlimited(made: Settings) -> RateLimits:
    return RateLimits(Redis(None), made, processes=1)


def _hub(db: Database, made: Any) -> EventHub:
    hub = EventHub(StoredEvents(db, made))
    hub.subscription.restart(Timestamp(1, 1))
    return hub


async def _documents(db: Database, collection: str) -> list[Document]:
    return await db[collection].find({}).to_list()


async def _session(db: Database, user: Document) -> Document:
    return (await sessions.open_session(db, user, ttl_seconds=3600)).session
