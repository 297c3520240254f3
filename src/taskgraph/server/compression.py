"""Large answers, packed for clients that can unpack them.

Only what was read: whoever can watch the length of a packed answer and have words of their own repeated in it can guess what else
it holds (BREACH), and the answers to mutations hold tokens.
"""

import asyncio
import functools
import re
import zlib

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

# Below, packing costs more than the bytes it saves: a page of 20 tasks is a third of this.
MIN_BYTES = 16 * 1024
# Packing takes 2 to 4 microseconds a KB; beyond this it leaves the loop.
THREAD_BYTES = 256 * 1024
LEVEL = 1
GZIP_WBITS = 31
REFUSED = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)


@functools.lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding allows it by name."""
    for coding in accept_encoding.split(","):
        name, _, weight = coding.partition(";")
        if name.strip().lower() == "gzip":
            return not REFUSED.fullmatch(weight)
    return False


async def pack(response: Response, accept_encoding: str) -> None:
    """Replaces the body, if the client can read the other."""
    if not accepts_gzip(accept_encoding):
        return
    body = bytes(response.body)
    response.body = _packed(body) if len(body) < THREAD_BYTES else await asyncio.to_thread(_packed, body)
    headers = MutableHeaders(raw=response.raw_headers)
    headers["content-length"] = str(len(response.body))
    headers["content-encoding"] = "gzip"
    headers.add_vary_header("Accept-Encoding")


def _packed(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL, GZIP_WBITS)
