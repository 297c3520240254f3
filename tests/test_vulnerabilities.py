"""The check of CI for vulnerable packages: it fails on known ones, and a database that cannot be reached is said, not passed over."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNREACHABLE = "requests.exceptions.ConnectionError: Failed to resolve 'api.osv.dev'"
VULNERABLE = "Name | Version | ID | Fix Versions"


@pytest.mark.parametrize(
    ("status", "report", "error", "expected", "said"),
    [
        (0, "", "No known vulnerabilities found", 0, "vulnerabilities: none known in the lock files"),
        (1, VULNERABLE, "Found 1 known vulnerability", 1, VULNERABLE),
        (1, "", UNREACHABLE, 0, "vulnerabilities: NOT CHECKED, the database cannot be reached from here"),
        (1, "", "ValueError: a bug", 1, ""),
        (2, "", "usage: pip-audit", 1, ""),
    ],
    ids=["clean", "vulnerable", "unreachable", "broken", "misused"],
)
def test_only_known_vulnerabilities_and_faults_fail_the_check(
    tmp_path: Path, status: int, report: str, error: str, expected: int, said: str
) -> None:
    stand_in = tmp_path / "pip-audit"
    lines = [
        "#!/usr/bin/env python3",
        "import sys",
        f"open(sys.argv[sys.argv.index('--output') + 1], 'w').write({report!r})",
        f"sys.exit(print({error!r}, file=sys.stderr) or {status})",
    ]
    stand_in.write_text("\n".join(lines))
    stand_in.chmod(0o755)
    ended = subprocess.run(
        [ROOT / ".ci" / "audit"],
        env={"BIN": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout.strip()) == (expected, said)
    assert expected == 0 or ended.stderr


def test_the_bill_of_materials_names_every_locked_package(tmp_path: Path) -> None:
    """As `make sbom` makes it."""
    command = next(line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "cyclonedx-py" in line)
    program, *arguments = (
        command.replace("$(BIN)", str(ROOT / ".venv" / "bin")).replace("sbom.json", str(tmp_path / "sbom.json")).split()
    )
    ended = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    named = {each["name"].lower() for each in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    locked = {
        line.partition("==")[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line[:60] and line[0] != " "
    }
    assert locked <= named
