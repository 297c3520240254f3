"""Password hashing that can neither stall the server nor be used to exhaust it."""

import asyncio
import functools
import os
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from taskgraph.errors import Busy

Result = TypeVar("Result")

# OWASP's minimum for argon2id. Raising these upgrades each account's hash at its next login.
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
# What the thread rests after a hash, as a share of what that took: hashing takes the caches from everybody else, whatever its priority.
REST = 1.0
QUEUE = 64
# How much less of a busy processor the hashing thread claims than the event loop, in steps of nice(1).
NICE = 10
RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the password is right, and whether its hash should be made anew with today's parameters."""

    is_right: bool
    is_outdated: bool = False


class PasswordHasher:
    """argon2id on one thread that rests in between, behind a bounded queue; a full queue is `Busy`, so that a login storm is no outage.

    About 25 hashes a second; a single one waits for nothing.
    """

    def __init__(self, *, memory_kib: int = MEMORY_KIB, passes: int = PASSES, queue: int = QUEUE) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=LANES, type=argon2.Type.ID)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2", initializer=_give_way)
        self._places = 1 + queue
        self._rests_until = 0.0
        # An unknown e-mail address is checked against this, so that it takes as long as a known one.
        self._nobody = self._argon2.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """A new hash in PHC format; ~30 ms of one thread."""
        return await self._run(lambda: self._argon2.hash(normal(password)))

    async def verify(self, stored_hash: str | None, password: str) -> Verdict:
        """Compares in ~30 ms, whether or not there is a stored hash."""
        return await self._run(lambda: self._verify(stored_hash, normal(password)))

    def close(self) -> None:
        """Waits for what is being hashed."""
        self._thread.shutdown()

    def _verify(self, stored_hash: str | None, password: str) -> Verdict:
        try:
            self._argon2.verify(stored_hash or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return Verdict(is_right=False)
        return Verdict(is_right=stored_hash is not None, is_outdated=self._argon2.check_needs_rehash(stored_hash or self._nobody))

    def _at_a_pace(self, work: Callable[[], Result]) -> Result:
        """On the thread: rests before it works and not after, so that nobody waits for a rest that nobody needs."""
        time.sleep(max(0.0, self._rests_until - time.monotonic()))
        # Of the processor, as a process may be stopped for minutes in between.
        began = time.thread_time()
        try:
            return work()
        finally:
            self._rests_until = time.monotonic() + REST * (time.thread_time() - began)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._places == 0:
            raise Busy("Too many sign-ins at once; try again shortly.", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._places -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._at_a_pace, work)
        finally:
            self._places += 1


def _give_way() -> None:
    """Otherwise a storm of sign-ins shares the processors fairly with everybody else's requests: half each."""
    # Only Linux has priorities of single threads.
    with suppress(AttributeError, OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


@functools.cache
def common_passwords() -> frozenset[str]:
    """Those of at least 12 characters among the 30,000 most common ones that zxcvbn knows, in lower case."""
    text = resources.files("taskgraph.accounts").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def normal(password: str) -> str:
    """The same password typed on another keyboard or system is the same password."""
    return unicodedata.normalize("NFKC", password)
