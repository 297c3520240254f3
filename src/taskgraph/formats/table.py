"""CSV with a header, as spreadsheets write it."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from taskgraph.formats.fields import BadField, is_uuid, moment, one_of
from taskgraph.formats.record import Contents, Entry, Format, NotThisFormat, Record, Unusable
from taskgraph.tasks.model import TaskPriority, TaskStatus

COLUMNS = ("id", "title", "description", "status", "priority", "labels", "due", "parent", "blocked_by")
SEPARATORS = (",", ";", "\t")
LISTED_BY = ";"
EXAMPLE = "2030-11-24T08:00:00Z"


def is_table(text: str) -> bool:
    """Whether the first line names a column title."""
    return _separator(text) is not None


def read(text: str) -> Contents:
    """The entries by line. NotThisFormat."""
    separator = _separator(text)
    if separator is None:
        raise NotThisFormat("the file is no CSV with a header that has a column title")
    rows = _rows(text, separator)
    _, header = next(rows)
    names = [_plain(each) for each in header]
    if twice := [name for name, times in Counter(names).items() if times > 1 and name in COLUMNS]:
        raise NotThisFormat(f"the header has the column {twice[0]} twice")
    # By title and how many times it was there: a row without an id.
    times: Counter[str] = Counter()
    entries = [Entry(f"line {line}", _entry(names, row, times)) for line, row in rows]
    ignored = [shown.strip() for shown, name in zip(header, names, strict=True) if name and name not in COLUMNS]
    return Contents(Format.CSV, entries, ignored)


def written(records: Iterable[Record]) -> str:
    """A file that `read` makes the same records of."""
    file = io.StringIO()
    # Ends lines as RFC 4180 has it; with a lone \n the writer would not quote a \r.
    rows = csv.DictWriter(file, COLUMNS)
    rows.writeheader()
    rows.writerows(map(_row, records))
    return file.getvalue()


def _separator(text: str) -> str | None:
    """The one by which the header has a title and most columns."""
    line = re.split(r"[\r\n]", text.lstrip("\r\n "), maxsplit=1)[0][:10_000]
    names = {each: [_plain(name) for name in next(csv.reader([line], delimiter=each), [])] for each in SEPARATORS}
    fitting = [each for each in SEPARATORS if "title" in names[each]]
    return max(fitting, key=lambda each: len(names[each]), default=None)


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank with the number of its first line, from the header on."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    line = 1
    try:
        for row in rows:
            if any(map(str.strip, row)):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise NotThisFormat(f"the file is no CSV from line {line} on: {error}") from error


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


def _entry(names: Sequence[str], row: Sequence[str], times: Counter[str]) -> Record | Unusable:
    cells = dict(zip(names, row, strict=False))
    if any(map(str.strip, row[len(names) :])):
        return Unusable(f"it has {len(row)} cells, the header has {len(names)}", _name(cells.get("id", "")))
    try:
        return _task(cells, times)
    except BadField as error:
        return Unusable(str(error), _name(cells.get("id", "")))


def _task(cells: Mapping[str, str], times: Counter[str]) -> Record:
    name, title = _name(cells.get("id", "")), cells.get("title", "").strip()
    if not title:
        raise BadField("title is empty")
    if not name:
        times[title] += 1
        # No cell begins with a NUL by chance, so that this is no id of another row.
        name = f"\0{times[title]}\0{title}"
    status, priority = cells.get("status", "").strip(), cells.get("priority", "").strip()
    return Record(
        id=name,
        title=title,
        description=cells.get("description", ""),
        status=TaskStatus(one_of("status", status, [each.value for each in TaskStatus])) if status else TaskStatus.TODO,
        priority=TaskPriority[one_of("priority", priority, [each.name for each in TaskPriority])]
        if priority
        else TaskPriority.MEDIUM,
        labels=_listed(cells.get("labels", "")),
        due=moment("due", cells.get("due", ""), EXAMPLE),
        parent=_name(cells.get("parent", "")) or None,
        blockers=[_name(each) for each in _listed(cells.get("blocked_by", ""))],
        mark=None if is_uuid(name) else title,
    )


def _row(record: Record) -> dict[str, str]:
    return {
        "id": record.id,
        "title": record.title,
        "description": record.description,
        "status": record.status.value,
        "priority": record.priority.name,
        "labels": LISTED_BY.join(map(_escaped, record.labels)),
        "due": f"{record.due.isoformat()}Z" if record.due else "",
        "parent": record.parent or "",
        "blocked_by": LISTED_BY.join(map(_escaped, record.blockers)),
    }


def _name(text: str) -> str:
    name = text.strip()
    return name.lower() if is_uuid(name) else name


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(LISTED_BY, f"\\{LISTED_BY}")


def _listed(text: str) -> list[str]:
    r"""Parts between semicolons; \; is a semicolon of a part, and \\ a backslash."""
    parts = re.findall(r"(?:\\.|[^;\\]|\\$)+", text, re.DOTALL)
    return [plain for part in parts if (plain := re.sub(r"\\([\\;])", r"\1", part).strip())]
