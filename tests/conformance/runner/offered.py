"""What of the suite applies to the agent itself, and by which names it finds there what it calls by names of its own server."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

REVISION = "2026-07-28"

SCENARIOS = {
    "2026-07-28": (
        "server-stateless",
        "tools-list",
        "tools-call-simple-text",
        "tools-call-image",
        "tools-call-error",
        "tools-call-with-progress",
        "server-sse-multiple-streams",
        "resources-list",
        "resources-read-text",
        "resources-templates-read",
        "sep-2164-resource-not-found",
        "prompts-list",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "input-required-result-unsupported-methods",
        "input-required-result-ignore-extra-params",
    ),
    "2025-11-25": (
        "server-initialize",
        "ping",
        "tools-list",
        "tools-call-simple-text",
        "tools-call-image",
        "tools-call-error",
        "tools-call-with-progress",
        "resources-list",
        "resources-read-text",
        "resources-templates-read",
        "prompts-list",
        "dns-rebinding-protection",
    ),
}

NEED_A_TOOL = frozenset({"sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400"})
"""Checks inside these scenarios that call a tool of the suite's own server, one that asks the client in the middle of a call."""

SLOW = "conformance_slow"
CONVERSATION = "123"
"""The suite looks for the number of its address in the answer."""

NAMES: dict[str, dict[str, Any]] = {
    "test_simple_text": {"name": "read_file", "arguments": {"path": "README.md"}},
    "test_image_content": {"name": "run_indicator", "arguments": {"name": "rsi", "last": 100, "chart": True}},
    "test_error_handling": {"name": "run_indicator", "arguments": {"name": "missing"}},
    "test_tool_with_progress": {"name": "run_indicator", "arguments": {"name": SLOW, "last": 1}},
    "test://static-text": {"name": "context://user-profile"},
    "test://template/123/data": {"name": f"conversations://{CONVERSATION}"},
}
"""What the agent offers in place of what the suite's server has under these names."""


def prepare(url: str) -> None:
    """Make in the workspace what the names need beyond what a new one has."""
    source = "import time\n\n\ndef compute(close):\n    time.sleep(1.6)\n    return close\n"
    _call(url, "save_indicator", {"name": SLOW, "source": source})
    said = [{"role": "user", "content": "What is the price?"}]
    _call(url, "append_conversation", {"messages": said, "idempotency_key": "1", "conversation": CONVERSATION})


def _call(url: str, tool: str, arguments: dict[str, Any]) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "conformance", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments, "_meta": meta}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    request = urllib.request.Request(url, json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = response.read().decode()
    if '"isError":false' not in answer.replace(" ", ""):
        raise RuntimeError(f"{tool} failed: {answer}")
