"""The official Python client, gql, as its documentation shows it: httpx for queries, websockets for subscriptions."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from tests.conftest import Server, Someone
from tests.people import Person

pytestmark = pytest.mark.anyio
LOGIN = """
  mutation($email: String!, $password: String!) {
    login(input: {email: $email, password: $password}) { accessToken errors { code } }
  }
"""
CREATE = "mutation($title: String!) { createTask(input: {title: $title}) { task { title } cursor errors { code } } }"
PAGE = "query($after: String) { tasks(first: 2, after: $after) { nodes { title } pageInfo { hasNextPage endCursor } } }"
EVENTS = "subscription($after: EventCursor) { taskEvents(after: $after) { __typename ... on TaskEvent { cursor task { title } } } }"


@pytest.fixture
def person(someone: Someone) -> Person:
    return someone()


async def signed_in(server: Server, person: Person) -> str:
    """The access token of a sign-in through the client itself."""
    async with Client(transport=HTTPXAsyncTransport(url=f"{server.url}/graphql")) as session:
        payload = (
            await session.execute(GraphQLRequest(LOGIN, variable_values={"email": person.email, "password": person.password}))
        )["login"]
    assert payload["errors"] == []
    return str(payload["accessToken"])


def over_http(server: Server, token: str) -> Client:
    transport = HTTPXAsyncTransport(url=f"{server.url}/graphql", headers={"Authorization": f"Bearer {token}"})
    return Client(transport=transport, fetch_schema_from_transport=True)


def over_websocket(server: Server, token: str) -> Client:
    transport = WebsocketsTransport(
        url=server.ws_url,
        init_payload={"authorization": f"Bearer {token}"},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
        ping_interval=0.05,
        pong_timeout=10,
    )
    return Client(transport=transport)


async def pages(session: AsyncClientSession) -> list[list[str]]:
    """The titles on each page of all tasks."""
    found: list[list[str]] = []
    after: str | None = None
    while True:
        page: dict[str, Any] = (await session.execute(GraphQLRequest(PAGE, variable_values={"after": after})))["tasks"]
        found.append([task["title"] for task in page["nodes"]])
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


@pytest.mark.parametrize("client_of", [over_http, over_websocket])
async def test_it_creates_and_pages(server: Server, person: Person, client_of: Callable[[Server, str], Client]) -> None:
    async with client_of(server, await signed_in(server, person)) as session:
        for number in range(5):
            payload = (await session.execute(GraphQLRequest(CREATE, variable_values={"title": f"task {number}"})))["createTask"]
            assert (payload["task"], payload["errors"]) == ({"title": f"task {number}"}, [])
        assert await pages(session) == [["task 4", "task 3"], ["task 2", "task 1"], ["task 0"]]


@pytest.mark.parametrize("client_of", [over_http, over_websocket])
async def test_it_shows_our_errors(server: Server, person: Person, client_of: Callable[[Server, str], Client]) -> None:
    async with client_of(server, await signed_in(server, person)) as session:
        with pytest.raises(TransportQueryError) as raised:
            await session.execute(gql("{ tasks(first: 0) { totalCount } }"))
    assert raised.value.errors is not None
    assert raised.value.errors[0]["extensions"] == {"code": "BAD_USER_INPUT"}


async def test_it_hears_of_changes_and_goes_on_where_it_was(server: Server, person: Person) -> None:
    token = await signed_in(server, person)
    async with asyncio.timeout(20), over_http(server, token) as writer, over_websocket(server, token) as listener:
        stream = listener.subscribe(gql(EVENTS))
        assert await anext(stream) == {"taskEvents": {"__typename": "StreamCheckpoint"}}
        written = [
            (await writer.execute(GraphQLRequest(CREATE, variable_values={"title": title})))["createTask"]["cursor"]
            for title in ("one", "two")
        ]
        first = await anext(stream)
        assert first == {"taskEvents": {"__typename": "TaskEvent", "cursor": written[0], "task": {"title": "one"}}}
        await stream.aclose()
        resumed = listener.subscribe(GraphQLRequest(EVENTS, variable_values={"after": written[0]}))
        assert await anext(resumed) == {"taskEvents": {"__typename": "StreamCheckpoint"}}
        second = await anext(resumed)
        assert second == {"taskEvents": {"__typename": "TaskEvent", "cursor": written[1], "task": {"title": "two"}}}
        await resumed.aclose()
