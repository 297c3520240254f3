"""What a right answer looks like, so that nobody is fast by answering something else."""

import datetime as dt
import json
from typing import Any

from bench.servers import Server
from bench.workloads import NEW_TITLE, Workload

CHECKED_USERS = 5
PAGE_SIZE = 20


class WrongAnswer(Exception):
    """Some member is not what it should be."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _moment(value: Any) -> bool:
    """A date and time; Strawberry's own scalar leaves the offset out, so that is not asked for."""
    return _text(value) and isinstance(dt.datetime.fromisoformat(value), dt.datetime)


def _page_of(edge: Any) -> Any:
    return {"tasks": {"edges": (PAGE_SIZE, edge), "pageInfo": {"hasNextPage": True, "endCursor": _text}}}


_TASK = {"id": _text, "title": _text, "status": _text}
_USER = {"id": _text, "name": _text}
_PAGE = _page_of({"cursor": _text, "node": _TASK | {"priority": _text, "createdAt": _moment, "dueDate": ("or null", _moment)}})
_SUBTASKS = {"edges": ("any", {"node": _TASK})}
_CREATED = _TASK | {"title": NEW_TITLE, "status": "TODO", "createdAt": _moment}
# A dict has exactly these members, (n, shape) is a list of n; a leaf is a test of the value, or the value.
SHAPES: dict[str, Any] = {
    "W1": {"viewer": _USER | {"email": _text}},
    "W2": _PAGE,
    "W3": _page_of({"node": _TASK | {"owner": _USER, "assignee": ("or null", _USER), "subtasks": _SUBTASKS}}),
    "W4": {"createTask": {"task": _CREATED}},
    "W5": _PAGE,
}


def expect_right(server: Server, workload: Workload) -> None:
    """Asks as several users and once with a bad token; SystemExit unless every answer is right."""
    users = workload.users or len(server.tokens)
    for token in server.tokens[: users : max(1, users // CHECKED_USERS)]:
        status, raw = server.post(workload.body, token)
        try:
            answer = json.loads(raw)
            _compare({"status": status, "errors": answer.get("errors")}, {"status": 200, "errors": None}, "answer")
            _compare(answer["data"], SHAPES[workload.name], "data")
        except (ValueError, KeyError, WrongAnswer) as problem:
            raise SystemExit(f"{server.name} {workload.name}: wrong answer: {problem}\n{status} {raw[:600]!r}") from problem
    status, raw = server.post(workload.body, "not.a.token")
    if status == 200 and b'"errors"' not in raw and b'"viewer":null' not in raw.replace(b" ", b""):
        raise SystemExit(f"{server.name} {workload.name}: a bad token was let in: {raw[:300]!r}")


def _compare(value: Any, shape: Any, where: str) -> None:
    match shape:
        case dict():
            _expect(isinstance(value, dict) and value.keys() == shape.keys(), value, where)
            for key in shape:
                _compare(value[key], shape[key], f"{where}.{key}")
        case ("or null", inner):
            if value is not None:
                _compare(value, inner, where)
        case (length, inner):
            _expect(isinstance(value, list) and length in {"any", len(value)}, value, where)
            for index, item in enumerate(value):
                _compare(item, inner, f"{where}.{index}")
        case _:
            _expect(shape(value) if callable(shape) else value == shape, value, where)


def _expect(is_right: bool, value: Any, where: str) -> None:  # noqa: FBT001 - a condition, as of assert
    if not is_right:
        raise WrongAnswer(f"{where} is {str(value)[:300]!r}")
