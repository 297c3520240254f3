"""Requests that a foreign page can have a browser send without asking first, which must not be believed for their cookie.

A browser asks first (by a CORS preflight) for any content type but three and any header field that pages do not usually send. An
operation that a script sends has one or the other: POST takes JSON alone; a GET that bears the session cookie needs a field.
"""

from collections.abc import Iterable

from taskgraph.errors import RequestError

# Authorization besides makes the cookie irrelevant. The others are what Apollo, Yoga and common frameworks have for this purpose.
HEADERS = (
    "Authorization",
    "Apollo-Require-Preflight",
    "X-Apollo-Operation-Name",
    "GraphQL-Require-Preflight",
    "X-Requested-With",
    "X-CSRF-Token",
)
FIELDS = frozenset(name.lower().encode() for name in HEADERS)
SIMPLE = frozenset({b"", b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"})


class CsrfRefused(RequestError):
    """CSRF_REFUSED; over HTTP status 403. Nothing was read of the body."""

    code = "CSRF_REFUSED"

    def __init__(self) -> None:
        super().__init__(
            "This request bears the session cookie and might come from a foreign page: "
            f"send its body as application/json, or one of these headers: {', '.join(HEADERS)}."
        )


class CsrfGuard:
    """Knows the session cookie by its name."""

    def __init__(self, cookie_name: str) -> None:
        self._cookie = f"{cookie_name}=".encode()

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """CsrfRefused for a request with the session cookie that a browser would send without asking."""
        has_cookie, is_simple = False, True
        for name, value in headers:
            if name == b"cookie":
                has_cookie = has_cookie or self._cookie in value
            elif name == b"content-type":
                is_simple = is_simple and value.partition(b";")[0].strip().lower() in SIMPLE
            elif name in FIELDS:
                return
        if has_cookie and is_simple:
            raise CsrfRefused
