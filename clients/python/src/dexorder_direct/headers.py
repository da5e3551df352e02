"""The HTTP headers that an MCP message needs."""

from __future__ import annotations

import base64
import re
from typing import Any

FIRST_MODERN = "2026-07-28"
"""From this revision on, headers mirror the message, and a client cancels by closing the stream."""
ACCEPT = "application/json, text/event-stream"

_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PLAIN = re.compile(r"[\x20-\x7e]*")
_WRAPPED = re.compile(r"=\?base64\?.*\?=")


def revision(message: dict[str, Any]) -> str | None:
    """The revision that a message says it is of."""
    meta = (message.get("params") or {}).get("_meta")
    said = meta.get("io.modelcontextprotocol/protocolVersion") if isinstance(meta, dict) else None
    return said if isinstance(said, str) else None


def of(message: dict[str, Any], negotiated: str | None, session: str | None) -> dict[str, str]:
    """The headers of a message, after what was negotiated before."""
    headers = {"content-type": "application/json", "accept": ACCEPT}
    said = revision(message)
    if said is not None and said >= FIRST_MODERN:
        method = str(message.get("method", ""))
        headers |= {"mcp-protocol-version": said, "mcp-method": method}
        name = (message.get("params") or {}).get(_NAMED_BY.get(method, ""))
        if isinstance(name, str):
            headers["mcp-name"] = value(name)
        return headers
    if message.get("method") != "initialize":
        if negotiated is not None:
            headers["mcp-protocol-version"] = negotiated
        if session is not None:
            headers["mcp-session-id"] = session
    return headers


def value(text: str) -> str:
    """A text as a header can bear it."""
    if _PLAIN.fullmatch(text) and text == text.strip() and not _WRAPPED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="
