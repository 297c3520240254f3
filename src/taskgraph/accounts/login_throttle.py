"""How many failed logins an account and an address may have.

The windows are kept twice: in Redis, shared by all processes, and in this process. A login must pass both, so losing or
flushing Redis neither opens the gate (this process still counts) nor closes it for everyone (nothing depends on Redis answering).
"""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from limits import RateLimitItem, RateLimitItemPerSecond, WindowStats
from limits.aio.strategies import MovingWindowRateLimiter as SharedLimiter
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter as LocalLimiter

from taskgraph.accounts.model import email_key
from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.server.rate_limit import address_key, shared_counters
from taskgraph.storage.redis import Redis

WINDOW_SECONDS = 900
# One address may be a whole office behind one router; guessing many accounts from one place still ends here.
ADDRESS_FACTOR = 20


class TooManyFailedLogins(Refused):
    """The password was not even looked at."""

    def __init__(self, retry_after_seconds: int) -> None:
        message = "Too many failed logins; try again later."
        super().__init__(Problem(ErrorCode.RATE_LIMITED, message, retry_after_seconds=retry_after_seconds))


@dataclass(slots=True)
class Attempt:
    """One login under way; set `has_failed` when the password was wrong."""

    has_failed: bool = False


class LoginThrottle:
    """Counts failures only. An account has one attempt at a time in this process, so a volley is counted one by one."""

    def __init__(self, redis: Redis, *, failures: int) -> None:
        self._redis = redis
        self._per_account = RateLimitItemPerSecond(failures, WINDOW_SECONDS, namespace="login-account")
        self._per_address = RateLimitItemPerSecond(failures * ADDRESS_FACTOR, WINDOW_SECONDS, namespace="login-address")
        # The library's own asyncio storage hands every key to a thread when it cleans up, which grows dear under attack.
        self._local = LocalLimiter(MemoryStorage())
        self._shared = _shared_limiter(redis)
        self._held: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def attempt(self, email: str, address: str | None) -> AsyncGenerator[Attempt]:
        """One attempt; TooManyFailedLogins before the password costs anything."""
        windows = [(self._per_account, _account_key(email))]
        if address is not None:
            windows.append((self._per_address, address_key(address)))
        async with self._held.setdefault(windows[0][1], asyncio.Lock()):
            for item, key in windows:
                await self._expect_room(item, key)
            attempt = Attempt()
            yield attempt
            if attempt.has_failed:
                for item, key in windows:
                    await self._count(item, key)

    async def _expect_room(self, item: RateLimitItem, key: str) -> None:
        stats = [self._local.get_window_stats(item, key), await self._shared_stats(item, key)]
        full_until = [each.reset_time for each in stats if each is not None and each.remaining <= 0]
        if full_until:
            raise TooManyFailedLogins(max(1, math.ceil(max(full_until) - time.time())))

    async def _count(self, item: RateLimitItem, key: str) -> None:
        self._local.hit(item, key)
        if (shared := self._shared) is not None:
            await self._redis.attempt(lambda _client: shared.hit(item, key), otherwise=_false)

    async def _shared_stats(self, item: RateLimitItem, key: str) -> WindowStats | None:
        if (shared := self._shared) is None:
            return None
        return await self._redis.attempt(lambda _client: _stats(shared, item, key), otherwise=_none)


def _shared_limiter(redis: Redis) -> SharedLimiter | None:
    counters = shared_counters(redis)
    return None if counters is None else SharedLimiter(counters)


async def _stats(limiter: SharedLimiter, item: RateLimitItem, key: str) -> WindowStats | None:
    return await limiter.get_window_stats(item, key)


async def _none() -> None:
    return None


async def _false() -> bool:
    return False


def _account_key(email: str) -> str:
    # Hashed, because keys show up in monitoring and snapshots of Redis.
    return hashlib.sha256(email_key(email).encode("utf-8", "surrogatepass")).hexdigest()
