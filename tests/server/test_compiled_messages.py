"""What subscribers are sent is the same whether a plan or graphql-core makes it: random selections, injected errors."""

from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from bson import ObjectId, Timestamp
from graphql import ExecutionResult, subscribe
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from taskgraph import seed
from taskgraph.context import Context, Resources, Viewer
from taskgraph.server.documents import DocumentRefused, Documents, Prepared
from taskgraph.server.executor import Answer, Executor, Operation
from taskgraph.server.gate import Reply
from taskgraph.server.plans import Plans
from taskgraph.settings import Settings
from taskgraph.storage import clock, migrate, mongo
from taskgraph.storage.change_tail import Change
from taskgraph.storage.event_hub import EventHub
from taskgraph.storage.event_log import EventCursor
from taskgraph.storage.group_commit import Commits, GroupCommit
from taskgraph.storage.idempotency import Key
from taskgraph.storage.merged_reads import MergedReads
from taskgraph.storage.mongo import Database
from taskgraph.storage.stored_events import StoredEvents
from taskgraph.storage.versions import Versions
from taskgraph.tasks import dependencies, writes
from taskgraph.tasks.creation import Draft
from taskgraph.tasks.model import TaskPriority, TaskStatus
from taskgraph.tasks.writes import Patch
from tests.conftest import MakeSettings
from tests.live.test_task_events import SUBSCRIBE
from tests.server.operations import subscriptions
from tests.server.positions import give_positions
from tests.server.test_compiled_execution import CORE, LIMITS, SCHEMA, TRIES, exhaustive, inject, shown

START = 1000
NOW = datetime.fromisoformat("2031-01-01T10:00:00")
POSITIONS = {"before all events": EventCursor(START, 0), "long ago": EventCursor(START - 1, 0)}
# A checkpoint and the ten events, or a gap alone.
MESSAGES = {"before all events": 11, "long ago": 1}
FAULTS = ["no users", "failing users", "failing subtasks", "short titles"]


@dataclass(frozen=True)
class Bench:
    """A hub that has heard of each kind of change, and what showing them needs."""

    portal: BlockingPortal
    resources: Resources
    viewer: Viewer
    documents: Documents
    plans: Plans

    def expect_same(self, text: str, variables: dict[str, Any], *, after: str) -> None:
        """Compares what both ways make of the messages after a position, and the data with that of graphql-core's own stream."""
        prepared = self.documents.prepare(text)
        variables = {**variables, "after": str(POSITIONS[after])}
        count = MESSAGES[after]
        compiled = Executor(SCHEMA, self.plans, has_introspection=True)
        expected = self.sent(CORE, prepared, variables, count)
        assert self.sent(compiled, prepared, variables, count) == expected
        streamed = self.portal.call(self._streamed, prepared, variables, count)
        assert [orjson.loads(each)["data"] for each in expected] == streamed

    def sent(self, executor: Executor, prepared: Prepared, variables: dict[str, Any], count: int) -> list[bytes]:
        """The messages; once more where the database was too slow to be asked, which is no matter of who asks."""
        for _ in range(TRIES):
            messages: list[bytes] = self.portal.call(self._sent, executor, prepared, variables, count)
            if not any(b'"code":"BUSY"' in each for each in messages):
                return messages
        raise AssertionError(f"the database was away {TRIES} times")

    def context(self) -> Context:
        connection = HTTPConnection({"type": "http", "headers": [], "client": ("127.0.0.1", 1)})
        return Context(self.resources, self.viewer, connection, Reply())

    async def _sent(self, executor: Executor, prepared: Prepared, variables: dict[str, Any], count: int) -> list[bytes]:
        operation = Operation(prepared.document, prepared.operation(None), variables)
        stream = await executor.stream(operation, self.context())
        if isinstance(stream, Answer):
            return [shown(stream)]
        async with aclosing(stream):
            return [shown(await executor.run(operation, self.context(), source=await anext(stream))) for _ in range(count)]

    async def _streamed(self, prepared: Prepared, variables: dict[str, Any], count: int) -> list[Any]:
        stream: Any = subscribe(
            SCHEMA._schema,
            prepared.document,
            context_value=self.context(),
            variable_values=variables,
            executor_class=SCHEMA.execution_context_class,
            operation_extensions={},
        )
        stream = await stream
        if isinstance(stream, ExecutionResult):
            return [stream.data]
        async with aclosing(stream):
            return [(await anext(stream)).data for _ in range(count)]


