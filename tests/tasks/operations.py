"""The root fields of tasks as a client calls them; a function fails the test when the answer is not of the kind it gives."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tests.people import Person

FIELDS = """
  id title description status priority labels dueDate version createdAt updatedAt completedAt deletedAt expiresAt
  isOverdue isBlocked viewerCanUpdate viewerCanDelete owner { id } creator { id } assignee { id } parent { id }
"""
# The types of problems that have more to tell than a code.
PROBLEMS = {"VERSION_CONFLICT": "VersionConflict", "DEPENDENCY_CYCLE": "DependencyCycle"}
PAGE = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { id title } }"
ARGUMENTS = "filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before"
VARIABLES = "$filter: TaskFilter, $orderBy: TaskOrder, $first: Int, $after: String, $last: Int, $before: String"
TASKS = f"query({VARIABLES}) {{ tasks({ARGUMENTS}) {{ {PAGE} }} }}"


def data(person: Person, document: str, variables: Mapping[str, Any] | None = None) -> Any:
    """The data of an answer without errors."""
    answer = person.ask(document, variables)
    assert "errors" not in answer, answer["errors"]
    return answer["data"]


def refusal(person: Person, document: str, variables: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Code and message of the only error."""
    answer = person.ask(document, variables)
    assert len(answer.get("errors", ())) == 1, answer
    return answer["errors"][0]["extensions"]["code"], answer["errors"][0]["message"]


def mutate(person: Person, field: str, given: Mapping[str, Any]) -> Any:
    """The payload of one of the four mutations."""
    return data(person, mutation(field), {"input": given})[field]


def mutation(field: str) -> str:
    """createTask and CreateTaskInput, and so on."""
    kind = f"{field[0].upper()}{field[1:]}Input"
    payload = f"cursor replayed errors {{ __typename code message path }} task {{ {FIELDS} }}"
    return f"mutation($input: {kind}!) {{ {field}(input: $input) {{ {payload} }} }}"


def done(payload: Any) -> Any:
    """The task of a payload without errors."""
    assert payload["errors"] == []
    assert payload["replayed"] is False
    return payload["task"]


def problems(payload: Any) -> list[tuple[str, list[str] | None]]:
    """Code and path of each error of a payload that has nothing else."""
    assert payload["errors"] != []
    assert (payload["task"], payload["cursor"], payload["replayed"]) == (None, None, False)
    assert [each["__typename"] for each in payload["errors"]] == [
        PROBLEMS.get(each["code"], "GenericError") for each in payload["errors"]
    ]
    return [(each["code"], each["path"]) for each in payload["errors"]]


def create(person: Person, title: str = "Write the report", **given: Any) -> Any:
    return done(mutate(person, "createTask", {"title": title} | given))


def update(person: Person, task: Any, *, version: int | None = None, key: str | None = None, **patch: Any) -> Any:
    """The payload; the patch in the words of the API: dueDate=None clears it."""
    return mutate(person, "updateTask", {"id": task["id"], "patch": patch, "expectedVersion": version, "idempotencyKey": key})


def delete(person: Person, task: Any, *, version: int | None = None, key: str | None = None) -> Any:
    return mutate(person, "deleteTask", {"id": task["id"], "expectedVersion": version, "idempotencyKey": key})


def restore(person: Person, task: Any, *, key: str | None = None) -> Any:
    return mutate(person, "restoreTask", {"id": task["id"], "idempotencyKey": key})


def read(person: Person, task: Any) -> Any:
    """The task as it is now; null when the person may not see it."""
    return data(person, f"query($id: ID!) {{ task(id: $id) {{ {FIELDS} }} }}", {"id": task["id"]})["task"]


def page(person: Person, **arguments: Any) -> Any:
    """One page of `tasks`."""
    return data(person, TASKS, arguments)["tasks"]


def titles(person: Person, **arguments: Any) -> list[str]:
    """Of one page of `tasks`, in order."""
    return [edge["node"]["title"] for edge in page(person, **arguments)["edges"]]


def ids(connection: Any) -> list[str]:
    """Of the page, in order."""
    return [edge["node"]["id"] for edge in connection["edges"]]


def together(calls: Sequence[Any]) -> list[Any]:
    """What the calls give, all of them begun at the same moment."""
    barrier, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait(timeout=10)
        answers[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert None not in answers
    return answers


def errors(payload: Any) -> list[tuple[str, list[str] | None]]:
    """Code and path of each error."""
    return [(each["code"], each["path"]) for each in payload["errors"]]


def edge(person: Person, field: str, blocker: Any, blocked: Any, *, key: str | None = None) -> Any:
    """The payload of addDependency or removeDependency."""
    ends = "blocker { id version isBlocked } blocked { id version isBlocked }"
    shown = f"cursor replayed errors {{ __typename code path ... on DependencyCycle {{ cycle {{ title }} }} }} {ends}"
    document = f"mutation($input: DependencyInput!) {{ {field}(input: $input) {{ {shown} }} }}"
    given = {"blockerId": blocker["id"], "blockedId": blocked["id"], "idempotencyKey": key}
    return data(person, document, {"input": given})[field]


def block(person: Person, blocker: Any, blocked: Any) -> Any:
    """The blocked task, now waiting for the blocker."""
    payload = edge(person, "addDependency", blocker, blocked)
    assert payload["errors"] == []
    return payload["blocked"]


def bulk(person: Person, field: str, given: Mapping[str, Any]) -> Any:
    """The payload of one of the three bulk mutations."""
    kind = f"{field[0].upper()}{field[1:]}Input"
    shown = "errors { __typename code path ... on DependencyCycle { cycle { title } } }"
    results = f"results {{ index ref task {{ {FIELDS} blockedBy(first: 3) {{ nodes {{ title }} }} }} {shown} }}"
    document = (
        f"mutation($input: {kind}!) {{ {field}(input: $input) {{ cursor replayed matchedCount changedCount {shown} {results} }} }}"
    )
    return data(person, document, {"input": given})[field]
