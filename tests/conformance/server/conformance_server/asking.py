"""Tools of the revision 2025-11-25 that ask the client while they run, written for the newest: the call comes again with the answer."""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    TextContent,
)

from conformance_server.input_required import Answer, ask_model

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


async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> Answer:
    """Asks the client's model."""
    answer = (ctx.input_responses or {}).get("model")
    if not isinstance(answer, CreateMessageResult):
        return InputRequiredResult(input_requests={"model": ask_model(prompt)})
    return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else answer.content.type}"


async def test_elicitation(message: str, ctx: Context[Any, Any]) -> Answer:
    """Asks the user for a name and an address."""
    answer = _answer(ctx)
    if answer is None:
        return _ask(message, PERSON)
    return f"User response: action={answer.action}, content={json.dumps(answer.content)}"


async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> Answer:
    """Asks the user, with a default for every type."""
    answer = _answer(ctx)
    return _ask("Please review the defaults", DEFAULTS) if answer is None else _completed(answer)


async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> Answer:
    """Asks the user to choose, in every form of a choice."""
    answer = _answer(ctx)
    return _ask("Please choose", ENUMS) if answer is None else _completed(answer)


def _ask(message: str, schema: dict[str, Any]) -> InputRequiredResult:
    request = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))
    return InputRequiredResult(input_requests={"user": request})


def _answer(ctx: Context[Any, Any]) -> ElicitResult | None:
    answer = (ctx.input_responses or {}).get("user")
    return answer if isinstance(answer, ElicitResult) else None


def _completed(answer: ElicitResult) -> str:
    return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"