@pytest.fixture(scope="module")
def bench(settings: MakeSettings) -> Iterator[Bench]:
    made = settings()
    with start_blocking_portal() as portal:
        db, viewer = portal.call(_prepared, made)
        hub = portal.call(_told, db, made)
        resources = Resources(made, db, MergedReads(db), hub, StoredEvents(db, made))
        documents = Documents(SCHEMA, LIMITS, has_introspection=True)
        yield Bench(portal, resources, viewer, documents, Plans(SCHEMA, min_calls=1))
        portal.call(db.close)


@given(data=st.data(), after=st.sampled_from(sorted(POSITIONS)), fault=st.sampled_from([None, *FAULTS]))
@exhaustive
def test_messages_of_random_subscriptions_are_those_of_graphql_core(
    bench: Bench, data: st.DataObject, after: str, fault: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, variables = data.draw(subscriptions(SCHEMA._schema))
    try:
        bench.documents.prepare(text)
    except DocumentRefused:
        return
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: NOW)
        if fault is not None:
            inject(patch, fault)
        bench.expect_same(text, variables, after=after)


@pytest.mark.parametrize("after", sorted(POSITIONS))
@pytest.mark.parametrize(
    "text",
    [
        SUBSCRIBE,
        "subscription($after: EventCursor) { a: taskEvents(after: $after) { ... on TaskEvent { id task { id title } actor { name } } } }",
        "subscription($after: EventCursor) { taskEvents(after: $after) { ...Node } } fragment Node on Node { __typename id }",
    ],
)
def test_ordinary_messages_never_leave_their_plan(bench: Bench, monkeypatch: pytest.MonkeyPatch, text: str, after: str) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    left, answered = sum(bench.plans.deoptimised.values()), bench.plans.answered
    bench.expect_same(text, {}, after=after)
    assert sum(bench.plans.deoptimised.values()) == left
    assert bench.plans.answered == answered + MESSAGES[after]


async def _prepared(made: Settings) -> tuple[Database, Viewer]:
    """An account whose task has been through every kind of change."""
    db = mongo.connect(made)
    await migrate.apply(db)
    await seed.fill(db, made, users=1, tasks_per_user=5, tokens=None, password=None)
    (user,) = await db["users"].find({}).to_list()
    commits = Commits(GroupCommit(db, Versions(db)))
    parent = (await writes.create_task(commits, user["_id"], Draft({"title": "parent", "priority": TaskPriority.LOW}))).task
    given = {"title": "child", "priority": TaskPriority.HIGH, "assigneeId": user["_id"], "dueDate": NOW}
    key = Key(user["_id"], "key", b"digest")
    child = (await writes.create_task(commits, user["_id"], Draft(given, parent["_id"]), key=key)).task
    other = (await writes.create_task(commits, user["_id"], Draft({"title": "other"}))).task
    await dependencies.add_dependency(commits, user["_id"], blocker_id=other["_id"], blocked_id=child["_id"])
    await writes.update_task(
        commits,
        user["_id"],
        child["_id"],
        Patch({"status": TaskStatus.DONE, "dueDate": None}, add_labels=["a"]),
        ignore_blockers=True,
    )
    await writes.update_task(commits, user["_id"], parent["_id"], Patch({"description": "with one child"}))
    await writes.delete_task(commits, user["_id"], child["_id"])
    await writes.restore_task(commits, user["_id"], child["_id"])
    await dependencies.add_dependency(commits, user["_id"], blocker_id=other["_id"], blocked_id=child["_id"])
    await dependencies.remove_dependency(commits, user["_id"], blocker_id=other["_id"], blocked_id=child["_id"])
    await give_positions(db)
    return db, Viewer(user["_id"], ObjectId())


async def _told(db: Database, made: Settings) -> EventHub:
    """A hub that has heard of the changes."""
    hub = EventHub(StoredEvents(db, made))
    hub.subscription.restart(Timestamp(START, 0))
    for number, document in enumerate(await db["events"].find({}).sort("_id").to_list(), start=1):
        hub.subscription.handle(Change(Timestamp(START + number, 1), 0, {"fullDocument": document}))
    return hub
