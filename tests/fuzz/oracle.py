"""What must hold of every answer, whatever was asked and whoever asked it."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Of one process on a machine that has nothing else to do; a busy one is slower without any fault of the server.
CPU_SECONDS = 2.0
WALL_SECONDS = 20.0
MESSAGE_CHARACTERS = 1_000
STATUSES = {200, 400, 401, 405, 406, 408, 413, 415, 429}
# Those of the contract without INTERNAL, which is a bug, and BUSY, which one caller at a time does not cause.
CODES = {
    *("UNAUTHENTICATED", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED", "BAD_USER_INPUT", "OPERATION_TOO_EXPENSIVE"),
    *("RATE_LIMITED", "PERSISTED_QUERY_NOT_FOUND", "CSRF_REFUSED"),
}
CLOSE_CODES = {1009, 4400, 4401, 4403, 4406, 4408, 4409, 4410, 4411, 4429}
# None of the inputs has any of these, so whatever has them shows our inside.
INSIDE = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/src/|/usr/|/home/|/tmp/|<class|<function|object at 0x|NoneType|"
    r"(?i:pymongo|mongod|\bmongo|\bbson|odmantic|strawberry|starlette|uvicorn|orjson|redis|valkey|argon2|graphql-core|pydantic)|"
    r"ObjectId|E11000|\b(?!GenericError\b|UserError\b)[A-Z][A-Za-z]*(?:Error|Exception|Warning)\b|has no attribute|unexpected keyword|positional argument|"
    r"codec can't|recursion depth|unhashable|subscriptable|not iterable|\$(?:set|match|lookup|expr|inc|push|project|meta|text)\b"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is None over WebSocket, where `closed` is the code when the server ended the connection."""

    text: str
    status: int | None = None
    closed: int | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


def faults(answer: Answer, *, secrets: Collection[str] = ()) -> list[str]:
    """Everything that is wrong with an answer; `secrets` are texts that this caller must never see."""
    found = []
    if answer.status is not None and answer.status not in STATUSES:
        found.append(f"status {answer.status}")
    if answer.closed is not None and answer.closed not in CLOSE_CODES:
        found.append(f"closed with {answer.closed}")
    if answer.cpu_seconds > CPU_SECONDS or answer.wall_seconds > WALL_SECONDS:
        found.append(f"took {answer.cpu_seconds:.2f} s of the processor, {answer.wall_seconds:.2f} s in all")
    found += [f"shows {secret!r}" for secret in secrets if secret in answer.text]
    if (inside := INSIDE.search(answer.text)) is not None:
        found.append(f"shows {inside[0]!r}")
    return found if answer.closed is not None else found + _malformed(answer.text)


def is_refused(text: str) -> bool:
    """Whether nothing may have been written: a request-level error, or errors in each payload."""
    data = _decoded(text).get("data")
    return not data or all(payload is None or (isinstance(payload, dict) and payload.get("errors")) for payload in data.values())


def _malformed(text: str) -> list[str]:
    try:
        decoded = _decoded(text)
    except ValueError:
        return ["is not JSON in UTF-8"]
    if not isinstance(decoded, dict) or not decoded or not decoded.keys() <= {"data", "errors", "extensions"}:
        return [f"is no GraphQL answer: {text[:100]}"]
    if "errors" not in decoded:
        return [] if isinstance(decoded.get("data"), dict) else ["has neither data nor errors"]
    errors = decoded["errors"]
    if not isinstance(errors, list) or not errors:
        return ["has errors that are no list"]
    return [fault for error in errors for fault in _malformed_error(error)]


def _malformed_error(error: Any) -> list[str]:
    if not isinstance(error, dict) or not error.keys() <= {"message", "locations", "path", "extensions"}:
        return [f"has an error of another shape: {str(error)[:100]}"]
    message, extensions = error.get("message"), error.get("extensions")
    found = []
    if not isinstance(message, str) or not 1 <= len(message) <= MESSAGE_CHARACTERS:
        found.append(f"has a message that is none, or too long: {str(message)[:100]}")
    if not isinstance(extensions, Mapping) or extensions.get("code") not in CODES:
        found.append(f"has the code {extensions and extensions.get('code')}")
    if not all(isinstance(each, str | int) for each in error.get("path") or ()):
        found.append("has a path of other things than names and numbers")
    return found


def _decoded(text: str) -> Any:
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
