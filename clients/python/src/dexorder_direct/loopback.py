"""A proxy on a loopback address: any MCP client of this machine reaches the workspace through it without a credential."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from dexorder_direct.errors import DirectError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 8 * 1024 * 1024
PASSED = frozenset((b"accept", b"content-type", b"last-event-id", b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name"))
RETURNED = frozenset((b"content-type", b"mcp-session-id", b"retry-after", b"cache-control", b"allow", b"dexorder-reason"))


class LoopbackProxy:
    """An ASGI application that passes `/mcp` on."""

    def __init__(self, client: httpx2.AsyncClient, url: str, token: str | None = None) -> None:
        """With a `token`, local clients must bear it: else whoever may connect to the port may act as the user."""
        self._client = client
        self._url = url
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {bytes(name).lower(): bytes(content) for name, content in scope["headers"]}
        if scope["path"].rstrip("/") != "/mcp":
            await _refuse(send, 404, "MCP is at /mcp")
        elif not _is_local(headers):
            await _refuse(send, 403, "requests by web pages and for other hosts are not taken")
        elif not self._may(headers):
            await _refuse(send, 401, "the proxy's own token is missing or wrong")
        elif (body := await _body(receive)) is None:
            await _refuse(send, 413, f"the body is over {MAX_BODY} bytes")
        else:
            await self._pass_on(scope["method"], headers, body, receive, send)

    def _may(self, headers: dict[bytes, bytes]) -> bool:
        if self._token is None:
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {self._token}".encode())

    async def _pass_on(self, method: str, headers: dict[bytes, bytes], body: bytes, receive: Receive, send: Send) -> None:
        exchange = asyncio.ensure_future(self._exchange(method, headers, body, send))
        left = asyncio.ensure_future(_left(receive))
        # A client that leaves cancels its request.
        await asyncio.wait((exchange, left), return_when=asyncio.FIRST_COMPLETED)
        for task in (exchange, left):
            task.cancel()
        await asyncio.gather(exchange, left, return_exceptions=True)

    async def _exchange(self, method: str, headers: dict[bytes, bytes], body: bytes, send: Send) -> None:
        passed = {name.decode(): content.decode("latin-1") for name, content in headers.items() if name in PASSED}
        passed |= {name.decode(): content.decode("latin-1") for name, content in headers.items() if name.startswith(b"mcp-param-")}
        began = False
        try:
            timeout = httpx2.Timeout(30, read=None)
            async with self._client.stream(method, self._url, headers=passed, content=body, timeout=timeout) as response:
                returned = [(name.lower(), content) for name, content in response.headers.raw if name.lower() in RETURNED]
                await send({"type": "http.response.start", "status": response.status_code, "headers": returned})
                began = True
                async for chunk in response.aiter_bytes():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except (DirectError, httpx2.HTTPError) as error:
            if began:
                # Half an answer must be seen to be half.
                raise
            await _refuse(send, 502, str(error) or type(error).__name__, _request_id(body))


async def _refuse(send: Send, status: int, text: str, request_id: object = None) -> None:
    answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": -32603, "message": text}}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def _body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _request_id(body: bytes) -> object:
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message.get("id") if isinstance(message, dict) else None


def _is_local(headers: dict[bytes, bytes]) -> bool:
    """A page of the web can make a browser call this port, under a name of its own that leads here."""
    origin = headers.get(b"origin")
    places = [b"http://" + headers.get(b"host", b"")] + ([] if origin is None else [origin])
    return all(is_loopback(urlsplit(place.decode("latin-1")).hostname) for place in places)


def is_loopback(host: str | None) -> bool:
    """Whether a name is of this machine alone."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
