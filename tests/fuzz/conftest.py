"""The server that is fuzzed: a process of its own, whose memory and processor time can be told from the test's."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from taskgraph.storage.embedded import Servers
from tests.conftest import MakeSettings, migrated
from tests.fuzz.campaign import SECRET, Site
from tests.fuzz.doors import rss_bytes
from tests.people import PASSWORD, registered
from tests.processes import started


@pytest.fixture(scope="package")
def site(
    servers: Servers, settings: MakeSettings, mongo_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Without limits in time, which would refuse most inputs unread."""
    made = settings()
    migrated(made)
    given = {
        "MONGO_URL": str(servers.mongo_url),
        "REDIS_URL": str(servers.redis_url),
        "MONGO_DATABASE": made.mongo_database,
        "JWT_SECRETS": servers.jwt_secret,
        "ACCESS_TOKEN_SECONDS": "36000",
        "LOGIN_FAILURES": "1000000",
        "RATE_LIMITS": "off",
    }
    with ExitStack() as stack:
        running = stack.enter_context(started("serve", "--port", "0", given=given, folder=tmp_path_factory.mktemp("fuzz")))
        url = running.until(r"taskgraph listening on (http://\S+)/graphql")[1]
        owner, stranger = (
            registered(stack.enter_context(httpx.Client(timeout=30)), f"{url}/graphql", name=name, email=None, password=PASSWORD)
            for name in (SECRET, "a stranger")
        )
        yield Site(url, running.pid, mongo_client[made.mongo_database], owner, stranger, rss_bytes(running.pid))
