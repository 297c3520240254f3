"""The limits of a task's fields: values are cleaned and every fault is listed with its place in the input."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from taskgraph.errors import ErrorCode, InputRefused, Problem
from taskgraph.tasks.model import NEVER

TITLE_CHARACTERS = 200
DESCRIPTION_CHARACTERS = 10_000
LABELS = 20
LABEL_CHARACTERS = 50
IDEMPOTENCY_KEY_CHARACTERS = 200
# Emptied by null; the others cannot be without a value.
CLEARED: dict[str, Any] = {"description": "", "labels": [], "dueDate": None, "assigneeId": None, "parentId": None}


class Checklist:
    """Collects problems at one place of the input; `done` refuses if there were any."""

    def __init__(self, *path: str) -> None:
        self._path = path
        self._problems: list[Problem] = []

    def note(self, code: ErrorCode, message: str, *member: str) -> None:
        """One more problem."""
        self._problems.append(Problem(code, message, (*self._path, *member)))

    @property
    def problems(self) -> Sequence[Problem]:
        """What was noted."""
        return self._problems

    def done(self) -> None:
        """InputRefused with all that was noted."""
        if self._problems:
            raise InputRefused(*self._problems)


def cleaned(given: Mapping[str, Any], checklist: Checklist) -> dict[str, Any]:
    """The given fields (as stored: camelCase) with their clean values; faults go to the checklist."""
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None:
            values[name] = _CLEANERS.get(name, _as_it_is)(name, value, checklist)
        elif name in CLEARED:
            values[name] = CLEARED[name]
        else:
            checklist.note(ErrorCode.REQUIRED, f"{name} cannot be null; leave it out to keep it.", name)
    return values


def merged_labels(labels: Iterable[str], *, add: Iterable[str], remove: Iterable[str], checklist: Checklist) -> list[str]:
    """Labels after adding and then removing some: in order, each once."""
    removed = {label.strip() for label in remove}
    added = _clean_labels("addLabels", add, checklist)
    kept = [label for label in dict.fromkeys([*labels, *added]) if label not in removed]
    if len(kept) > LABELS:
        checklist.note(ErrorCode.LIMIT_EXCEEDED, f"A task can have at most {LABELS} labels.", "labels")
    return kept


def check_idempotency_key(key: str | None) -> None:
    """InputRefused when a key is empty or too long to be one."""
    if key is not None and not 1 <= len(key) <= IDEMPOTENCY_KEY_CHARACTERS:
        message = f"An idempotency key has 1 to {IDEMPOTENCY_KEY_CHARACTERS} characters."
        raise InputRefused(Problem(ErrorCode.INVALID, message, ("input", "idempotencyKey")))


def _clean_title(name: str, title: str, checklist: Checklist) -> str:
    title = title.strip()
    if not title:
        checklist.note(ErrorCode.REQUIRED, "A title is required.", name)
    elif len(title) > TITLE_CHARACTERS:
        checklist.note(ErrorCode.TOO_LONG, f"The title has more than {TITLE_CHARACTERS} characters.", name)
    elif "\0" in title:
        checklist.note(ErrorCode.INVALID, "The title contains a NUL character.", name)
    return title


def _clean_description(name: str, description: str, checklist: Checklist) -> str:
    if len(description) > DESCRIPTION_CHARACTERS:
        checklist.note(ErrorCode.TOO_LONG, f"The description has more than {DESCRIPTION_CHARACTERS} characters.", name)
    return description


def _clean_labels(name: str, labels: Iterable[str], checklist: Checklist) -> list[str]:
    clean = [label.strip() for label in labels]
    unique = list(dict.fromkeys(clean))
    if len(unique) > LABELS:
        # The labels themselves are not looked at, so that the list of faults stays short too.
        checklist.note(ErrorCode.LIMIT_EXCEEDED, f"A task can have at most {LABELS} labels.", name)
        return unique
    for label in unique:
        position = str(clean.index(label))
        if not label:
            checklist.note(ErrorCode.REQUIRED, "A label cannot be empty.", name, position)
        elif len(label) > LABEL_CHARACTERS:
            checklist.note(ErrorCode.TOO_LONG, f"A label has more than {LABEL_CHARACTERS} characters.", name, position)
    return unique


def _clean_due_date(name: str, due_date: datetime, checklist: Checklist) -> datetime:
    if due_date >= NEVER:
        checklist.note(ErrorCode.INVALID, f"A due date lies before {NEVER.date().isoformat()}.", name)
    return due_date


def _as_it_is(_name: str, value: Any, _checklist: Checklist) -> Any:
    return value


_CLEANERS: dict[str, Callable[[str, Any, Checklist], Any]] = {
    "title": _clean_title,
    "description": _clean_description,
    "labels": _clean_labels,
    "dueDate": _clean_due_date,
}
