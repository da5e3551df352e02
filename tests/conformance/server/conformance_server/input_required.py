"""Tools that ask the client as the revision 2026-07-28 has it: an interim result says what is needed, and the call comes again with it."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

Answer = str | InputRequiredResult


def ask_user(message: str, field: str, kind: str = "string") -> ElicitRequest:
    """A question to the user with one field."""
    schema: dict[str, Any] = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def ask_model(text: str, max_tokens: int = 100) -> CreateMessageRequest:
    """A question to the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def accepted(ctx: Context[Any, Any], key: str) -> dict[str, Any] | None:
    """What the user filled in for a question, if it was answered."""
    answer = (ctx.input_responses or {}).get(key)
    return dict(answer.content or {}) if isinstance(answer, ElicitResult) and answer.action == "accept" else None


def add_to(server: MCPServer[Any]) -> None:
    """Add the tools."""
    for tool in (
        test_streaming_elicitation,
        test_input_required_result_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
        test_input_required_result_request_state,
        test_input_required_result_tampered_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
        test_input_required_result_capabilities,
    ):
        server.add_tool(tool, structured_output=False)


async def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> Answer:
    """Greets the user, once it knows the name."""
    answer = accepted(ctx, "user_name")
    if answer is None or "name" not in answer:
        return InputRequiredResult(input_requests={"user_name": ask_user("What is your name?", "name")})
    return f"Hello, {answer['name']}!"


async def test_streaming_elicitation(ctx: Context[Any, Any]) -> Answer:
    """Reports progress, then asks for the name."""
    await ctx.report_progress(1, 2)
    return await test_input_required_result_elicitation(ctx)


async def test_input_required_result_sampling(ctx: Context[Any, Any]) -> Answer:
    """Repeats what the client's model says."""
    answer = (ctx.input_responses or {}).get("capital_question")
    if not isinstance(answer, CreateMessageResult):
        return InputRequiredResult(input_requests={"capital_question": ask_model("What is the capital of France?")})
    return answer.content.text if isinstance(answer.content, TextContent) else answer.content.type


async def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> Answer:
    """Names the client's roots."""
    answer = (ctx.input_responses or {}).get("client_roots")
    if not isinstance(answer, ListRootsResult):
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
    return ", ".join(str(root.uri) for root in answer.roots)


async def test_input_required_result_request_state(ctx: Context[Any, Any]) -> Answer:
    """Asks for a confirmation and keeps a state meanwhile."""
    answer = accepted(ctx, "confirm")
    if answer is None or ctx.request_state != "asked":
        return InputRequiredResult(input_requests={"confirm": ask_user("Please confirm", "ok", "boolean")}, request_state="asked")
    return "state-ok"


async def test_input_required_result_tampered_state(ctx: Context[Any, Any]) -> Answer:
    """The same; the SDK seals the state, and refuses one that was changed."""
    return await test_input_required_result_request_state(ctx)


async def test_input_required_result_multiple_inputs(ctx: Context[Any, Any]) -> Answer:
    """Asks the user, the model and for the roots at once."""
    name, others = accepted(ctx, "user_name"), ctx.input_responses or {}
    greeting, roots = others.get("greeting"), others.get("client_roots")
    if name is None or not isinstance(greeting, CreateMessageResult) or not isinstance(roots, ListRootsResult):
        return InputRequiredResult(
            input_requests={
                "user_name": ask_user("What is your name?", "name"),
                "greeting": ask_model("Generate a greeting", 50),
                "client_roots": ListRootsRequest(),
            },
            request_state="three questions",
        )
    return f"{name.get('name')}: {len(roots.roots)} roots"


async def test_input_required_result_multi_round(ctx: Context[Any, Any]) -> Answer:
    """Asks twice."""
    if ctx.request_state is None:
        return InputRequiredResult(input_requests={"step1": ask_user("Step 1: What is your name?", "name")}, request_state="1")
    first, second = accepted(ctx, "step1"), accepted(ctx, "step2")
    if ctx.request_state == "1" and first is not None:
        return InputRequiredResult(
            input_requests={"step2": ask_user("Step 2: What is your favorite color?", "color")},
            request_state=f"2 {first.get('name')}",
        )
    if second is None:
        return InputRequiredResult(
            input_requests={"step2": ask_user("Step 2: What is your favorite color?", "color")},
            request_state=ctx.request_state,
        )
    return f"{ctx.request_state.removeprefix('2 ')} likes {second.get('color')}"


async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> Answer:
    """Asks only what the client can answer."""
    if ctx.input_responses:
        return "done"
    declared = ctx.client_capabilities
    requests: dict[str, Any] = {}
    if declared is not None and declared.sampling is not None:
        requests["model"] = ask_model("Say something")
    if declared is not None and declared.elicitation is not None:
        requests["user"] = ask_user("Say something", "text")
    return InputRequiredResult(input_requests=requests) if requests else "the client can answer nothing"
