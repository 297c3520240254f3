"""The documents that an operator trusts: a JSON object of id and text, as relay-compiler and graphql-codegen write it."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import orjson

from taskgraph.errors import ConfigurationError
from taskgraph.settings import Settings

PREFIX = "sha256:"
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TrustedDocuments:
    """By the ids of the file, and each by its SHA-256, too: relay-compiler counts with MD5, graphql-codegen with SHA-1 by default."""

    by_id: Mapping[str, str]
    texts: frozenset[str]


NONE = TrustedDocuments(MappingProxyType({}), frozenset())


def load(settings: Settings) -> TrustedDocuments:
    """Those of TASKGRAPH_TRUSTED_DOCUMENTS_FILE, where they are to be heeded. ConfigurationError."""
    if settings.trusted_documents == "off" or settings.trusted_documents_file is None:
        return NONE
    by_id = _read(settings.trusted_documents_file)
    return TrustedDocuments({sha256(text): text for text in by_id.values()} | by_id, frozenset(by_id.values()))


def sha256(text: str) -> str:
    """In hexadecimal digits, as clients send it."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> dict[str, str]:
    try:
        held = orjson.loads(file.read_bytes())
    except OSError as error:
        raise _unusable(f"cannot read {str(file)!r} ({type(error).__name__})") from error
    except orjson.JSONDecodeError as error:
        raise _unusable(f"{str(file)!r} is no JSON in UTF-8") from error
    if not isinstance(held, dict) or not held or not all(isinstance(text, str) and text.strip() for text in held.values()):
        raise _unusable(f"{str(file)!r} must hold a JSON object of ids and GraphQL documents, at least one")
    by_id = {name.removeprefix(PREFIX): text for name, text in held.items()}
    for name, text in by_id.items():
        if SHA256.fullmatch(name) and name != sha256(text):
            raise _unusable(f"{name} in {str(file)!r} is not the SHA-256 of its document")
    return by_id


def _unusable(reason: str) -> ConfigurationError:
    return ConfigurationError(f"TASKGRAPH_TRUSTED_DOCUMENTS_FILE: {reason}")
