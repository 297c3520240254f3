"""What is asked: the five operations that all servers answer, and more shapes that only taskgraph knows."""

import json
from dataclasses import dataclass, field
from typing import Any

NEW_TITLE = "bench task"
_PAGE = """($n: Int!) {
  tasks(first: $n) { edges { cursor node { id title status priority dueDate createdAt } } pageInfo { hasNextPage endCursor } }
}"""
_NESTED = """query W3($n: Int!) {
  tasks(first: $n) {
    edges { node { id title status owner { id name } assignee { id name } subtasks(first: 5) { edges { node { id title status } } } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
_CREATE = "mutation W4($input: CreateTaskInput!) { createTask(input: $input) { task { id title status createdAt } } }"
_NEW_TASK = {"title": NEW_TITLE, "description": "d" * 200, "priority": "HIGH"}


@dataclass(frozen=True, slots=True)
class Workload:
    """One operation, sent by `users` users in turn; 0 stands for all."""

    name: str
    title: str
    document: str
    variables: dict[str, Any] = field(default_factory=dict)
    users: int = 0

    @property
    def body(self) -> bytes:
        """Of the POST request."""
        return json.dumps({"query": self.document, "variables": self.variables}).encode()


VIEWER = Workload("W1", "viewer", "query W1 { viewer { id name email } }")
PAGE = Workload("W2", "page of 20", f"query W2{_PAGE}", {"n": 20})
NESTED = Workload("W3", "nested page", _NESTED, {"n": 20})
CREATE = Workload("W4", "create", _CREATE, {"input": _NEW_TASK})
HOT_PAGE = Workload("W5", "hot page", f"query W5{_PAGE}", {"n": 20}, users=1)
# In the order in which they are measured: what writes comes last.
READING = (VIEWER, PAGE, NESTED, HOT_PAGE)
WORKLOADS = (*READING, CREATE)

_TASK = "id title status priority dueDate createdAt"
_PAGE_INFO = "pageInfo { hasNextPage endCursor }"


def shapes(*, node_id: str) -> tuple[Workload, ...]:
    """Other operations, for taskgraph alone. `node_id` is the global id of a task of the first user."""
    fragments = f"""
        query($long: Boolean!, $short: Boolean!) {{ tasks(first: 20) {{ nodes {{ ...Line ...More @include(if: $long) }} {_PAGE_INFO} }} }}
        fragment Line on Task {{ id title status labels @skip(if: $short) }}
        fragment More on Task {{ priority dueDate assignee {{ ...Person }} }}
        fragment Person on User {{ id name }}"""
    three_levels = """{ tasks(first: 10) { nodes { id title owner { name } assignee { name }
        subtasks(first: 5) { nodes { id title assignee { name } subtasks(first: 5) { nodes { id title owner { name } } } } } } } }"""
    several = """{ viewer { id name } tasks(first: 5) { nodes { id title } }
        done: tasks(first: 5, filter: {status: {eq: DONE}}) { nodes { id title } } taskStats { total } }"""
    filtered = f"""query($filter: TaskFilter) {{ tasks(first: 20, filter: $filter) {{ edges {{ cursor node {{ {_TASK} }} }} {_PAGE_INFO} }} }}"""
    ordered = f"""{{ tasks(first: 20, orderBy: {{field: DUE_DATE, direction: ASC}}) {{ nodes {{ {_TASK} }} {_PAGE_INFO} }} }}"""
    search = f"""query($text: String!) {{ searchTasks(query: $text, first: 20) {{ edges {{ score node {{ {_TASK} }} }} {_PAGE_INFO} }} }}"""
    node = "query($id: ID!) { node(id: $id) { __typename id ... on Task { title status owner { name } } } }"
    stats = "{ taskStats { total overdue byStatus { status count } byPriority { priority count } } }"
    chosen = {"filter": {"status": {"in": ["TODO", "IN_PROGRESS"]}, "priority": {"gte": "HIGH"}}}
    return (
        Workload("filtered", "filtered page", filtered, chosen),
        Workload("ordered", "page by due date", ordered),
        Workload("search", "search", search, {"text": "invoice audit"}),
        Workload("fragments", "page by fragments", fragments, {"long": True, "short": False}),
        Workload("node", "node by id", node, {"id": node_id}, users=1),
        Workload("three_levels", "three levels", three_levels),
        Workload("stats", "statistics", stats),
        Workload("several", "several root fields", several),
    )
