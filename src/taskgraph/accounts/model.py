"""What is stored about people: users and their sessions. Documents are camelCase; the model validates and dumps them."""

import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Any

from bson import ObjectId
from odmantic import Field, Model
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collation import Collation

# Addresses that differ only in case are one account; strength 2 compares letters and accents, not case.
IGNORING_CASE = Collation(locale="en", strength=2)


def email_key(email: str) -> str:
    """Equal for addresses that differ only in case, or in how the same letters are composed."""
    return unicodedata.normalize("NFC", email).casefold()


class Tier(StrEnum):
    """What a user may consume; see the rate limits."""

    FREE = "FREE"
    PREMIUM = "PREMIUM"


def _user_indexes() -> list[Any]:
    return [IndexModel([("email", ASCENDING)], name="email", unique=True, collation=IGNORING_CASE)]


class User(Model):
    """One account. `password_hash` is in PHC format, argon2id."""

    model_config = {"collection": "users", "indexes": _user_indexes}

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    name: str
    email: str
    password_hash: str = Field(key_name="passwordHash")
    tier: Tier = Tier.FREE
    created_at: datetime = Field(key_name="createdAt")


def _session_indexes() -> list[Any]:
    return [
        IndexModel([("handle", ASCENDING)], name="handle", unique=True),
        IndexModel([("userId", ASCENDING), ("lastUsedAt", DESCENDING)], name="user"),
        IndexModel([("expiresAt", ASCENDING)], name="expired", expireAfterSeconds=0),
    ]


class Session(Model):
    """One sign-in on one device. Refresh tokens are stored as SHA-256 only: they carry 256 random bits, so no slow hash is needed.

    `handle` finds the session; `token_hash` is that of the one token that may be used next; `previous_hash` and `salt`
    let the token spent last be answered with the same successor for a few seconds. `ended_at` is set by a revocation;
    the document stays until `expires_at` so that every process can learn of it. `export_digest` is that of the one link to the
    account's export, good until `export_until`.
    """

    model_config = {"collection": "sessions", "indexes": _session_indexes}

    id: ObjectId = Field(default_factory=ObjectId, primary_field=True)
    user_id: ObjectId = Field(key_name="userId")
    handle: bytes
    token_hash: bytes = Field(key_name="tokenHash")
    previous_hash: bytes | None = Field(default=None, key_name="previousHash")
    salt: bytes | None = None
    created_at: datetime = Field(key_name="createdAt")
    last_used_at: datetime = Field(key_name="lastUsedAt")
    expires_at: datetime = Field(key_name="expiresAt")
    ended_at: datetime | None = Field(default=None, key_name="endedAt")
    ip: str | None = None
    user_agent: str | None = Field(default=None, key_name="userAgent")
    export_digest: bytes | None = Field(default=None, key_name="exportDigest")
    export_until: datetime | None = Field(default=None, key_name="exportUntil")
