"""Documents that clients name instead of sending them: those an operator trusts, and those that clients have sent before.

The latter are automatic persisted queries, as Apollo Client and urql send them: first the hash alone, then, told that nobody knows
it, hash and text. Redis holds them for all processes, with some in memory in front; what neither holds is sent once more.

Anybody may send new ones, so their number and size are bounded, those of the anonymous apart from those of viewers.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog
from redis.asyncio import Redis as Client

from taskgraph.errors import BadUserInput, RequestError
from taskgraph.server.documents import Documents, Prepared
from taskgraph.server.trusted_documents import PREFIX, SHA256, TrustedDocuments, sha256
from taskgraph.server.two_part_cache import TwoPartCache
from taskgraph.settings import Settings
from taskgraph.storage.redis import Redis

MAX_ID_CHARACTERS = 200
# More than a document of 2,000 tokens has, unless it is made of comments. What is longer runs, and has to be sent each time.
MAX_DOCUMENT_BYTES = 32 * 1024
MEMORY_BYTES = 16 * 1024 * 1024
ENTRY_BYTES = 400
KEPT_SECONDS = 7 * 24 * 3600
# By who sent it; with the longest of documents 64 and 16 MB of Redis.
POOLS = VIEWERS, ANYBODY = "viewers", "anybody"
POOL_DOCUMENTS = {VIEWERS: 2000, ANYBODY: 500}
LOGGED_DOCUMENTS = 1000
PLACES = TRUSTED, MEMORY, REDIS, NOWHERE = "trusted", "memory", "redis", "nowhere"
# KEYS: the document, the order in which those of its pool came. ARGV: text, hash, seconds to keep it, most documents of the pool,
# what the keys of documents begin with.
KEEP = """
local now = redis.call('time')
redis.call('set', KEYS[1], ARGV[1], 'ex', ARGV[3])
redis.call('zadd', KEYS[2], now[1] + now[2] / 1000000, ARGV[2])
redis.call('expire', KEYS[2], ARGV[3])
local surplus = redis.call('zcard', KEYS[2]) - tonumber(ARGV[4])
if surplus > 0 then
    local oldest = redis.call('zpopmin', KEYS[2], surplus)
    for each = 1, #oldest, 2 do
        redis.call('del', ARGV[5] .. oldest[each])
    end
