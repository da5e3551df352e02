"""Which revisions reach the server: the newest alone is served, and what was not of it is counted for the runner to see."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

RESOURCE = "test://revisions"
PATH = "/mcp"
UNSUPPORTED = -32022


class Revisions:
    """Counts requests by what their header says of their revision."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add_to(self, server: MCPServer[Any]) -> None:
        """Add the resource that tells the counts."""

        @server.resource(RESOURCE, mime_type="application/json", description="Requests by revision")
        async def revisions() -> str:
            return json.dumps(self.counts)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Stand before the SDK, which speaks the older revisions too."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != PATH:
                await app(scope, receive, send)
                return
            headers = Headers(scope=scope)
            revision = headers.get("mcp-protocol-version", "none")
            if scope["method"] != "POST":
                revision = f"{scope['method']} {revision}"
            if "mcp-session-id" in headers:
                revision = f"session of {revision}"
            self.counts[revision] = self.counts.get(revision, 0) + 1
            if revision.startswith(("none", "2024-", "2025-")):
                error = {"code": UNSUPPORTED, "message": f"this server speaks {LATEST_MODERN_VERSION} alone"}
                await JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=400)(scope, receive, send)
                return
            await app(scope, receive, send)

        return guarded
