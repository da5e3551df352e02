"""The prompts, and completions of their arguments."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import Completion, CompletionArgument, CompletionContext, InputRequiredResult, PromptReference, ResourceTemplateReference

from conformance_server.content import embedded, image
from conformance_server.input_required import accepted, ask_user

WORDS = ("paris", "park", "party", "test", "testing")


def add_to(server: MCPServer[Any]) -> None:
    """Add the prompts."""
    for prompt in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
        test_input_required_result_prompt,
    ):
        server.prompt()(prompt)

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        _: PromptReference | ResourceTemplateReference, argument: CompletionArgument, __: CompletionContext | None
    ) -> Completion:
        values = [word for word in WORDS if word.startswith(argument.value)]
        return Completion(values=values, total=len(values), has_more=False)


async def test_simple_prompt() -> str:
    """Has no arguments."""
    return "This is a simple prompt for testing."


async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Has two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


# The argument's name on the wire is the suite's.
async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """Holds a resource."""
    resource = embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


async def test_prompt_with_image() -> list[UserMessage]:
    """Holds a picture."""
    return [UserMessage(image()), UserMessage("Please analyze the image above.")]


async def test_input_required_result_prompt(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Asks the user first."""
    answer = accepted(ctx, "user_context")
    if answer is None:
        return InputRequiredResult(input_requests={"user_context": ask_user("What context should the prompt use?", "context")})
    return f"Use this context: {answer.get('context')}"
