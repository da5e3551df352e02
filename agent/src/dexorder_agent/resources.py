"""The MCP resources."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from mcp.server.mcpserver.exceptions import ResourceError
from mcp.server.mcpserver.resources import Resource
from pydantic import ConfigDict, Field

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.workspace import Workspace

Reader = Callable[[], Awaitable[str]]


class ReadResource(Resource):
    """A resource whose content a function gives."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reader: Reader = Field(exclude=True)

    async def read(self) -> str:
        """The content now."""
        try:
            return await self.reader()
        except WorkspaceError as error:
            raise ResourceError(str(error)) from error


MARKDOWN = "text/markdown"
JSON = "application/json"

FILES = (
    ("context://user-profile", "User profile", "Preferences and trading style of the user", MARKDOWN, "context/user-profile.md"),
    ("context://conversation-summary", "Conversation summary", "What was talked about so far", MARKDOWN, "context/conversation-summary.md"),
    ("context://workspace-state", "Workspace state", "Chart, indicators and analysis", JSON, "context/workspace-state.json"),
    ("context://system-prompt", "System prompt", "Instructions to the assistant in this workspace", MARKDOWN, "context/system-prompt.md"),
)


def resources(workspace: Workspace) -> list[Resource]:
    """All resources of a workspace."""
    found: list[Resource] = [
        ReadResource(
            uri=uri,
            name=uri.partition("://")[2],
            title=title,
            description=description,
            mime_type=mime_type,
            reader=_file(workspace, path, "{}" if mime_type == JSON else ""),
        )
        for uri, title, description, mime_type, path in FILES
    ]
    for catalog in (workspace.indicators, workspace.strategies):
        folder = catalog.kind.folder
        found.append(
            ReadResource(
                uri=f"{folder}://list",
                name=folder,
                title=folder.capitalize(),
                description=f"The workspace's {folder} with inputs, parameters and outputs, read from their source",
                mime_type=JSON,
                reader=_listing(catalog),
            )
        )
    return found


def _file(workspace: Workspace, path: str, absent: str) -> Reader:
    async def read() -> str:
        content = await workspace.repository.read(path)
        return absent if content is None else content.decode("utf-8", "replace")

    return read


def _listing(catalog: Catalog) -> Reader:
    async def read() -> str:
        return json.dumps({catalog.kind.folder: await catalog.entries()}, allow_nan=False)

    return read
