"""Accounts as the API shows them. A resolver takes arguments apart, calls one read or write and names the type."""

from datetime import datetime
from typing import Annotated, TypeVar

import strawberry
from bson import ObjectId

from taskgraph.accounts import cookies, export_links, reads, sessions, sign_ins, writes
from taskgraph.accounts.credentials import Credentials
from taskgraph.accounts.erasure import Erasure
from taskgraph.accounts.live_sessions import LiveSessions
from taskgraph.accounts.model import Tier, email_key
from taskgraph.accounts.sessions import SESSION
from taskgraph.accounts.tokens import AccessTokens
from taskgraph.context import Context, Info
from taskgraph.server.cost import FREE, SIGN_IN, SIGNS_IN, WRITE, ListSize
from taskgraph.server.enums import described
from taskgraph.server.fields import REPEATABLE, derived, stored
from taskgraph.server.payloads import INPUT, MutationPayload, refusals_as_errors
from taskgraph.server.rate_limit import RateLimits
from taskgraph.server.relay import Node, global_id, parse_id_of
from taskgraph.storage.mongo import Document
from taskgraph.storage.versions import Versions

USER = "U"
EXPORT_PATH = "/export"
Payload = TypeVar("Payload", bound="SignedIn")

described(
    Tier,
    "What an account may consume.",
    FREE="The ordinary limits.",
    PREMIUM="Wider limits, where the deployment sets them.",
)


@strawberry.type(description="A person with an account.")
class User(Node):
    """Wraps a stored user."""

    name: str = stored("name", "1 to 100 characters.")
    email: str = stored("email", "Compared without case.")
    tier: Tier = stored("tier", "What the account may consume.")
    created_at: datetime = stored("createdAt", "When the account was registered.")

    @derived(description="Opaque global id.")
    def id(self) -> strawberry.ID:
        """A user belongs to nobody."""
        return global_id(USER, self.document["_id"])


@strawberry.type(description="One sign-in on one device.")
class Session(Node):
    """Wraps a stored session."""

    created_at: datetime = stored("createdAt", "When it was opened by signing in.")
    last_used_at: datetime = stored("lastUsedAt", "When its tokens were renewed last.")
    expires_at: datetime = stored("expiresAt", "When it ends unless its tokens are renewed before.")
    ip: str | None = stored("ip", "Address of the client that opened it.")
    user_agent: str | None = stored("userAgent", "What that client called itself; at most 200 characters.")

    @strawberry.field(description="Opaque global id, for revokeSession.")
    def id(self) -> strawberry.ID:
        """Sessions are found by owner and id."""
        return global_id(SESSION, self.document["_id"], self.document["userId"])

    @strawberry.field(description="Whether this very request belongs to it.")
    def is_current(self, info: Info) -> bool:
        """Compared with the viewer's token."""
        return bool(self.document["_id"] == info.context.viewer.session_id)


@strawberry.interface(description="What signing in gives: the viewer and the tokens of a session.")
class SignedIn(MutationPayload):
    """Null members when refused."""

    viewer: User | None = strawberry.field(default=None, description="Who is signed in now.", directives=[FREE])
    access_token: str | None = strawberry.field(
        default=None, description="Send it as `Authorization: Bearer <token>`. Valid for minutes."
    )
    access_token_expires_at: datetime | None = strawberry.field(default=None, description="When the access token ends.")
    refresh_token: str | None = strawberry.field(
        default=None,
        description="Trade it by refreshSession. Browsers need not select it: they hold it in an HttpOnly cookie as well.",
    )


@strawberry.type(description="The new account, signed in.")
class RegisterPayload(SignedIn):
    """See SignedIn."""


@strawberry.type(description="A new session.")
class LoginPayload(SignedIn):
    """See SignedIn."""


@strawberry.type(description="The same session with new tokens.")
class RefreshSessionPayload(SignedIn):
    """See SignedIn."""


@strawberry.type(description="The session of this request has ended.")
class LogoutPayload(MutationPayload):
    """Nothing to add."""


@strawberry.type(description="Sessions have ended.")
class RevokeSessionPayload(MutationPayload):
    """With their number."""

    revoked_count: int = strawberry.field(default=0, description="How many sessions were ended.")


