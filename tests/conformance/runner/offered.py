"""What of the suite applies to the agent itself: the scenarios that need no tool, resource or prompt of the suite's own server."""

from __future__ import annotations

SCENARIOS = {
    "2026-07-28": (
        "server-stateless",
        "tools-list",
        "tools-call-error",
        "server-sse-multiple-streams",
        "resources-list",
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
        "tools-call-error",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
    ),
}

NEED_A_TOOL = frozenset({"sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400"})
"""Checks inside these scenarios that call a tool of the suite's own server, one that asks the client in the middle of a call."""
