"""The MCP server: the SDK's, with tools whose schemas are made on demand and checked for what the user may do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dexorder_agent import __version__
from dexorder_agent.calls import Call, Report, current
from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.resources import changed, resources, templates
from dexorder_agent.workspace import Workspace

if TYPE_CHECKING:
    from dexorder_agent.tools.toolbox import Tool, Toolbox

logger = logging.getLogger(__name__)

INSTRUCTIONS = """The trading workspace of one user: indicators and strategies in Python, price series, context and conversations, kept in \
a git repository. Every change is committed; history_log and history_restore bring old versions back."""

LOOK_SECONDS = 0.5
"""How often a call looks whether its client is still there."""

USER_HEADER = "dexorder-user"
"""Set by whoever proxies for the agent, once it has checked who calls."""

RequestContext = ServerRequestContext[Any, Any]
Running = Coroutine[Any, Any, types.CallToolResult]


class WorkspaceServer(Server[Any]):
    """Serves one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._bus = InMemorySubscriptionBus()
        self._listeners = ListenHandler(self._bus)
        private = CacheHint(ttl_ms=0, scope="private")
        super().__init__(
            name="dexorder-workspace",
            title="Dexorder workspace",
            version=__version__,
            instructions=INSTRUCTIONS,
            cache_hints={
                "resources/read": private,
                "resources/list": private,
                "resources/templates/list": private,
                "tools/list": private,
                "prompts/list": private,
                "server/discover": private,
            },
            # No argument of a tool is sent as a header.
            get_tool_input_schema=lambda _: None,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_prompts=self._list_prompts,
            on_subscriptions_listen=self._listeners,
        )
        self._cancellable: dict[tuple[str, str], set[asyncio.Task[types.CallToolResult]]] = {}
        self.add_notification_handler("notifications/cancelled", types.CancelledNotificationParams, self._cancel)
        # In place of the SDK's own, which makes spans of each message that nobody collects here.
        self.middleware[:] = [self._in_the_users_name]
        self._workspace = workspace
        self._announcing: set[asyncio.Task[None]] = set()
        self._resources = resources(workspace)
        self._templates = templates(workspace)
        workspace.repository.listeners.append(self._announce)
        self.active_calls = 0
        self.answered = asyncio.Event()
        """Set when a request has been answered."""
        self._quiet = asyncio.Event()
        self._quiet.set()

    @cached_property
    def toolbox(self) -> Toolbox:
        """The tools, imported when they are first needed: a resource can be read before."""
        from dexorder_agent.tools.all import toolbox

        return toolbox(self._workspace)

    async def _in_the_users_name(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Take up whose request it is: who is started before there is a user hears it from the requests."""
        user = "" if ctx.request is None else ctx.request.headers.get(USER_HEADER, "")
        if user and user != self._workspace.repository.git.author:
            self._workspace.repository.git.author = user
        try:
            return await call_next(ctx)
        finally:
            self.answered.set()

    async def _list_tools(self, _: RequestContext, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """The tools that this user may call, in a fixed order."""
        from dexorder_agent.tools.listing import listed

        settings = self._workspace.settings
        shown = listed(read_only=settings.read_only, connects=settings.limits.egress != "None")
        self._workspace.pool.expect()
        return types.ListToolsResult(tools=shown)

    async def _list_resources(self, _: RequestContext, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[resource.listed() for resource in self._resources.values()])

    async def _list_templates(self, _: RequestContext, params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=[template.listed() for template in self._templates])

    async def _list_prompts(self, _: RequestContext, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        """There are none; clients that ask without looking at the capabilities get an answer."""
        return types.ListPromptsResult(prompts=[])

    async def _read_resource(self, _: RequestContext, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        """Read one of the listed resources, or what a template names."""
        uri = str(params.uri)
        try:
            text, mime_type = await self._content(uri)
        except NotFoundError as error:
            raise MCPError(types.INVALID_PARAMS, str(error), {"uri": uri}) from error
        except WorkspaceError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error), {"uri": uri}) from error
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text=text, mime_type=mime_type)])

    async def _content(self, uri: str) -> tuple[str, str]:
        resource = self._resources.get(uri)
        if resource is not None:
            return await resource.read(), resource.mime_type
        for template in self._templates:
            name = template.name_in(uri)
            if name is not None:
                return await template.read(name), template.mime_type
        raise NotFoundError(f"resource {uri[:200]!r} doesn't exist: resources/list and resources/templates/list name those that do")

    async def _call_tool(self, context: RequestContext, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Run a tool if this user may. What can't be done is an answer with the reason, for the model to read."""
        try:
            return await self._run_tool(params.name, params.arguments or {}, context)
        except WorkspaceError as error:
            text = str(error)
        except MCPError:
            raise
        except Exception:
            logger.exception("a tool failed unexpectedly")
            text = f"{params.name[:80]} failed unexpectedly: the agent's log has the cause"
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)

    async def _run_tool(self, name: str, arguments: dict[str, Any], context: RequestContext) -> types.CallToolResult:
        tool = self.toolbox.get(name)
        if tool is None:
            raise WorkspaceError(f"there is no tool {name[:80]!r}: tools/list names those that there are")
        if self._workspace.settings.read_only and not tool.effect.read_only:
            raise WorkspaceError(f"{name} changes the workspace, and this workspace is read-only")
        self.active_calls += 1
        self._quiet.clear()
        call = Call(_reporter(context))
        token = current.set(call)
        try:
            running = tool.run(arguments)
            result = await (running if context.protocol_version in MODERN_PROTOCOL_VERSIONS else self._watched(running, tool, context))
            result.content += [
                types.ImageContent(type="image", data=base64.b64encode(image).decode(), mime_type="image/png") for image in call.images
            ]
            return result
        finally:
            current.reset(token)
            self.active_calls -= 1
            if self.active_calls == 0:
                self._quiet.set()

    async def _watched(
        self, running: Coroutine[Any, Any, types.CallToolResult], tool: Tool, context: RequestContext
    ) -> types.CallToolResult:
        """Run a call of an older client until it cancels it, or, if it changes nothing, until the client is gone.

        The SDK does this for calls of the newest revision, whose stream is closed. An older client tells by a request of its own, and has
        no session here that could take the answer of a lost call later.
        """
        task = asyncio.create_task(running)
        caller = _caller(context)
        self._cancellable.setdefault(caller, set()).add(task)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=LOOK_SECONDS)
                if not task.done() and tool.effect.read_only and context.request is not None and await context.request.is_disconnected():
                    raise WorkspaceError("the client closed the connection")
            if task.cancelled():
                raise WorkspaceError("the client cancelled the call")
            return task.result()
        finally:
            task.cancel()
            calls = self._cancellable[caller]
            calls.discard(task)
            if not calls:
                del self._cancellable[caller]

    async def _cancel(self, context: RequestContext, params: types.CancelledNotificationParams) -> None:
        """Stop a call that its client no longer wants. Where two clients could be meant, neither loses its call."""
        calls = self._cancellable.get((str(params.request_id), _caller(context)[1]), set())
        if len(calls) == 1:
            next(iter(calls)).cancel()

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
        self._listeners.close()

    async def quiet(self, seconds: float) -> None:
        """Wait until no tool runs, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()


def _caller(context: RequestContext) -> tuple[str, str]:
    """By what a call of an older client is known again: its number, and the name of the client's program."""
    return str(context.request_id), "" if context.request is None else context.request.headers.get("user-agent", "")


def _reporter(context: RequestContext) -> Report | None:
    """How progress of the call is reported, None if the client didn't ask for it."""
    if (context.meta or {}).get("progress_token") is None:
        return None
    return context.session.report_progress
