"""The numbers at /metrics move as things happen, and say that what is asked most is answered by plans."""

from typing import Any

import httpx

from tests.conftest import Launch, MakeSettings, Server, Someone, migrated, served
from tests.live.sockets import connected
from tests.metrics import deoptimised, moved, numbers
from tests.people import Person
from tests.processes import eventually
from tests.tasks.operations import create, mutation

PAGE = "query Page($first: Int) { tasks(first: $first) { nodes { id title status } pageInfo { hasNextPage endCursor } } }"
STATS = "query Stats($filter: TaskFilter) { taskStats(filter: $filter) { total ...Most } } fragment Most on TaskStats { overdue }"
NESTED = """
query Nested($n: Int!, $deep: Boolean!) {
  tasks(first: $n) {
    edges { cursor node { ...Card parent { ...Card } subtasks(first: 3) @include(if: $deep) { totalCount nodes { ...Card } } } }
  }
}
fragment Card on Task { id title status owner { id name } assignee { id name } }
"""


def test_anybody_who_reaches_the_server_may_read_it_as_text(server: Server) -> None:
    response = httpx.get(f"{server.url}/metrics")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert httpx.post(f"{server.url}/metrics").status_code == 405


def test_a_document_is_a_miss_then_a_hit_and_answered_by_its_plan(server: Server, anonymous: Person) -> None:
    document = "{ seen: viewer { id } }"
    answers = []
    for _ in range(3):
        before = numbers(server.url)
        anonymous.ask(document)
        answers.append(moved(before, numbers(server.url)))
    ok = {"taskgraph_http_request_duration_seconds_count{status=200}": 1}
    first, second, third = answers
    assert first.pop("taskgraph_documents_kept") == 1
    # The document and its plan, which the servers of tests make at once.
    assert first.pop("taskgraph_documents_kept_bytes") > 20_000
    assert first == ok | {"taskgraph_documents_total{result=miss}": 1, "taskgraph_compiled_answers_total": 1}
    assert second == third == ok | {"taskgraph_documents_total{result=hit}": 1, "taskgraph_compiled_answers_total": 1}


def test_what_is_refused_is_counted_by_its_status(server: Server, anonymous: Person) -> None:
    before = numbers(server.url)
    anonymous.ask("{ nothing_of_this_kind }")
    anonymous.post("{ viewer { id } }", headers={"content-type": "text/plain"})
    anonymous.post("{ viewer { id } }", headers={"authorization": "Bearer nonsense"})
    counted = moved(before, numbers(server.url))
    assert counted.pop("taskgraph_documents_kept_bytes") > 2_000
    assert counted == {
        "taskgraph_documents_kept": 1,
        "taskgraph_documents_total{result=failed}": 1,
        **{f"taskgraph_http_request_duration_seconds_count{{status={status}}}": 1 for status in (200, 401, 415)},
    }


def test_every_duration_is_in_one_bucket(server: Server, anonymous: Person) -> None:
    anonymous.ask("{ __typename }")
    found = numbers(server.url)
    name = "taskgraph_http_request_duration_seconds"
    buckets = [value for key, value in found.items() if key.startswith(f"{name}_bucket") and "status=200" in key]
    assert len(buckets) == 15
    assert buckets == sorted(buckets)
    assert buckets[-1] == found[f"{name}_count{{status=200}}"]
    assert 0 < found[f"{name}_sum{{status=200}}"] < 60 * buckets[-1]


def test_an_answer_that_was_kept_is_counted(settings: MakeSettings, someone: Someone) -> None:
    made = settings(response_cache_seconds=30)
    migrated(made)
    with served(made) as url:
        ada = someone(url=url)
        before = numbers(url)
        for _ in range(3):
            ada.ask(PAGE, {"first": 7})
        counted = moved(before, numbers(url))
    assert {name: counted[name] for name in counted if "response_cache" in name} == {
        "taskgraph_response_cache_total{result=hit}": 2,
        "taskgraph_response_cache_total{result=miss}": 1,
    }


def test_open_sockets_and_running_subscriptions_are_counted_until_they_end(server: Server, someone: Someone) -> None:
    names = ("taskgraph_websocket_connections", "taskgraph_subscriptions")

    def are(*expected: float) -> bool:
        found = numbers(server.url)
        return tuple(found[name] - before[name] for name in names) == expected

    before = numbers(server.url)
    assert before["taskgraph_event_stream_up"] == 1
    with connected(server.ws_url, token=someone().token) as socket:
        socket.subscribe("subscription { taskEvents { __typename } }")
        socket.next()
        assert are(1, 1)
    assert eventually(lambda: are(0, 0), within_seconds=5)


def test_leaving_a_plan_is_counted_by_reason(server: Server, someone: Someone) -> None:
    ada = someone()
    before = deoptimised(numbers(server.url))
    for _ in range(2):
        assert ada.ask('{ task(id: "nonsense") { id } }') == {"data": {"task": None}}
        assert ada.ask("{ left: __schema { queryType { name } } }")["data"]
        assert ada.ask("query ($first: Int!) { tasks(first: $first) { totalCount } }", {"first": "no number"})["errors"]
    assert moved_reasons(before, deoptimised(numbers(server.url))) == {"unsupported: introspection": 1, "variables do not fit": 2}


def moved_reasons(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {reason: after[reason] - before.get(reason, 0) for reason in after if after[reason] != before.get(reason, 0)}


def test_what_is_asked_most_never_leaves_its_plan(server: Server, someone: Someone) -> None:
    ada = someone()
    task = create(ada, "Report")
    operations: list[tuple[str, dict[str, Any]]] = [
        ("query Viewer { viewer { id name email createdAt } }", {}),
        (PAGE, {"first": 20}),
        (NESTED, {"n": 5, "deep": True}),
        (NESTED, {"n": 5, "deep": False}),
        (mutation("createTask"), {"input": {"title": "More", "parent": {"id": task["id"]}, "labels": ["new"]}}),
        (mutation("updateTask"), {"input": {"id": task["id"], "patch": {"description": "Of the year"}}}),
        ("query Search($text: String!) { searchTasks(query: $text, first: 5) { nodes { id title } } }", {"text": "report"}),
        ("query Node($id: ID!) { node(id: $id) { __typename id ... on Task { title } } }", {"id": task["id"]}),
        (STATS, {"filter": {"status": {"eq": "TODO"}}}),
    ]
    before = numbers(server.url)
    for document, variables in operations:
        for _ in range(4):
            answer = ada.ask(document, variables)
            assert "errors" not in answer, answer
    after = numbers(server.url)
    assert deoptimised(after) == deoptimised(before)
    answered = after["taskgraph_compiled_answers_total"] - before["taskgraph_compiled_answers_total"]
    assert answered == 4 * len(operations)


def test_each_of_several_processes_answers_for_itself(launch: Launch) -> None:
    running = launch(workers=2)
    pids = {name for _ in range(40) for name in numbers(running.url) if name.startswith("taskgraph_process_info")}
    assert len(pids) == 2
