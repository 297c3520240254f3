"""Tasks in files of other programs: which format a file has, its entries, and such files anew.

What a file says is taken as it is meant there; what one of its entries lacks or has wrong is told with that entry. Limits of tasks are
none of this package's business.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from taskgraph.formats import github_issues, table, taskwarrior
from taskgraph.formats.fields import BadField, an_object
from taskgraph.formats.record import Contents, Entry, Format, NotThisFormat, Record, Skipped, Unusable

_KEYS = {Format.TASKWARRIOR: taskwarrior.KEYS, Format.GITHUB_ISSUES: github_issues.KEYS}
_TASKS: dict[Format, Callable[[Mapping[str, Any]], Record | Skipped]] = {
    Format.TASKWARRIOR: taskwarrior.task,
    Format.GITHUB_ISSUES: github_issues.task,
}
_ENTRIES = {Format.TASKWARRIOR: taskwarrior.entry, Format.GITHUB_ISSUES: github_issues.entry}


def read(text: str, of: Format | None) -> Contents:
    """The entries of a file in order; the format is guessed when it is not given. NotThisFormat."""
    if not text.strip():
        raise NotThisFormat("the file is empty")
    is_json = text.lstrip().startswith(("[", "{")) and not table.is_table(text)
    objects = _objects(text) if is_json else []
    likely = _likely(objects) if is_json else Format.CSV if table.is_table(text) else None
    if of and likely and likely is not of:
        raise NotThisFormat(f"the file is not what --format {of} means; it looks like --format {likely}")
    if is_json and of is Format.CSV:
        raise NotThisFormat("the file is JSON, not CSV")
    if not is_json and of in _KEYS:
        raise NotThisFormat("the file is no JSON")
    if not is_json:
        return table.read(text)
    of = of or likely or Format.TASKWARRIOR
    entries = [Entry(f"entry {number}", _entry(_TASKS[of], each)) for number, each in enumerate(objects, start=1)]
    return Contents(of, entries)


def written(records: Iterable[Record], of: Format) -> str:
    """A file of these tasks, as `read` takes it. Their ids are UUIDs."""
    if of is Format.CSV:
        return table.written(records)
    return json.dumps(list(map(_ENTRIES[of], records)), ensure_ascii=False, indent=1) + "\n"


def _objects(text: str) -> list[Any]:
    """The items of one JSON list, or of one JSON object a line, as Taskwarrior writes with json.array=off."""
    if text.lstrip().startswith("["):
        found = _json(text)
        return found if isinstance(found, list) else [found]
    lines = [(number, line.strip().rstrip(",")) for number, line in enumerate(text.split("\n"), start=1)]
    try:
        return [_json(line, number) for number, line in lines if line]
    except NotThisFormat:
        # One object over several lines.
        with suppress(ValueError, RecursionError):
            return [json.loads(text)]
        raise


def _json(text: str, first_line: int = 1) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise NotThisFormat(f"the file is no JSON: it breaks off or goes wrong at {where}") from error
    except RecursionError as error:
        raise NotThisFormat("the file is no JSON of tasks: it is nested too deeply") from error
    except ValueError as error:
        raise NotThisFormat("the file is no JSON of tasks: a number in it is too long") from error


def _likely(objects: Sequence[Any]) -> Format | None:
    """The format whose fields the entries have more of."""
    names = [each.keys() for each in objects if isinstance(each, dict)]
    warrior, issues = (sum(len(_KEYS[of] & each) for each in names) for of in _KEYS)
    if warrior == issues:
        return None
    return Format.TASKWARRIOR if warrior > issues else Format.GITHUB_ISSUES


def _entry(task: Callable[[Mapping[str, Any]], Record | Skipped], given: Any) -> Record | Unusable | Skipped:
    try:
        return task(an_object("it", given))
    except BadField as error:
        return Unusable(str(error), _told_id(given))


def _told_id(given: Any) -> str | None:
    """The name by which others may refer to what is no task."""
    told = given.get("uuid") if isinstance(given, dict) else None
    return told.strip().lower() if isinstance(told, str) else None
