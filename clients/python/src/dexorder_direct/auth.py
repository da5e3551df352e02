"""The login as an `httpx2.Auth`: give it to the HTTP client of any MCP client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import nullcontext

import httpx2

from dexorder_direct.credentials import Credential
from dexorder_direct.session import TRIES, Workspace

PATIENCE = 120.0
"""How long a workspace may take to start, in seconds. What it answers meanwhile says that nothing was begun."""

Step = httpx2.Request | float
"""A request to send, whose response is to be sent back in, or a number of seconds to wait."""
Steps = Generator[Step, httpx2.Response | None, None]


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
        tries = _Tries(self.workspace, request)
        while not tries.over:
            log_in = not self.workspace.has_token
            with self._thread_lock if log_in else nullcontext():
                steps, response = tries.login() if log_in else tries.call(), None
                while (step := _next(steps, response)) is not None:
                    if isinstance(step, float):
                        time.sleep(step)
                        response = None
                        continue
                    response = yield step
                    if tries.reads(step, response):
                        response.read()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        await request.aread()
        if not self.workspace.is_here(request.url):
            yield request
            return
        tries = _Tries(self.workspace, request)
        while not tries.over:
            log_in = not self.workspace.has_token
            async with self._lock if log_in else nullcontext():
                steps, response = tries.login() if log_in else tries.call(), None
                while (step := _next(steps, response)) is not None:
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                        response = None
                        continue
                    response = yield step
                    if tries.reads(step, response):
                        await response.aread()


class _Tries:
    """One request, signed as often as it takes: what is sent and what its answers mean. It does no I/O of its own."""

    def __init__(self, workspace: Workspace, request: httpx2.Request) -> None:
        self._workspace = workspace
        self._request = request
        self._until = time.monotonic() + PATIENCE
        self._left = TRIES

    @property
    def over(self) -> bool:
        """Whether the last response is the answer."""
        return self._left == 0

    def reads(self, step: httpx2.Request, response: httpx2.Response) -> bool:
        """Whether a response must be read: the stream of an answer is the caller's."""
        return step is not self._request or response.status_code == 401

    def login(self) -> Steps:
        """Get a token, unless somebody else got one meanwhile."""
        if self._workspace.has_token:
            return
        flow = self._workspace.login()
        step = next(flow)
        while True:
            step.extensions = dict(self._request.extensions)
            response = yield step
            assert response is not None
            if pause := self._pause(response):
                yield pause
                continue
            try:
                step = flow.send(response)
            except StopIteration:
                return

    def call(self) -> Steps:
        """Send the request once."""
        self._workspace.sign(self._request)
        response = yield self._request
        assert response is not None
        if pause := self._pause(response):
            yield pause
        elif self._workspace.refused(response):
            self._left -= 1
        else:
            self._left = 0

    def _pause(self, response: httpx2.Response) -> float:
        """How long to wait for a workspace that is starting or about to start again; nothing once patience has ended."""
        if response.status_code != 503 or time.monotonic() >= self._until:
            return 0.0
        after = response.headers.get("retry-after", "")
        return min(float(after), 5.0) if after.isdecimal() else 0.0


def _next(steps: Steps, response: httpx2.Response | None) -> Step | None:
    """The next step; nothing after the last."""
    try:
        return steps.send(response)
    except StopIteration:
        return None