end
"""
log = structlog.get_logger(__name__)


class PersistedQueryNotFound(RequestError):
    """PERSISTED_QUERY_NOT_FOUND. Clients know the message, too: at this one they send the text."""

    code = "PERSISTED_QUERY_NOT_FOUND"

    def __init__(self, message: str = "PersistedQueryNotFound") -> None:
        super().__init__(message)


def named(document_id: Any, extensions: Mapping[str, Any] | None) -> str | None:
    """The id that a request names its document by: `documentId`, or the hash of `extensions.persistedQuery`. BadUserInput."""
    persisted = extensions.get("persistedQuery") if extensions else None
    if persisted is not None:
        if not isinstance(persisted, dict) or persisted.get("version") != 1:
            raise BadUserInput("extensions.persistedQuery must be an object of version 1.")
        document_id = persisted.get("sha256Hash")
    elif document_id is None:
        return None
    if not isinstance(document_id, str) or not 1 <= len(document_id) <= MAX_ID_CHARACTERS:
        raise BadUserInput("The id of a document must be a string, such as its SHA-256 in hexadecimal digits.")
    return document_id.removeprefix(PREFIX)


class PersistedDocuments:
    """Finds and keeps them. `found` counts by PLACES, `untrusted` what was run or refused as such."""

    def __init__(self, documents: Documents, trusted: TrustedDocuments, redis: Redis, settings: Settings) -> None:
        self.found: Counter[str] = Counter()
        self.untrusted = 0
        self.documents = documents
        self._has_list = settings.trusted_documents != "off"
        self._is_enforced = settings.trusted_documents == "enforce"
        self._trusted = trusted
        self._redis = redis
        self._script = None if redis.client is None else redis.client.register_script(KEEP)
        # Without an end: a text cannot become wrong for its hash.
        self._memory = TwoPartCache[str, str](MEMORY_BYTES)
        self._logged: set[str] = set()

    def at_hand(self, query: str, document_id: str | None) -> Prepared | None:
        """What `prepare` would give if nothing has to be looked up or judged for it; None else. DocumentRefused."""
        return None if self._has_list or document_id is not None else self.documents.known(query)

    def knows(self, query: str, document_id: str | None) -> bool:
        """Whether the document was judged before, so that `prepare` costs next to nothing."""
        text = query or self._trusted.by_id.get(document_id or "") or self._memory.get(document_id or "")
        return text is not None and self.documents.knows(text)

    async def prepare(self, query: str, document_id: str | None) -> Prepared:
        """The document to run; `query` is empty where the client only names it. PersistedQueryNotFound, BadUserInput, DocumentRefused, Busy."""
        return await self.documents.prepare_aside(await self._text(query, document_id))

    async def keep(self, query: str, document_id: str | None, *, of_viewer: bool) -> None:
        """Remembers a document that was sent with its hash, and that `prepare` has found to be fit to run."""
        if document_id is not None and query:
            await self._keep(document_id, query, VIEWERS if of_viewer else ANYBODY)

    async def _text(self, query: str, document_id: str | None) -> str:
        trusted = self._trusted.by_id.get(document_id or "")
        if trusted is not None:
            if query not in ("", trusted):
                raise BadUserInput("The document is another than the trusted one of this id.")
            self.found[TRUSTED] += 1
            return trusted
        if query and document_id is not None and document_id != sha256(query):
            raise BadUserInput("sha256Hash is not the SHA-256 of the query that came with it.")
        text = query or await self._kept(document_id or "")
        if self._has_list and text not in self._trusted.texts:
            self._note_untrusted(text)
        return text

    async def _keep(self, document_id: str, text: str, pool: str) -> None:
        if self._is_enforced or document_id in self._trusted.by_id or len(text.encode()) > MAX_DOCUMENT_BYTES:
            return
        self._remember(document_id, text)
        # Each time: Redis may have been away or emptied since, and clients only send the text when they were told that it is unknown.
        keys = [_key(pool, document_id), f"taskgraph-documents/{pool}"]
        arguments = [text, document_id, str(KEPT_SECONDS), str(POOL_DOCUMENTS[pool]), _key(pool, "")]

        async def shared(_client: Client) -> None:
            assert self._script is not None  # noqa: S101 - there is a client
            await self._script(keys, arguments)

        await self._redis.attempt(shared, otherwise=_not_at_all)

    async def _kept(self, document_id: str) -> str:
        """What a client has sent before."""
        if (text := self._memory.get(document_id)) is not None:
            self.found[MEMORY] += 1
            return text
        if not self._is_enforced and SHA256.fullmatch(document_id):
            text = await self._redis.attempt(lambda client: _read(client, document_id), otherwise=_not_at_all)
        if text is None:
            self.found[NOWHERE] += 1
            raise PersistedQueryNotFound
        self.found[REDIS] += 1
        self._remember(document_id, text)
        return text

    def _remember(self, document_id: str, text: str) -> None:
        if self._memory.get(document_id) is None:
            self._memory.keep(document_id, text, ENTRY_BYTES + 2 * len(text))

    def _note_untrusted(self, text: str) -> None:
        self.untrusted += 1
        if self._is_enforced:
            raise PersistedQueryNotFound("Only documents on this server's list are run here, and this one is not on it.")
        document_id = sha256(text)
        # Once each, and not for ever: strangers decide how many there are.
        if document_id not in self._logged and len(self._logged) < LOGGED_DOCUMENTS:
            self._logged.add(document_id)
            log.warning("untrusted document", sha256=document_id)


async def _read(client: Client, document_id: str) -> str | None:
    """Of whichever pool; verified again, as who can write to Redis must not decide what a hash means."""
    for held in await client.mget([_key(pool, document_id) for pool in POOLS]):
        if isinstance(held, bytes) and sha256(text := held.decode(errors="replace")) == document_id:
            return text
    return None


async def _not_at_all() -> None:
    return None


def _key(pool: str, document_id: str) -> str:
    return f"taskgraph-document/{pool}/{document_id}"
