"""Answers that a browser may keep on condition that it asks each time whether they are still right."""

import hashlib
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

POLICY = "private, no-cache"
TAG_BYTES = 16


def tag(response: Response, *, account: str, media_type: str) -> None:
    """Gives the answer an ETag of its own for each account and media type, and lets the browser keep it.

    Weak, because a packed answer has the same one.
    """
    seen = hashlib.blake2b(response.body, digest_size=TAG_BYTES, person=media_type[-16:].encode(), key=account.encode())
    headers = MutableHeaders(raw=response.raw_headers)
    headers["etag"] = f'W/"{seen.hexdigest()}"'
    headers["cache-control"] = POLICY
    headers.add_vary_header("Accept-Encoding")


def shorten(response: Response, if_none_match: str) -> None:
    """Makes it 304 if the client has it already."""
    headers = MutableHeaders(raw=response.raw_headers)
    if not _matches(headers["etag"], if_none_match):
        return
    response.status_code, response.body = HTTPStatus.NOT_MODIFIED, b""
    del headers["content-length"], headers["content-type"]


def _matches(held: str, if_none_match: str) -> bool:
    opaque = held.removeprefix("W/")
    return any(each.strip().removeprefix("W/") in ("*", opaque) for each in if_none_match.split(","))
