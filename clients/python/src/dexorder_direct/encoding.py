"""Bytes as text and back."""

from __future__ import annotations

import base64
import binascii

from dexorder_direct.errors import UnusableAnswer


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of base64url without padding."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableAnswer("a value is no base64url") from error
