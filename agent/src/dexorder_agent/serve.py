"""Serves the application on the unix socket until the process is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from starlette.applications import Starlette
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

from dexorder_agent import memory
from dexorder_agent.errors import WorkspaceError
from dexorder_agent.http import PUSH_SECONDS, application
from dexorder_agent.log import event
from dexorder_agent.server import WorkspaceServer
from dexorder_agent.settings import Settings
from dexorder_agent.workspace import Workspace

logger = logging.getLogger(__name__)

FIRST_REQUEST_SECONDS = 1.0
"""A start is mostly for a request that waits already."""


class HttpProtocol(HttpToolsProtocol):
    """The fast parser leaves spaces at the end of a header's value, which HTTP doesn't count to it."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        super().on_header(name, value.strip(b" \t"))


class UnixServer(Server):
    """A server whose socket appears at its place only when it is answered."""

    def __init__(self, app: Starlette, path: Path) -> None:
        super().__init__(
            Config(app, log_config=None, access_log=False, lifespan="on", ws="none", http=HttpProtocol, loop="asyncio", server_header=False)
        )
        self._path = path
        self.answering = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and show the socket."""
        new = self._path.with_name(f".{self._path.name}.new")
        new.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(new))
        # The sidecar has another user ID and the same group.
        os.chmod(new, 0o660)
        await super().startup(sockets=[listening])
        new.rename(self._path)
        self.answering.set()
        event(logger, "answering", socket=str(self._path))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's, so that the process can save and end with status 0."""
        yield


async def serve(settings: Settings) -> None:
    """Run the agent."""
    workspace = Workspace.of(settings)
    mcp = WorkspaceServer(workspace)
    server = UnixServer(application(mcp, workspace), settings.socket)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    opening = asyncio.create_task(workspace.repository.open())
    serving = asyncio.create_task(server.serve())
    background = asyncio.create_task(_follow_up(server, mcp, workspace))
    ending = asyncio.create_task(asked.wait())
    await asyncio.wait([serving, ending], return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        event(logger, "ending", calls=mcp.active_calls)
        await mcp.quiet(settings.shutdown_seconds)
        # What is still open now are streams that wait for news.
        mcp.close_streams()
        server.config.timeout_graceful_shutdown = 1
        server.should_exit = True
    background.cancel()
    await asyncio.wait([serving])
    settings.socket.unlink(missing_ok=True)
    workspace.repository.recovery_due.set()
    if not workspace.repository.usable:
        opening.cancel()
    await asyncio.wait([opening])
    await workspace.pool.close()
    await workspace.environment.close()
    await workspace.repository.packer.close()
    await _save(workspace)
    workspace.place.remove()
    serving.result()


async def _save(workspace: Workspace) -> None:
    """Save, and push if there is a remote. A repository that never came to be has nothing to save."""
    repository = workspace.repository
    if not repository.usable:
        logger.warning("nothing saved: there is no repository")
        return
    change = await repository.save()
    event(logger, "saved", commit=change.commit)
    if repository.remote is not None:
        await repository.remote.close()
        if repository.remote.pushed != change.commit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUSH_SECONDS):
                    await repository.remote.step(repository)


async def _follow_up(server: UnixServer, mcp: WorkspaceServer, workspace: Workspace) -> None:
    """What can wait until the first request is answered, which it would only slow down."""
    await server.answering.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_REQUEST_SECONDS):
            await mcp.answered.wait()
    workspace.repository.recovery_due.set()
    with contextlib.suppress(WorkspaceError):
        await workspace.repository.opened()
    if not workspace.place.frozen:
        workspace.environment.follow()
        workspace.repository.packer.follow()
    if workspace.repository.remote is not None:
        workspace.repository.remote.follow(workspace.repository)
    memory.settle()
