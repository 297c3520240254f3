"""Which core runs what: the server under test has one to itself; load, databases and this program share another."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_AVAILABLE = sorted(os.sched_getaffinity(0))
SERVER = frozenset(_AVAILABLE[:1])
# On a machine with one core everything shares it; CPU per request is still right, latency is not.
LOAD = frozenset(_AVAILABLE[1:2] or _AVAILABLE)
ALL = frozenset(_AVAILABLE)
CALIBRATION_ROUNDS = 400_000


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """The calling thread, and every process that it starts meanwhile, runs on `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, cores: Collection[int]) -> None:
    """Puts all threads that a running process has on `cores`."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def calibration_us() -> float:
    """CPU microseconds of a fixed loop on the server's core: how fast is that core just now?"""
    with pinned(SERVER):
        started = time.process_time()
        sum(number * number % 7 for number in range(CALIBRATION_ROUNDS))
        return (time.process_time() - started) * 1e6
