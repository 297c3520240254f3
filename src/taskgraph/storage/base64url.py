"""Bytes as short text for ids, cursors and tokens: base64 with the alphabet for addresses, without padding (RFC 4648, section 5)."""

import binascii

_TO_TEXT = bytes.maketrans(b"+/", b"-_")
_FROM_TEXT = bytes.maketrans(b"-_+/", b"+/!!")


def encode(raw: bytes) -> str:
    """The one text for these bytes."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_TEXT, b"=").decode()


def decode(text: str) -> bytes | None:
    """The bytes; None for any other text. Several texts may give the same bytes: unused low bits are not looked at."""
    try:
        spelled = text.encode("ascii")
        return binascii.a2b_base64(spelled.translate(_FROM_TEXT) + b"=" * (-len(spelled) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
