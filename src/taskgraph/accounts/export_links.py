"""Links to an account's export: asked for with the password, good for one download within minutes, and gone with the session.

A browser can follow a link, but it cannot send an access token along; so the link itself has to be the proof.
"""

import hashlib
import secrets
from datetime import datetime, timedelta

from bson import ObjectId

from taskgraph.accounts import reads
from taskgraph.errors import Unauthenticated
from taskgraph.storage import base64url, clock
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.mongo import Database, Document, Session, transaction

ID_BYTES = 12
SECRET_BYTES = 32
VALID_SECONDS = 300


async def offer(db: Database, session_id: ObjectId, trail: Trail) -> tuple[str, datetime]:
    """The secret part of a new link and when it ends; a former one of the session is worthless from now on. Unauthenticated."""
    secret, until = secrets.token_bytes(SECRET_BYTES), clock.now() + timedelta(seconds=VALID_SECONDS)
    link = {"exportDigest": hashlib.sha256(secret).digest(), "exportUntil": until}

    async def write(session: Session) -> None:
        offered = await db["sessions"].update_one({"_id": session_id}, {"$set": link}, session=session)
        if not offered.matched_count:
            raise Unauthenticated("The session has ended; sign in again.")
        await trail.leave(db, session)

    await transaction(db, write)
    trail.is_left = True
    return base64url.encode(session_id.binary + secret), until


async def redeem(db: Database, text: str, trail: Trail) -> Document | None:
    """The user whose export the link leads to, once, which the trail then tells; None for anything else."""
    raw = base64url.decode(text)
    if raw is None or len(raw) != ID_BYTES + SECRET_BYTES:
        return None
    now = clock.now()
    session = await db["sessions"].find_one_and_update(
        {
            "_id": ObjectId(raw[:ID_BYTES]),
            "exportDigest": hashlib.sha256(raw[ID_BYTES:]).digest(),
            "exportUntil": {"$gt": now},
            "endedAt": None,
            "expiresAt": {"$gt": now},
        },
        {"$set": {"exportDigest": None}},
    )
    if session is None:
        return None
    trail.user_id, trail.session_id = session["userId"], session["_id"]
    await trail.leave(db)
    user = await reads.user(db, session["userId"])
    if user is None:
        await trail.take_back(db)
    return user
