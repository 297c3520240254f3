"""What browsers are told about the GraphiQL page and its files: what may run, how long it keeps, what is not there."""

import asyncio
import gzip
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from taskgraph.server import page

SCRIPT = b"console.log('taskgraph');" * 40


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "graphiql"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>taskgraph</title>")
    (folder / "assets" / "index-1a2b.js").write_bytes(SCRIPT)
    (folder / "assets" / "index-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder / "assets" / "roboto-3c4d.woff2").write_bytes(b"wOF2")
    (tmp_path / "secret").write_text("not for the public")
    return folder


def get(loaded: page.Page, path: str, accept_encoding: str = "gzip") -> httpx.Response:
    app = Starlette(routes=[Route("/graphql", loaded.index), *loaded.routes()])

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://taskgraph.test") as client:
            return await client.get(path, headers={"accept-encoding": accept_encoding})

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/graphql", "/graphiql/assets/index-1a2b.js", "/graphiql/assets/roboto-3c4d.woff2"])
def test_only_our_own_files_may_run_or_be_asked(built: Path, path: str) -> None:
    """The policy goes with every file, as a worker obeys that of its own."""
    headers = get(page.load(built), path).headers
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
        "img-src 'self' data:; font-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def test_the_page_is_asked_for_anew_each_time(built: Path) -> None:
    answer = get(page.load(built), "/graphql")
    assert answer.status_code == 200
    assert answer.text == "<!doctype html><title>taskgraph</title>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("index-1a2b.js", "text/javascript; charset=utf-8"), ("roboto-3c4d.woff2", "font/woff2")],
)
def test_a_file_named_by_its_hash_is_kept_for_a_year(built: Path, name: str, content_type: str) -> None:
    answer = get(page.load(built), f"/graphiql/assets/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accept_encoding", "content_encoding"),
    [
        ("gzip", "gzip"),
        ("br, GZIP ; q=0.5", "gzip"),
        ("br", None),
        ("identity", None),
        ("gzip;q=0, br", None),
        ("gzip; q=0.000", None),
    ],
)
def test_gzip_is_sent_to_those_who_accept_it(built: Path, accept_encoding: str, content_encoding: str | None) -> None:
    answer = get(page.load(built), "/graphiql/assets/index-1a2b.js", accept_encoding)
    assert answer.headers.get("content-encoding") == content_encoding
    assert answer.content == SCRIPT


def test_what_has_no_compressed_copy_is_sent_as_it_is(built: Path) -> None:
    answer = get(page.load(built), "/graphiql/assets/roboto-3c4d.woff2")
    assert "content-encoding" not in answer.headers
    assert answer.content == b"wOF2"


@pytest.mark.parametrize(
    "path",
    [
        "nothing-9z9z.js",
        "index-1a2b.js.gz",
        "../index.html",
        "%2e%2e/index.html",
        "..%2findex.html",
        "..%2f..%2fsecret",
        "..%5cindex.html",
        "%2fetc%2fpasswd",
        "",
    ],
)
def test_a_path_out_of_the_folder_is_not_found(built: Path, path: str) -> None:
    answer = get(page.load(built), f"/graphiql/assets/{path}")
    assert answer.status_code == 404
    assert "taskgraph" not in answer.text
    assert "public" not in answer.text


def test_files_are_read_once_at_start(built: Path) -> None:
    loaded = page.load(built)
    (built / "assets" / "late-5e6f.js").write_text("late")
    (built / "assets" / "index-1a2b.js").unlink()
    assert get(loaded, "/graphiql/assets/late-5e6f.js").status_code == 404
    assert get(loaded, "/graphiql/assets/index-1a2b.js").content == SCRIPT


def test_a_page_that_was_not_built_says_how_to_get_it(tmp_path: Path) -> None:
    missing = page.load(tmp_path / "graphiql")
    answer = get(missing, "/graphql")
    assert not page.is_built(tmp_path / "graphiql")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        "GraphiQL is not built: install Node 20 or newer, run `make setup` and start again; the API at POST /graphql works without it.\n"
    )
    assert get(missing, "/graphiql/assets/index-1a2b.js").status_code == 404


def test_the_built_page_names_only_files_it_brings() -> None:
    built = page.load()
    if built.document is None:
        pytest.skip(page.NOT_BUILT)
    html = built.document.plain.decode()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(addresses) >= 3
    assert {address.removeprefix("/graphiql/assets/") for address in addresses} <= built.assets.keys()
    assert "<style" not in html
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
