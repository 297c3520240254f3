"""The audit log as its subject sees it."""

from datetime import datetime
from typing import Annotated

import strawberry

from taskgraph.accounts import audit
from taskgraph.accounts.sessions import SESSION
from taskgraph.context import Info
from taskgraph.server.cost import FORWARD_PAGE, FREE
from taskgraph.server.enums import described
from taskgraph.server.fields import derived, stored
from taskgraph.server.relay import Node, PageInfo, global_id
from taskgraph.storage import paging
from taskgraph.storage.audit_log import AuditOutcome
from taskgraph.storage.mongo import Document
from taskgraph.storage.paging import Page, encode_cursor

AUDIT = "A"

described(
    AuditOutcome,
    "How a mutation ended.",
    DONE="It was done, or there was nothing to do.",
    REFUSED="It was refused as data; nothing was written.",
    FAILED="It ended in an error of the request, such as BUSY.",
)


@strawberry.type(
    description="One mutation that was about the viewer's account, whoever asked for it. Nothing that was typed is kept."
)
class AuditEntry(Node):
    """Wraps a stored entry."""

    at: datetime = stored("at", "When it was written.")
    action: str = stored(
        "action",
        "Name of the mutation: `login`, `changePassword`, `updateTask`; `downloadExport` where the link of `exportMyData` was used.",
    )
    outcome: AuditOutcome = stored("outcome", "How it ended.")
    code: str | None = stored("code", "Why it was refused or failed, the first reason if there were several.")
    address: str | None = stored("address", "IP address that the request came from, as the rate limits see it.")
    request_id: str = stored("requestId", "The same for all that one request did.")

    @derived("userId", description="Opaque global id.")
    def id(self) -> strawberry.ID:
        """Holds the user, whom every query needs."""
        return global_id(AUDIT, self.document["_id"], self.document["userId"])

    @derived("userId", "sessionId", description="Global id of the session that asked, or that was opened.")
    def session_id(self) -> strawberry.ID | None:
        """The session may have ended since."""
        session_id = self.document["sessionId"]
        return global_id(SESSION, session_id, self.document["userId"]) if session_id else None

    @derived(
        "userId",
        "targetKind",
        "targetIds",
        description="Global ids of what it was about, at most 500: the tasks that changed, or those that the input named.",
    )
    def target_ids(self) -> list[strawberry.ID]:
        """They may be gone since."""
        kind, user_id = self.document["targetKind"], self.document["userId"]
        return [global_id(kind, each, user_id) for each in self.document["targetIds"]]


@strawberry.type(description="An entry in a page of the audit log.")
class AuditLogEdge:
    """With its place."""

    page: strawberry.Private[Page]
    document: strawberry.Private[Document]

    @derived(description="Where the entry stands; pass it as `after`.")
    def cursor(self) -> str:
        """Made only when selected."""
        return encode_cursor(self.page.window.order, self.document)

    @strawberry.field(description="The entry.", directives=[FREE])
    def node(self) -> AuditEntry:
        """Already read."""
        return AuditEntry(document=self.document)


@strawberry.type(description="A page of the audit log, newest first.")
class AuditLogConnection:
    """Wraps a page."""

    page: strawberry.Private[Page]

    @strawberry.field(description="The entries of this page with their cursors.", directives=[FREE])
    def edges(self) -> list[AuditLogEdge]:
        """In order."""
        return [AuditLogEdge(page=self.page, document=document) for document in self.page.documents]

    @strawberry.field(description="The entries of this page.", directives=[FREE])
    def nodes(self) -> list[AuditEntry]:
        """In order."""
        return [AuditEntry(document=document) for document in self.page.documents]

    @strawberry.field(description="Where this page stands in the log.", directives=[FREE])
    def page_info(self) -> PageInfo:
        """Of this page."""
        return PageInfo(page=self.page)


@strawberry.type
class Query:
    """The log at the root."""

    @strawberry.field(
        description="What was done to the viewer's account, newest first, as far back as it is kept: every mutation of the viewer, and "
        "every attempt to sign in to the account. `first` is 1 to 100; 20 when left out.",
        directives=[FORWARD_PAGE],
    )
    async def audit_log(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description="How many: 1 to 100; 20 when left out.")] = None,
        after: Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")] = None,
    ) -> AuditLogConnection:
        """One query, when nothing waits to be written."""
        info.context.is_repeatable = False
        context, window = info.context, paging.window(audit.NEWEST_FIRST, first=first, after=after)
        return AuditLogConnection(page=await audit.page(context.db, context.audit, context.viewer.id, window))
