"""Changing accounts: rules first, then the write. Sessions have their own module."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from bson import ObjectId
from email_validator import EmailNotValidError, validate_email
from pymongo.errors import DuplicateKeyError

from taskgraph.accounts import reads
from taskgraph.accounts.credentials import Credentials
from taskgraph.accounts.model import User
from taskgraph.accounts.passwords import PasswordHasher, common_passwords, normal
from taskgraph.errors import ErrorCode, InputRefused, Problem, Refused, Unauthenticated
from taskgraph.storage import clock
from taskgraph.storage.audit_log import Trail
from taskgraph.storage.mongo import Database, Document, Session, transaction
from taskgraph.storage.versions import PROFILES, Versions

NAME_CHARACTERS = 100
PASSWORD_MIN_CHARACTERS = 12
PASSWORD_CHARACTERS = 128
EMAIL_CHARACTERS = 254
# Invisible, but Persian and Indian names and composed emoji are spelled with them.
JOINERS = "\u200c\u200d"


class EmailTaken(Refused):
    """Another account has this address, in this or another case."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.EMAIL_TAKEN, "An account with this e-mail address exists already.", ("input", "email")))


class BadCredentials(Refused):
    """The same for an unknown address and a wrong password."""

    def __init__(self) -> None:
        super().__init__(Problem(ErrorCode.BAD_CREDENTIALS, "The e-mail address or the password is wrong."))


class WrongPassword(Refused):
    """The signed-in user did not prove to be the one who signed in."""

    def __init__(self, member: str) -> None:
        super().__init__(Problem(ErrorCode.BAD_CREDENTIALS, "The password is wrong.", ("input", member)))


async def register(db: Database, hasher: PasswordHasher, trail: Trail, *, name: str, email: str, password: str) -> Document:
    """A new account. InputRefused, EmailTaken."""
    problems: list[Problem] = []
    name, email = _clean_name(name, problems), _clean_email(email, problems)
    _check_password(password, "password", problems, known=(name, email))
    if problems:
        raise InputRefused(*problems)
    # Told before the password is hashed: hashing is the dearest thing this server does.
    if await reads.user_by_email(db, email) is not None:
        raise EmailTaken
    user = User(name=name, email=email, password_hash=await hasher.hash(password), created_at=clock.now())
    document = user.model_dump_doc()

    async def write(session: Session) -> None:
        await db["users"].insert_one(document, session=session)
        await replace(trail, user_id=user.id, session_id=None).leave(db, session)

    try:
        await transaction(db, write)
    except DuplicateKeyError as error:
        raise EmailTaken from error
    trail.is_left = True
    return document


async def authenticate(db: Database, credentials: Credentials, trail: Trail, *, email: str, password: str) -> Document:
    """The user with this address and password. BadCredentials, TooManyFailedLogins. The trail is that of whose account is tried.

    Unknown addresses cost the same work. A hash made with weaker parameters than today's is made anew.
    """
    email = email.strip()
    user = await reads.user_by_email(db, email)
    trail.user_id, trail.session_id = user["_id"] if user else None, None
    verdict = await credentials.check(email, user["passwordHash"] if user else None, password, address=trail.address)
    if user is None or not verdict.is_right:
        raise BadCredentials
    if verdict.is_outdated:
        return await _upgraded(db, credentials.hasher, user, password)
    return user


async def change_password(
    db: Database, credentials: Credentials, user_id: ObjectId, trail: Trail, *, current: str, new: str
) -> Document:
    """The user with a new password. InputRefused, WrongPassword, TooManyFailedLogins. Sessions are the caller's to end."""
    problems: list[Problem] = []
    user = await _expected(db, user_id)
    _check_password(new, "newPassword", problems, known=(user["name"], user["email"]))
    if problems:
        raise InputRefused(*problems)
    await confirm_password(db, credentials, user_id, password=current, member="currentPassword", address=trail.address)
    return await _changed(db, user_id, {"passwordHash": await credentials.hasher.hash(new)}, trail)