@strawberry.type(description="The password was changed.")
class ChangePasswordPayload(MutationPayload):
    """With the viewer."""

    viewer: User | None = strawberry.field(default=None, description="Whose password it is; null when refused.", directives=[FREE])


@strawberry.type(description="The profile was changed.")
class UpdateProfilePayload(MutationPayload):
    """With the viewer."""

    viewer: User | None = strawberry.field(
        default=None, description="The user after the change; null when refused.", directives=[FREE]
    )


@strawberry.type(description="How many documents were removed for good.")
class RemovedData:
    """Of one erasure."""

    sessions: int = strawberry.field(description="Sign-ins.")
    tasks: int = strawberry.field(description="Tasks, deleted ones included.")
    events: int = strawberry.field(description="Entries of the tasks' history.")


@strawberry.type(description="The account is gone.")
class DeleteAccountPayload(MutationPayload):
    """With what was removed."""

    removed: RemovedData | None = strawberry.field(
        default=None, description="What was removed; null when refused.", directives=[FREE]
    )


@strawberry.type(description="A link to everything that is stored about the account.")
class ExportMyDataPayload(MutationPayload):
    """With the link."""

    url: str | None = strawberry.field(
        default=None,
        description="Where to get it, as a path on this server: one JSON object, once. Keep it secret; null when refused.",
    )
    expires_at: datetime | None = strawberry.field(default=None, description="When the link ends; it ends with the session, too.")


@strawberry.input(description="A new account.")
class RegisterInput:
    """Limits are in the descriptions."""

    name: str = strawberry.field(description="1 to 100 characters.")
    email: str = strawberry.field(description="A valid address that no other account has in any case.")
    password: str = strawberry.field(description="12 to 128 characters, of any kind; not one that everybody tries first.")


@strawberry.input(description="Who signs in.")
class LoginInput:
    """E-mail address and password."""

    email: str = strawberry.field(description="In any case.")
    password: str = strawberry.field(description="The account's password.")


@strawberry.input(description="Which session to carry on.")
class RefreshSessionInput:
    """A token, or nothing for the cookie."""

    refresh_token: str | None = strawberry.field(default=None, description="Left out: the one in the session cookie.")


@strawberry.input(description="Which session to end.")
class RevokeSessionInput:
    """One of the viewer's."""

    id: strawberry.ID = strawberry.field(description="A session of the viewer, from `sessions`.")


@strawberry.input(description="A new password for the old one.")
class ChangePasswordInput:
    """Both."""

    current_password: str = strawberry.field(description="To prove who is asking.")
    new_password: str = strawberry.field(description="12 to 128 characters, of any kind; not one that everybody tries first.")


@strawberry.input(description="What to change; what is left out or null is kept.")
class UpdateProfileInput:
    """Name, address or both."""

    name: str | None = strawberry.field(default=None, description="1 to 100 characters.")
    email: str | None = strawberry.field(default=None, description="A valid address that no other account has in any case.")


@strawberry.input(description="Proof for an erasure.")
class DeleteAccountInput:
    """The password."""

    password: str = strawberry.field(description="The viewer's password.")


@strawberry.input(description="Proof for an export.")
class ExportMyDataInput:
    """The password."""

    password: str = strawberry.field(description="The viewer's password.")


@strawberry.type
class Query:
    """The root fields of accounts."""

    @strawberry.field(description="The signed-in user, or null.", metadata=REPEATABLE)
    async def viewer(self, info: Info) -> User | None:
        """Read, because the account may have changed since the token was made."""
        viewer = info.context.viewer_or_none
        document = await info.context.loader.load(reads.users_by_id, viewer.id, info.projection) if viewer else None
        return User(document=document) if document else None

    @strawberry.field(
        description="The viewer's live sessions, used last first; at most 100.", directives=[ListSize(assumed_size=10)]
    )
    async def sessions(self, info: Info) -> list[Session]:
        """Only the viewer's own."""
        return [Session(document=each) for each in await sessions.sessions_of(info.context.db, info.context.viewer.id)]


