"""A proxy between an MCP client on standard input and output and a workspace of mode Direct."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2

from dexorder_direct import headers
from dexorder_direct.errors import DirectError

INTERNAL_ERROR = -32603
PARSE_ERROR = -32700
SUBSCRIBE = "subscriptions/listen"


class StdioProxy:
    """Sends each message of the client as a request of its own, and writes what comes back as lines."""

    def __init__(self, client: httpx2.AsyncClient, url: str, write: Callable[[str], None]) -> None:
        self._client = client
        self._url = url
        self._write = write
        self._negotiated: str | None = None
        self._session: str | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._subscriptions: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Task[None] | None = None

    async def run(self, lines: AsyncIterator[str]) -> None:
        """Go on until the client's input ends, then give calls their time to end."""
        async with asyncio.TaskGroup() as group:
            async for line in lines:
                if not line.strip():
                    continue
                try:
                    message = json.loads(line)
                except ValueError:
                    self._answer(None, PARSE_ERROR, "the line is no JSON")
                    continue
                if not isinstance(message, dict):
                    self._answer(None, PARSE_ERROR, "the line is no JSON-RPC message")
                elif not self._cancelled(message):
                    await self._begin(group, message)
            for task in self._subscriptions | ({self._listener} if self._listener else set()):
                task.cancel()

    async def _begin(self, group: asyncio.TaskGroup, message: dict[str, Any]) -> None:
        if message.get("id") is None or message.get("method") in (None, "initialize"):
            # Later messages build on these.
            await self._send(group, message)
            return
        key = json.dumps(message["id"])
        task = group.create_task(self._send(group, message))
        self._running[key] = task
        if message["method"] == SUBSCRIBE:
            self._subscriptions.add(task)
            task.add_done_callback(self._subscriptions.discard)
        task.add_done_callback(lambda done: self._running.pop(key, None) if self._running.get(key) is done else None)

    def _cancelled(self, message: dict[str, Any]) -> bool:
        """With the newer revisions, a request is cancelled by closing its stream."""
        if message.get("method") != "notifications/cancelled" or self._negotiated is not None:
            return False
        task = self._running.get(json.dumps((message.get("params") or {}).get("requestId")))
        if task is not None:
            task.cancel()
        return True

    async def _send(self, group: asyncio.TaskGroup, message: dict[str, Any]) -> None:
        request_id = message.get("id") if "method" in message else None
        try:
            await self._exchange(group, message, request_id)
        except DirectError as error:
            self._answer(request_id, INTERNAL_ERROR, str(error))
        except httpx2.HTTPError as error:
            self._answer(request_id, INTERNAL_ERROR, f"the workspace can't be reached: {str(error) or type(error).__name__}")
        except (httpx2.SSEError, ValueError) as error:
            self._answer(request_id, INTERNAL_ERROR, f"the answer can't be read: {error}")

    async def _exchange(self, group: asyncio.TaskGroup, message: dict[str, Any], request_id: object) -> None:
        sent = headers.of(message, self._negotiated, self._session)
        async with self._client.stream("POST", self._url, content=json.dumps(message).encode(), headers=sent) as response:
            if message.get("method") == "initialize" and response.status_code == 200:
                self._session = response.headers.get("mcp-session-id")
            answered = False
            async for answer in messages(response):
                answered = answered or answer.get("id") == request_id
                self._note(message, answer)
                self._write(json.dumps(answer))
            if request_id is not None and not answered:
                self._answer(request_id, INTERNAL_ERROR, f"the workspace gave no answer (status {response.status_code})")
        if message.get("method") not in (None, "initialize") and response.status_code < 300:
            self._listen(group)

    def _note(self, message: dict[str, Any], answer: dict[str, Any]) -> None:
        result = answer.get("result")
        if message.get("method") == "initialize" and isinstance(result, dict):
            self._negotiated = result.get("protocolVersion")

    def _listen(self, group: asyncio.TaskGroup) -> None:
        """Hear what comes without a request. A stream that has ended is opened again with the next request, not by itself: it would
        keep waking a workspace that has gone to sleep."""
        if self._session is not None and (self._listener is None or self._listener.done()):
            self._listener = group.create_task(self._hear())

    async def _hear(self) -> None:
        sent = {"accept": "text/event-stream", "mcp-protocol-version": self._negotiated or "", "mcp-session-id": self._session or ""}
        try:
            timeout = httpx2.Timeout(30, read=None)
            async with self._client.stream("GET", self._url, headers=sent, timeout=timeout) as response:
                if response.status_code == 200:
                    async for answer in messages(response):
                        self._write(json.dumps(answer))
        except (DirectError, httpx2.HTTPError, httpx2.SSEError, ValueError):
            return

    def _answer(self, request_id: object, code: int, text: str) -> None:
        if request_id is not None or code == PARSE_ERROR:
            self._write(json.dumps({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}))


async def messages(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON-RPC messages of a response, whether it is JSON or a stream of events."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "text/event-stream":
        async for event in httpx2.EventSource(response):
            if event.event == "message" and event.data:
                yield json.loads(event.data)
    elif kind == "application/json":
        message = json.loads(await response.aread() or b"null")
        if isinstance(message, dict):
            yield message


async def standard_input() -> AsyncIterator[str]:
    """The lines of standard input."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line


def standard_output(line: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
