"""An account's export for operators: `taskgraph export-account`. What it holds is said by the domains and joined here."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from taskgraph.accounts import export as accounts
from taskgraph.accounts import reads
from taskgraph.accounts.export import Export
from taskgraph.errors import TaskgraphError
from taskgraph.storage.mongo import Database, Document
from taskgraph.tasks import export as tasks

EXPORT = Export((*accounts.SECTIONS, *tasks.SECTIONS))


async def write(db: Database, *, email: str, file: Path | None) -> None:
    """Everything that is stored about an account, to a new file that only its owner can read, or to standard output."""
    user = await reads.user_by_email(db, email)
    if user is None:
        raise TaskgraphError(f"there is no account with the e-mail address {email}")
    if file is None:
        await _write(db, user, sys.stdout.buffer)
        return
    try:
        with _new(file) as opened:
            await _write(db, user, opened)
    except OSError as error:
        raise TaskgraphError(f"{file} cannot be written: {error.strerror}") from error


def _new(file: Path) -> BinaryIO:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600), "wb")


async def _write(db: Database, user: Document, to: BinaryIO) -> None:
    async for piece in EXPORT.stream(db, user):
        to.write(piece)
    to.flush()
