"""Which revisions reached the server, as it counts them itself: the sidecar translates, so it must be the newest alone."""

from __future__ import annotations

import json

import httpx2

NEWEST = "2026-07-28"
RESOURCE = "test://revisions"
CALL_SECONDS = 60.0
Counts = dict[str, int]


def read(url: str, token: str) -> Counts:
    """Ask the server what it counted, with a request of the newest revision."""
    meta = {"io.modelcontextprotocol/protocolVersion": NEWEST, "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": RESOURCE, "_meta": meta}}
    headers = {
        "authorization": f"Bearer {token}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": NEWEST,
        "mcp-method": "resources/read",
        "mcp-name": RESOURCE,
    }
    response = httpx2.post(url, headers=headers, json=message, timeout=CALL_SECONDS, trust_env=False)
    counts: Counts = json.loads(response.json()["result"]["contents"][0]["text"])
    return counts


def others(revision: str, before: Counts, after: Counts) -> Counts:
    """What came in a run and is not of the newest revision. The suite of that one sends such requests on purpose, to see them refused."""
    if revision == NEWEST:
        return {}
    return {name: count - before.get(name, 0) for name, count in after.items() if name != NEWEST and count > before.get(name, 0)}
