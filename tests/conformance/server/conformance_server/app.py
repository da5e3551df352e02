"""The application: MCP at /mcp, and the sidecar's questions under /lifecycle, as the agent answers them."""

from __future__ import annotations

from typing import Any

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import EmptyResult, SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from conformance_server import asking, content, events, input_required, prompts, resources
from conformance_server.schemas import schema_tool

LOCAL = ["localhost", "localhost:*"]
COMMIT = "0" * 40


def application(*, sessions: bool) -> Starlette:
    """The whole application. Old-style clients get sessions, or each of their requests stands alone as with the agent."""
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
    for part in (content, asking, input_required, events, prompts, resources):
        part.add_to(server)
    _add_old_methods(server)
    _add_lifecycle(server)
    return server.streamable_http_app(
        stateless_http=not sessions,
        event_store=events.Events() if sessions else None,
        retry_interval=events.RETRY_MILLISECONDS,
        transport_security=TransportSecuritySettings(allowed_hosts=LOCAL, allowed_origins=[f"http://{host}" for host in LOCAL]),
    )


def _add_old_methods(server: MCPServer[Any]) -> None:
    """Methods that the revision 2025-11-25 has and later ones don't. The SDK offers them at its lower level only."""
    watched: set[str] = set()

    async def set_level(_: ServerRequestContext[Any], __: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(_: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        watched.add(params.uri)
        return EmptyResult()

    async def unsubscribe(_: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        watched.discard(params.uri)
        return EmptyResult()

    lower = server._lowlevel_server
    lower.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    lower.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    lower.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)


def _add_lifecycle(server: MCPServer[Any]) -> None:
    @server.custom_route("/lifecycle/status", methods=["GET"])  # type: ignore[untyped-decorator]
    async def status(_: Request) -> Response:
        return JSONResponse({"ready": True, "busy": [], "commit": COMMIT})

    @server.custom_route("/lifecycle/save", methods=["POST"])  # type: ignore[untyped-decorator]
    async def save(_: Request) -> Response:
        return JSONResponse({"commit": COMMIT, "clean": True})
