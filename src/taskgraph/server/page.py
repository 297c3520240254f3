"""The GraphiQL page and its files, from memory; when to answer with it is for the caller of `Page.index` to decide."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from taskgraph.server.compression import accepts_gzip

DEFAULT: Final = Path(__file__).parent / "graphiql"
NOT_BUILT: Final = "GraphiQL is not built: install Node 20 or newer, run `make setup` and start again; the API at POST /graphql works without it.\n"

# 'self' in connect-src covers the WebSocket of the same host, too. Monaco, the editor, places each line of text with a
# style attribute and writes its colours into style elements; both need 'unsafe-inline', and styles cannot run script.
POLICY: Final = (
    "default-src 'none'; "
    "script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; "
    "img-src 'self' data:; "
    "font-src 'self'; "
    "worker-src 'self'; "
    "base-uri 'none'; "
    "form-action 'none'; "
    "frame-ancestors 'none'"
)
# For every answer, not only the page: a worker obeys the policy its own file came with.
SECURITY: Final = MappingProxyType({"content-security-policy": POLICY})
# The standard library's table is read from the machine, and machines differ in these.
CONTENT_TYPES: Final = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".ttf": "font/ttf",
        ".woff": "font/woff",
        ".woff2": "font/woff2",
    }
)


@dataclass(frozen=True, slots=True)
class File:
    """One built file; `gzipped` is None where the build made no compressed copy."""

    content_type: str
    plain: bytes
    gzipped: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """`document` is None when the page was not built; `assets` are keyed by their file name."""

    document: File | None
    assets: Mapping[str, File]

    def index(self, request: Request) -> Response:
        """The page, or 503 with the way to get it."""
        if self.document is None:
            return PlainTextResponse(NOT_BUILT, status_code=503, headers={**SECURITY, "cache-control": "no-store"})
        # The same address answers API clients with JSON, hence Accept.
        return _answer(request, self.document, cache_control="no-cache", vary="Accept, Accept-Encoding")

    async def asset(self, request: Request) -> Response:
        """A file by its name alone: what was not loaded at start does not exist, wherever the path points."""
        file = self.assets.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        # The name holds a hash of the content, so a file never changes under its address.
        return _answer(request, file, cache_control="public, max-age=31536000, immutable", vary="Accept-Encoding")

    def routes(self) -> list[Route]:
        """Of the assets alone; the page itself shares its address with the API."""
        return [Route("/graphiql/assets/{name}", self.asset, methods=["GET"])]


def is_built(folder: Path = DEFAULT) -> bool:
    """Whether there is a page to load."""
    return (folder / "index.html").is_file()


def load(folder: Path = DEFAULT) -> Page:
    """Reads the built page, about 8 MB, into memory; without an index.html in `folder` it counts as not built."""
    if not is_built(folder):
        return Page(document=None, assets=MappingProxyType({}))
    files = (path for path in (folder / "assets").iterdir() if path.suffix != ".gz")
    return Page(
        document=_file(folder / "index.html"),
        assets=MappingProxyType({path.name: _file(path) for path in files}),
    )


def _file(path: Path) -> File:
    compressed = path.with_name(f"{path.name}.gz")
    return File(
        content_type=CONTENT_TYPES.get(path.suffix, "application/octet-stream"),
        plain=path.read_bytes(),
        gzipped=compressed.read_bytes() if compressed.is_file() else None,
    )


def _answer(request: Request, file: File, *, cache_control: str, vary: str) -> Response:
    headers = {**SECURITY, "content-type": file.content_type, "cache-control": cache_control, "vary": vary}
    if file.gzipped is None or not accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.plain, headers=headers)
    return Response(file.gzipped, headers={**headers, "content-encoding": "gzip"})
