"""What orchestrators and load balancers are told: lives, is ready, and what is missing."""

import asyncio
from typing import NoReturn

import httpx
import pytest
from pymongo.errors import AutoReconnect

from taskgraph.server import health
from taskgraph.storage import embedded
from tests.conftest import MakeSettings, Server, migrated, served


async def unreachable(_db: object) -> NoReturn:
    raise AutoReconnect("connection refused")


async def silent(_db: object) -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets the event")


async def secondary(_db: object) -> bool:
    return False


def test_with_everything_up_all_three_say_so(server: Server) -> None:
    live, ready, report = (httpx.get(f"{server.url}/{path}") for path in ("livez", "readyz", "health"))
    assert (live.status_code, live.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert (report.status_code, report.json()) == (
        200,
        {"status": "up", "checks": {"mongodb": "up", "events": "up", "redis": "up"}},
    )
    assert report.headers["content-type"] == "application/json"
    assert report.headers["cache-control"] == "no-store"


def test_without_redis_it_is_degraded_but_ready(settings: MakeSettings) -> None:
    made = settings(redis_url=f"redis://127.0.0.1:{embedded._free_port()}")
    migrated(made)
    with served(made) as url:
        ready, report = httpx.get(f"{url}/readyz"), httpx.get(f"{url}/health")
    assert (ready.status_code, ready.text) == (200, "ready\n")
    assert (report.status_code, report.json()) == (
        200,
        {"status": "degraded", "checks": {"mongodb": "up", "events": "up", "redis": "down"}},
    )


@pytest.mark.parametrize("fault", [unreachable, silent, secondary])
def test_without_a_primary_it_lives_but_is_not_ready(server: Server, monkeypatch: pytest.MonkeyPatch, fault: object) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr("taskgraph.app._answers", fault)
    live, ready, report = (httpx.get(f"{server.url}/{path}") for path in ("livez", "readyz", "health"))
    assert (live.status_code, live.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (503, "not ready\n")
    assert (report.status_code, report.json()) == (
        503,
        {"status": "down", "checks": {"mongodb": "down", "events": "up", "redis": "up"}},
    )


@pytest.mark.parametrize("path", ["livez", "readyz", "health"])
def test_it_is_only_to_be_read(server: Server, path: str) -> None:
    assert httpx.head(f"{server.url}/{path}").status_code == 200
    assert httpx.post(f"{server.url}/{path}").status_code == 405
