"""Sessions: opened by a sign-in, carried on by refresh tokens, ended by their user. MongoDB holds them; nothing here is cached."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from taskgraph.accounts import reads
from taskgraph.accounts.model import Session
from taskgraph.accounts.tokens import SALT_BYTES, RefreshToken
from taskgraph.errors import ErrorCode, Problem, Refused
from taskgraph.storage import clock
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.mongo import Database, Document, transaction
from taskgraph.storage.mongo import Session as Transaction

# Two tabs may spend the same token at the same moment; later than this, a spent token means that somebody else has it.
GRACE_SECONDS = 10
USER_AGENT_CHARACTERS = 200
MAX_SESSIONS = 100
# The kind of global ids.
SESSION = "S"


class RefreshRefused(Refused):
    """The refresh token is unknown, expired or of an ended session."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.BAD_CREDENTIALS, "This refresh token is not valid; sign in again."))


class RefreshTokenMissing(Refused):
    """There is no refresh token, neither as an argument nor as a cookie."""

    def __init__(self) -> None:
        message = "No refresh token was sent: give it as refreshToken, or send the request with the session cookie."
        super().__init__(Problem(ErrorCode.BAD_CREDENTIALS, message))


class TokenReused(Refused):
    """A spent refresh token came back, so the session has been ended for whoever holds its tokens."""

    def __init__(self) -> None:
        super().__init__(
            Problem(ErrorCode.TOKEN_REUSED, "This refresh token was used before; the session has been ended. Sign in again.")
        )


class AccountChanged(Refused):
    """The account was erased, or got another password, while somebody signed in to it."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.BAD_CREDENTIALS, "This account has just been changed; sign in again."))


class SessionNotFound(Refused):
    """There is no such live session of this user."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.NOT_FOUND, "You have no such session.", ("input", "id")))


@dataclass(frozen=True, slots=True)
class Granted:
    """A session and the token that carries it on."""

    session: Document
    refresh_token: RefreshToken


async def open_session(
    db: Database,
    user: Document,
    *,
    ttl_seconds: int,
    ip: str | None = None,
    user_agent: str | None = None,
    trail: Trail | None = None,
) -> Granted:
    """A new session of a user just read, stored with majority before its tokens exist anywhere else. AccountChanged."""
    token, now = RefreshToken.new(), clock.now()
    session = Session(
        user_id=user["_id"],
        handle=token.handle_digest,
        token_hash=token.digest,
        created_at=now,
        last_used_at=now,
        expires_at=now + timedelta(seconds=ttl_seconds),
        ip=ip,
        user_agent=user_agent and user_agent[:USER_AGENT_CHARACTERS],
    ).model_dump_doc()
    await db["sessions"].insert_one(session)
    is_told = trail is not None and not trail.is_left
    if trail is not None and is_told:
        trail.user_id, trail.session_id = user["_id"], session["_id"]
        await trail.leave(db)
    # The account may have been erased, or its password changed, since the password was checked. Both happen before the sessions
    # and entries are looked for that must end, so one of the two sees the other.
    now_stored = await reads.user(db, user["_id"])
    if now_stored is None or now_stored["passwordHash"] != user["passwordHash"]:
        if trail is not None and is_told:
            await trail.take_back(db)
        await db["sessions"].delete_one({"_id": session["_id"]})
        if trail is not None:
            trail.user_id, trail.session_id = None if now_stored is None else user["_id"], None
        raise AccountChanged
    await _end_surplus(db, user["_id"])
    return Granted(session, token)


def handle_of(text: str) -> str:
    """What stays the same in all refresh tokens of a session; of anything else, itself."""
    token = RefreshToken.parse(text)
    return text if token is None else token.handle.hex()


async def refresh(db: Database, text: str, trail: Trail, *, ttl_seconds: int) -> Granted:
    """Spends a refresh token: the same session with its next token. RefreshRefused, or TokenReused after ending the session."""
    token, now = RefreshToken.parse(text), clock.now()
    trail.user_id = trail.session_id = None
    if token is None:
        raise RefreshRefused
    salt = secrets.token_bytes(SALT_BYTES)
    rotated = await db["sessions"].find_one_and_update(
        {"handle": token.handle_digest, "tokenHash": token.digest, "endedAt": None, "expiresAt": {"$gt": now}},
        {
            "$set": {
                "tokenHash": token.successor(salt).digest,
                "previousHash": token.digest,
                "salt": salt,
                "lastUsedAt": now,
                "expiresAt": now + timedelta(seconds=ttl_seconds),
            }
        },
        return_document=True,
    )
    if rotated is not None:
        trail.user_id, trail.session_id = rotated["userId"], rotated["_id"]
        return Granted(rotated, token.successor(salt))
    return await _spent_token(db, token, now, trail)


