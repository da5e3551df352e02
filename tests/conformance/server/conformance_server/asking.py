"""Tools that ask the client while they run, as the revision 2025-11-25 has it: a request of the server on the call's stream."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitResult, SamplingMessage, TextContent

DEFAULTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}

PLAIN = ["option1", "option2", "option3"]


def _titled(kind: str) -> list[dict[str, str]]:
    words = ("First", "Second", "Third")
    return [{"const": f"value{number}", "title": f"{word} {kind}"} for number, word in enumerate(words, 1)]


ENUMS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": PLAIN},
        "titledSingle": {"type": "string", "oneOf": _titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": PLAIN}},
        "titledMulti": {"type": "array", "items": {"anyOf": _titled("Choice")}},
    },
    "required": [],
}

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}


def add_to(server: MCPServer[Any]) -> None:
    """Add the tools."""
    for tool in (test_sampling, test_elicitation, test_elicitation_sep1034_defaults, test_elicitation_sep1330_enums):
        server.add_tool(tool, structured_output=False)


async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
    """Asks the client's model."""
    question = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    answer = await ctx.session.create_message([question], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else answer.content.type}"


async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
    """Asks the user for a name and an address."""
    answer = await _elicit(ctx, message, PERSON)
    return f"User response: action={answer.action}, content={json.dumps(answer.content)}"


async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
    """Asks the user, with a default for every type."""
    return _completed(await _elicit(ctx, "Please review the defaults", DEFAULTS))


async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
    """Asks the user to choose, in every form of a choice."""
    return _completed(await _elicit(ctx, "Please choose", ENUMS))


async def _elicit(ctx: Context[Any, Any], message: str, schema: dict[str, Any]) -> ElicitResult:
    answer: ElicitResult = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return answer


def _completed(answer: ElicitResult) -> str:
    return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"
