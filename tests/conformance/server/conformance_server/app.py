"""The application: MCP at /mcp, and the sidecar's questions under /lifecycle, as the agent answers them."""

from __future__ import annotations

from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import EmptyResult, SetLevelRequestParams
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from conformance_server import asking, content, input_required, prompts, resources
from conformance_server.revisions import Revisions
from conformance_server.schemas import schema_tool

LOCAL = ["localhost", "localhost:*"]
COMMIT = "0" * 40


def application() -> Starlette:
    """The whole application. It refuses whatever is not of the newest revision, and counts it."""
    hint = CacheHint(ttl_ms=1000, scope="private")
    server: MCPServer[Any] = MCPServer(
        name="conformance",
        version="1.0.0",
        tools=[schema_tool()],
        log_level="WARNING",
        cache_hints={
            "tools/list": hint,
            "prompts/list": hint,
            "resources/list": hint,
            "resources/templates/list": hint,
            "resources/read": hint,
            "server/discover": hint,
        },
    )
    for part in (content, asking, input_required, prompts, resources):
        part.add_to(server)
    revisions = Revisions()
    revisions.add_to(server)
    _add_logging(server)
    _add_lifecycle(server)
    app = server.streamable_http_app(
        stateless_http=True,
        transport_security=TransportSecuritySettings(allowed_hosts=LOCAL, allowed_origins=[f"http://{host}" for host in LOCAL]),
    )
    app.add_middleware(revisions.middleware)
    return app


def _add_logging(server: MCPServer[Any]) -> None:
    """Has the SDK declare that the tools log: it does so by a method that no client of the newest revision calls."""

    async def set_level(_: ServerRequestContext[Any], __: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


def _add_lifecycle(server: MCPServer[Any]) -> None:
    @server.custom_route("/lifecycle/status", methods=["GET"])  # type: ignore[untyped-decorator]
    async def status(_: Request) -> Response:
        return JSONResponse({"ready": True, "busy": [], "commit": COMMIT})

    @server.custom_route("/lifecycle/save", methods=["POST"])  # type: ignore[untyped-decorator]
    async def save(_: Request) -> Response:
        return JSONResponse({"commit": COMMIT, "clean": True})