async def holder(db: Database, text: str) -> Document | None:
    """The live session whose refresh token this is, without spending it."""
    token = RefreshToken.parse(text)
    if token is None:
        return None
    session = await _session_with_handle(db, token, clock.now())
    if session is not None and (session["tokenHash"] == token.digest or _is_in_grace(session, token, clock.now())):
        return session
    return None


async def live_sessions(db: Database, ids: Sequence[ObjectId]) -> list[Document | None]:
    """The sessions with these ids; one query, None for what has ended or expired. The ids must come from verified tokens."""
    wanted = {"_id": {"$in": list(ids)}, "endedAt": None, "expiresAt": {"$gt": clock.now()}}
    documents = await db["sessions"].find(wanted, {"userId": 1}, batch_size=len(ids) + 1).to_list()
    found = {each["_id"]: each for each in documents}
    return [found.get(session_id) for session_id in ids]


async def sessions_by_key(db: Database, keys: Sequence[tuple[ObjectId, ObjectId]]) -> list[Document | None]:
    """The live sessions for pairs of user and session id; one query, None for what is not there or not this user's."""
    wanted = {"_id": {"$in": [session_id for _, session_id in keys]}, "endedAt": None, "expiresAt": {"$gt": clock.now()}}
    found = {(each["userId"], each["_id"]): each for each in await db["sessions"].find(wanted).to_list()}
    return [found.get(key) for key in keys]


async def sessions_of(db: Database, user_id: ObjectId) -> list[Document]:
    """The user's live sessions, used last first: all of them, as nobody has more than MAX_SESSIONS."""
    live = {"userId": user_id, "endedAt": None, "expiresAt": {"$gt": clock.now()}}
    return await db["sessions"].find(live).sort("lastUsedAt", -1).limit(MAX_SESSIONS).to_list()


async def end_session(db: Database, user_id: ObjectId, session_id: ObjectId, trail: Trail) -> int:
    """Ends one session of the user; SessionNotFound when there is none to end."""
    trail.kind, trail.targets = SESSION, [session_id]
    ended = await _end(db, {"_id": session_id, "userId": user_id, "endedAt": None, "expiresAt": {"$gt": clock.now()}}, trail)
    if ended == 0:
        raise SessionNotFound
    return ended


async def end_other_sessions(db: Database, user_id: ObjectId, trail: Trail, *, keep: ObjectId) -> int:
    """Ends every session of the user but one; how many that were."""
    others = {"userId": user_id, "_id": {"$ne": keep}, "endedAt": None, "expiresAt": {"$gt": clock.now()}}
    return await _end(db, others, trail)


async def _end_surplus(db: Database, user_id: ObjectId) -> None:
    """Ends what was used longest ago beyond MAX_SESSIONS, so that every live session can be listed and revoked."""
    live = {"userId": user_id, "endedAt": None, "expiresAt": {"$gt": clock.now()}}
    surplus = await db["sessions"].find(live, {"_id": 1}).sort("lastUsedAt", -1).skip(MAX_SESSIONS).to_list()
    if surplus:
        await _end(db, {"_id": {"$in": [session["_id"] for session in surplus]}})


async def _spent_token(db: Database, token: RefreshToken, now: datetime, trail: Trail) -> Granted:
    session = await _session_with_handle(db, token, now)
    if session is None:
        raise RefreshRefused
    trail.user_id, trail.session_id = session["userId"], session["_id"]
    if _is_in_grace(session, token, now):
        return Granted(session, token.successor(session["salt"]))
    # The handle is 128 random bits that only ever travel inside this session's tokens, so this is one of them, spent before.
    await _end(db, {"_id": session["_id"]})
    raise TokenReused


async def _session_with_handle(db: Database, token: RefreshToken, now: datetime) -> Document | None:
    return await db["sessions"].find_one({"handle": token.handle_digest, "endedAt": None, "expiresAt": {"$gt": now}})


def _is_in_grace(session: Document, token: RefreshToken, now: datetime) -> bool:
    return bool(session["previousHash"] == token.digest) and now - session["lastUsedAt"] <= timedelta(seconds=GRACE_SECONDS)


async def _end(db: Database, which: Document, trail: Trail | None = None) -> int:
    """How many there were to end; when some were, the trail tells."""

    async def write(transaction: Transaction) -> int:
        ended = await db["sessions"].update_many(which, {"$set": {"endedAt": clock.now()}}, session=transaction)
        if ended.modified_count and trail is not None and not trail.is_left:
            await trail.leave(db, transaction)
        return ended.modified_count

    count, _ = await transaction(db, write)
    if count and trail is not None:
        trail.is_left = True
    return count
