"""Whether this process lives and whether it can serve: for orchestrators, load balancers and people."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

CHECK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing this process depends on. Without an essential one it is not ready; without another it is degraded."""

    is_up: Callable[[], Awaitable[bool]]
    is_essential: bool


class Health:
    """Answers /livez, /readyz and /health; every answer comes within CHECK_SECONDS."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def routes(self) -> list[Route]:
        """The three endpoints."""
        return [Route("/livez", self.livez), Route("/readyz", self.readyz), Route("/health", self.health)]

    async def livez(self, _request: Request) -> Response:
        """200 as long as the event loop turns: restarting would not mend a database."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """200 while everything essential is up, else 503."""
        is_ready = (await self._report())["status"] != "down"
        return PlainTextResponse(
            "ready\n" if is_ready else "not ready\n", HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        )

    async def health(self, _request: Request) -> Response:
        """The same with every check by name: `up`, `degraded` or `down`."""
        report = await self._report()
        status = HTTPStatus.SERVICE_UNAVAILABLE if report["status"] == "down" else HTTPStatus.OK
        return Response(orjson.dumps(report), status, media_type="application/json", headers={"cache-control": "no-store"})

    async def _report(self) -> dict[str, object]:
        results = await asyncio.gather(*(self._is_up(check) for check in self._checks.values()))
        up = dict(zip(self._checks, results, strict=True))
        is_down = any(check.is_essential and not up[name] for name, check in self._checks.items())
        status = "down" if is_down else "up" if all(results) else "degraded"
        return {"status": status, "checks": {name: "up" if is_up else "down" for name, is_up in up.items()}}

    @staticmethod
    async def _is_up(check: Check) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await check.is_up()
        except Exception:  # noqa: BLE001 - whatever fails in a check is what the check is for
            return False
