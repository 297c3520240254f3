"""Ties a process to the life of its parent; run as a script it ties itself and then becomes the given command.

A script rather than subprocess's preexec_fn: Python code between fork and exec can deadlock when the parent has threads. For
the same reason it imports nothing of taskgraph; starting costs about 15 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent_pid: int, number: signal.Signals) -> None:
    """The kernel sends `number` to this process when the thread that started it ends, kill -9 included.

    The wish survives exec. Only Linux knows it; elsewhere this does nothing and a killed parent leaves its children behind.
    """
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # A parent that ended before the call above will never be noticed by the kernel.
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    # SIGKILL at any moment is safe for both servers: MongoDB replays its journal, Valkey keeps nothing.
    tie(int(sys.argv[1]), signal.SIGKILL)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted
