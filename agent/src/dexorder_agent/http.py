"""What the agent answers over HTTP: MCP at /mcp, and the sidecar's questions under /lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo.git import GitError
from dexorder_agent.server import WorkspaceServer
from dexorder_agent.workspace import Workspace

logger = logging.getLogger(__name__)

PUSH_SECONDS = 15.0
"""A save waits no longer for the remote: what is saved is on the volume, and is pushed after the next start."""

LOCAL = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*"]


def application(server: WorkspaceServer, workspace: Workspace) -> Starlette:
    """The whole application. There are no sessions, so a restart breaks no client."""

    async def status(_: Request) -> Response:
        busy = [*workspace.pool.running.values(), *([workspace.environment.busy] if workspace.environment.busy else [])]
        told: dict[str, Any] = {"ready": True, "busy": busy, "commit": workspace.repository.head()}
        remote = workspace.repository.remote
        if remote is not None:
            told["remote"] = {"pushed": remote.pushed, "problem": remote.problem}
        return JSONResponse(told)

    async def save(_: Request) -> Response:
        try:
            change = await workspace.repository.save()
        except (WorkspaceError, GitError, OSError) as error:
            logger.exception("save failed")
            return JSONResponse({"error": f"the workspace can't be saved: {error}"}, status_code=500)
        told: dict[str, Any] = {"commit": change.commit, "clean": True}
        remote = workspace.repository.remote
        if remote is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUSH_SECONDS):
                    await remote.step(workspace.repository)
            told["remote"] = {"pushed": remote.pushed, "problem": remote.problem}
        return JSONResponse(told)

    return server.streamable_http_app(
        stateless_http=True,
        custom_starlette_routes=[
            Route("/lifecycle/status", status, methods=["GET"]),
            Route("/lifecycle/save", save, methods=["POST"]),
        ],
        transport_security=TransportSecuritySettings(allowed_hosts=LOCAL, allowed_origins=[f"http://{host}" for host in LOCAL]),
    )