async def update_profile(
    db: Database, versions: Versions, user_id: ObjectId, trail: Trail, *, name: str | None, email: str | None
) -> Document:
    """The user with another name, address or both; None keeps. InputRefused, EmailTaken."""
    problems: list[Problem] = []
    changes: dict[str, str] = {}
    if name is not None:
        changes["name"] = _clean_name(name, problems)
    if email is not None:
        changes["email"] = _clean_email(email, problems)
    if problems:
        raise InputRefused(*problems)
    try:
        user = await _changed(db, user_id, changes, trail)
    except DuplicateKeyError as error:
        raise EmailTaken from error
    await versions.renew(PROFILES)
    return user


async def confirm_password(
    db: Database, credentials: Credentials, user_id: ObjectId, *, password: str, member: str, address: str | None
) -> None:
    """WrongPassword naming the input's `member` unless this is the user's password; TooManyFailedLogins."""
    user = await _expected(db, user_id)
    verdict = await credentials.check(user["email"], user["passwordHash"], password, address=address)
    if not verdict.is_right:
        raise WrongPassword(member)


async def _upgraded(db: Database, hasher: PasswordHasher, user: Document, password: str) -> Document:
    """The user with a hash of today's parameters. BadCredentials when the password was changed meanwhile."""
    unchanged = {"_id": user["_id"], "passwordHash": user["passwordHash"]}
    upgrade = {"$set": {"passwordHash": await hasher.hash(password)}}
    upgraded = await db["users"].find_one_and_update(unchanged, upgrade, return_document=True)
    if upgraded is not None:
        return upgraded
    # Another login may have done the same.
    current = await reads.user(db, user["_id"])
    if current is None or not (await hasher.verify(current["passwordHash"], password)).is_right:
        raise BadCredentials
    return current


async def _changed(db: Database, user_id: ObjectId, changes: dict[str, str], trail: Trail) -> Document:
    async def write(session: Session) -> Document:
        user = await db["users"].find_one_and_update({"_id": user_id}, {"$set": changes}, return_document=True, session=session)
        if user is None:
            raise Unauthenticated
        await trail.leave(db, session)
        return user

    if not changes:
        return await _expected(db, user_id)
    changed, _ = await transaction(db, write)
    trail.is_left = True
    return changed


async def _expected(db: Database, user_id: ObjectId) -> Document:
    """The signed-in user; Unauthenticated when the account is gone."""
    user = await reads.user(db, user_id)
    if user is None:
        raise Unauthenticated
    return user


def _clean_name(name: str, problems: list[Problem]) -> str:
    name, path = name.strip(), ("input", "name")
    if not name.strip(f"{JOINERS} "):
        problems.append(Problem(ErrorCode.REQUIRED, "A name is required.", path))
    elif len(name) > NAME_CHARACTERS:
        problems.append(Problem(ErrorCode.TOO_LONG, f"The name has more than {NAME_CHARACTERS} characters.", path))
    elif not all(map(_is_shown, name)):
        problems.append(Problem(ErrorCode.INVALID, "The name contains characters that cannot be shown.", path))
    return name


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def _clean_email(email: str, problems: list[Problem]) -> str:
    path = ("input", "email")
    if not email.strip():
        problems.append(Problem(ErrorCode.REQUIRED, "An e-mail address is required.", path))
    elif len(email) > EMAIL_CHARACTERS:
        problems.append(Problem(ErrorCode.TOO_LONG, f"The e-mail address has more than {EMAIL_CHARACTERS} characters.", path))
    else:
        try:
            # No look-up of the domain: it would make registering depend on DNS, and tell outsiders who registers.
            return validate_email(email.strip(), check_deliverability=False, test_environment=True).normalized
        except EmailNotValidError as error:
            problems.append(Problem(ErrorCode.INVALID, f"This is not an e-mail address: {error}", path))
    return email


def _check_password(password: str, member: str, problems: list[Problem], *, known: Sequence[str]) -> None:
    """`known` are the texts that whoever guesses will try first."""
    path = ("input", member)
    if len(password) < PASSWORD_MIN_CHARACTERS:
        problems.append(Problem(ErrorCode.INVALID, f"The password needs at least {PASSWORD_MIN_CHARACTERS} characters.", path))
    elif len(password) > PASSWORD_CHARACTERS:
        problems.append(Problem(ErrorCode.TOO_LONG, f"The password has more than {PASSWORD_CHARACTERS} characters.", path))
    elif normal(password).casefold() in {*common_passwords(), *(normal(each).casefold() for each in known)}:
        problems.append(Problem(ErrorCode.INVALID, "This password is among the first that are tried; choose another.", path))
