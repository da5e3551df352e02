"""What docs/clients.md says works as it stands there: each of its commands, programs and configurations is run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from support.users import User

REPOSITORY = Path(__file__).resolve().parents[2]
NODE = REPOSITORY / ".local" / "node"
DOCUMENT = REPOSITORY / "docs" / "clients.md"
EXAMPLE_URL = "https://workspaces.example.com"
NPX = re.compile(r"npx -y @modelcontextprotocol/inspector@\S+")


def blocks(heading: str) -> list[str]:
    """The code blocks of a section."""
    text = DOCUMENT.read_text()
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/clients.md has no section {heading!r}"
    found: list[str] = re.findall(r"^```\w+\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    return found


def printed(user: User, *command: str) -> str:
    """What a command prints that finds the gateway and a token where the document puts them."""
    programs = f"{NODE / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    shown = {"GATEWAY_URL": user.gateway_url, "TOKEN": user.token, "PATH": programs}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **shown}, cwd=NODE
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def configurations() -> dict[str, dict[str, Any]]:
    """The entries for desktop clients, by the kind of the client."""
    entries = [json.loads(block)["mcpServers"]["dexorder"] for block in blocks("Desktop clients")]
    return {"command" if "command" in entry else entry["type"]: entry for entry in entries}


def in_place(user: User, value: str) -> str:
    """A value of the document with this gateway and a token in place of what it says."""
    return value.replace(EXAMPLE_URL, user.gateway_url).replace("TOKEN", user.token)


async def use(client: Client) -> None:
    """A tool is listed, and called."""
    assert "run_indicator" in {tool.name for tool in (await client.list_tools()).tools}
    result = await client.call_tool("run_indicator", {"name": "rsi", "last": 1})
    assert result.structured_content is not None
    assert 0 < result.structured_content["outputs"]["rsi"][0] < 100


def test_curl(settled_user: User) -> None:
    (command,) = blocks("curl")
    answer = printed(settled_user, "bash", "-c", command)
    assert '"protocolVersion":"2025-11-25"' in answer.replace(" ", "")


def test_the_inspector(settled_user: User) -> None:
    (command,) = blocks("MCP Inspector")
    installed, replaced = NPX.subn("mcp-inspector", command)
    assert replaced == 1
    assert '"rsi"' in printed(settled_user, "bash", "-c", installed).replace("\\", "")


def test_the_python_client(settled_user: User) -> None:
    (program,) = blocks("Python")
    assert "'rsi'" in printed(settled_user, sys.executable, "-c", program)


def test_the_typescript_client(settled_user: User) -> None:
    (program,) = blocks("TypeScript")
    script = NODE / "documented_client.mjs"
    script.write_text(program)
    assert "structuredContent" in printed(settled_user, "node", str(script))


def test_a_desktop_client_that_starts_a_program(settled_user: User) -> None:
    entry = configurations()["command"]
    assert entry["command"] == "npx"
    _, package, *arguments = entry["args"]
    wanted = json.loads((REPOSITORY / "tests" / "e2e" / "package.json").read_text())["dependencies"]["mcp-remote"]
    assert package == f"mcp-remote@{wanted}"
    program = NODE / "node_modules" / "mcp-remote" / "dist" / "proxy.js"
    # The local gateway has no certificate, which mcp-remote takes for loopback addresses alone.
    server = StdioServerParameters(
        command=str(NODE / "node_modules" / ".bin" / "node"),
        args=[str(program), *(in_place(settled_user, argument) for argument in arguments), "--allow-http"],
        env={name: in_place(settled_user, value) for name, value in entry["env"].items()},
    )

    async def main() -> None:
        async with Client(stdio_client(server)) as client:
            await use(client)

    asyncio.run(main())


def test_a_desktop_client_that_takes_a_url(settled_user: User) -> None:
    entry = configurations()["http"]
    assert entry.keys() == {"type", "url", "headers"}
    credentials = {name: in_place(settled_user, value) for name, value in entry["headers"].items()}

    async def main() -> None:
        url = in_place(settled_user, entry["url"])
        async with (
            httpx2.AsyncClient(headers=credentials, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            await use(client)

    asyncio.run(main())
