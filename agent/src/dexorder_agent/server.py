"""The MCP server: the SDK's, with tools whose schemas are made on demand and checked for what the user may do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Coroutine, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheHint
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp_types import CallToolResult, ImageContent, InputRequiredResult
from mcp_types import ResourceTemplate as ListedTemplate
from mcp_types import Tool as ListedTool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import AnyUrl

from dexorder_agent import __version__
from dexorder_agent.calls import Call, Report, current
from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.resources import changed, resources, templates
from dexorder_agent.workspace import Workspace

if TYPE_CHECKING:
    from dexorder_agent.tools.toolbox import Toolbox

INSTRUCTIONS = """The trading workspace of one user: indicators and strategies in Python, price series, context and conversations, kept in \
a git repository. Every change is committed; history_log and history_restore bring old versions back."""


LOOK_SECONDS = 0.5
"""How often a call looks whether its client is still there."""


class WorkspaceServer(MCPServer[None]):
    """Serves one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._bus = InMemorySubscriptionBus()
        private = CacheHint(ttl_ms=0, scope="private")
        super().__init__(
            name="dexorder-workspace",
            title="Dexorder workspace",
            version=__version__,
            instructions=INSTRUCTIONS,
            log_level="WARNING",
            resources=resources(workspace),
            subscriptions=self._bus,
            cache_hints={
                "resources/read": private,
                "resources/list": private,
                "resources/templates/list": private,
                "tools/list": private,
                "prompts/list": private,
                "server/discover": private,
            },
        )
        self._workspace = workspace
        self._announcing: set[asyncio.Task[None]] = set()
        self._templates = templates(workspace)
        workspace.repository.listeners.append(self._announce)
        self.active_calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @cached_property
    def toolbox(self) -> Toolbox:
        """The tools, imported when they are first needed: a resource can be read before."""
        from dexorder_agent.tools.all import toolbox

        return toolbox(self._workspace)

    async def list_tools(self) -> list[ListedTool]:
        """All tools, in a fixed order."""
        return [
            ListedTool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.parameters,
                output_schema=tool.output_schema,
                annotations=tool.annotations,
            )
            for tool in self.toolbox.all()
        ]

    async def list_resource_templates(self) -> list[ListedTemplate]:
        """The patterns of addresses under which single things can be read."""
        return [template.listed() for template in self._templates]

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read one of the listed resources, or what a template names."""
        for template in self._templates:
            name = template.name_in(str(uri))
            if name is not None:
                try:
                    return [ReadResourceContents(content=await template.read(name), mime_type=template.mime_type)]
                except NotFoundError as error:
                    raise ResourceNotFoundError(str(error)) from error
                except WorkspaceError as error:
                    raise ResourceError(str(error)) from error
        return await super().read_resource(uri, context)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Run a tool if this user may."""
        tool, effect = self.toolbox.get(name), self.toolbox.effect(name)
        if tool is None or effect is None:
            raise ToolError(f"Unknown tool: {name[:80]}")
        if self._workspace.settings.read_only and not effect.read_only:
            raise ToolError(f"{name} changes the workspace, and this workspace is read-only")
        unknown = sorted(set(arguments) - set(tool.parameters.get("properties", {})))
        if unknown:
            raise ToolError(f"{name} has no argument {unknown[0][:80]!r}: its arguments are {', '.join(tool.parameters['properties'])}")
        self.active_calls += 1
        self._quiet.clear()
        context = context or Context(mcp_server=self)
        call = Call(_reporter(context))
        token = current.set(call)
        try:
            running = tool.run(arguments, context, convert_result=True)
            result: CallToolResult = await (_while_listened_to(running, context) if effect.read_only else running)
            result.content += [
                ImageContent(type="image", data=base64.b64encode(image).decode(), mime_type="image/png") for image in call.images
            ]
            return result
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, WorkspaceError):
                raise ToolError(str(error.__cause__)) from error.__cause__
            raise
        finally:
            current.reset(token)
            self.active_calls -= 1
            if self.active_calls == 0:
                self._quiet.set()

    def _announce(self, paths: frozenset[str]) -> None:
        """Tell the clients that listen which resources a change of these files changed."""

        async def announce() -> None:
            for uri in changed(paths):
                await self._bus.publish(ResourceUpdated(uri=uri))

        task = asyncio.create_task(announce())
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    def close_streams(self) -> None:
        """End the streams of clients that listen in an orderly way, so that they know that they have to listen again."""
        entry = self._lowlevel_server.get_request_handler("subscriptions/listen")
        if entry is not None and isinstance(entry.handler, ListenHandler):
            entry.handler.close()

    async def quiet(self, seconds: float) -> None:
        """Wait until no tool runs, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()


async def _while_listened_to(running: Coroutine[Any, Any, Any], context: Context[None, Any]) -> Any:
    """Run something that changes nothing until its client is gone.

    The SDK stops calls of the newest revision whose stream is closed. Those of older clients have no session here that could take the
    answer later, so nobody needs it either.
    """
    request = getattr(context._request_context, "request", None)
    if request is None or context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return await running
    task = asyncio.create_task(running)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_SECONDS)
            if not task.done() and await request.is_disconnected():
                raise ToolError("the client closed the connection")
        return task.result()
    finally:
        task.cancel()


def _reporter(context: Context[None, Any]) -> Report | None:
    """How progress of the call is reported, None if the client didn't ask for it."""
    request = context._request_context
    if request is None or (request.meta or {}).get("progress_token") is None:
        return None
    return context.report_progress