@strawberry.type
class Mutation:
    """The root fields of accounts."""

    @strawberry.mutation(description="Creates an account and signs it in. Open to everybody.", directives=[SIGN_IN])
    @refusals_as_errors(RegisterPayload)
    async def register(self, info: Info, input: Annotated[RegisterInput, INPUT]) -> RegisterPayload:
        """Two writes: the user, then the session."""
        context = info.context
        hasher = context.resources[Credentials].hasher
        user = await writes.register(context.db, hasher, context.trail, name=input.name, email=input.email, password=input.password)
        return await _open_session(context, user, RegisterPayload)

    @strawberry.mutation(
        description="Signs in. Five failures in 15 minutes close the account to further attempts for a while.",
        directives=[SIGN_IN],
        metadata=SIGNS_IN,
    )
    @refusals_as_errors(LoginPayload)
    async def login(self, info: Info, input: Annotated[LoginInput, INPUT]) -> LoginPayload:
        """The answer is the same for an unknown address and a wrong password."""
        context = info.context
        await sign_ins.admit(context.resources[RateLimits], email_key(input.email))
        credentials = context.resources[Credentials]
        user = await writes.authenticate(context.db, credentials, context.trail, email=input.email, password=input.password)
        return await _open_session(context, user, LoginPayload)

    @strawberry.mutation(
        description="Trades a refresh token (argument, or the HttpOnly cookie) for a new pair. The old one is spent: "
        "using it again ends the whole session, except within 10 seconds, for two tabs that refresh at once.",
        directives=[WRITE],
        metadata=SIGNS_IN,
    )
    @refusals_as_errors(RefreshSessionPayload)
    async def refresh_session(
        self, info: Info, input: Annotated[RefreshSessionInput | None, INPUT] = None
    ) -> RefreshSessionPayload:
        """No access token is needed: it may have expired."""
        context = info.context
        token = (input.refresh_token if input else None) or cookies.read_to_spend(context)
        if token is None:
            raise sessions.RefreshTokenMissing
        await sign_ins.admit(context.resources[RateLimits], sessions.handle_of(token))
        granted = await sessions.refresh(context.db, token, context.trail, ttl_seconds=context.settings.refresh_token_seconds)
        # Nobody has the new tokens yet. And whoever erases the account now finds the entry.
        await context.trail.leave(context.db)
        user = await reads.user(context.db, granted.session["userId"])
        if user is None:
            await context.trail.take_back(context.db)
            context.trail.user_id = context.trail.session_id = None
            raise sessions.RefreshRefused
        return _signed_in(context, user, granted, RefreshSessionPayload)

    @strawberry.mutation(
        description="Ends the session of this request: its access token and its refresh token are worthless from now on.",
        directives=[WRITE],
    )
    @refusals_as_errors(LogoutPayload)
    async def logout(self, info: Info) -> LogoutPayload:
        """Ended in MongoDB first, then in this process; others learn of it from the change stream."""
        viewer = info.context.viewer
        await _end_session(info.context, viewer.id, viewer.session_id)
        cookies.drop(info.context)
        return LogoutPayload()

    @strawberry.mutation(description="Ends one session of the viewer.", directives=[WRITE])
    @refusals_as_errors(RevokeSessionPayload)
    async def revoke_session(self, info: Info, input: Annotated[RevokeSessionInput, INPUT]) -> RevokeSessionPayload:
        """Somebody else's session is not found."""
        viewer, session_id = info.context.viewer, parse_id_of(SESSION, input.id)
        if session_id is None:
            raise sessions.SessionNotFound
        return RevokeSessionPayload(revoked_count=await _end_session(info.context, viewer.id, session_id))

    @strawberry.mutation(description="Ends every session of the viewer except that of this request.", directives=[WRITE])
    @refusals_as_errors(RevokeSessionPayload)
    async def revoke_other_sessions(self, info: Info) -> RevokeSessionPayload:
        """For a lost device."""
        return RevokeSessionPayload(revoked_count=await _end_other_sessions(info.context))

    @strawberry.mutation(description="Changes the password and ends every other session.", directives=[SIGN_IN])
    @refusals_as_errors(ChangePasswordPayload)
    async def change_password(self, info: Info, input: Annotated[ChangePasswordInput, INPUT]) -> ChangePasswordPayload:
        """Wrong current passwords count as failed logins."""
        context = info.context
        user = await writes.change_password(
            context.db,
            context.resources[Credentials],
            context.viewer.id,
            context.trail,
            current=input.current_password,
            new=input.new_password,
        )
        await _end_other_sessions(context)
        return ChangePasswordPayload(viewer=User(document=user))

    @strawberry.mutation(description="Changes name, e-mail address or both.", directives=[WRITE])
    @refusals_as_errors(UpdateProfilePayload)
    async def update_profile(self, info: Info, input: Annotated[UpdateProfileInput, INPUT]) -> UpdateProfilePayload:
        """What is null is kept."""
        context = info.context
        user = await writes.update_profile(
            context.db, context.resources[Versions], context.viewer.id, context.trail, name=input.name, email=input.email
        )
        context.forget()
        return UpdateProfilePayload(viewer=User(document=user))

    @strawberry.mutation(
        description="Gives a link to everything that is stored about the account, for one download within five minutes; needs the "
        "password.",
        directives=[SIGN_IN],
    )
    @refusals_as_errors(ExportMyDataPayload)
    async def export_my_data(self, info: Info, input: Annotated[ExportMyDataInput, INPUT]) -> ExportMyDataPayload:
        """A link, as an answer has to fit into memory and a file need not."""
        context, viewer = info.context, info.context.viewer
        await _confirm(context, input.password)
        secret, until = await export_links.offer(context.db, viewer.session_id, context.trail)
        return ExportMyDataPayload(url=f"{EXPORT_PATH}/{secret}", expires_at=until)

    @strawberry.mutation(
        description="Erases the account, its sessions, its tasks and their history; needs the password. Cannot be undone.",
        directives=[SIGN_IN],
    )
    @refusals_as_errors(DeleteAccountPayload)
    async def delete_account(self, info: Info, input: Annotated[DeleteAccountInput, INPUT]) -> DeleteAccountPayload:
        """Sessions go first, so that nothing new is written meanwhile."""
        context, viewer = info.context, info.context.viewer
        await _confirm(context, input.password)
        await context.trail.leave(context.db)
        context.resources[LiveSessions].end_all_of(viewer.id)
        removed = await context.resources[Erasure].erase(context.db, context.resources[Versions], viewer.id)
        cookies.drop(context)
        return DeleteAccountPayload(removed=RemovedData(sessions=removed.sessions, tasks=removed.tasks, events=removed.events))


