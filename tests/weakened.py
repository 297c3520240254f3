"""The command `taskgraph` with guarantees taken away, for tests that must notice: `python weakened.py stream,marks serve --port 0`."""

import sys

from taskgraph.__main__ import main
from taskgraph.server.response_cache import ResponseCache
from taskgraph.storage.versions import Versions


def without_the_event_stream() -> None:
    """Kept answers are outdated by the marks of the writers alone."""
    ResponseCache.subscriptions = property(lambda _cache: [])  # type: ignore[method-assign, assignment]


def without_marks() -> None:
    """Writers acknowledge without saying that anything has changed."""

    async def renew(_versions: Versions, *_names: object) -> None:
        pass

    Versions.renew = renew  # type: ignore[method-assign, assignment]


WEAKNESSES = {"stream": without_the_event_stream, "marks": without_marks}

if __name__ == "__main__":
    _, names, *arguments = sys.argv
    for name in names.split(","):
        WEAKNESSES[name]()
    sys.argv = ["taskgraph", *arguments]
    main()
