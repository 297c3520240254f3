"""Who may read answers from a page of another site."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from taskgraph.server.one_write import WHOLE_EXCHANGE


class Cors(CORSMiddleware):
    """Starlette's, past which a POST without an Origin goes. All that it would get is Origin in Vary, for the sake of caches; and
    no cache keeps the answer to a POST.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "POST" and not _has_origin(scope):
            await self.app(scope, receive, send)
        else:
            # What it says is added to the head on its way.
            scope.get("extensions", {}).pop(WHOLE_EXCHANGE, None)
            await super().__call__(scope, receive, send)


def _has_origin(scope: Scope) -> bool:
    return any(name == b"origin" for name, _ in scope["headers"])
