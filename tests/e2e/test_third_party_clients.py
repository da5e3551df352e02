"""Unmodified third-party clients work through the gateway: the official ones of two languages, and the Inspector."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.users import User

NODE = Path(__file__).resolve().parents[2] / ".local" / "node" / "node_modules"
SCRIPT = Path(__file__).with_name("support") / "ts_client.mjs"
SDK_MODES = {"legacy": "2025-11-25", "auto": "2026-07-28", "2026-07-28": "2026-07-28"}


def with_sdk(user: User, mode: str, use: Callable[[Client], Awaitable[None]]) -> None:
    """Connect the SDK's client as its documentation says, with a token, and use it."""

    async def main() -> None:
        credentials = dict(user.mcp.credentials)
        async with (
            httpx2.AsyncClient(headers=credentials, timeout=60, trust_env=False) as http,
            Client(streamable_http_client(user.endpoint, http_client=http), mode=mode) as client,
        ):
            await use(client)

    asyncio.run(main())


async def rsi(client: Client) -> float:
    """The newest RSI of the shipped prices."""
    arguments = {"name": "rsi", "last": 1}
    result = await client.call_tool("run_indicator", arguments)
    assert not result.is_error, result
    assert result.structured_content is not None
    value: float = result.structured_content["outputs"]["rsi"][0]
    return value


@pytest.mark.parametrize("mode", SDK_MODES)
def test_the_python_sdk(mode: str, settled_user: User) -> None:
    async def use(client: Client) -> None:
        assert client.protocol_version == SDK_MODES[mode]
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"run_indicator", "save_indicator", "run_strategy", "set_user_profile"} <= set(tools)
        annotations = tools["run_indicator"].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True
        assert 0 < await rsi(client) < 100
        uris = {resource.uri for resource in (await client.list_resources()).resources}
        assert "context://user-profile" in uris
        profile = await client.read_resource("context://user-profile")
        assert profile.contents
        failed = await client.call_tool("run_indicator", {"name": "no_such_indicator"})
        assert failed.is_error

    with_sdk(settled_user, mode, use)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_a_client_of_the_sdk_outlives_the_pod(mode: str, user: User) -> None:
    """The client is connected, the pod is replaced under it, and it goes on without connecting anew."""
    user.mcp.tools()
    workspace = user.workspace

    async def use(client: Client) -> None:
        before = await rsi(client)
        deleted = await asyncio.to_thread(workspace.delete_pod)
        # A call at once finds the pod ending or gone; the one after that, the next pod.
        assert await rsi(client) == before
        await asyncio.to_thread(workspace.wait_for_another_pod, deleted)
        assert await rsi(client) == before

    with_sdk(user, mode, use)


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_the_typescript_client(mode: str, settled_user: User) -> None:
    # Node looks for packages beside the script.
    script = NODE.parent / SCRIPT.name
    shutil.copyfile(SCRIPT, script)
    shown = {"ENDPOINT": settled_user.endpoint, "CREDENTIALS": json.dumps(dict(settled_user.mcp.credentials))}
    done = subprocess.run(
        [str(NODE / ".bin" / "node"), str(script)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **shown, "MODE": mode},
    )
    assert done.returncode == 0, f"{done.stderr}{done.stdout}"
    seen = json.loads(done.stdout)
    assert {"run_indicator", "save_indicator"} <= set(seen["tools"])
    assert 0 < seen["called"]["outputs"]["rsi"][0] < 100
    assert seen["read"][0]["uri"] == "context://user-profile"


def inspector(user: User, era: str, *arguments: str) -> dict[str, Any]:
    """Run the Inspector's CLI and return the result that it printed."""
    command = [str(NODE / ".bin" / "node"), str(NODE / ".bin" / "mcp-inspector"), "--cli", user.endpoint]
    command += ["--transport", "http", "--protocol-era", era, "--format", "json"]
    command += ["--header", f"Authorization: Bearer {user.token}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}{done.stdout}"
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_the_inspector_lists_and_calls_tools_and_reads_resources(era: str, settled_user: User) -> None:
    names = {tool["name"] for tool in inspector(settled_user, era, "--method", "tools/list")["tools"]}
    assert "run_indicator" in names
    called = inspector(
        settled_user, era, "--method", "tools/call", "--tool-name", "run_indicator", "--tool-arg", "name=rsi", "last=1"
    )
    assert 0 < called["structuredContent"]["outputs"]["rsi"][0] < 100
    read = inspector(settled_user, era, "--method", "resources/read", "--uri", "context://user-profile")
    assert read["contents"][0]["uri"] == "context://user-profile"


def test_the_inspector_wakes_a_suspended_workspace(user: User) -> None:
    workspace = user.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    workspace.change(operatingMode="Auto")
    assert inspector(user, "legacy", "--method", "tools/list")["tools"]
