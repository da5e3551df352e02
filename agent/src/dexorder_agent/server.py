"""The MCP server: the SDK's, with tools whose schemas are made on demand and checked for what the user may do."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.context import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult
from mcp_types import Tool as ListedTool

from dexorder_agent import __version__
from dexorder_agent.errors import WorkspaceError
from dexorder_agent.resources import resources
from dexorder_agent.workspace import Workspace

if TYPE_CHECKING:
    from dexorder_agent.tools.toolbox import Toolbox

INSTRUCTIONS = """The trading workspace of one user: indicators and strategies in Python, price series, context and conversations, kept in \
a git repository. Every change is committed; history_log and history_restore bring old versions back."""


class WorkspaceServer(MCPServer[None]):
    """Serves one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        private = CacheHint(ttl_ms=0, scope="private")
        super().__init__(
            name="dexorder-workspace",
            title="Dexorder workspace",
            version=__version__,
            instructions=INSTRUCTIONS,
            log_level="WARNING",
            resources=resources(workspace),
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
        try:
            return await tool.run(arguments, context or Context(mcp_server=self), convert_result=True)  # type: ignore[no-any-return]
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, WorkspaceError):
                raise ToolError(str(error.__cause__)) from error.__cause__
            raise
        finally:
            self.active_calls -= 1
            if self.active_calls == 0:
                self._quiet.set()

    async def quiet(self, seconds: float) -> None:
        """Wait until no tool runs, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
