"""MCP of the revision 2025-11-25 as it is on the wire: a session, a stream for each call, and one that listens."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.mcp_http import ACCEPT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx2

REVISION = "2025-11-25"
CLIENT = {"name": "dexorder-e2e", "version": "1"}
CAPABILITIES: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LegacyClient:
    """A client with one session at one endpoint."""

    http: httpx2.Client
    url: str
    headers: Mapping[str, str]

    @classmethod
    def connect(cls, http: httpx2.Client, url: str, credentials: Mapping[str, str]) -> LegacyClient:
        """Open a session."""
        headers = {**credentials, "accept": ACCEPT, "mcp-protocol-version": REVISION}
        params = {"protocolVersion": REVISION, "capabilities": CAPABILITIES, "clientInfo": CLIENT}
        response = http.post(url, headers=headers, json=request("initialize", params))
        response.raise_for_status()
        client = cls(http, url, {**headers, "mcp-session-id": response.headers["mcp-session-id"]})
        assert client.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
        return client

    def at(self, url: str) -> LegacyClient:
        """The same session at another address."""
        return LegacyClient(self.http, url, self.headers)

    def post(self, message: Message) -> httpx2.Response:
        """Send any message."""
        return self.http.post(self.url, headers=self.headers, json=message)

    def result(self, method: str, params: Message) -> Any:
        """The result of a request that is answered with JSON."""
        response = self.post(request(method, params))
        response.raise_for_status()
        return response.json()["result"]

    def answer(self, question: Message, result: Message) -> int:
        """Answer what the server asks, and return the status."""
        return self.post({"jsonrpc": "2.0", "id": question["id"], "result": result}).status_code

    def cancel(self, id_: int | str) -> None:
        """Cancel a request."""
        params = {"requestId": id_, "reason": "enough"}
        assert self.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).status_code == 202

    @contextmanager
    def call(self, tool: str, arguments: Message, id_: int | str = 1) -> Iterator[Iterator[Message]]:
        """The messages of a tool's call as they come."""
        message = request("tools/call", {"name": tool, "arguments": arguments}, id_)
        with self.http.stream("POST", self.url, headers=self.headers, json=message) as response:
            yield _messages(response)

    @contextmanager
    def listen(self) -> Iterator[Iterator[Message]]:
        """The messages of the session's stream as they come."""
        with self.http.stream("GET", self.url, headers=self.headers) as response:
            yield _messages(response)


def request(method: str, params: Message, id_: int | str = 1) -> Message:
    """A request."""
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


def _messages(response: httpx2.Response) -> Iterator[Message]:
    response.raise_for_status()
    if response.headers["content-type"].startswith("application/json"):
        yield json.loads(response.read())
        return
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
