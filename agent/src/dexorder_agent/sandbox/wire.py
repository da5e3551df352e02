"""Messages between the agent and a child: a JSON header and arrays of 64-bit floats."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

LENGTH = struct.Struct("<II")
MAX_HEADER = 4 * 1024 * 1024
FLOAT_BYTES = 8


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """One message: both lengths, the header with the blobs' sizes, the blobs."""
    text = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join([LENGTH.pack(len(text), sum(map(len, blobs))), text, *blobs])


def unpack_lengths(head: bytes, max_bytes: int) -> tuple[int, int]:
    """Lengths of the header and of all blobs; a ValueError if they are out of bounds."""
    header, blobs = LENGTH.unpack(head)
    if header > MAX_HEADER or blobs > max_bytes:
        raise ValueError("message too long")
    return header, blobs


def unpack(header: bytes, blobs: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Take a message apart; a ValueError if it isn't one."""
    try:
        decoded = json.loads(header)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    sizes = decoded.get("sizes") if isinstance(decoded, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) != len(blobs):
        raise ValueError("sizes don't match")
    parts, start = [], 0
    for size in sizes:
        parts.append(blobs[start : start + size])
        start += size
    return decoded, parts
