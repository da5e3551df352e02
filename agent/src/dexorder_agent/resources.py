"""The MCP resources."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from mcp_types import Resource as ListedResource
from mcp_types import ResourceTemplate

from dexorder_agent import conversations
from dexorder_agent.source.catalog import Catalog
from dexorder_agent.workspace import Workspace

Reader = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource whose content a function gives."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    read: Reader

    def listed(self) -> ListedResource:
        """As clients see it."""
        return ListedResource(uri=self.uri, name=self.name, title=self.title, description=self.description, mime_type=self.mime_type)


MARKDOWN = "text/markdown"
JSON = "application/json"

FILES = (
    ("context://user-profile", "User profile", "Preferences and trading style of the user", MARKDOWN, "context/user-profile.md"),
    ("context://conversation-summary", "Conversation summary", "What was talked about so far", MARKDOWN, "context/conversation-summary.md"),
    ("context://workspace-state", "Workspace state", "Chart, indicators and analysis", JSON, "context/workspace-state.json"),
    ("context://system-prompt", "System prompt", "Instructions to the assistant in this workspace", MARKDOWN, "context/system-prompt.md"),
)


def resources(workspace: Workspace) -> dict[str, Resource]:
    """All resources of a workspace by their addresses."""
    found: list[Resource] = [
        Resource(
            uri=uri,
            name=uri.partition("://")[2],
            title=title,
            description=description,
            mime_type=mime_type,
            read=_file(workspace, path, "{}" if mime_type == JSON else ""),
        )
        for uri, title, description, mime_type, path in FILES
    ]
    for catalog in (workspace.indicators, workspace.strategies):
        folder = catalog.kind.folder
        found.append(
            Resource(
                uri=f"{folder}://list",
                name=folder,
                title=folder.capitalize(),
                description=f"The workspace's {folder} with inputs, parameters and outputs, read from their source",
                mime_type=JSON,
                read=_listing(catalog),
            )
        )
    return {resource.uri: resource for resource in found}


def _file(workspace: Workspace, path: str, absent: str) -> Reader:
    async def read() -> str:
        content = await workspace.repository.read(path)
        return absent if content is None else content.decode("utf-8", "replace")

    return read


def _listing(catalog: Catalog) -> Reader:
    async def read() -> str:
        return json.dumps({catalog.kind.folder: await catalog.entries()}, allow_nan=False)

    return read


@dataclass(frozen=True, slots=True)
class Template:
    """A pattern of addresses, each of which is one thing of a kind."""

    scheme: str
    variable: str
    title: str
    description: str
    read: Callable[[str], Awaitable[str]]
    mime_type: str = JSON

    def listed(self) -> ResourceTemplate:
        """As clients see it."""
        return ResourceTemplate(
            uri_template=f"{self.scheme}://{{{self.variable}}}",
            name=self.scheme.removesuffix("s"),
            title=self.title,
            description=self.description,
            mime_type=self.mime_type,
        )

    def name_in(self, uri: str) -> str | None:
        """The name in an address of this pattern, None if it is another kind of address or the list of all."""
        scheme, separator, name = uri.partition("://")
        return unquote(name) if separator and scheme == self.scheme and name != "list" else None


def templates(workspace: Workspace) -> list[Template]:
    """The patterns under which single indicators, strategies and conversations are read."""

    async def conversation(name: str) -> str:
        return json.dumps(await conversations.shown(workspace.repository, name), ensure_ascii=False)

    kept = [
        Template(
            catalog.kind.folder,
            "name",
            f"One {catalog.kind.noun}",
            f"The source of the {catalog.kind.noun} of this name, with its signature",
            _program(catalog),
        )
        for catalog in (workspace.indicators, workspace.strategies)
    ]
    return [*kept, Template("conversations", "id", "One conversation", "The newest turns of a conversation", conversation)]


def _program(catalog: Catalog) -> Callable[[str], Awaitable[str]]:
    async def program(name: str) -> str:
        return json.dumps(await catalog.shown(name), ensure_ascii=False, allow_nan=False)

    return program


def changed(paths: Iterable[str]) -> list[str]:
    """The addresses whose content a change of these files changed."""
    files = {path: uri for uri, _, _, _, path in FILES}
    found: dict[str, None] = {}
    for path in sorted(paths):
        folder, _, name = path.partition("/")
        if path in files:
            found[files[path]] = None
        elif folder in ("indicators", "strategies") and name.endswith(".py"):
            found[f"{folder}://list"] = None
            found[f"{folder}://{name.removesuffix('.py')}"] = None
        elif folder == "conversations" and name.endswith(".jsonl"):
            found[f"{folder}://{name.removesuffix('.jsonl')}"] = None
    return list(found)
