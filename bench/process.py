"""One server process: started on chosen cores, its CPU and memory read from /proc, ended with its children and nobody else's."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from bench import cores
from taskgraph.storage import tether

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60
STOP_SECONDS = 15
QUIET_SECONDS = 0.25
QUIET_POLLS = 40
# 10 % of a core: what an idle server does on its timers.
QUIET_CPU_SECONDS = 0.1 * QUIET_SECONDS
LOG_TAIL_BYTES = 3000


class Process:
    """A running program. It is killed by the kernel should this program be killed."""

    def __init__(
        self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], on: Collection[int], log_file: Path
    ) -> None:
        self._log_file = log_file
        with log_file.open("wb") as log, cores.pinned(on):
            self._popen = subprocess.Popen(
                (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command),
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program itself, not of its children."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Also while it is frozen."""
        return self._popen.poll() is None

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """SystemExit with the end of its log, when it ends or stays silent for START_SECONDS."""
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise SystemExit(f"{self._popen.args!r} did not start:\n{self.log_tail()}")
            time.sleep(0.1)

    def wait_until_quiet(self) -> None:
        """What a load has left behind is done first, or it would run into somebody else's measurement. Ten seconds at most."""
        for _ in range(QUIET_POLLS):
            before = cpu_seconds(self.pid)
            time.sleep(QUIET_SECONDS)
            if cpu_seconds(self.pid) - before <= QUIET_CPU_SECONDS:
                return

    def log_tail(self) -> str:
        """The last lines that it wrote."""
        return self._log_file.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def stop(self) -> int:
        """Asked first; its process group, which is its own, is killed when it does not listen. Its status, negative for a signal."""
        if self.is_running:
            self._popen.terminate()
            try:
                self._popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._popen.wait()

    def kill(self) -> None:
        """Without a word, with its process group; returns when it is gone."""
        if self.is_running:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def family(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for member in found:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the family, ended children included."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def resident_kb(pid: int) -> int:
    """Resident memory of the family; pages that members share count once for each."""
    texts = [Path(f"/proc/{member}/status").read_text() for member in family(pid)]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts)
