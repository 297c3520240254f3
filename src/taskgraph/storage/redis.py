"""Redis or Valkey as a convenience: whatever it holds can be lost, and losing the server itself never fails a request.

`redis.asyncio` of redis-py is what became of aioredis. Its defaults would stall a request for seconds on a frozen server, so
every call has 50 ms (counting 250 ms), and after three failures a circuit breaker answers for it without trying, for a second at a time.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from taskgraph.errors import ConfigurationError
from taskgraph.settings import Settings

Result = TypeVar("Result")

TIMEOUT_SECONDS = 0.05
PATIENCE_SECONDS = 0.25
FAILURES_TO_OPEN = 3
OPEN_SECONDS = 1.0
CONNECTIONS = 32
FAILURES = (RedisError, OSError, TimeoutError, OpenedState)
log = structlog.get_logger(__name__)


class Redis:
    """The client behind its circuit breaker; without an address every call takes the fallback."""

    def __init__(self, client: Client | None) -> None:
        self.client = client
        self._patient_pools: list[BlockingConnectionPool] = []
        self._breakers = AsyncCircuitBreakerFactory(default_threshold=FAILURES_TO_OPEN, default_ttl=OPEN_SECONDS)
        self._breakers.add_listener(self._note)

    async def attempt(self, work: Callable[[Client], Awaitable[Result]], *, otherwise: Callable[[], Awaitable[Result]]) -> Result:
        """What `work` gives, or what `otherwise` gives when Redis is absent, slow or refusing."""
        if self.client is not None:
            try:
                async with await self._breakers.get_breaker("redis"):
                    return await work(self.client)
            except FAILURES:
                pass  # The breaker has counted it and logs when it opens; one line per failure would flood the log.
        return await otherwise()

    async def is_reachable(self) -> bool:
        """One PING past the breaker, for health checks."""
        try:
            return self.client is not None and bool(await self.client.ping())
        except FAILURES:
            return False

    def patient_pool(self) -> BlockingConnectionPool:
        """For counting: a pause of this process looks like a slow Redis, and what was counted for nobody is lost to its caller."""
        assert self.client is not None  # noqa: S101 - asked for by who has seen it
        usual = self.client.connection_pool
        options = {**usual.connection_kwargs, "socket_timeout": PATIENCE_SECONDS}
        # More at once wait their turn: taken for a failure, a volley would have Redis left alone.
        pool = BlockingConnectionPool(CONNECTIONS, PATIENCE_SECONDS, usual.connection_class, **options)
        self._patient_pools.append(pool)
        return pool

    async def close(self) -> None:
        """Closes every connection."""
        for pool in self._patient_pools:
            await pool.aclose()
        if self.client is not None:
            await self.client.aclose()

    @staticmethod
    def _note(_circuit: str, kind: str, event: object) -> None:
        if kind == "state_changed":
            log.warning("redis circuit breaker", state=getattr(event, "state", "unknown"))


def connect(settings: Settings) -> Redis:
    """A client for TASKGRAPH_REDIS_URL, or none; no connection is made yet."""
    if settings.redis_url is None:
        return Redis(None)
    # Valkey speaks the same protocol; redis-py only knows its own scheme names.
    url = settings.redis_url.get_secret_value().replace("valkey", "redis", 1)
    try:
        client = Client.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS,
            health_check_interval=0,
            decode_responses=False,
        )
    except ValueError as error:
        raise ConfigurationError(f"TASKGRAPH_REDIS_URL: {error}") from error
    return Redis(client)
