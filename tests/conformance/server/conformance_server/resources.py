"""The resources."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import MCPServer

from conformance_server.media import png


def add_to(server: MCPServer[Any]) -> None:
    """Add the resources."""

    @server.resource("test://static-text", mime_type="text/plain", description="Text")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png", description="A picture")
    async def static_binary() -> bytes:
        return png()

    @server.resource("test://watched-resource", mime_type="text/plain", description="A resource to subscribe to")
    async def watched() -> str:
        return "This resource does not change."

    @server.resource("test://template/{id}/data", mime_type="application/json", description="Data of one id")
    async def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})
