"""Everything that is stored about an account as one JSON object, written as it is read: memory does not grow with the account.

Each domain says what it holds, as sections; ids and times are those that the API shows, secrets are left out.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from bson import ObjectId

from taskgraph.accounts.schema import USER
from taskgraph.accounts.sessions import SESSION
from taskgraph.server.relay import global_id
from taskgraph.server.scalars import rfc3339
from taskgraph.storage import audit_log, clock, idempotency
from taskgraph.storage.mongo import Database, Document

FORMAT = "taskgraph-account/1"
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Section:
    """A list of the export: the documents of a collection that meet a condition, in the order of an index."""

    name: str
    collection: str
    condition: Callable[[ObjectId], Mapping[str, Any]]
    show: Callable[[Document], Mapping[str, Any]]
    sort: Sequence[tuple[str, int]] | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """The sections of all domains."""

    sections: Sequence[Section]

    async def stream(self, db: Database, user: Document) -> AsyncGenerator[bytes]:
        """The JSON text in pieces of about CHUNK_BYTES. Not one snapshot: what is written meanwhile may be in it or not."""
        head = {"format": FORMAT, "exportedAt": clock.now(), "account": _account(user)}
        written = bytearray(_json(head)[:-1])
        for section in self.sections:
            written += f',"{section.name}":['.encode()
            found = db[section.collection].find(section.condition(user["_id"]), sort=section.sort)
            separator = b""
            async for document in found:
                written += separator + _json(section.show(document))
                separator = b","
                if len(written) >= CHUNK_BYTES:
                    yield bytes(written)
                    written.clear()
            written += b"]"
        yield bytes(written) + b"}\n"


def _json(value: object) -> bytes:
    return orjson.dumps(value, default=rfc3339, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _account(user: Document) -> Document:
    shown = {name: user[name] for name in ("name", "email", "tier", "createdAt")}
    return {"id": global_id(USER, user["_id"]), **shown}


def _session(session: Document) -> Document:
    shown = {name: session[name] for name in ("createdAt", "lastUsedAt", "expiresAt", "endedAt", "ip", "userAgent")}
    return {"id": global_id(SESSION, session["_id"], session["userId"]), **shown}


def _audit_entry(entry: Document) -> Document:
    user_id, session_id = entry["userId"], entry["sessionId"]
    shown = {name: entry[name] for name in ("at", "action", "outcome", "code", "address", "requestId")}
    return {
        **shown,
        "sessionId": global_id(SESSION, session_id, user_id) if session_id else None,
        "targetIds": [global_id(entry["targetKind"], each, user_id) for each in entry["targetIds"]],
    }


def _idempotency_key(record: Document) -> Document:
    return {"key": record["_id"]["key"], "createdAt": record["createdAt"]}


SECTIONS = (
    Section("sessions", "sessions", lambda user_id: {"userId": user_id}, _session),
    Section("auditLog", audit_log.COLLECTION, lambda user_id: {"userId": user_id}, _audit_entry, [("at", -1), ("_id", -1)]),
    Section("idempotencyKeys", idempotency.COLLECTION, idempotency.of_owner, _idempotency_key),
)