async def _open_session(context: Context, user: Document, payload: type[Payload]) -> Payload:
    granted = await sessions.open_session(
        context.db,
        user,
        ttl_seconds=context.settings.refresh_token_seconds,
        ip=context.address,
        user_agent=context.user_agent,
        trail=context.trail,
    )
    return _signed_in(context, user, granted, payload)


def _signed_in(context: Context, user: Document, granted: sessions.Granted, payload: type[Payload]) -> Payload:
    session = context.resources[LiveSessions].remember(granted.session)
    access_token, expires_at = context.resources[AccessTokens].issue(user["_id"], session.id)
    refresh_token = str(granted.refresh_token)
    cookies.keep(context, refresh_token)
    return payload(
        viewer=User(document=user), access_token=access_token, access_token_expires_at=expires_at, refresh_token=refresh_token
    )


async def _end_session(context: Context, user_id: ObjectId, session_id: ObjectId) -> int:
    ended = await sessions.end_session(context.db, user_id, session_id, context.trail)
    context.resources[LiveSessions].end(session_id)
    return ended


async def _confirm(context: Context, password: str) -> None:
    await writes.confirm_password(
        context.db,
        context.resources[Credentials],
        context.viewer.id,
        password=password,
        member="password",
        address=context.address,
    )


async def _end_other_sessions(context: Context) -> int:
    viewer = context.viewer
    ended = await sessions.end_other_sessions(context.db, viewer.id, context.trail, keep=viewer.session_id)
    context.resources[LiveSessions].end_all_of(viewer.id, keep=viewer.session_id)
    return ended
