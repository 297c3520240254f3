"""docs/security.md: each protection has a test beside it, and there is a test of that name."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")


def names_of_tests() -> list[str]:
    sources = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    return [name for source in sources for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", source, re.MULTILINE)]


def tables() -> list[list[str]]:
    """The lines of each table whose last column holds the proofs, without its head."""
    found = re.findall(r"^\|.*\| Proved by \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [table.splitlines() for table in found]


def test_every_protection_has_a_test_beside_it() -> None:
    lines = [line for table in tables() for line in table]
    assert len(lines) > 30
    assert [line for line in lines if not re.search(r"`test_\w+`", line.rstrip("|").rpartition("|")[2])] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_there_is_a_test_of_that_name(name: str) -> None:
    assert name in names_of_tests()
