"""Joins the domains' root fields into one Strawberry schema; `node` and `nodes`, which span all of them, live here."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated

import strawberry
from graphql import GraphQLInputObjectType

from taskgraph.accounts import audit, audit_schema, sessions
from taskgraph.accounts import reads as account_reads
from taskgraph.accounts import schema as accounts
from taskgraph.context import Context, Info, Viewer
from taskgraph.errors import BadUserInput
from taskgraph.server import scalars
from taskgraph.server.cost import ListSize
from taskgraph.server.fields import REPEATABLE
from taskgraph.server.payloads import GenericError
from taskgraph.server.relay import Node, NodeKey, parse_id
from taskgraph.storage import stored_events
from taskgraph.tasks import bulk_schema, event_schema, graph_schema, history, task_schema
from taskgraph.tasks import schema as tasks
from taskgraph.tasks.error_schema import DependencyCycle, VersionConflict
from taskgraph.tasks.history import EventKey
from taskgraph.tasks.model import TASK
from taskgraph.tasks.reads import TaskKey
from taskgraph.usage import schema as usage

MAX_NODES = 100


@strawberry.type
class NodeQuery:
    """The root fields that find anything by its id."""

    @strawberry.field(
        description="The object with this global id; null when there is none that the viewer may see.", metadata=REPEATABLE
    )
    async def node(self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="A global id.")]) -> Node | None:
        """One batched read, chosen by the id's type."""
        return await _find(info.context, id)

    @strawberry.field(
        description="The objects with these global ids, in their order; null for each that is not there. At most 100.",
        metadata=REPEATABLE,
        directives=[ListSize(slicing_arguments=["ids"])],
    )
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], strawberry.argument(description="Global ids; at most 100.")]
    ) -> list[Node | None]:
        """Batched: one query for each type among the ids."""
        if len(ids) > MAX_NODES:
            raise BadUserInput(f"nodes takes at most {MAX_NODES} ids.")
        return await asyncio.gather(*(_find(info.context, each) for each in ids))


@strawberry.type(
    description="What can be read. All but `viewer` needs a signed-in viewer, and shows only what that viewer may see."
)
class Query(NodeQuery, accounts.Query, audit_schema.Query, tasks.Query, event_schema.Query, usage.Query):
    """Joined from the domains."""


@strawberry.type(
    description="What can be changed. Whoever may act on a refusal finds it as data in the payload's `errors`; then nothing was written."
)
class Mutation(accounts.Mutation, tasks.Mutation, graph_schema.Mutation, bulk_schema.Mutation):
    """Joined from the domains."""


@strawberry.type(description="What can be followed live, over graphql-transport-ws.")
class Subscription(event_schema.Subscription):
    """Joined from the domains."""


@cache
def build() -> strawberry.Schema:
    """The schema; made once per process, as it never changes."""
    made = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[GenericError, VersionConflict, DependencyCycle],
        config=scalars.configuration(),
    )
    for kind in made._schema.type_map.values():  # noqa: SLF001 - Strawberry has no public name for the graphql-core schema it has built
        if isinstance(kind, GraphQLInputObjectType):
            # Strawberry only marks them for itself; its own rule fails at variables that are unknown, or in fragments that come first.
            kind.is_one_of = bool(kind.extensions["strawberry-definition"].is_one_of)
    return made


def sdl() -> str:
    """The schema as text, ending in a line break."""
    return build().as_str().rstrip() + "\n"


async def _find(context: Context, text: str) -> Node | None:
    """The viewer's object with this global id. Every finder has the viewer in its query."""
    viewer, key = context.viewer, parse_id(text)
    finder = _FINDERS.get(key.kind) if key else None
    return await finder(context, viewer, key) if finder and key else None


async def _user(context: Context, viewer: Viewer, key: NodeKey) -> Node | None:
    """Nobody but the viewer, until people share something."""
    document = await context.loader.load(account_reads.users_by_id, key.id) if key.id == viewer.id else None
    return accounts.User(document=document) if document else None


async def _session(context: Context, viewer: Viewer, key: NodeKey) -> Node | None:
    # Sessions change without a new version of the viewer's data.
    context.is_repeatable = False
    document = await context.loader.load(sessions.sessions_by_key, (viewer.id, key.id))
    return accounts.Session(document=document) if document else None


async def _audit_entry(context: Context, viewer: Viewer, key: NodeKey) -> Node | None:
    # Entries come without a new version of the viewer's data.
    context.is_repeatable = False
    document = await context.loader.load(audit.entries_by_key, (viewer.id, key.id))
    return audit_schema.AuditEntry(document=document) if document else None


async def _task(context: Context, viewer: Viewer, key: NodeKey) -> Node | None:
    return await tasks.find_task(context, TaskKey(viewer.id, key.id))


async def _event(context: Context, viewer: Viewer, key: NodeKey) -> Node | None:
    document = await context.loader.load(history.events_by_key, EventKey(viewer.id, key.id))
    return task_schema.shown_event(stored_events.logged(document)) if document else None


_FINDERS: dict[str, Callable[[Context, Viewer, NodeKey], Awaitable[Node | None]]] = {
    accounts.USER: _user,
    sessions.SESSION: _session,
    audit_schema.AUDIT: _audit_entry,
    TASK: _task,
    task_schema.EVENT: _event,
}
