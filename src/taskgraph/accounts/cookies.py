"""The cookie form of a refresh token, for browsers that should not hold it in a script's reach."""

from http.cookies import SimpleCookie

from starlette.requests import HTTPConnection

from taskgraph.context import Context
from taskgraph.settings import Settings


def name(settings: Settings) -> str:
    """The __Host- prefix makes browsers insist on Secure, this very host and the whole path. Over plain http only some keep such a cookie,
    and only on the same machine.
    """
    return "taskgraph_session" if settings.is_development else "__Host-taskgraph_session"


def keep(context: Context, refresh_token: str) -> None:
    """Gives the browser the token to keep."""
    _set(context, refresh_token, context.settings.refresh_token_seconds)


def drop(context: Context) -> None:
    """Takes it away again."""
    _set(context, "", 0)


def read(connection: HTTPConnection, settings: Settings) -> str | None:
    """The token that the browser sent, if any."""
    return connection.cookies.get(name(settings))


def read_to_spend(context: Context) -> str | None:
    """The same over HTTP; None over WebSocket, where the browser could not be given the next one and would lose its session."""
    return read(context.connection, context.settings) if context.connection.scope["type"] == "http" else None


def _set(context: Context, value: str, max_age_seconds: int) -> None:
    settings = context.settings
    cookie: SimpleCookie = SimpleCookie({name(settings): value})
    morsel = cookie[name(settings)]
    morsel.update({"path": "/", "max-age": str(max_age_seconds), "samesite": "Strict"})
    morsel["httponly"], morsel["secure"] = True, not settings.is_development
    context.reply.headers.append("set-cookie", morsel.OutputString())
