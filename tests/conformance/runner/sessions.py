"""What a session of an old-style client is worth: the suite knows one client of one user whose server never stops."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx2
from support import tokens
from support.kubectl import Kubectl
from support.workspace import Workspace, manifest

REVISION = "2025-11-25"
STOP_SECONDS = 60.0
CALL_SECONDS = 90.0
Check = tuple[str, bool]


def check(gateway: str, kubectl: Kubectl) -> Iterator[Check]:
    """Try a session with the agent itself, and say of each property whether it holds."""
    user, thief = (f"conformance-{secrets.token_hex(4)}" for _ in range(2))
    made = Workspace(kubectl, user, user)
    kubectl.apply(manifest(user, user))
    try:
        with httpx2.Client(trust_env=False, timeout=CALL_SECONDS) as http:
            made.wait("Ready")
            client = _Client(http, f"{gateway}/mcp")
            session = client.initialize(user)
            yield "a client that initializes gets a session", bool(session)
            yield "the session is good for a request", client.read(user, session) == (200, None)
            yield "another user's request with it gets 404", client.read(thief, session) == (404, "NotFound")
            owned = kubectl.list("uws", "--field-selector", f"spec.userId={thief}")
            yield "and makes no workspace", not owned
            yield "a made-up session gets 404", client.read(user, secrets.token_urlsafe(66)) == (404, "NotFound")
            _suspend(made)
            yield "a made-up session wakes nothing", client.read(user, "x") == (404, "NotFound") and made.pod is None
            yield "the session is good after a suspend", client.read(user, session) == (200, None)
            kubectl.run("delete", "uws", user, timeout=120)
            kubectl.apply(manifest(user, user))
            made.wait("Ready")
            yield "and not in a workspace made anew", client.read(user, session) == (404, "NotFound")
    finally:
        kubectl.run("delete", "uws", user, "--ignore-not-found", timeout=120)
        kubectl.run("delete", "pvc", made.child, "--ignore-not-found", timeout=120)


def _suspend(made: Workspace) -> None:
    made.change(operatingMode="Suspended")
    made.wait("Suspended", within=STOP_SECONDS)
    made.change(operatingMode="Auto")


class _Client:
    def __init__(self, http: httpx2.Client, url: str) -> None:
        self._http, self._url = http, url

    def initialize(self, user: str) -> str:
        params = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "conformance", "version": "1"}}
        return str(self._post(user, "initialize", params).headers.get("mcp-session-id", ""))

    def read(self, user: str, session: str) -> tuple[int, str | None]:
        """Status of a request, and the reason if it was refused."""
        response = self._post(user, "resources/read", {"uri": "context://user-profile"}, {"mcp-session-id": session})
        if response.status_code == 200:
            return 200, None
        return response.status_code, response.json()["error"]["data"]["reason"]

    def _post(self, user: str, method: str, params: dict[str, Any], headers: dict[str, str] | None = None) -> httpx2.Response:
        usual = {
            "authorization": f"Bearer {tokens.of_user(user, self._url)}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._http.post(self._url, headers=usual | (headers or {}), json=message)
