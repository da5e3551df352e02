"""MCP of the revision 2026-07-28 as it is on the wire: one POST for each request, no session."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Mapping

REVISION = "2026-07-28"
ACCEPT = "application/json, text/event-stream"
_META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "dexorder-e2e", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
_NAMED_BY = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}

_ids = itertools.count(1)


class RefusedError(Exception):
    """The answer was a JSON-RPC error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"HTTP {status}: {error}")
        self.status = status
        self.code: int = error["code"]
        self.message: str = error["message"]
        data = error.get("data")
        self.reason: str | None = data.get("reason") if isinstance(data, dict) else None


class ToolError(Exception):
    """The tool answered that it failed."""


def payload(method: str, params: Mapping[str, Any] | None = None, *, id_: int | str | None = None) -> dict[str, Any]:
    """The JSON-RPC message of a request."""
    number = next(_ids) if id_ is None else id_
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**(params or {}), "_meta": _META}}


def headers(method: str, params: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The headers that a request of the protocol carries."""
    found = {"Accept": ACCEPT, "MCP-Protocol-Version": REVISION, "Mcp-Method": method}
    if method in _NAMED_BY:
        found["Mcp-Name"] = str((params or {})[_NAMED_BY[method]])
    return found


def answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC message of a response, which is JSON or the last event of a stream."""
    message: dict[str, Any]
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        data = [line[5:].strip() for line in response.text.splitlines() if line.startswith("data:")]
        message = json.loads([entry for entry in data if entry][-1])
    else:
        message = json.loads(response.text)
    return message


@dataclass(frozen=True, slots=True)
class Mcp:
    """A client of one MCP endpoint with fixed credentials."""

    http: httpx2.Client
    url: str
    credentials: Mapping[str, str]

    def post(self, body: bytes | str, extra: Mapping[str, str] | None = None) -> httpx2.Response:
        """Send any body."""
        sent = {"Content-Type": "application/json", "Accept": ACCEPT, **self.credentials, **(extra or {})}
        return self.http.post(self.url, content=body, headers=sent)

    def send(self, method: str, params: Mapping[str, Any] | None = None) -> httpx2.Response:
        """Send a request and return the HTTP response, whatever it is."""
        return self.post(json.dumps(payload(method, params)), headers(method, params))

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return its result; a JSON-RPC error is a RefusedError."""
        message = payload(method, params)
        response = self.post(json.dumps(message), headers(method, params))
        reply = answer(response)
        if "error" in reply:
            raise RefusedError(response.status_code, reply["error"])
        assert response.status_code == httpx2.codes.OK, response.text
        assert reply["id"] == message["id"]
        result: dict[str, Any] = reply["result"]
        return result

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured result; a failure that the tool reports is a ToolError."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise ToolError(" ".join(part.get("text", "") for part in result["content"]))
        structured: dict[str, Any] = result["structuredContent"]
        return structured

    def read(self, uri: str) -> str:
        """The text of a resource."""
        contents = self.request("resources/read", {"uri": uri})["contents"]
        assert len(contents) == 1, contents
        text: str = contents[0]["text"]
        return text

    def tools(self) -> list[str]:
        """The names of the tools."""
        return [tool["name"] for tool in self.request("tools/list")["tools"]]
