"""What the agent answers over HTTP: MCP at /mcp, and the sidecar's questions under /lifecycle."""

from __future__ import annotations

import logging

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo.git import GitError
from dexorder_agent.server import WorkspaceServer
from dexorder_agent.workspace import Workspace

logger = logging.getLogger(__name__)

LOCAL = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]


def application(server: WorkspaceServer, workspace: Workspace) -> Starlette:
    """The whole application. There are no sessions, so a restart breaks no client."""

    @server.custom_route("/lifecycle/status", methods=["GET"])  # type: ignore[untyped-decorator]
    async def status(_: Request) -> Response:
        busy = [*workspace.pool.running.values(), *([workspace.environment.busy] if workspace.environment.busy else [])]
        return JSONResponse({"ready": True, "busy": busy, "commit": workspace.repository.head()})

    @server.custom_route("/lifecycle/save", methods=["POST"])  # type: ignore[untyped-decorator]
    async def save(_: Request) -> Response:
        try:
            change = await workspace.repository.save()
        except (WorkspaceError, GitError, OSError) as error:
            logger.exception("save failed")
            return JSONResponse({"error": f"the workspace can't be saved: {error}"}, status_code=500)
        return JSONResponse({"commit": change.commit, "clean": True})

    return server.streamable_http_app(
        stateless_http=True,
        transport_security=TransportSecuritySettings(allowed_hosts=LOCAL, allowed_origins=[f"http://{host}" for host in LOCAL]),
    )
