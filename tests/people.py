"""Callers of the API: someone with an account of their own, or nobody in particular."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

PASSWORD = "correct horse battery"  # noqa: S105 - of accounts that live as long as a test
REGISTER = """
mutation Register($name: String!, $email: String!, $password: String!) {
  register(input: {name: $name, email: $email, password: $password}) {
    accessToken
    refreshToken
    viewer { id }
    errors { code message }
  }
}
"""


@dataclass(slots=True)
class Person:
    """Speaks GraphQL over HTTP; without a token as anybody might."""

    client: httpx.Client
    graphql_url: str
    token: str | None = None
    refresh_token: str = ""
    id: str = ""
    email: str = ""
    password: str = field(default="", repr=False)

    def ask(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The decoded response but for its price, whatever its status."""
        return unpriced(self.post(document, variables))

    def post(
        self,
        document: str,
        variables: Mapping[str, Any] | None = None,
        *,
        operation_name: str | None = None,
        extensions: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The response as it came; `headers` win over the usual ones."""
        body = {"query": document, "variables": variables, "operationName": operation_name, "extensions": extensions}
        signed_in = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        return self.client.post(
            self.graphql_url,
            json={name: value for name, value in body.items() if value is not None},
            headers=signed_in | dict(headers or {}),
        )


def unpriced(response: httpx.Response) -> dict[str, Any]:
    """The decoded response without its extensions."""
    decoded: dict[str, Any] = response.json()
    decoded.pop("extensions", None)
    return decoded


def registered(client: httpx.Client, graphql_url: str, *, name: str, email: str | None, password: str) -> Person:
    """A new account, made through the public door; costs one argon2 (about 50 ms)."""
    person = Person(client, graphql_url, email=email or f"{uuid.uuid4().hex}@example.com", password=password)
    answer = person.ask(REGISTER, {"name": name, "email": person.email, "password": password})
    payload = (answer.get("data") or {}).get("register")
    assert payload is not None, answer
    assert payload["errors"] == [], payload
    person.token, person.refresh_token = payload["accessToken"], payload["refreshToken"]
    person.id = payload["viewer"]["id"]
    return person
