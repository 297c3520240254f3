"""What one operation works with: who asks, the open resources, and reads that are batched for as long as the operation lasts."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import strawberry
from aiodataloader import DataLoader
from bson import ObjectId
from starlette.requests import HTTPConnection

from taskgraph.errors import Unauthenticated
from taskgraph.server.gate import Reply
from taskgraph.settings import Settings
from taskgraph.storage import clock
from taskgraph.storage.merged_reads import Batch, MergedReads
from taskgraph.storage.mongo import Database

Kind = TypeVar("Kind")
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: a user, through one of their sessions."""

    id: ObjectId
    session_id: ObjectId


class Resources:
    """What app.py has opened, each found by its type: `resources[PasswordHasher]`."""

    def __init__(self, *opened: object) -> None:
        self._by_type = {type(each): each for each in opened}

    def __getitem__(self, kind: type[Kind]) -> Kind:
        return cast("Kind", self._by_type[kind])


class Context:
    """Lives as long as one operation; each message of a subscription is shown in one of its own, so none with older data."""

    def __init__(self, resources: Resources, viewer: Viewer | None, connection: HTTPConnection, reply: Reply) -> None:
        self.resources = resources
        self.db = resources[Database]
        self.settings = resources[Settings]
        self.reply = reply
        # One time for the whole operation: what is compared with now is then compared alike, and can be read together.
        self.now = clock.now()
        self._viewer = viewer
        self.connection = connection
        self._merged = resources[MergedReads]
        self._loaders: dict[Any, DataLoader[Any, Any]] = {}
        self._known: dict[Any, dict[Any, Any]] = {}

    @property
    def viewer(self) -> Viewer:
        """The signed-in viewer; Unauthenticated for anybody else."""
        if self._viewer is None:
            raise Unauthenticated
        return self._viewer

    @property
    def viewer_or_none(self) -> Viewer | None:
        """For the few fields that the anonymous may ask for."""
        return self._viewer

    @property
    def address(self) -> str | None:
        """The client's IP address; a forwarded one only where a trusted proxy said so."""
        return self.connection.client.host if self.connection.client else None

    @property
    def user_agent(self) -> str | None:
        """What the client calls itself."""
        return self.connection.headers.get("user-agent")

    async def load(self, batch: Batch[Key, Value], key: Key) -> Value:
        """One value of a batched read: all keys that are asked for in one turn of the event loop become one call of `batch`."""
        loader = self._loaders.get(batch)
        if loader is None:
            loader = self._loaders[batch] = self._loader_of(batch)
        return cast("Value", await loader.load(key))

    async def load_many(self, batch: Batch[Key, Value], keys: Sequence[Key]) -> list[Value]:
        """Many values of a batched read, in the order of the keys; read together with what other operations ask for just now."""
        known = self._known.setdefault(batch, {})
        unknown = [key for key in dict.fromkeys(keys) if key not in known]
        if unknown:
            known.update(zip(unknown, await self._merged.load(batch, unknown), strict=True))
        return [known[key] for key in keys]

    def forget(self) -> None:
        """Drops what was read, after a write."""
        self._loaders.clear()
        self._known.clear()
        self.now = clock.now()

    def _loader_of(self, batch: Batch[Key, Value]) -> DataLoader[Key, Value]:
        async def load_all(keys: list[Key]) -> list[Value]:
            return await self.load_many(batch, keys)

        return DataLoader(load_all)


Info = strawberry.Info[Context, None]
