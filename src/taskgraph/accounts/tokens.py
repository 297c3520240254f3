"""Access tokens (JWT, minutes) and refresh tokens (opaque, days).

An access token is signed with the first secret and says by `kid` which one that was; all secrets verify, so they can be rotated
without refusing anybody. A refresh token is `handle.secret` in one opaque text: the handle finds the session, the secret must be the
session's current one.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from bson import ObjectId
from bson.errors import InvalidId

from taskgraph.errors import Unauthenticated
from taskgraph.storage import base64url, clock

ALGORITHM = "HS256"
HANDLE_BYTES = 16
SECRET_BYTES = 32
SALT_BYTES = 16
VERIFIED_TOKENS = 20_000


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified access token says."""

    user_id: ObjectId
    session_id: ObjectId
    expires_at: datetime


class AccessTokens:
    """Signs and verifies with the operator's secrets, newest first."""

    def __init__(self, signing_secrets: Sequence[str], *, ttl_seconds: int) -> None:
        self._by_kid = {hashlib.sha256(secret.encode()).hexdigest()[:8]: secret for secret in signing_secrets}
        self._newest = next(iter(self._by_kid))
        self._ttl_seconds = ttl_seconds
        self._verified: OrderedDict[str, Claims] = OrderedDict()

    def issue(self, user_id: ObjectId, session_id: ObjectId, *, ttl_seconds: int | None = None) -> tuple[str, datetime]:
        """A token and when it expires (UTC without a zone)."""
        issued_at = datetime.now(UTC).replace(microsecond=0)
        expires_at = issued_at + timedelta(seconds=ttl_seconds or self._ttl_seconds)
        claims = {"sub": str(user_id), "sid": str(session_id), "iat": issued_at, "exp": expires_at}
        token = jwt.encode(claims, self._by_kid[self._newest], ALGORITHM, headers={"kid": self._newest})
        return token, expires_at.replace(tzinfo=None)

    def verify(self, token: str) -> Claims:
        """The claims of a token that is ours and still valid, else Unauthenticated.

        A token is verified by the library once (~50 us) and then remembered with its claims, which cannot change: only
        the clock can still refuse it.
        """
        known = self._verified.get(token)
        if known is None or known.expires_at <= clock.now():
            known = self._verified[token] = self._verify(token)
            if len(self._verified) > VERIFIED_TOKENS:
                self._verified.popitem(last=False)
        return known

    def _verify(self, token: str) -> Claims:
        try:
            secret = self._by_kid[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(token, secret, [ALGORITHM], options={"require": ["exp", "sub", "sid"], "verify_iat": False})
            expires_at = datetime.fromtimestamp(claims["exp"], UTC).replace(tzinfo=None)
            return Claims(ObjectId(claims["sub"]), ObjectId(claims["sid"]), expires_at)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired; refresh the session.") from error
        except (jwt.PyJWTError, InvalidId, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated("The access token is not valid; sign in again.") from error


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The two halves of a refresh token."""

    handle: bytes
    secret: bytes

    @classmethod
    def new(cls) -> "RefreshToken":
        """A token of a new session."""
        return cls(secrets.token_bytes(HANDLE_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken | None":
        """The token written as `text`, or None for anything else."""
        raw = base64url.decode(text)
        return cls(raw[:HANDLE_BYTES], raw[HANDLE_BYTES:]) if raw and len(raw) == HANDLE_BYTES + SECRET_BYTES else None

    def __str__(self) -> str:
        return base64url.encode(self.handle + self.secret)

    @property
    def digest(self) -> bytes:
        """What is stored of the secret."""
        return hashlib.sha256(self.secret).digest()

    @property
    def handle_digest(self) -> bytes:
        """What is stored of the handle, so that a copy of the database holds no half of a token."""
        return hashlib.sha256(self.handle).digest()

    def successor(self, salt: bytes) -> "RefreshToken":
        """The next token of the session. It follows from this one and a salt, so that two tabs which spend the same token at
        the same moment are given the same next one, without any secret being stored.
        """
        return RefreshToken(self.handle, hmac.digest(self.secret, salt, "sha256"))
