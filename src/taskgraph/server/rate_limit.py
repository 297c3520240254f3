"""How much a caller may ask for within a window of time: the anonymous by their address, viewers in points of cost.

A window begins with its first operation. The counters are the library's, in Redis for all processes: it adds and compares in
one step, so any number of processes admit what the limit says. It would count what it refuses, too, so that nothing is offered
to it which does not fit; only what loses a race for the last points is counted and refused. While Redis is away each process admits its
share of every limit by itself, and has that counted later.
"""

import asyncio
import hashlib
import ipaddress
import math
import os
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.storage import MemoryStorage
from redis.asyncio import Redis as Client

from taskgraph.errors import RequestError
from taskgraph.server.gate import Purse
from taskgraph.server.prices import Charge
from taskgraph.settings import Settings
from taskgraph.storage import clock
from taskgraph.storage.redis import Redis

WINDOWS = ANONYMOUS, VIEWER, SIGN_IN = "anonymous", "viewer", "sign-in"
PROCESSES = "taskgraph:processes"
BEAT_SECONDS = 5
MAX_OWED = 100_000
# A document that is refused has been parsed and validated for somebody.
REFUSED = Charge(1, 1, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """A limit on what one caller may take in so many seconds."""

    name: str
    limit: int
    seconds: int

    @property
    def item(self) -> RateLimitItem:
        """In the words of the library, which names the counters."""
        return RateLimitItemPerSecond(self.limit, self.seconds, namespace=f"taskgraph-{self.name}")


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands in a window."""

    window: Window
    remaining: int
    resets_in_seconds: float

    @property
    def resets_at(self) -> datetime:
        """UTC without a zone."""
        return clock.now() + timedelta(seconds=self.resets_in_seconds)


class RateLimited(RequestError):
    """RATE_LIMITED; nothing was run, and nothing taken from this window, unless another was faster by a moment. Over HTTP also status 429
    and a Retry-After header.
    """

    code = "RATE_LIMITED"

    def __init__(self, standing: Standing, points: int) -> None:
        window, left = standing.window, standing.remaining
        super().__init__(
            f"Too many requests: this takes {points} from the window {window.name!r}, which has {left} of {window.limit} left."
        )
        self.standing = standing
        self.retry_after_seconds = max(1, math.ceil(standing.resets_in_seconds))


class RateLimits:
    """Counts and refuses. `refused` counts by window, `local` the decisions made without Redis; `processes` share a limit then."""

    def __init__(self, redis: Redis, settings: Settings, *, processes: int) -> None:
        self.is_on = settings.has_rate_limits
        self.max_cost = settings.max_cost
        self.refused: Counter[str] = Counter()
        self.local = 0
        self.is_local = False
        self.processes = self._started = processes
        self._redis = redis
        self._seconds = seconds = settings.rate_limit_window_seconds
        self._anonymous = Window(ANONYMOUS, settings.rate_limit_anonymous, seconds)
        # Half of the operations of an address may be sign-ins: whoever needs more is guessing.
        self._sign_ins = Window(SIGN_IN, max(1, settings.rate_limit_anonymous // 2), seconds)
        counters = shared_counters(redis)
        self._shared = None if counters is None else FixedWindowRateLimiter(counters)
        self._kept = MemoryStorage()
        self._id = f"{os.getpid()}-{uuid.uuid4().hex}"
        # What was admitted without Redis, to be counted there as soon as it answers again: a single slow answer makes no difference.
        self._owed: Counter[str] = Counter()

    async def admit(self, purse: Purse | None, address: str | None, charge: Charge) -> list[Standing]:
        """Takes what an operation costs from every window that it falls into, the strictest first. RateLimited."""
        windows = []
        if charge.sign_ins:
            windows.append((self._sign_ins, address_key(address), charge.sign_ins))
        windows.append((*await self._own(purse, address), max(1, charge.fields if purse is None else charge.cost)))
        return [await self.take(window, key, points) for window, key, points in windows]

    async def expect_room(self, purse: Purse | None, address: str | None) -> None:
        """Takes nothing from the caller's window. RateLimited when nothing is left in it."""
        standing = await self.take(*await self._own(purse, address), 0)
        if standing.remaining < 1:
            self.refused[standing.window.name] += 1
            raise RateLimited(standing, 1)

    async def admit_sign_in(self, key: str) -> None:
        """Takes one attempt to sign in to an account, from wherever. RateLimited."""
        if self.is_on:
            await self.take(self._sign_ins, _hashed(key), 1)

    async def standing(self, purse: Purse | None, address: str | None) -> list[Standing]:
        """Of the caller in each window, without taking anything; empty where nothing is limited."""
        if not self.is_on:
            return []
        return [await self.take(*await self._own(purse, address), 0), await self.take(self._sign_ins, address_key(address), 0)]

    async def _own(self, purse: Purse | None, address: str | None) -> tuple[Window, str]:
        """The window that a caller has for all they do, and under which key."""
        if purse is None:
            return self._anonymous, address_key(address)
        return Window(VIEWER, await purse.points(), self._seconds), purse.account

    async def take(self, window: Window, key: str, points: int) -> Standing:
        """Takes points from one window. RateLimited."""

        async def shared(_client: Client) -> tuple[bool, int, float]:
            assert self._shared is not None  # noqa: S101 - there is a client
            taken = await self._take_there(self._shared, window, key, points)
            self.is_local = False
            return taken

        async def local() -> tuple[bool, int, float]:
            self.is_local = True
            self.local += 1
            return self._take_here(window, window.item.key_for(key), points)

        taken, remaining, left_seconds = await self._redis.attempt(shared, otherwise=local)
        standing = Standing(window, max(0, remaining), left_seconds)
        if not taken:
            self.refused[window.name] += 1
            raise RateLimited(standing, points)
        return standing

    async def _take_there(self, limiter: FixedWindowRateLimiter, window: Window, key: str, points: int) -> tuple[bool, int, float]:
        """From what all processes share."""
        item, name = window.item, window.item.key_for(key)
        stats = await limiter.get_window_stats(item, key)
        # Redis answers: what it is told now may be counted although its reply is late, and is not told again.
        owed = self._owed.pop(name, 0)
        remaining = max(0, stats.remaining - owed)
        # Redis gives whole seconds; who comes back in between would be refused once more.
        left_seconds = min(window.seconds, max(0.0, stats.reset_time - time.time()) + 1)
        if stats.remaining == window.limit:
            left_seconds = window.seconds if points else 0.0
        fits = points <= remaining
        told = owed + (points if fits else 0)
        is_counted = await limiter.hit(item, key, cost=told) if told else True
        if not fits:
            return False, remaining, left_seconds
        # Else another was faster by a moment.
        return is_counted, remaining - points if is_counted else 0, left_seconds

    def _take_here(self, window: Window, name: str, points: int) -> tuple[bool, int, float]:
        """From this process's share. Nothing is awaited in between, so this is one step, too."""
        share = max(1, window.limit // self.processes)
        used = self._kept.get(name)
        taken = used + points <= share
        if taken and points:
            used = self._kept.incr(name, window.seconds, amount=points)
            self._owed[name] += points
            if len(self._owed) > MAX_OWED:
                self._owed.clear()
        return taken, share - used, max(0.0, self._kept.get_expiry(name) - time.time())

    async def run(self) -> None:
        """Says in Redis that this process lives, and counts those that do, for as long as it is not cancelled."""
        while self.is_on:
            self.processes = max(
                self._started, await self._redis.attempt(lambda client: _beat(client, self._id), otherwise=self._last)
            )
            await asyncio.sleep(BEAT_SECONDS)

    async def _last(self) -> int:
        return self.processes


def shared_counters(redis: Redis) -> RedisStorage | None:
    """The library's counters in Redis; without one there are none."""
    if redis.client is None:
        return None
    # The address is that of the pool; the scheme only tells the library which client it is given.
    return RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix="taskgraph",
        connection_pool=redis.patient_pool(),  # type: ignore[arg-type]  # documented, but typed as a plain option
    )


async def _beat(client: Client, name: str) -> int:
    now = time.time()
    async with client.pipeline() as pipe:
        pipe.zadd(PROCESSES, {name: now})
        pipe.zremrangebyscore(PROCESSES, 0, now - 3 * BEAT_SECONDS)
        pipe.zcard(PROCESSES)
        *_, count = await pipe.execute()
    return int(count)


def address_key(address: str | None) -> str:
    """What an address is counted under: a household or server has a whole IPv6 /64 to draw addresses from."""
    if address is None:
        return "unknown"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


def headers(standings: list[Standing]) -> dict[str, str]:
    """RateLimit and RateLimit-Policy, as the IETF's draft has them."""
    policies = ", ".join(f'"{each.window.name}";q={each.window.limit};w={each.window.seconds}' for each in standings)
    left = ", ".join(f'"{each.window.name}";r={each.remaining};t={math.ceil(each.resets_in_seconds)}' for each in standings)
    return {"ratelimit-policy": policies, "ratelimit": left}


def _hashed(key: str) -> str:
    # Keys show up in monitoring and snapshots of Redis.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
