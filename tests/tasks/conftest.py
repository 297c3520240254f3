"""Ada, who has no tasks when a test begins. Making a new account for each test would cost more than most tests."""

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Server
from tests.people import Person, registered
from tests.tasks.documents import oid


@pytest.fixture(scope="session")
def account(server: Server) -> Iterator[Person]:
    with httpx.Client(timeout=30) as client:
        yield registered(client, f"{server.url}/graphql", name="Ada", email=None, password="correct horse battery")


@pytest.fixture
def ada(server: Server, account: Person) -> Person:
    of_owner = {"tasks": "ownerId", "events": "ownerId", "dependencies": "ownerId", "graphs": "_id", "idempotency": "_id.ownerId"}
    for collection, member in of_owner.items():
        server.mongo[collection].delete_many({member: oid(account.id)})
    return account
