"""Logging for the whole process: structlog and the standard library's loggers end in the same lines on stderr.

JSON for machines, aligned text for people. Values whose name says that they are secret are replaced, whoever logs them.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from taskgraph.settings import Settings

SECRET_WORDS = ("password", "secret", "token", "authorization", "cookie")
# uvicorn tells of every start and stop what our own lines already say; PyMongo at DEBUG writes whole commands, password hashes
# included, and at INFO every retry.
QUIETED = ("uvicorn", "pymongo", "asyncio", "httpx", "httpcore")


def configure(settings: Settings) -> None:
    """Takes effect at once and for every logger; may be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    for name in QUIETED:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)


def _rendering(settings: Settings) -> list[Processor]:
    if settings.is_log_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # The default shows the local variables of a traceback, and those hold secrets.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if any(word in name.lower() for word in SECRET_WORDS):
        return "***"
    if isinstance(value, Mapping):
        return {str(inner): _shown(str(inner), held) for inner, held in value.items()}
    return value
