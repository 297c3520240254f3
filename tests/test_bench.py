"""What of bench/ can be wrong without a run: its operations, its data, its page and its check."""

import random
from typing import Any

import pytest
from bson import ObjectId
from graphql import build_schema, parse, validate

from bench import growth, library, page, regression, subscribers, workloads
from taskgraph import schema
from taskgraph.tasks.model import Task, TaskPriority, TaskStatus, title_key

ASKED = {
    **{workload.name: workload.document for workload in (*workloads.WORKLOADS, *workloads.shapes(node_id="any"))},
    "search of growth": growth.SEARCH.document,
    "deep page": growth.DEEP_PAGE,
    "cursors": growth.CURSORS,
    "subscription": subscribers.OUR_DOCUMENT,
    "trigger": subscribers.TRIGGER,
}
SERVERS = ("mercurius", "yoga", "apollo", "strawberry", "strawberry_cached", "taskgraph")


def windows(cpu_us: float, *, slowness: float = 1) -> list[dict[str, float]]:
    """Two, in the second of which the whole machine was `slowness` times as slow."""
    common = {"rate": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "mongod_us": 3.0, "bytes": 100.0, "calibration_us": 20_000.0}
    return [common | {"cpu_us": cpu_us}, common | {"cpu_us": slowness * cpu_us}]


def results(cpu_us: dict[str, float], *, slowness: float = 1) -> dict[str, Any]:
    costs = {**dict.fromkeys(SERVERS, 1000.0), "taskgraph_cached": 50.0} | cpu_us
    found = {
        workload.name: {name: windows(cost, slowness=slowness) for name, cost in costs.items()} for workload in workloads.WORKLOADS
    }
    titles = {name: name for name in costs} | {workload.name: workload.title for workload in workloads.WORKLOADS}
    phase = {"at": "2026-11-22T09:30+00:00", "revision": "0123456789ab", "found": found}
    scope = {"users": 1000, "tasks_per_user": 200, "windows": 2, "window_seconds": 6}
    return {"phases": {"requests": phase}, "titles": titles, "machine": {"machine": "2 cores"}, "scope": scope}


@pytest.mark.parametrize("name", ASKED)
def test_an_operation_that_is_measured_is_one_of_the_schema(name: str) -> None:
    assert validate(build_schema(schema.sdl()), parse(ASKED[name])) == []


def test_the_fast_loader_stores_what_the_product_stores() -> None:
    for seed in range(20):
        made = library.task(ObjectId(), ObjectId(), ObjectId(), random.Random(seed))
        stored = Task(
            id=made["_id"],
            owner_id=made["ownerId"],
            creator_id=made["creatorId"],
            assignee_id=made["assigneeId"],
            parent_id=made["parentId"],
            title=made["title"],
            title_key=title_key(made["title"]),
            description=made["description"],
            status=TaskStatus(made["status"]),
            priority=TaskPriority(made["priority"]),
            due_date=made["dueDate"],
            due_order=made["dueOrder"],
            created_at=made["createdAt"],
            updated_at=made["updatedAt"],
            completed_at=made["completedAt"],
        )
        assert made == stored.model_dump_doc()


def test_the_page_compares_windows_of_the_same_turn() -> None:
    """So a minute in which the machine was three times as slow moves no ratio."""
    assert "| W1 viewer | **600** | 1,000 |" in page.text(results({"taskgraph": 600}))
    slow = page.text(results({"taskgraph": 600}, slowness=3))
    assert "| W2 page of 20, CPU to Mercurius | at most 0.8 | 0.6 | 0.60 | aim reached |" in slow


@pytest.mark.parametrize(("cpu_us", "verdict"), [(290, "aim reached"), (500, "reached"), (501, "missed")])
def test_the_page_says_whether_a_goal_is_reached(cpu_us: float, verdict: str) -> None:
    line = f"| W1 viewer, CPU to Mercurius | at most 0.5 | 0.3 | {cpu_us / 1000:.2f} | {verdict} |"
    assert line in page.text(results({"taskgraph": cpu_us}))


def test_the_page_leaves_out_what_was_not_measured() -> None:
    headings = [line for line in page.text(results({})).splitlines() if line.startswith("## ")]
    assert headings == [
        "## Goals",
        "## In pictures",
        "## Requests",
        "## Measured with",
        "## Method",
        "## Reading the figures",
        "## Run it",
    ]


def test_the_check_names_what_has_become_more_expensive() -> None:
    costs, recorded = {"W1": 0.021, "W2": 0.079}, {"W1": 0.01, "W2": 0.04}
    assert regression.slower(costs, recorded, bound=2) == ["W1 costs 2.10 times what was recorded, more than 2"]
