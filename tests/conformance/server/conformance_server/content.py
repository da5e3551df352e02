"""Tools that answer with each kind of content, report progress, log, fail, or change a list."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from conformance_server.media import PNG, WAV

Block = TextContent | ImageContent | AudioContent | EmbeddedResource
PAUSE_SECONDS = 0.05


def embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    """A resource inside a message."""
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def image() -> ImageContent:
    """A picture inside a message."""
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def add_to(server: MCPServer[Any]) -> None:
    """Add the tools."""
    for tool in (
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_error_handling,
        test_headers,
    ):
        server.add_tool(tool, structured_output=False)
    for tool_with_context in (
        test_tool_with_progress,
        test_tool_with_logging,
        test_logging_tool,
        test_missing_capability,
        test_trigger_tool_change,
        test_trigger_prompt_change,
    ):
        server.add_tool(tool_with_context, structured_output=False)


async def test_simple_text() -> str:
    """Answers with text."""
    return "This is a simple text response for testing."


async def test_image_content() -> list[Block]:
    """Answers with a picture."""
    return [image()]


async def test_audio_content() -> list[Block]:
    """Answers with sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


async def test_embedded_resource() -> list[Block]:
    """Answers with a resource."""
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


async def test_multiple_content_types() -> list[Block]:
    """Answers with text, a picture and a resource."""
    return [
        TextContent(type="text", text="Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


async def test_error_handling() -> str:
    """Fails."""
    raise ToolError("This tool intentionally returns an error for testing")


async def test_headers(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Takes an argument that clients mirror in a header."""
    return region


async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
    """Reports progress three times."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
        await asyncio.sleep(PAUSE_SECONDS)
    return "done"


async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
    """Logs three times."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(PAUSE_SECONDS)
    return "done"


async def test_logging_tool(ctx: Context[Any, Any]) -> str:
    """Logs once, for clients that asked for logs."""
    await ctx.info("a line of the log")
    return "done"


async def test_missing_capability(ctx: Context[Any, Any]) -> str:
    """Needs a client that samples."""
    declared = ctx.client_capabilities
    if declared is None or declared.sampling is None:
        raise MCPError(
            code=MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="this tool needs the client's capability sampling",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return "done"


async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
    """Tells those who listen that the list of tools changed."""
    await ctx.notify_tools_changed()
    return "done"


async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
    """Tells those who listen that the list of prompts changed."""
    await ctx.notify_prompts_changed()
    return "done"
