"""The folder in which the embedded servers live: ours or refused, one process at a time.

taskgraph.json   the marker: format number and the ports used last
lock             locked while a process uses the folder; holds its pid
jwt-secret       signs access tokens, so that they survive a restart; mode 0600
mongo/ valkey/   data; mongod.log valkey.log, each with one .old
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskgraph.errors import ConfigurationError

FORMAT = 1
MARKER = "taskgraph.json"
LOCK = "lock"
SECRET = "jwt-secret"  # noqa: S105 - a file name
ELSEWHERE = "choose another folder with --data"


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder that this process holds."""

    path: Path

    def port(self, name: str) -> int | None:
        """The port that server `name` had last, if any."""
        port = _read_marker(self.path).get("ports", {}).get(name)
        return port if isinstance(port, int) else None

    def remember_port(self, name: str, port: int) -> None:
        """Clients of yesterday find the server again."""
        marker = _read_marker(self.path)
        with _usable(self.path):
            _replace(self.path / MARKER, json.dumps({"format": FORMAT, "ports": marker.get("ports", {}) | {name: port}}))

    def jwt_secret(self) -> str:
        """Random, made once."""
        file = self.path / SECRET
        with _usable(self.path):
            if not file.exists():
                _replace(file, secrets.token_urlsafe(48))
            return file.read_text(encoding="ascii")

    def fresh_log(self, name: str) -> Path:
        """An empty log file; the one of the run before is kept as `.old`, older ones are not, so logs stay bounded."""
        file = self.path / f"{name}.log"
        with _usable(self.path):
            if file.exists():
                file.replace(file.with_suffix(".log.old"))
            file.touch(mode=0o600)
        return file

    def subfolder(self, name: str) -> Path:
        """Made when missing."""
        folder = self.path / name
        with _usable(self.path):
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[DataFolder]:
    """Holds `path` for this process, made when missing.

    ConfigurationError when it is foreign, written by a newer version, not writable or in use; nothing in it is touched then.
    """
    path = path.absolute()
    with _usable(path):
        _make_ours(path)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(lock, path)
        yield DataFolder(path)
    finally:
        os.close(lock)


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"data folder {path} cannot be used: {error.strerror}; {ELSEWHERE}") from error


def _make_ours(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker = path / MARKER
    if not marker.exists():
        # A crash in the middle of _replace leaves its temporary file.
        if any(not entry.name.startswith(f".{MARKER}.") for entry in path.iterdir()):
            raise ConfigurationError(f"data folder {path} is not empty and not made by taskgraph; nothing was touched, {ELSEWHERE}")
        path.chmod(0o700)
        _replace(marker, json.dumps({"format": FORMAT, "ports": {}}))
    _read_marker(path)


def _read_marker(path: Path) -> dict[str, dict[str, int]]:
    try:
        marker = json.loads((path / MARKER).read_bytes())
        written_by = int(marker["format"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigurationError(f"data folder {path}: {MARKER} is damaged; restore it or {ELSEWHERE}") from error
    if written_by > FORMAT:
        raise ConfigurationError(
            f"data folder {path} was written by a newer taskgraph (format {written_by}, this one knows {FORMAT}); upgrade or {ELSEWHERE}"
        )
    ports = marker.get("ports")
    return {"ports": ports if isinstance(ports, dict) else {}}


def _lock(lock: int, path: Path) -> None:
    try:
        # The kernel lets go of it when the process ends in any way, so there are no stale locks.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise ConfigurationError(f"data folder {path} is in use by process {holder}; stop it first or {ELSEWHERE}") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)


def _replace(file: Path, text: str) -> None:
    """All or nothing, readable by its owner only."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    fresh.replace(file)
