"""The login as an `httpx2.Auth`: give it to the HTTP client of any MCP client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Collection, Generator

import httpx2

from dexorder_direct.credentials import Credential
from dexorder_direct.session import TRIES, Workspace

PATIENCE = 120.0
"""How long a workspace may take to start, in seconds. What it answers meanwhile says that nothing was begun."""


class DirectAuth(httpx2.Auth):
    """Logs in when it must, and signs each request to one workspace. Requests to anywhere else pass as they are."""

    requires_request_body = True

    def __init__(self, url: str, user: str, credential: Credential, pins: Collection[str]) -> None:
        """See `Workspace`. `pins` are the thumbprints that the workspace's key may have."""
        self.workspace = Workspace(url, user, credential, pins)
        self._lock = asyncio.Lock()
        self._thread_lock = threading.Lock()

    @property
    def mcp_url(self) -> str:
        """Where MCP is spoken."""
        return self.workspace.mcp_url

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        request.read()
        if not self.workspace.is_here(request.url):
            yield request
            return
        until = time.monotonic() + PATIENCE
        tries = 0
        while tries < TRIES:
            with self._thread_lock:
                if not self.workspace.has_token:
                    flow = self.workspace.login()
                    step = next(flow)
                    while True:
                        step.extensions = dict(request.extensions)
                        response = yield step
                        response.read()
                        if pause := _pause(response, until):
                            time.sleep(pause)
                            continue
                        try:
                            step = flow.send(response)
                        except StopIteration:
                            break
            self.workspace.sign(request)
            response = yield request
            if pause := _pause(response, until):
                time.sleep(pause)
                continue
            if response.status_code != 401:
                return
            response.read()
            if not self.workspace.refused(response):
                return
            tries += 1

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        await request.aread()
        if not self.workspace.is_here(request.url):
            yield request
            return
        until = time.monotonic() + PATIENCE
        tries = 0
        while tries < TRIES:
            async with self._lock:
                if not self.workspace.has_token:
                    flow = self.workspace.login()
                    step = next(flow)
                    while True:
                        step.extensions = dict(request.extensions)
                        response = yield step
                        await response.aread()
                        if pause := _pause(response, until):
                            await asyncio.sleep(pause)
                            continue
                        try:
                            step = flow.send(response)
                        except StopIteration:
                            break
            self.workspace.sign(request)
            response = yield request
            if pause := _pause(response, until):
                await asyncio.sleep(pause)
                continue
            if response.status_code != 401:
                return
            await response.aread()
            if not self.workspace.refused(response):
                return
            tries += 1


def _pause(response: httpx2.Response, until: float) -> float:
    """How long to wait for a workspace that is starting or about to start again; nothing once patience has ended."""
    if response.status_code != 503 or time.monotonic() >= until:
        return 0.0
    after = response.headers.get("retry-after", "")
    return min(float(after), 5.0) if after.isdecimal() else 0.0
